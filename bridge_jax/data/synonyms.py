"""Synonyms of nodes: gene symbols, accessions, other names of a term or a disease.

They are stored as `nodes/<type>.synonyms.tsv.gz` with the columns `id` and `synonyms`, separated by
`|`; a node without a synonym has no row. A dataset without synonyms is complete.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bridge_jax.data.files import atomic_file, path_inside
from bridge_jax.data.manifest import Manifest, SynonymFile, file_name
from bridge_jax.errors import InputError

SEPARATOR = "|"
SYNONYM_COLUMNS = ("synonyms", "synonym", "exact_synonyms", "exact_synonym")  # in any case
_HEADER = f"id\tsynonyms ({SEPARATOR})\n"


def synonym_columns(header: Iterable[str]) -> list[str]:
    """Returns the columns of a table that hold synonyms, by `SYNONYM_COLUMNS`."""
    return [name for name in header if name.casefold() in SYNONYM_COLUMNS]


def distinct_synonyms(texts: Iterable[str], name: str = "") -> tuple[str, ...]:
    """Returns the synonyms of one node, in order of appearance.

    Args:
      texts: Synonyms, or lists of them separated by `|`.
      name: Name of the node; it is no synonym.

    Returns:
      The synonyms without empty ones, repetitions and superfluous blanks. A repetition differs at
      most in case.
    """
    found: dict[str, str] = {}
    for text in texts:
        for part in text.split(SEPARATOR):
            synonym = " ".join(part.split())
            if synonym:
                found.setdefault(synonym.casefold(), synonym)
    found.pop(" ".join(name.split()).casefold(), None)
    return tuple(found.values())


def write_synonyms(
    root: Path, node_type: str, synonyms: Mapping[str, Sequence[str]]
) -> SynonymFile | None:
    """Writes the synonyms of one node type.

    Args:
      root: Dataset directory.
      node_type: Node type.
      synonyms: Synonyms by id, as `distinct_synonyms` returns them, in the order of the rows.

    Returns:
      The manifest's entry; None if no node has a synonym, in which case no file is written.
    """
    rows = [(i, SEPARATOR.join(words)) for i, words in synonyms.items() if words]
    if not rows:
        return None
    text = _HEADER + "".join(f"{i}\t{words}\n" for i, words in rows)
    raw = gzip.compress(text.encode(), 9, mtime=0)  # the same synonyms give the same bytes
    file = f"nodes/{file_name(node_type)}.synonyms.tsv.gz"
    with atomic_file(root / file) as temporary:
        temporary.write_bytes(raw)
    return SynonymFile(file, len(rows), hashlib.sha256(raw).hexdigest())


def read_synonyms(
    root: str | Path, manifest: Manifest, node_type: str
) -> dict[str, tuple[str, ...]]:
    """Reads the synonyms of one node type.

    Args:
      root: Dataset directory.
      manifest: Its manifest.
      node_type: Node type.

    Returns:
      Synonyms by id; a node without one has no entry. Empty if the dataset has none of this type.

    Raises:
      InputError: The dataset has no such node type, or the file is missing or damaged.
    """
    manifest.table(node_type)
    entry = manifest.synonyms.get(node_type)
    if entry is None:
        return {}
    path = path_inside(Path(root), entry.file)
    try:
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != entry.sha256:
            raise ValueError("its sha256 is not that of the manifest")
        lines = gzip.decompress(raw).decode().split("\n")[1:-1]
        rows = [line.split("\t") for line in lines]
        synonyms = {i: tuple(words.split(SEPARATOR)) for i, words in rows}
        if len(synonyms) != entry.count:
            raise ValueError(f"{len(synonyms)} ids where the manifest counts {entry.count}")
    except (OSError, EOFError, ValueError, zlib.error) as e:
        raise InputError(
            f"{path}: cannot be read: {e}; restore it or write the dataset again"
        ) from e
    return synonyms
