"""Text generation with a causal language model of the `transformers` library."""

from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError


def generate(
    model: str, prompt: str, num_answers: int = 1, max_new_tokens: int = 256, seed: int = 0
) -> list[str]:
    """Generates answers to a prompt.

    Args:
      model: Name on the Hugging Face Hub, or folder with a model and its tokenizer.
      prompt: Text of the prompt. The tokenizer's chat template is applied if it has one.
      num_answers: Number of answers. A single answer is decoded greedily, several are sampled.
      max_new_tokens: Maximum number of tokens per answer.
      seed: Seed of the sampling.

    Returns:
      Answers without the prompt.

    Raises:
      InputError: PyTorch or transformers is missing, the model cannot be loaded, or the prompt is
        too long for it.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as e:
        raise InputError(
            "--llm needs PyTorch and transformers; install them with pip install 'bridge_jax[llm]'"
        ) from e
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(model)
        network: Any = AutoModelForCausalLM.from_pretrained(model)
    except (OSError, ValueError) as e:
        remedy = "the folder" if Path(model).is_dir() else "the name, or give a folder"
        raise InputError(f"--llm {model}: {str(e).splitlines()[0]}; check {remedy}") from e
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    inputs = _tokenize(tokenizer, prompt)
    prompt_length = inputs["input_ids"].shape[1]
    limit = getattr(network.config, "max_position_embeddings", None)
    if limit and prompt_length + max_new_tokens > limit:
        raise InputError(
            f"--llm {model}: the prompt has {prompt_length:,} tokens and an answer up to "
            f"{max_new_tokens:,}, but the model reads at most {limit:,}; lower --k or --tokens"
        )
    torch.manual_seed(seed)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        outputs = network.generate(
            **{k: inputs[k].to(network.device) for k in ("input_ids", "attention_mask")},
            max_new_tokens=max_new_tokens,
            do_sample=num_answers > 1,
            num_return_sequences=num_answers,
            pad_token_id=pad,
        )
    texts: list[str] = tokenizer.batch_decode(outputs[:, prompt_length:], skip_special_tokens=True)
    return [text.strip() for text in texts]


def _tokenize(tokenizer: Any, prompt: str) -> Any:
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt")
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
