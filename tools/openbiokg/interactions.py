"""Protein–protein interactions of STRING, as pairs of gene symbols."""

from pathlib import Path

from bridge_jax.errors import InputError

from .fetch import Package, read_text_from_wheel

PACKAGE = Package(
    content="protein interactions",
    source="STRING",
    licence="CC-BY-4.0",
    redistributable=True,
    name="genelens",
    version="0.1.11",
    registry="PyPI",
    file="genelens-0.1.11-py3-none-any.whl",
    sha256="4adeff17f4fba2ee0244cbc1249865b51d999a03f4776361a2e2f0b0dbf0f0c6",
    package_licence="not stated",
)


def read(path: Path) -> list[tuple[str, str]]:
    """Reads the pairs as stored; a pair may occur in one direction or in both.

    Args:
      path: File of `PACKAGE`.

    Returns:
      Pairs of gene symbols, in the order of the file.

    Raises:
      InputError: The package is damaged.
    """
    name = "genelens/data/miRNET/baseData/String_interactome.csv"
    header, *lines = read_text_from_wheel(path, name).splitlines()
    if header != "Source,Target":
        raise InputError(f"{path}: {name}: columns {header!r}; expected 'Source,Target'")
    pairs = [tuple(line.split(",")) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{path}: {name}: a line is not a pair")
    return [(a, b) for a, b in pairs]
