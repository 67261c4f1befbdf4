"""Ask a causal language model, by name or from a folder; PyTorch is imported here alone."""

from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError


def generate(
    model: str, prompt: str, answers: int = 1, tokens: int = 256, seed: int = 0
) -> list[str]:
    """Let a language model continue a prompt.

    Args:
      model: a name on the Hugging Face Hub, or a folder with a model and its tokenizer.
      prompt: goes through the tokenizer's chat template where it has one.
      answers: how many; one is the model's most likely, several are drawn at random.
      tokens: the most that an answer may have.
      seed: of the draws.

    Returns:
      The answers alone, without the prompt.

    Raises:
      InputError: transformers is missing, there is no such model, or the prompt is too long for it.
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
        where = "the folder" if Path(model).is_dir() else "the name, or give a folder"
        raise InputError(f"--llm {model}: {str(e).splitlines()[0]}; check {where}") from e
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    if tokenizer.chat_template:
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    length = inputs["input_ids"].shape[1]
    limit = getattr(network.config, "max_position_embeddings", None)
    if limit and length + tokens > limit:
        raise InputError(
            f"--llm {model}: the prompt has {length:,} tokens, and {tokens} are to come; the model "
            f"reads {limit:,}; lower --k or --tokens"
        )
    torch.manual_seed(seed)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.inference_mode():
        made = network.generate(
            **{k: inputs[k].to(network.device) for k in ("input_ids", "attention_mask")},
            max_new_tokens=tokens,
            do_sample=answers > 1,
            num_return_sequences=answers,
            pad_token_id=pad,
        )
    texts: list[str] = tokenizer.batch_decode(made[:, length:], skip_special_tokens=True)
    return [t.strip() for t in texts]
