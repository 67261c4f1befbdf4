"""What a proposed molecule is worth on paper: validity, likeness to known drugs, QED, novelty."""

import csv
import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_jax.errors import InputError, unknown

ID_COLUMNS = ("node_id", "drugbank_id", "id", "node_index")
_MARKED = re.compile(r"<smiles>\s*(\S+?)\s*</smiles>", re.IGNORECASE)


@dataclass(frozen=True)
class Outcome:
    """A proposal and its figures; those after `smiles` are None where it is not valid.

    Attributes:
      answer: what was proposed.
      smiles: canonical, or None where no molecule could be read.
      nearest: id of the most similar known drug.
      to_known: Tanimoto similarity to it (Morgan fingerprints, radius 2, 2,048 bits).
      to_own: the largest to a drug of the disease; None where it has none with a structure.
      qed: quantitative estimate of drug-likeness, 0 to 1.
      novel: whether it is none of the known drugs.
    """

    answer: str
    smiles: str | None = None
    nearest: str | None = None
    to_known: float | None = None
    to_own: float | None = None
    qed: float | None = None
    novel: bool | None = None


def read_smiles(path: Path) -> dict[str, str]:
    """Structures by node id.

    Args:
      path: a CSV or TSV with a header, plain or gzipped: a column `smiles` and one of `ID_COLUMNS`.

    Raises:
      InputError: the file is missing, lacks a column, or holds no structure.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of structures")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as handle:
            tabs = ".tsv" in path.suffixes
            rows = csv.DictReader(handle, delimiter="\t" if tabs else ",")
            header = rows.fieldnames or []
            key = next((c for c in ID_COLUMNS if c in header), None)
            if key is None or "smiles" not in header:
                missing = "smiles" if key else ID_COLUMNS[0]
                raise unknown("column", missing, header, str(path))
            found = {r[key]: r["smiles"].strip() for r in rows if (r["smiles"] or "").strip()}
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as e:
        raise InputError(f"{path}: cannot be read: {e}") from e
    if not found:
        raise InputError(f"{path}: holds no structure")
    return found


def proposal(answer: str) -> str | None:
    """The SMILES in a language model's answer: what is marked as such, else the longest one.

    Words of the answer that happen to be SMILES (`I`, `CON`) are passed over: without a mark a
    molecule must have at least five characters.
    """
    chem, _ = _rdkit()
    marked = _MARKED.search(answer)
    words = [marked[1]] if marked else [w.strip(".,;:'\"`") for w in answer.split()]
    least = 1 if marked else 5
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= least and chem.MolFromSmiles(word) is not None:
            return word
    return None


def score(
    answers: Sequence[str], known: Mapping[str, str], own: Sequence[str] = ()
) -> list[Outcome]:
    """Score proposals.

    Args:
      answers: of a language model, or SMILES.
      known: SMILES of the known drugs by id.
      own: ids of the drugs of the disease.

    Returns:
      One outcome an answer, in order.

    Raises:
      InputError: RDKit is missing, or it can read none of the known drugs.
    """
    chem, data = _rdkit()
    from rdkit import rdBase
    from rdkit.Chem import QED, rdFingerprintGenerator

    drug_likeness: Any = QED.qed  # RDKit does not annotate it
    fingerprint = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint
    with rdBase.BlockLogs():
        molecules = {i: chem.MolFromSmiles(s) for i, s in known.items()}
        molecules = {i: m for i, m in molecules.items() if m is not None and m.GetNumAtoms()}
        if not molecules:
            raise InputError("RDKit can read none of the known drugs' SMILES")
        names = list(molecules)
        prints = [fingerprint(m) for m in molecules.values()]
        canonical = {chem.MolToSmiles(m) for m in molecules.values()}
        outcomes = []
        for answer in answers:
            text = proposal(answer)
            molecule = chem.MolFromSmiles(text) if text else None
            if molecule is None or not molecule.GetNumAtoms():
                outcomes.append(Outcome(answer))
                continue
            near = data.BulkTanimotoSimilarity(fingerprint(molecule), prints)
            best = max(range(len(near)), key=near.__getitem__)
            smiles = chem.MolToSmiles(molecule)
            of_own = [near[names.index(i)] for i in own if i in molecules]
            outcomes.append(
                Outcome(
                    answer,
                    smiles,
                    names[best],
                    near[best],
                    max(of_own, default=None),
                    float(drug_likeness(molecule)),
                    smiles not in canonical,
                )
            )
    return outcomes


def _rdkit() -> tuple[Any, Any]:
    try:
        from rdkit import Chem, DataStructs
    except ImportError as e:
        raise InputError(
            "scoring molecules needs RDKit; install it with pip install 'bridge_jax[molecules]'"
        ) from e
    return Chem, DataStructs
