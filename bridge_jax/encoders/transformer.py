"""Any `transformers` encoder over token ids, pooled to one vector an input.

A checkpoint that lacks weights is refused: transformers would fill them at random. The pooling
head of BERT's next-sentence task is dropped, since nothing here reads it.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Piece,
    Prepared,
    Settings,
    Unusable,
    cut,
    digest,
    need,
    residues,
    torch_arrays,
    torch_device,
)
from bridge_jax.errors import InputError

# These count positions from the padding index, so that many of their rows are never used.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "esm")
# Of these the encoder half alone is read.
_ENCODER_HALF = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
Tokenize = Callable[[Sequence[str]], "list[list[int] | str]"]


class Transformer:
    """A frozen transformer on one device, in float32."""

    equal_widths = False

    def __init__(
        self, model: Any, tokenizer: Any, tokenize: Tokenize, settings: Settings, unit: str
    ) -> None:
        self.model = model
        self.tokenize = tokenize
        self.settings = settings
        self.unit = unit
        self.pad = int(tokenizer.pad_token_id or 0)
        self.prefix, self.suffix = _specials(tokenizer)
        self.name = ""
        self.digest = ""
        self.max_length = 0

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """Tokenise; special tokens surround every piece."""
        extra = len(self.prefix) + len(self.suffix)
        limit = self.max_length - (extra if self.unit == "tokens" else 0)
        out: list[Prepared | str] = []
        for ids in self.tokenize(texts):
            if isinstance(ids, str):
                out.append(ids)
                continue
            try:
                parts = cut(ids, limit, self.settings.long, self.unit)
            except Unusable as e:
                out.append(str(e))
                continue
            pieces = [
                Piece(np.array([*self.prefix, *p, *self.suffix]), len(p) + extra, len(p))
                for p in parts
            ]
            out.append(Prepared(tuple(pieces), len(ids)))
        return out

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """Run one padded batch and pool it: a float32 tensor `[pieces, dim]` on the device."""
        torch = need("torch")
        shape = (len(pieces), max(p.width for p in pieces))
        ids = np.full(shape, self.pad, np.int64)
        mask, kept = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        inner = self.settings.pooling == "residue-mean"
        for i, p in enumerate(pieces):
            ids[i, : p.width] = p.tokens
            mask[i, : p.width] = 1
            start, stop = (len(self.prefix), len(self.suffix)) if inner else (0, 0)
            kept[i, start : p.width - stop] = 1
        with torch.inference_mode():
            ids, mask, kept = (torch.from_numpy(a).to(self.model.device) for a in (ids, mask, kept))
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            if self.settings.pooling == "cls":
                return hidden[:, 0]
            return torch.bmm(kept[:, None], hidden)[:, 0] / kept.sum(1, keepdim=True)


def load(
    settings: Settings,
    default_length: int,
    *,
    folder: str = "",
    spell: Callable[[str], str] | None = None,
    alphabet: str = "",
) -> Transformer:
    """Load a checkpoint.

    Args:
      settings: its `checkpoint` is a hub name or a folder.
      default_length: tokens, special ones included; or residues where there is an `alphabet`.
      folder: read this in place of the checkpoint's name.
      spell: rewrites or refuses a text before it is tokenised.
      alphabet: the letters that have a token of their own; each residue is one token then, and
        letters outside the alphabet are read as X.

    Raises:
      InputError: the checkpoint cannot be loaded, or lacks weights.
    """
    device = torch_device(settings.device)
    transformers = need("transformers")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source = folder or settings.checkpoint
    local = Path(source).is_dir()
    if not local and source.startswith((".", "/", "~")):
        raise InputError(f"{source}: no such folder; --encoder takes a folder or a hub name")
    try:
        config = transformers.AutoConfig.from_pretrained(source, local_files_only=local)
        kind = getattr(transformers, _ENCODER_HALF.get(config.model_type, "AutoModel"))
        model, info = kind.from_pretrained(
            source,
            config=config,
            dtype=need("torch").float32,
            local_files_only=local,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError, ImportError, KeyError) as e:
        reason = str(e).strip().split("\n")[0]
        raise InputError(f"--encoder {settings.encoder}: cannot be loaded: {reason}") from e
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    state = model.state_dict()
    missing = sorted(set(info["missing_keys"]) & set(state))
    if missing:
        raise InputError(
            f"--encoder {settings.encoder}: the checkpoint lacks {len(missing)} weights, such as "
            f"{missing[0]}; it is not a checkpoint of {type(model).__name__}"
        )
    tokenize = _by_residue(tokenizer, alphabet, spell) if alphabet else _by_text(tokenizer, spell)
    unit = "residues" if alphabet else "tokens"
    encoder = Transformer(model.eval().to(device), tokenizer, tokenize, settings, unit)
    extra = len(encoder.prefix) + len(encoder.suffix)
    positions = _positions(config)
    most = positions - (extra if alphabet else 0) if positions else None
    encoder.max_length = settings.limit(default_length, most)
    if not alphabet and encoder.max_length <= extra:
        raise InputError(f"--max-length {encoder.max_length}: {extra} tokens are special ones")
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items())).encode()
    encoder.digest = digest(torch_arrays(state), vocabulary)
    family = settings.encoder.split(":")[0]
    name = Path(source).resolve().name if local else source
    encoder.name = family if folder else f"{family}:{name}"
    return encoder


def _positions(config: Any) -> int | None:
    """The longest input that the model has positions for; None where they are relative."""
    most: int | None = getattr(config, "max_position_embeddings", None)
    if getattr(config, "position_embedding_type", None) == "rotary" or not most:
        return None
    offset = (config.pad_token_id or 0) + 1 if config.model_type in _OFFSET_POSITIONS else 0
    return most - offset


def _plain(tokenizer: Any, texts: list[str], special: bool = False) -> list[list[int]]:
    encoded = tokenizer(
        texts,
        add_special_tokens=special,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )
    return [list(ids) for ids in encoded["input_ids"]]


def _specials(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens that a tokenizer puts before and after every text."""
    (plain,), (full,) = _plain(tokenizer, ["A"]), _plain(tokenizer, ["A"], special=True)
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    raise InputError("this tokenizer puts its special tokens inside the text; it is not supported")


def _by_text(tokenizer: Any, spell: Callable[[str], str] | None) -> Tokenize:
    def tokenize(texts: Sequence[str]) -> "list[list[int] | str]":
        out: list[list[int] | str] = []
        good = []
        for text in texts:
            try:
                good.append(spell(text) if spell else text)
                out.append([])
            except Unusable as e:
                out.append(str(e))
        encoded = iter(_plain(tokenizer, good)) if good else iter(())
        return [o if isinstance(o, str) else next(encoded) for o in out]

    return tokenize


def _by_residue(tokenizer: Any, alphabet: str, spell: Callable[[str], str] | None) -> Tokenize:
    """One token a residue by table: exact, and much faster than a tokenizer written in Python."""
    (ids,) = _plain(tokenizer, [spell(alphabet) if spell else alphabet])
    if len(ids) != len(alphabet) or len(set(ids)) != len(ids):
        raise InputError(
            f"this tokenizer reads the {len(alphabet)} residues {alphabet} as {len(set(ids))} "
            "tokens; it is not one for this family of protein models"
        )
    table = dict(zip(alphabet, ids, strict=True))
    unknown = table["X"]

    def one(text: str) -> list[int] | str:
        try:
            return [table.get(c, unknown) for c in residues(text)]
        except Unusable as e:
            return str(e)

    return lambda texts: [one(t) for t in texts]
