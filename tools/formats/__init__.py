"""Graph formats: one file each, one table that names them."""

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
