"""Readers of knowledge graph formats, one module each, by format name."""

from collections.abc import Callable
from pathlib import Path

from . import biobridge, openbiolink, primekg, tsv
from .edges import Edges

FORMATS: dict[str, Callable[[Path], Edges]] = {
    "primekg": primekg.read,
    "biobridge": biobridge.read,
    "tsv": tsv.read,
    "openbiolink": openbiolink.read,
}
