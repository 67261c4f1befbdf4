"""Scores of proposed molecules: validity, similarity to known drugs, QED and novelty.

References:
  Bickerton et al., "Quantifying the chemical beauty of drugs", 2012 (QED).
  Rogers and Hahn, "Extended-Connectivity Fingerprints", 2010 (Morgan fingerprints).
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge_jax.data.delimited_text import find_layout, read_rows
from bridge_jax.data.missing import is_missing
from bridge_jax.encoders.base import EncodingError
from bridge_jax.encoders.smiles import clean_smiles, parse_smiles, split_smiles
from bridge_jax.errors import InputError, unknown

ID_COLUMNS = ("node_id", "drugbank_id", "id", "node_index")
_SMILES_TAG = re.compile(r"<smiles>\s*(\S+?)\s*</smiles>", re.IGNORECASE)
# Short words such as `I` or `CON` are valid SMILES, so they count as molecules only inside tags.
_MIN_UNTAGGED_LENGTH = 5


@dataclass(frozen=True)
class MoleculeScore:
    """Scores of one proposed molecule; all but `answer` are None if it is not valid.

    Similarities are Tanimoto similarities of Morgan fingerprints (radius 2, 2,048 bits).

    Attributes:
      answer: Text that proposes the molecule.
      smiles: Canonical SMILES.
      nearest_drug: Id of the most similar known drug.
      similarity: Similarity to `nearest_drug`.
      node_similarity: Maximum similarity to a known drug of the node; None if it has none with a
        structure.
      qed: Quantitative estimate of drug-likeness, 0 to 1.
      novel: Whether the molecule is not a known drug.
    """

    answer: str
    smiles: str | None = None
    nearest_drug: str | None = None
    similarity: float | None = None
    node_similarity: float | None = None
    qed: float | None = None
    novel: bool | None = None


def read_smiles(path: Path) -> dict[str, str]:
    """Reads the SMILES of nodes from a table.

    Args:
      path: Delimited text with a header, plain or gzipped; it has a column `smiles` and one of
        `ID_COLUMNS`.

    Returns:
      SMILES by node id, without titles; rows without SMILES, or with a missing value such as `NA`,
      are left out.

    Raises:
      InputError: The file is missing or damaged, lacks a column, has a row that cannot be used, or
        contains no SMILES.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a CSV with columns node_id and smiles")
    layout = find_layout(path, known_columns=(*ID_COLUMNS, "smiles"))
    header = layout.names
    id_column = next((c for c in ID_COLUMNS if c in header), None)
    if id_column is None or "smiles" not in header:
        missing = "smiles" if id_column else ID_COLUMNS[0]
        raise unknown("column", missing, header, str(path))
    smiles = {}
    for row in read_rows(path, layout):
        if row.reason:
            raise InputError(f"{path}: row {row.number}: {row.reason}; correct or remove it")
        text = row.fields[header.index("smiles")]
        if is_missing(text):
            continue
        if split_smiles(text)[1]:
            with suppress(EncodingError):  # kept as it is, it has no structure
                text = clean_smiles(text)
        smiles[row.fields[header.index(id_column)]] = text
    if not smiles:
        raise InputError(f"{path}: contains no SMILES; fill its column smiles")
    return smiles


def extract_smiles(answer: str) -> str | None:
    """Returns the SMILES in an answer of a language model.

    Args:
      answer: Text of the answer. Only a string between <smiles> and </smiles> is considered if
        there is one; otherwise all words of at least five characters are.

    Returns:
      The longest valid SMILES; None if there is none.
    """
    chem, _ = _import_rdkit()
    tagged = _SMILES_TAG.search(answer)
    words = [tagged[1]] if tagged else [word.strip(".,;:'\"`") for word in answer.split()]
    min_length = 1 if tagged else _MIN_UNTAGGED_LENGTH
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= min_length and chem.MolFromSmiles(word) is not None:
            return word
    return None


def score_molecules(
    answers: Sequence[str], known_drugs: Mapping[str, str], node_drugs: Sequence[str] = ()
) -> list[MoleculeScore]:
    """Scores proposed molecules against known drugs.

    Args:
      answers: Answers of a language model, or SMILES.
      known_drugs: SMILES of the known drugs, by id.
      node_drugs: Ids of the known drugs of the node that the answers are about.

    Returns:
      Scores in the order of the answers.

    Raises:
      InputError: RDKit is missing, or it can parse none of the known drugs.
    """
    chem, data = _import_rdkit()
    from rdkit import rdBase
    from rdkit.Chem import QED, rdFingerprintGenerator

    qed: Any = QED.qed  # RDKit does not annotate it
    fingerprint = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint
    with rdBase.BlockLogs():
        drugs = {node: _parse(smiles) for node, smiles in known_drugs.items()}
        drugs = {node: molecule for node, molecule in drugs.items() if molecule is not None}
        if not drugs:
            raise InputError("RDKit can parse none of the SMILES of known drugs; check --smiles")
        drug_fingerprints = [fingerprint(molecule) for molecule in drugs.values()]
        drug_smiles = {chem.MolToSmiles(molecule) for molecule in drugs.values()}
        scores = []
        for answer in answers:
            molecule = _parse(extract_smiles(answer) or "")
            if molecule is None:
                scores.append(MoleculeScore(answer))
                continue
            similarities = data.BulkTanimotoSimilarity(fingerprint(molecule), drug_fingerprints)
            similarity_to = dict(zip(drugs, similarities, strict=True))
            nearest_drug = max(similarity_to, key=similarity_to.__getitem__)
            smiles = chem.MolToSmiles(molecule)
            scores.append(
                MoleculeScore(
                    answer,
                    smiles,
                    nearest_drug,
                    similarity_to[nearest_drug],
                    max((similarity_to[i] for i in node_drugs if i in drugs), default=None),
                    float(qed(molecule)),
                    smiles not in drug_smiles,
                )
            )
    return scores


def _parse(smiles: str) -> Any:
    """The RDKit molecule; None if the SMILES is empty or invalid."""
    try:
        return parse_smiles(smiles)
    except EncodingError:
        return None


def _import_rdkit() -> tuple[Any, Any]:
    try:
        from rdkit import Chem, DataStructs
    except ImportError as e:
        raise InputError(
            "scoring molecules needs RDKit; install it with pip install 'bridge_jax[molecules]'"
        ) from e
    return Chem, DataStructs
