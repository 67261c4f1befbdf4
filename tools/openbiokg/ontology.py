"""Terms of the Gene Ontology, with definitions and hierarchy."""

from pathlib import Path

from .fetch import Package, read_text_from_wheel
from .obo import Ontology

PACKAGE = Package(
    content="Gene Ontology terms",
    source="Gene Ontology",
    licence="CC-BY-4.0",
    redistributable=True,
    name="go-enrich-tool",
    version="0.1.1",
    registry="PyPI",
    file="go_enrich_tool-0.1.1-py3-none-any.whl",
    sha256="98692ba586f4bab9c9921268b01a6093d0886a3a431eed425119fa706b5d4960",
    package_licence="MIT",
)
NAMESPACES = ("biological_process", "molecular_function", "cellular_component")


def read(path: Path) -> Ontology:
    """Reads the ontology, release 2026-05-19.

    Args:
      path: File of `PACKAGE`.

    Returns:
      The ontology.

    Raises:
      InputError: The package is damaged.
    """
    name = "go_enrich/data/go-basic.obo"
    return Ontology(read_text_from_wheel(path, name), f"{path}: {name}")
