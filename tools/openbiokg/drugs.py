"""Approved drugs of DrugBank with their SMILES, and their targets in ChEMBL.

The two are joined by name. ChEMBL names a salt (`METFORMIN HYDROCHLORIDE`) where DrugBank may have
the drug alone, so a name that DrugBank does not have is tried without salts and water.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bridge_jax.errors import InputError

from ..formats.safe_pickle import loads
from .fetch import Package, read_member, read_text

DRUGS = Package(
    part="drugs and SMILES",
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
    part="drug targets",
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
    """One drug; `id` may join several DrugBank ids with semicolons."""

    id: str
    name: str
    smiles: str


class Drugs(NamedTuple):
    """All drugs, and (drug id, gene symbol) pairs."""

    drugs: list[Drug]
    targets: set[tuple[str, str]]


def read(drugs: Path, targets: Path) -> Drugs:
    """Read drugs and targets.

    Args:
      drugs: the package of DrugBank.
      targets: the package of ChEMBL; its pickle is read without running it.

    Raises:
      InputError: a package is damaged.
    """
    name = "admet_ai/resources/data/drugbank_approved.csv"
    rows = csv.DictReader(io.StringIO(read_text(drugs, name), newline=""))
    try:
        found = [Drug(r["id"], r["name"], r["smiles"]) for r in rows]
    except KeyError as e:
        raise InputError(f"{drugs}: {name}: no column {e}") from e
    name = "drug2cell/drug-target_dicts.pkl"
    where = f"{targets}: {name}"
    return Drugs(found, _targets(found, loads(read_member(targets, name), where), where))


def _targets(drugs: list[Drug], chembl: Any, where: str) -> set[tuple[str, str]]:
    ids: dict[str, list[str]] = {}
    for drug in drugs:
        ids.setdefault(drug.name.upper(), []).append(drug.id)
    try:
        return {
            (drug, symbol)
            for group in chembl.values()
            for name, symbols in group.items()
            for drug in _ids(name.partition("|")[2], ids)
            for symbol in symbols
        }
    except (AttributeError, TypeError) as e:
        raise InputError(f"{where}: not groups of drugs with lists of symbols: {e}") from e


def _ids(name: str, ids: Mapping[str, list[str]]) -> list[str]:
    """The drugs of a ChEMBL name."""
    if name in ids:
        return ids[name]
    words = name.split()
    while len(words) > 1 and words[-1] in _SALTS:
        words.pop()
    return ids.get(" ".join(words), [])
