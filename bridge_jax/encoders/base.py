"""What every encoder shares: its entry in the table, its inputs, and how long ones are cut."""

import hashlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from bridge_jax.errors import InputError

EXTRA = "pip install 'bridge_jax[encoders]'"
LONG = ("truncate", "windows", "fail")
T = TypeVar("T")


class Unusable(Exception):
    """One input cannot be encoded; the message says why."""


class Piece(NamedTuple):
    """One input of a model.

    Attributes:
      tokens: what the encoder's `forward` reads.
      width: positions it takes in a batch, before padding.
      weight: tokens of the source that it stands for.
    """

    tokens: Any
    width: int
    weight: int


class Prepared(NamedTuple):
    """One source text as pieces; several where it was split into windows.

    Attributes:
      pieces: at least one.
      length: tokens of the whole text, kept or not.
    """

    pieces: tuple[Piece, ...]
    length: int

    @property
    def long(self) -> bool:
        """Whether the text was longer than the limit."""
        return len(self.pieces) > 1 or self.length > self.pieces[0].weight


@dataclass(frozen=True)
class Settings:
    """What the command line decides about an encoder.

    Attributes:
      encoder: the argument of `--encoder`, e.g. `esm2:esm2_t33_650M`.
      checkpoint: its part after the colon, or the family's default.
      device: `auto`, `cpu` or `cuda`.
      max_length: the longest input, in the family's unit; None for the family's default.
      long: what happens to longer inputs, one of `LONG`.
      pooling: one of the family's poolings.
    """

    encoder: str
    checkpoint: str
    device: str
    max_length: int | None
    long: str
    pooling: str

    def limit(self, default: int, most: int | None) -> int:
        """The longest input.

        Args:
          default: where the user named none; `most` where that is smaller.
          most: what the model can read, or None.

        Raises:
          InputError: the user asked for more than the model can read.
        """
        wanted = self.max_length or min(default, most or default)
        if most is not None and wanted > most:
            raise InputError(
                f"--max-length {wanted}: {self.encoder} reads at most {most}; lower it, or cut "
                "longer inputs with --long windows"
            )
        return wanted


@runtime_checkable
class Encoder(Protocol):
    """A frozen model, loaded.

    Attributes:
      name: family and checkpoint, as the sidecar records them.
      digest: sha256 over weights and vocabulary.
      max_length: the longest input that is neither cut nor refused.
      equal_widths: whether a batch holds pieces of one width only, because padding would change
        the result.
    """

    name: str
    digest: str
    max_length: int
    equal_widths: bool

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """Turn texts into pieces; a reason in place of a text that cannot be encoded."""

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """Encode one batch: `[pieces, dim]` of the framework's own kind, perhaps unfinished."""


@dataclass(frozen=True)
class Family:
    """One line of the table of encoders.

    Attributes:
      summary: for people.
      load: builds the encoder.
      reads: `text`, `smiles`, `sequence`, or empty for whatever the input has.
      unit: what `max_length` counts.
      max_length: by default.
      batch_tokens: padded positions a batch, by default.
      checkpoint: the default; empty where one must be named (or none can be).
      checkpoints: whether the encoder takes a checkpoint.
      poolings: the first is the default.
      long: the policies that make sense; the first is the default.
      shard_records: ids a shard, by default; fewer where the model is slow, as a kill can lose the
        work of one shard.
    """

    summary: str
    load: Callable[[Settings], Encoder]
    reads: str
    unit: str
    max_length: int
    batch_tokens: int
    checkpoint: str = ""
    checkpoints: bool = True
    poolings: tuple[str, ...] = ("mean",)
    long: tuple[str, ...] = LONG
    shard_records: int = 2048


def need(module: str, remedy: str = EXTRA) -> Any:
    """Import an optional package.

    Raises:
      InputError: it is not installed; the message names the remedy.
    """
    if sys.modules.get(module):
        return sys.modules[module]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as e:
        raise InputError(f"this encoder needs {e.name or module}: {remedy}") from e


def torch_device(name: str) -> str:
    """`cuda` or `cpu`.

    Raises:
      InputError: `cuda` was asked for and there is none.
    """
    found = need("torch").cuda.is_available()
    if name == "cuda" and not found:
        raise InputError("--device cuda: torch finds no CUDA device; use --device cpu")
    return "cuda" if found and name != "cpu" else "cpu"


def digest(arrays: Iterable[tuple[str, np.ndarray]], more: bytes = b"") -> str:
    """A sha256 over named arrays and some further bytes."""
    total = hashlib.sha256(more)
    for name, array in arrays:
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def torch_arrays(state: Any) -> Iterable[tuple[str, np.ndarray]]:
    """The tensors of a state dict as bytes, by name, for `digest`."""
    torch = need("torch")
    for name in sorted(state):
        yield name, state[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def cut(tokens: Sequence[T], limit: int, long: str, unit: str) -> list[Sequence[T]]:
    """Apply the policy for long inputs.

    Args:
      tokens: the whole input.
      limit: the most tokens a piece may hold.
      long: one of `LONG`; windows do not overlap.
      unit: for the message.

    Raises:
      Unusable: the input is empty, or too long under `fail`.
    """
    if not len(tokens):
        raise Unusable("empty text")
    if len(tokens) <= limit:
        return [tokens]
    if long == "fail":
        raise Unusable(f"{len(tokens)} {unit}; the limit is {limit}")
    if long == "truncate":
        return [tokens[:limit]]
    return [tokens[i : i + limit] for i in range(0, len(tokens), limit)]


def each(texts: Sequence[str], prepare: Callable[[str], Prepared]) -> list[Prepared | str]:
    """Prepare texts one by one; the reason stands in place of one that is unusable."""
    out: list[Prepared | str] = []
    for text in texts:
        try:
            out.append(prepare(text))
        except Unusable as e:
            out.append(str(e))
    return out


def residues(text: str) -> str:
    """A protein sequence in capitals, without blanks and the stop sign at its end.

    Raises:
      Unusable: something in it is not a letter.
    """
    sequence = "".join(text.split()).upper().rstrip("*")
    odd = next((c for c in sequence if not "A" <= c <= "Z"), "")
    if odd:
        raise Unusable(f"{odd!r} is not an amino acid")
    return sequence


def molecule(smiles: str) -> Any:
    """An RDKit molecule.

    Raises:
      Unusable: the SMILES is empty or invalid.
    """
    chem = need("rdkit.Chem")
    need("rdkit.RDLogger").DisableLog("rdApp.*")
    mol = chem.MolFromSmiles(smiles.strip())
    if mol is None or not mol.GetNumAtoms():
        raise Unusable("invalid SMILES")
    return mol
