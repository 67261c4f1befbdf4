"""Readers of knowledge graph formats, one module each, by format name."""

from collections.abc import Callable
from pathlib import Path

from bridge_jax.errors import InputError

from . import biobridge, kgx, ntriples, openbiolink, primekg, tsv
from .edges import Edges

FORMATS: dict[str, Callable[..., Edges]] = {
    "primekg": primekg.read,
    "txgnn": primekg.read,
    "biobridge": biobridge.read,
    "tsv": tsv.read,
    "drkg": tsv.read,
    "hetionet": tsv.read,
    "openbiolink": openbiolink.read,
    "kgx": kgx.read,
    "ntriples": ntriples.read,
}


_DELIMITED = ("primekg", "txgnn", "tsv", "drkg", "hetionet", "kgx")


def read_graph(
    format_name: str, path: Path, *, delimiter: str = "", iri_pattern: str = ""
) -> Edges:
    """Reads a graph.

    Args:
      format_name: One of `FORMATS`.
      path: File or folder.
      delimiter: Field separator, for formats whose files may have several; default: found.
      iri_pattern: With `ntriples`, a regular expression with the groups `type` and `id`.

    Raises:
      InputError: The graph cannot be read, or the format takes no such option.
    """
    if iri_pattern and format_name != "ntriples":
        raise InputError(f"--iri-pattern {iri_pattern!r}: only --format ntriples has IRIs")
    if iri_pattern:
        return ntriples.read(path, ntriples.compile_iri_pattern(iri_pattern))
    if delimiter and format_name in _DELIMITED:
        return FORMATS[format_name](path, delimiter)
    return FORMATS[format_name](path)
