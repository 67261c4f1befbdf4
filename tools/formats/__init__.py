"""Graph formats: one file each, one table that names them."""

from collections.abc import Callable
from pathlib import Path

from tools.formats import primekg
from tools.formats.edges import Edges

FORMATS: dict[str, Callable[[Path], Edges]] = {"primekg": primekg.read}
