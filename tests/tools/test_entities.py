"""Files of entities to encode: each format is found by its content, and no record is lost."""

import gzip
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
from tools.formats.delimited import Finding
from tools.formats.entities import detect_format, open_entities
from tools.formats.features import FeatureRow

FASTA = """>sp|P04637|P53_HUMAN Cellular tumor antigen p53 OS=Homo sapiens OX=9606
MEEPQSDPSV
EPPLSQETFS

>ENSP1.3 a protein
mktayiakqr*
>tr|A0A1|A0A1_HUMAN
>NA
NA
> without an id
MK
"""
SDF_ATOMS = """
  -OEChem-

  2  1  0     0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0
    1.0000    0.0000    0.0000 O   0  0  0  0  0  0
  1  2  1  0  0  0  0
M  END
"""


def read(path: Path, **options: object) -> tuple[list[FeatureRow], list[Finding]]:
    findings: list[Finding] = []
    return list(open_entities(path, **options).read(findings)), findings  # type: ignore[arg-type]


def pairs(rows: list[FeatureRow]) -> list[tuple[str, str]]:
    return [(row.id, row.text) for row in rows]


@pytest.mark.parametrize("name", ["p.fasta", "p.csv", "p.fa.gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_fasta(tmp_path: Path, name: str, line_end: str) -> None:
    raw = FASTA.replace("\n", line_end).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    assert detect_format(path) == "fasta"
    rows, findings = read(path, input_type="sequence")
    assert pairs(rows) == [
        ("P04637", "MEEPQSDPSVEPPLSQETFS"), ("ENSP1.3", "mktayiakqr*"), ("A0A1", ""), ("NA", ""),
        ("without", "MK"),
    ]  # fmt: skip
    assert [r.name for r in rows[:3]] == ["Cellular tumor antigen p53", "a protein", "A0A1"]
    assert [r.row for r in rows] == [1, 5, 7, 8, 10]
    assert rows[3].reason == "'NA' is a missing value"
    assert findings == []


def test_fasta_that_is_cut_or_has_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "p.fa"
    path.write_text("; a comment\nMKT\n>\nMKT\n>P1\nMKV\n>sp|P2|X_HUM")
    rows, findings = read(path, format="fasta")
    assert pairs(rows) == [("P1", "MKV")]
    assert [(f.row, f.reason) for f in findings] == [
        (2, "text before the first header"), (3, "a header without an id"),
        (7, "the file seems cut: download it again"),
    ]  # fmt: skip
    path.write_text("id,sequence\nP1,MKT\n")
    with pytest.raises(InputError, match="no header that starts with >"):
        read(path, format="fasta")


def test_smi(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("CCO DB1\nCCN\tDB2\tethylamine\nC |r| DB3 and more\n\nC#N\nN/A DB5\n")
    rows, findings = read(path, format="smi")
    assert pairs(rows) == [("DB1", "CCO"), ("DB2", "CCN"), ("DB3 and more", "C"), ("DB5", "")]
    assert rows[3].reason == "'N/A' is a missing value"
    assert [(f.row, f.reason) for f in findings] == [(5, "no id after the SMILES")]
    path.write_text("SMILES Name\nCCO DB1\nC[N+](C)C DB2\n")
    assert detect_format(path) == "smi"
    assert pairs(read(path)[0]) == [("DB1", "CCO"), ("DB2", "C[N+](C)C")]


def test_uniprot_table_and_columns_of_another_case(tmp_path: Path) -> None:
    path = tmp_path / "u.tsv"
    path.write_text(
        "Entry\tReviewed\tProtein names\tGene Names\tSequence\nP1\treviewed\tAlpha, b\tA B\tMKT\n"
    )
    rows, findings = read(path, input_type="sequence")
    assert (rows, findings) == ([FeatureRow("P1", "", "Alpha, b", "MKT")], [])
    path.write_text("ID;SMILES\nDB1;CCO\n")
    assert pairs(read(path, input_type="smiles")[0]) == [("DB1", "CCO")]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_parquet(tmp_path: Path, library: str) -> None:
    module = pytest.importorskip(library)
    path = tmp_path / "drug.csv"
    columns = {"node_id": [9606.0, 2.5, 3.0], "smiles": ["CCO", None, "NA"], "x": [[1], [2], [3]]}
    frame = module.DataFrame(columns)
    frame.to_parquet(path) if library == "pandas" else frame.write_parquet(path)
    rows, _ = read(path, input_type="smiles")
    assert pairs(rows) == [("9606", "CCO"), ("2.5", ""), ("3", "")]
    assert [r.reason for r in rows] == ["", "", "'NA' is a missing value"]
    with pytest.raises(InputError, match=r"column 'x' has .*; expected text or numbers"):
        read(path, text_columns=("x",))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        read(path)


def test_parquet_with_the_index_of_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"sequence": ["MK", "MV"]}, index=["P1", "P2"])
    frame.to_parquet(tmp_path / "p.parquet")
    assert pairs(read(tmp_path / "p.parquet")[0]) == [("P1", "MK"), ("P2", "MV")]


def test_sdf_written_by_rdkit(tmp_path: Path) -> None:
    chem = pytest.importorskip("rdkit.Chem")
    path = tmp_path / "drugs.csv"
    with chem.SDWriter(str(path)) as writer:
        for id_, smiles in (("DB1", "CCO"), ("DB2", "CC(=O)Oc1ccccc1C(=O)O")):
            molecule = chem.MolFromSmiles(smiles)
            molecule.SetProp("_Name", f"title {id_}")
            molecule.SetProp("DRUGBANK_ID", id_)
            molecule.SetProp("GENERIC_NAME", f"name of {id_}")
            writer.write(molecule)
    assert detect_format(path) == "sdf"
    rows, findings = read(path, input_type="smiles")
    assert pairs(rows) == [("DB1", "CCO"), ("DB2", "CC(=O)Oc1ccccc1C(=O)O")]
    assert [r.name for r in rows] == ["name of DB1", "name of DB2"]
    assert findings == []
    assert [r.id for r in read(path, id_column="title")[0]] == ["title DB1", "title DB2"]
    with pytest.raises(InputError, match="property 'DB_ID' is not in"):
        read(path, id_column="DB_ID")


def test_sdf_with_damaged_records(tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    bad = SDF_ATOMS.replace(" O   0", " Qq  0")
    records = ["A" + SDF_ATOMS, "B" + bad, "C\n\n\n", "D" + SDF_ATOMS, "E" + SDF_ATOMS[:60]]
    path = tmp_path / "x.sdf"
    path.write_text("$$$$\n".join(records))
    rows, findings = read(path)
    assert pairs(rows) == [("A", "CO"), ("B", ""), ("D", "CO")]
    assert rows[1].reason == "RDKit cannot read the molecule"
    assert [(f.text, f.reason) for f in findings] == [
        ("C", "no line M  END"), ("E", "the file seems cut: download it again"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (">P1\nMKT\n", {"input_type": "smiles"}, "--format fasta, which has no smiles"),
        (">P1\nMKT\n", {"text_columns": ("x",)}, "--text-columns is for tables"),
        ("CCO DB1\n", {"id_column": "x"}, "--id-column is for tables, not for --format smi"),
        ("a,b\n1,2\n", {}, "no id column among a, b; name it with --id-column"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, content: str, options: dict, message: str
) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read(path, **options)
