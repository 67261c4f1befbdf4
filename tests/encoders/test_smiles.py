"""SMILES with titles, with blanks within, and invalid ones."""

import pytest

pytest.importorskip("rdkit")

from bridge_jax.encoders.base import EncodingError
from bridge_jax.encoders.smiles import clean_smiles, looks_like_smiles, parse_smiles, split_smiles

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


@pytest.mark.parametrize(
    "title", ["", " aspirin", "\tDB00945", " acetylsalicylic acid", " |r|", " |$R1;;$,c:1| x",
              " 2-acetoxybenzoic acid", "  50-78-2", " HCl", "\n", " N-(4-hydroxyphenyl)acetamide"],
)  # fmt: skip
def test_a_title_is_cut(title: str) -> None:
    assert clean_smiles(f" {ASPIRIN}{title}") == ASPIRIN
    assert parse_smiles(ASPIRIN + title).GetNumAtoms() == 13
    assert split_smiles(ASPIRIN + title) == (ASPIRIN, title.strip())


@pytest.mark.parametrize(
    "text",
    ["CC(=O)Oc1ccccc1 C(=O)O", "CCO CCN", "CCO .Cl", "CC O", "CCO\nCCN", "CC [Na+]"],
)
def test_a_blank_within_the_smiles_is_an_error(text: str) -> None:
    with pytest.raises(EncodingError, match="a blank within the SMILES"):
        parse_smiles(text)


@pytest.mark.parametrize(
    "text", ["", "  ", "not a molecule", "CCO\0C", "c1ccccc", "ССO", "C(", "|r|"]
)
def test_an_invalid_smiles_is_an_error(text: str) -> None:
    with pytest.raises(EncodingError, match="invalid SMILES"):
        parse_smiles(text)


def test_signs_of_a_smiles() -> None:
    assert all(map(looks_like_smiles, [ASPIRIN, "C[C@@H](N)C(=O)O", "[Na+].[Cl-]", "C%10CC%10"]))
    assert not any(map(looks_like_smiles, ["id", "SMILES", "name,smiles", "DB1", "12", "aspirin"]))
