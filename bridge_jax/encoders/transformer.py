"""Encoders of the `transformers` library, pooled to one vector per input.

A checkpoint with missing weights is rejected, because transformers would initialise them at random.
BERT's pooling head is dropped: it belongs to next-sentence prediction, and no pooling here uses it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Chunk,
    EncodingError,
    PreparedInput,
    Settings,
    hash_arrays,
    import_optional,
    parse_protein,
    split_long_input,
    state_dict_arrays,
    torch_device,
)
from bridge_jax.errors import InputError

# These models count positions from the padding index, so the first position embeddings are unused.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "esm")
# Only the encoder of these encoder-decoder models is loaded.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
# Token ids of each text without special tokens, or the reason why a text cannot be encoded.
Tokenize = Callable[[Sequence[str]], "list[list[int] | str]"]


class Transformer:
    """Frozen transformer on one device, in float32."""

    requires_equal_lengths = False

    def __init__(
        self,
        model: Any,
        tokenize: Tokenize,
        special_tokens: tuple[list[int], list[int]],
        pad_token: int,
        settings: Settings,
        *,
        name: str,
        digest: str,
        max_length: int,
        unit: str,
    ) -> None:
        """Stores a loaded model; `load` makes the arguments.

        Args:
          model: Model of transformers, in evaluation mode and on its device.
          tokenize: Tokenizer without special tokens.
          special_tokens: Token ids that are put before and after each chunk.
          pad_token: Token id of padding.
          settings: Settings of the encoder.
          name: Family and checkpoint.
          digest: SHA-256 of weights and vocabulary.
          max_length: Maximum length of an input.
          unit: Unit of `max_length`: `tokens` counts special tokens, `residues` does not.
        """
        self.model = model
        self.tokenize = tokenize
        self.prefix, self.suffix = special_tokens
        self.pad_token = pad_token
        self.settings = settings
        self.name, self.digest = name, digest
        self.max_length, self.unit = max_length, unit

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Tokenises texts; each chunk gets its own special tokens."""
        return [ids if isinstance(ids, str) else self._split(ids) for ids in self.tokenize(texts)]

    def _split(self, token_ids: list[int]) -> PreparedInput | str:
        num_special = len(self.prefix) + len(self.suffix)
        limit = self.max_length - (num_special if self.unit == "tokens" else 0)
        try:
            parts = split_long_input(token_ids, limit, self.settings.length_policy, self.unit)
        except EncodingError as e:
            return str(e)
        chunks = [
            Chunk(np.array([*self.prefix, *p, *self.suffix]), len(p) + num_special, len(p))
            for p in parts
        ]
        return PreparedInput(tuple(chunks), len(token_ids))

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Runs and pools one padded batch; returns a float32 tensor `[chunks, dim]`."""
        torch, device = import_optional("torch"), self.model.device
        shape = (len(chunks), max(c.length for c in chunks))
        token_ids = np.full(shape, self.pad_token, np.int64)
        attention_mask, pooled = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        skip_special = self.settings.pooling == "residue-mean"
        start, stop = (len(self.prefix), len(self.suffix)) if skip_special else (0, 0)
        for i, c in enumerate(chunks):
            token_ids[i, : c.length] = c.tokens
            attention_mask[i, : c.length] = 1
            pooled[i, start : c.length - stop] = 1
        with torch.inference_mode():
            hidden = self.model(
                input_ids=torch.from_numpy(token_ids).to(device),
                attention_mask=torch.from_numpy(attention_mask).to(device),
            ).last_hidden_state
            if self.settings.pooling == "cls":
                return hidden[:, 0]
            weights = torch.from_numpy(pooled).to(device)
            return torch.bmm(weights[:, None], hidden)[:, 0] / weights.sum(1, keepdim=True)


def load(
    settings: Settings,
    default_length: int,
    *,
    folder: str = "",
    preprocess: Callable[[str], str] | None = None,
    alphabet: str = "",
) -> Transformer:
    """Loads a checkpoint from a folder or from the Hugging Face Hub.

    Args:
      settings: Settings of the encoder; `checkpoint` is a folder or a hub name.
      default_length: Default maximum length: residues if there is an `alphabet`, otherwise tokens,
        special ones included.
      folder: Folder to load instead of `settings.checkpoint`, for weights that come in a package.
      preprocess: Function that rewrites a text before it is tokenised, or raises `EncodingError`.
      alphabet: Amino acids of a protein model that has one token per residue. Other letters are
        read as X.

    Raises:
      InputError: The checkpoint cannot be loaded or lacks weights, or `--max-length` does not fit
        the model.
    """
    device = torch_device(settings.device)
    source = folder or settings.checkpoint
    config, model, tokenizer = _load_pretrained(source, settings.encoder)
    if alphabet:
        tokenize, unit = _residue_tokenizer(tokenizer, alphabet, preprocess), "residues"
    else:
        tokenize, unit = _text_tokenizer(tokenizer, preprocess), "tokens"
    prefix, suffix = _special_tokens(tokenizer)
    num_special = len(prefix) + len(suffix)
    model_limit = _max_positions(config)
    if model_limit is not None and alphabet:
        model_limit -= num_special
    max_length = settings.resolve_max_length(default_length, model_limit)
    if not alphabet and max_length <= num_special:
        raise InputError(
            f"--max-length {max_length}: includes {num_special} special tokens; raise it"
        )
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    digest = hash_arrays(state_dict_arrays(model.state_dict()), vocabulary)
    family = settings.encoder.split(":")[0]
    checkpoint = Path(source).resolve().name if Path(source).is_dir() else source
    return Transformer(
        model.eval().to(device),
        tokenize,
        (prefix, suffix),
        int(tokenizer.pad_token_id or 0),
        settings,
        name=family if folder else f"{family}:{checkpoint}",
        digest=digest,
        max_length=max_length,
        unit=unit,
    )


def _load_pretrained(source: str, encoder: str) -> tuple[Any, Any, Any]:
    """Loads config, model and tokenizer; checks that the checkpoint has all weights."""
    transformers = import_optional("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    is_folder = Path(source).is_dir()
    if not is_folder and source.startswith((".", "/", "~")):
        raise InputError(f"{source}: no such folder; name a folder or a hub name")
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=is_folder)
        model_class = getattr(transformers, _ENCODER_CLASSES.get(config.model_type, "AutoModel"))
        model, info = model_class.from_pretrained(
            source,
            config=config,
            dtype=import_optional("torch").float32,
            local_files_only=is_folder,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=is_folder)
    except (OSError, ValueError, ImportError, KeyError) as e:
        reason = str(e).strip().split("\n")[0]
        raise InputError(f"--encoder {encoder}: cannot be loaded: {reason}") from e
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    missing = sorted(set(info["missing_keys"]) & set(model.state_dict()))
    if missing:
        raise InputError(
            f"--encoder {encoder}: the checkpoint lacks {len(missing)} weights, such as "
            f"{missing[0]}; it is not a checkpoint of {type(model).__name__}"
        )
    return config, model, tokenizer


def _max_positions(config: Any) -> int | None:
    """The number of positions that the model supports; None if its positions are relative."""
    max_positions: int | None = getattr(config, "max_position_embeddings", None)
    if getattr(config, "position_embedding_type", None) == "rotary" or not max_positions:
        return None
    offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return max_positions - offset


def _tokenize(
    tokenizer: Any, texts: list[str], add_special_tokens: bool = False
) -> list[list[int]]:
    encoded = tokenizer(
        texts,
        add_special_tokens=add_special_tokens,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )
    return [list(ids) for ids in encoded["input_ids"]]


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The token ids that a tokenizer puts before and after every text."""
    (plain,) = _tokenize(tokenizer, ["A"])
    (full,) = _tokenize(tokenizer, ["A"], add_special_tokens=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    raise InputError("this tokenizer puts its special tokens inside the text; it is not supported")


def _text_tokenizer(tokenizer: Any, preprocess: Callable[[str], str] | None) -> Tokenize:
    def tokenize(texts: Sequence[str]) -> "list[list[int] | str]":
        results: list[list[int] | str] = []
        valid_texts = []
        for text in texts:
            try:
                valid_texts.append(preprocess(text) if preprocess else text)
                results.append([])
            except EncodingError as e:
                results.append(str(e))
        token_ids = iter(_tokenize(tokenizer, valid_texts) if valid_texts else ())
        return [r if isinstance(r, str) else next(token_ids) for r in results]

    return tokenize


def _residue_tokenizer(
    tokenizer: Any, alphabet: str, preprocess: Callable[[str], str] | None
) -> Tokenize:
    """Looks up one token per residue, which is much faster than a tokenizer in pure Python."""
    (ids,) = _tokenize(tokenizer, [preprocess(alphabet) if preprocess else alphabet])
    if len(ids) != len(alphabet) or len(set(ids)) != len(ids):
        raise InputError(
            f"this tokenizer reads the {len(alphabet)} residues {alphabet} as {len(set(ids))} "
            "tokens; it is not one for this family of protein models"
        )
    token_ids = dict(zip(alphabet, ids, strict=True))
    unknown_id = token_ids["X"]

    def tokenize(text: str) -> list[int] | str:
        try:
            return [token_ids.get(c, unknown_id) for c in parse_protein(text)]
        except EncodingError as e:
            return str(e)

    return lambda texts: [tokenize(text) for text in texts]
