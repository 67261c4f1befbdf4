"""Approved drugs of DrugBank with their SMILES, and their targets in ChEMBL.

The two are joined by name. ChEMBL often names a salt (`METFORMIN HYDROCHLORIDE`) where DrugBank
names the drug (`METFORMIN`), so a name unknown to DrugBank is looked up without salts and water.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bridge_jax.errors import InputError

from ..formats.safe_pickle import loads
from .fetch import Package, read_from_wheel, read_text_from_wheel

DRUGS = Package(
    content="drugs and SMILES",
    source="DrugBank",
    licence="non-commercial: do not redistribute",
    redistributable=False,
    name="admet-ai",
    version="2.0.1",
    registry="PyPI",
    file="admet_ai-2.0.1-py3-none-any.whl",
    sha256="fef3527f637abb00d272cf824e8eef0136fe31ebde6c56881f1a8c02c0417806",
    package_licence="MIT",
)
TARGETS = Package(
    content="drug targets",
    source="ChEMBL",
    licence="non-commercial: do not redistribute",
    redistributable=False,
    name="drug2cell",
    version="0.1.2",
    registry="PyPI",
    file="drug2cell-0.1.2-py3-none-any.whl",
    sha256="a8900586f4f49797e579834edc285336d0c1b75cec6571629a3c33102a909d37",
    package_licence="non-commercial",
)
_SALTS = (
    *("CALCIUM", "DISODIUM", "POTASSIUM", "SODIUM"),
    *("BROMIDE", "CHLORIDE", "DIHYDROCHLORIDE", "HYDROBROMIDE", "HYDROCHLORIDE"),
    *("ACETATE", "BESYLATE", "CITRATE", "FUMARATE", "MALEATE", "MESYLATE", "PHOSPHATE"),
    *("SUCCINATE", "SULFATE", "TARTRATE", "TOSYLATE"),
    *("ANHYDROUS", "MONOHYDRATE"),
)


class Drug(NamedTuple):
    """One drug.

    Attributes:
      id: DrugBank id; several ids are joined with semicolons.
      name: Name of the drug.
      smiles: Structure as SMILES.
    """

    id: str
    name: str
    smiles: str


class Drugs(NamedTuple):
    """Drugs and their targets.

    Attributes:
      drugs: All drugs, in the order of the file.
      targets: Pairs of drug id and gene symbol.
    """

    drugs: list[Drug]
    targets: set[tuple[str, str]]


def read(drugbank: Path, chembl: Path) -> Drugs:
    """Reads drugs and their targets.

    Args:
      drugbank: File of the package `DRUGS`.
      chembl: File of the package `TARGETS`. Its pickle is read without executing it.

    Returns:
      The drugs and their targets.

    Raises:
      InputError: A package is damaged.
    """
    name = "admet_ai/resources/data/drugbank_approved.csv"
    rows = csv.DictReader(io.StringIO(read_text_from_wheel(drugbank, name), newline=""))
    try:
        drugs = [Drug(r["id"], r["name"], r["smiles"]) for r in rows]
    except KeyError as e:
        raise InputError(f"{drugbank}: {name}: no column {e}") from e
    name = "drug2cell/drug-target_dicts.pkl"
    file = f"{chembl}: {name}"
    return Drugs(drugs, _match_targets(drugs, loads(read_from_wheel(chembl, name), file), file))


def _match_targets(drugs: list[Drug], chembl: Any, file: str) -> set[tuple[str, str]]:
    ids_by_name: dict[str, list[str]] = {}
    for drug in drugs:
        ids_by_name.setdefault(drug.name.upper(), []).append(drug.id)
    try:
        return {
            (drug_id, symbol)
            for group in chembl.values()
            for name, symbols in group.items()
            for drug_id in _resolve(name.partition("|")[2], ids_by_name)
            for symbol in symbols
        }
    except (AttributeError, TypeError) as e:
        raise InputError(f"{file}: not groups of drugs with lists of symbols: {e}") from e


def _resolve(name: str, ids_by_name: Mapping[str, list[str]]) -> list[str]:
    """Returns the ids of a ChEMBL name, with salts dropped from its end if need be."""
    if name in ids_by_name:
        return ids_by_name[name]
    words = name.split()
    while len(words) > 1 and words[-1] in _SALTS:
        words.pop()
    return ids_by_name.get(" ".join(words), [])
