"""Diseases of UniProt and the proteins whose variants cause them, as shipped by GNU Health."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bridge_jax.errors import InputError

from .fetch import Package, read_from_wheel

PACKAGE = Package(
    content="diseases and their proteins",
    source="UniProt",
    licence="CC-BY-4.0",
    redistributable=True,
    name="gnuhealth-genetics-uniprot",
    version="5.0.4",
    registry="PyPI",
    file="gnuhealth_genetics_uniprot-5.0.4-py3-none-any.whl",
    sha256="07a93baa62f608c36d5b88ef798316acdd70d297dca9cf9210dd991411b41b52",
    package_licence="GPL-3.0-or-later",
)
_FOLDER = "trytond/modules/health_genetics_uniprot/data"


class Disease(NamedTuple):
    """One disease.

    Attributes:
      id: UniProt's id, e.g. `DI-00001`.
      name: Name of the disease.
      omim: OMIM number, e.g. `MIM:300438`.
      definition: Description in a few sentences.
      acronym: Short name, e.g. `HSD10MD`; may be empty.
    """

    id: str
    name: str
    omim: str
    definition: str
    acronym: str = ""


class Diseases(NamedTuple):
    """Diseases and their proteins.

    Attributes:
      diseases: All diseases, in the order of the file.
      proteins: Pairs of UniProt accession and disease id.
    """

    diseases: list[Disease]
    proteins: set[tuple[str, str]]


def read(path: Path) -> Diseases:
    """Reads diseases, and joins them to proteins through the variants.

    Args:
      path: File of `PACKAGE`.

    Returns:
      The diseases and their proteins.

    Raises:
      InputError: The package is damaged.
    """
    fields = ("disease_name", "mim_reference", "description")
    rows = _records(path, "protein_diseases.xml", fields, ("acronym",))
    diseases = [Disease(*row) for row in rows]
    known = {d.id for d in diseases}
    protein_of = dict(_records(path, "gene_variants.xml", ("protein",)))
    links = _records(path, "variant_phenotypes.xml", ("variant", "phenotype"))
    return Diseases(
        diseases,
        {
            (protein_of[variant], disease)
            for _, variant, disease in links
            if variant in protein_of and disease in known
        },
    )


def _records(
    path: Path, name: str, fields: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yields the id of each record of a Tryton data file and some of its fields."""
    try:
        root = ET.fromstring(read_from_wheel(path, f"{_FOLDER}/{name}"))
    except ET.ParseError as e:
        raise InputError(f"{path}: {name}: not a data file of Tryton, or damaged: {e}") from e
    for record in root.iter("record"):
        values = {f.get("name"): f.get("ref") or (f.text or "").strip() for f in record}
        for field in fields:
            if field not in values:
                raise InputError(f"{path}: {name}: record {record.get('id')} lacks {field!r}")
        yield [record.get("id", ""), *(values.get(field, "") for field in (*fields, *optional))]
