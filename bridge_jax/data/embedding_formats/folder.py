"""Embedding files of a folder, and the files that are not read."""

from pathlib import Path
from typing import NamedTuple

from bridge_jax.data.embedding_files import is_gzipped_text, open_embedding_file, stem_of
from bridge_jax.data.embedding_formats import detect
from bridge_jax.data.embedding_formats.base import DEFAULT, ReadOptions
from bridge_jax.data.embedding_formats.text_matrix import looks_like_matrix
from bridge_jax.data.encoder_spec import read_spec_beside
from bridge_jax.errors import InputError

_IDS = ".ids.txt"
_SOMETHING_ELSE = (".json", ".jsonl", ".yaml", ".yml", ".md", ".log")
_MAX_NAMES = 5  # in a notice


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
      paths: Files of embeddings, and folders of ESM's `.pt` files.
      errors: Why a file cannot be read that may hold embeddings.
      others: Files and folders that are something else.
    """

    paths: list[Path]
    errors: dict[Path, InputError]
    others: list[Path]

    def notice(self) -> str:
        """Returns a notice that names the files that are not read; empty if there are none."""
        if not self.others:
            return ""
        names = [p.name + "/" * p.is_dir() for p in self.others]
        more = f" and {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else ""
        return f"{', '.join(names[:_MAX_NAMES])}{more}: not read; no file of embeddings"


def list_folder(folder: Path, options: ReadOptions = DEFAULT) -> Listing:
    """Sorts the content of a folder into embeddings, unreadable files and others.

    Args:
      folder: The folder; its subfolders are looked at only for `.pt` files.
      options: How files are read.
    """
    listing = Listing([], {}, [])
    for path in sorted(folder.iterdir()):
        try:
            kind = _kind(path, options)
        except InputError as e:
            listing.errors[path] = e
        else:
            if kind:
                (listing.paths if kind == "embeddings" else listing.others).append(path)
    return listing


def _kind(path: Path, options: ReadOptions) -> str:
    """Returns `embeddings`, `other`, or "" for a file that belongs to another one."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return "other"
    if path.is_dir():
        return "embeddings" if any(path.glob("*.pt")) else "other"
    if path.name.endswith(_IDS):
        stem = path.name.removesuffix(_IDS)
        owners = (".npy", *detect.TORCH.suffixes, *detect.SAFETENSORS.suffixes)
        return "" if any(path.with_name(stem + s).exists() for s in owners) else "other"
    if suffix == ".json" and path.is_file() and read_spec_beside(path):
        return ""  # it specifies the encoder of that file
    if not path.is_file() or suffix in _SOMETHING_ELSE:
        return "other"
    found = detect.detect(path)
    if found is detect.GZIP and is_gzipped_text(path):
        found = detect.TEXT
        suffix = path.suffixes[-2].lower()
    if found is detect.TEXT and suffix in (*detect.TEXT.suffixes, ""):
        return "embeddings" if suffix and looks_like_matrix(path, options) else "other"
    if suffix in found.suffixes:
        return "embeddings"
    has_other_suffix = suffix in detect.SUFFIXES and suffix not in detect.TEXT.suffixes
    if has_other_suffix or suffix == ".tfrecord":
        open_embedding_file(path, options)  # raises
    if found is detect.EMPTY or found is detect.TEXT or not found.may_hold_embeddings:
        return "other"
    raise detect.refuse(path, found)


def check_stems(folder: Path, paths: list[Path]) -> None:
    """Raises an error if two files have the same name but for the format."""
    stems = [stem_of(p) for p in paths]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f"{folder}: {stem} exists in two formats; keep one")
