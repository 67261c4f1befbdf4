"""Interface of all encoders: registry entry, settings, prepared inputs and length policies."""

import hashlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from bridge_jax.errors import InputError

INSTALL_ENCODERS = "pip install 'bridge_jax[encoders]'"
INSTALL_TEXT = "pip install 'bridge_jax[text]'"
INSTALL_SMILES = "pip install 'bridge_jax[smiles]'"
LENGTH_POLICIES = ("truncate", "windows", "fail")
T = TypeVar("T")


class EncodingError(Exception):
    """One input cannot be encoded; the message is the reason."""


class Chunk(NamedTuple):
    """Part of an input that is encoded in one go.

    Attributes:
      tokens: Model input, as the encoder's `forward` expects it.
      length: Number of positions in a batch, special tokens included, without padding.
      num_tokens: Number of tokens of the input that the chunk covers; its weight in the average
        over the chunks of an input.
    """

    tokens: Any
    length: int
    num_tokens: int


class PreparedInput(NamedTuple):
    """Tokenised input, split into chunks.

    Attributes:
      chunks: At least one chunk; several if a long input is split into windows.
      num_tokens: Number of tokens of the whole input, including those cut off.
    """

    chunks: tuple[Chunk, ...]
    num_tokens: int

    @property
    def exceeds_limit(self) -> bool:
        """Whether the input is longer than the encoder's `max_length`."""
        return len(self.chunks) > 1 or self.num_tokens > self.chunks[0].num_tokens


@dataclass(frozen=True)
class Settings:
    """Settings of one encoder, resolved from the command line.

    Attributes:
      encoder: Value of `--encoder`, e.g. `esm2:esm2_t33_650M`; error messages quote it.
      checkpoint: Name or folder after the colon; default: the family's.
      device: `auto`, `cpu` or `cuda`.
      max_length: Maximum length of an input in the family's unit; None for the default.
      length_policy: Policy for longer inputs, one of `LENGTH_POLICIES`.
      pooling: Pooling of token states into one vector, one of the family's.
    """

    encoder: str
    checkpoint: str
    device: str
    max_length: int | None
    length_policy: str
    pooling: str

    def resolve_max_length(self, default: int, model_limit: int | None) -> int:
        """Returns the maximum length of an input.

        Args:
          default: Length to use if `max_length` is None and the model allows it.
          model_limit: Maximum length that the model supports; None if there is none.

        Raises:
          InputError: `max_length` exceeds the limit of the model.
        """
        max_length = self.max_length or min(default, model_limit or default)
        if model_limit is not None and max_length > model_limit:
            raise InputError(
                f"--max-length {max_length}: {self.encoder} reads at most {model_limit}; lower it, "
                "or split longer inputs with --long windows"
            )
        return max_length


@runtime_checkable
class Encoder(Protocol):
    """Frozen model that maps inputs to vectors.

    Attributes:
      name: Family and checkpoint, as recorded next to the vectors.
      digest: SHA-256 of weights and vocabulary.
      max_length: Maximum length of an input; the length policy applies to longer ones.
      requires_equal_lengths: Whether all chunks of a batch must have the same length because
        padding would change the result.
    """

    name: str
    digest: str
    max_length: int
    requires_equal_lengths: bool

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Tokenises inputs; returns the reason instead for inputs that cannot be encoded."""

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Encodes one batch.

        Args:
          chunks: Chunks of any inputs.

        Returns:
          Array `[chunks, dim]` of the model's own framework; the device may still be computing it.
        """


@dataclass(frozen=True)
class Family:
    """Registry entry of an encoder: its loader and the defaults of its options.

    Attributes:
      summary: One-line description for `--help`.
      load: Function that loads the encoder.
      modality: `text`, `smiles` or `sequence`; empty if the encoder reads any text.
      unit: Unit of `max_length`, e.g. `residues`.
      max_length: Default maximum length of an input.
      batch_tokens: Default number of padded positions per batch.
      checkpoint: Default checkpoint; empty if there is no default.
      takes_checkpoint: Whether other checkpoints can be chosen.
      poolings: Supported poolings; the first is the default.
      length_policies: Supported policies for long inputs; the first is the default.
      shard_records: Default number of ids per shard. Slow models have small shards, because a
        killed export loses at most one shard.
    """

    summary: str
    load: Callable[[Settings], Encoder]
    modality: str
    unit: str
    max_length: int
    batch_tokens: int
    checkpoint: str = ""
    takes_checkpoint: bool = True
    poolings: tuple[str, ...] = ("mean",)
    length_policies: tuple[str, ...] = LENGTH_POLICIES
    shard_records: int = 2048


def import_optional(module: str, remedy: str = INSTALL_ENCODERS, noun: str = "this encoder") -> Any:
    """Imports a module of an optional package.

    Args:
      module: Name of the module.
      remedy: Command that installs the package.
      noun: What needs it, for the message.

    Raises:
      InputError: The package is not installed; the message contains the remedy.
    """
    if sys.modules.get(module):
        return sys.modules[module]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as e:
        raise InputError(f"{noun} needs {e.name or module}: {remedy}") from e


def torch_device(name: str) -> str:
    """Returns `cuda` or `cpu` for the setting `auto`, `cuda` or `cpu`.

    Raises:
      InputError: `cuda` is requested, but PyTorch finds no CUDA device.
    """
    has_cuda = import_optional("torch").cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise InputError("--device cuda: PyTorch finds no CUDA device; use --device cpu")
    return "cuda" if has_cuda and name != "cpu" else "cpu"


def hash_arrays(arrays: Iterable[tuple[str, np.ndarray]], prefix: bytes = b"") -> str:
    """Returns the SHA-256 of some bytes followed by named arrays, in hexadecimal."""
    sha256 = hashlib.sha256(prefix)
    for name, array in arrays:
        sha256.update(f"{name} {array.dtype} {array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def state_dict_arrays(state_dict: Any) -> Iterable[tuple[str, np.ndarray]]:
    """Yields the tensors of a PyTorch state dict as bytes, sorted by name, for `hash_arrays`."""
    uint8 = import_optional("torch").uint8
    for name in sorted(state_dict):
        yield name, state_dict[name].detach().cpu().contiguous().reshape(-1).view(uint8).numpy()


def split_long_input(
    tokens: Sequence[T], max_length: int, length_policy: str, unit: str
) -> list[Sequence[T]]:
    """Applies a length policy to the tokens of one input.

    Args:
      tokens: Tokens of the whole input.
      max_length: Maximum number of tokens per chunk.
      length_policy: One of `LENGTH_POLICIES`; windows do not overlap.
      unit: Unit of the length, for the error message.

    Returns:
      Tokens of each chunk.

    Raises:
      EncodingError: The input is empty, or too long under the policy `fail`.
    """
    if not len(tokens):
        raise EncodingError("empty text")
    if len(tokens) <= max_length:
        return [tokens]
    if length_policy == "fail":
        raise EncodingError(f"{len(tokens)} {unit}; the limit is {max_length}")
    if length_policy == "truncate":
        return [tokens[:max_length]]
    return [tokens[i : i + max_length] for i in range(0, len(tokens), max_length)]


def prepare_each(
    texts: Sequence[str], prepare: Callable[[str], PreparedInput]
) -> list[PreparedInput | str]:
    """Prepares inputs one by one; returns the reason instead where `prepare` fails."""
    prepared: list[PreparedInput | str] = []
    for text in texts:
        try:
            prepared.append(prepare(text))
        except EncodingError as e:
            prepared.append(str(e))
    return prepared


def parse_protein(text: str) -> str:
    """Returns a protein sequence in capitals, without whitespace and the final stop sign `*`.

    Raises:
      EncodingError: The sequence contains something other than letters.
    """
    sequence = "".join(text.split()).upper().rstrip("*")
    invalid = next((c for c in sequence if not "A" <= c <= "Z"), "")
    if invalid:
        raise EncodingError(f"{invalid!r} is not an amino acid")
    return sequence
