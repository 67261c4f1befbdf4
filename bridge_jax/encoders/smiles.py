"""SMILES as people have them: with a title after a blank, cut by a blank, or not at all a SMILES.

RDKit reads what follows the first blank as the name of the molecule. For `Oc1ccccc1 C(=O)O` it
would return phenol without a word.
"""

import re
from typing import Any

from bridge_jax.encoders.base import EncodingError, import_optional

# Only structural signs and symbols of organic atoms; no name of a molecule has brackets around `=`.
_FRAGMENT = re.compile(
    r"(?=.*[A-Za-z*])(?:Br|Cl|[BCNOPSFIbcnops*]|\[[^\]\s]+\]|[-=#$:/\\.()~]|%\d\d|\d)+"
)
_STRUCTURAL = re.compile(r"[()=#\[\]]")


def looks_like_smiles(word: str) -> bool:
    """Returns whether a word consists of the signs of a SMILES; it need not be a valid one."""
    return _FRAGMENT.fullmatch(word) is not None


def split_smiles(text: str) -> tuple[str, str]:
    """Splits a line of a SMILES file into the SMILES and what follows the first blank.

    Args:
      text: SMILES, maybe followed by a title or a CXSMILES extension such as `|r|`.
    """
    smiles, *rest = text.split(maxsplit=1)[:2] if text.strip() else ("",)
    return smiles, rest[0].strip() if rest else ""


def clean_smiles(text: str) -> str:
    """Returns a SMILES without the title or CXSMILES extension after the first blank.

    Args:
      text: SMILES, maybe followed by a blank and a title.

    Raises:
      EncodingError: The SMILES is empty or invalid, or the blank is within it.
    """
    smiles, title = split_smiles(text)
    if not smiles.isascii() or not smiles.isprintable() or _parse(smiles) is None:
        raise EncodingError("invalid SMILES")
    if title and not title.startswith("|"):
        first = title.split()[0]
        if looks_like_smiles(first) and (
            _STRUCTURAL.search(first) or _parse(smiles + first) is not None
        ):
            raise EncodingError("a blank within the SMILES")
    return smiles


def parse_smiles(text: str) -> Any:
    """Returns the RDKit molecule of a SMILES, without its title.

    Raises:
      EncodingError: The SMILES is empty or invalid, or a blank is within it.
    """
    return _parse(clean_smiles(text))


def _parse(smiles: str) -> Any:
    """The RDKit molecule; None if the SMILES is empty or invalid."""
    chem = import_optional("rdkit.Chem")
    import_optional("rdkit.RDLogger").DisableLog("rdApp.*")
    molecule = chem.MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None
