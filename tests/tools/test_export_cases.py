"""Exports of inputs as people have them: no row is lost, none gets the vector of another one."""

import json
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family, prepare_each
from bridge_jax.errors import InputError
from tests.helpers.encoders import LetterCounter
from tools import export_embeddings
from tools.ingest.embeddings import read_folder

CASES = Path(__file__).parents[1] / "fixtures/cases"


class SmilesCounter(LetterCounter):
    """Counts the letters of the SMILES that real encoders read."""

    def prepare(self, texts):
        from bridge_jax.encoders.smiles import clean_smiles

        count = super().prepare
        return prepare_each(texts, lambda text: count([clean_smiles(text)])[0])


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    """Registers a toy encoder of each type of input."""
    for modality in ("text", "sequence", "smiles"):
        encoder = SmilesCounter if modality == "smiles" else LetterCounter
        family = Family(modality, encoder, modality, "letters", 1000, 64, takes_checkpoint=False)
        monkeypatch.setitem(ENCODERS, modality, family)


def export(path, output, encoder, *options):
    """Exports a file; returns its vectors by id, and its sidecar."""
    arguments = ["--encoder", encoder, "--type", "node", "--input", path, "--output", output]
    export_embeddings.main([str(a) for a in (*arguments, *options)])
    table = read_folder(output)["node"]
    vectors = dict(zip(table.ids, table.x.tolist(), strict=True))
    return vectors, json.loads((output / "nodes/node.json").read_text())


@pytest.fixture
def needs_rdkit():
    pytest.importorskip("rdkit")


def vector(text):
    return [len(text), sum(c in "aeiou" for c in text), text.count("A") + 0.5]


def test_a_comma_that_is_not_quoted(tmp_path, capsys):
    vectors, sidecar = export(CASES / "csv-unquoted-comma/protein.csv", tmp_path, "sequence")
    assert vectors == {"Q1": vector("MKTAYIAKQR")}
    reason = "4 fields where there should be 3"
    assert sidecar["failed"] == [{"id": "", "reason": f"row 3: {reason}"}]
    printed = capsys.readouterr().out
    assert "protein.csv: 2 rows = 1 encoded + 1 rejected or failed\n" in printed
    assert f"1 rows rejected: {reason} (row 3)" in printed


@pytest.mark.usefixtures("needs_rdkit")
def test_commas_in_the_names_of_drugs(tmp_path):
    vectors, sidecar = export(CASES / "csv-unquoted-comma/drug.csv", tmp_path, "smiles")
    assert vectors == {"DB1": vector("CCO")}
    assert [f["reason"].split(":")[0] for f in sidecar["failed"]] == ["row 3", "row 4", "row 5"]


@pytest.mark.usefixtures("needs_rdkit")
@pytest.mark.parametrize(
    ("file", "id_column", "ids"),
    [
        ("bom-id-column/drug.csv", "node_id", ["DB00001", "DB00002"]),
        ("bom-id-column/drug2.csv", "node_id", ["DB00001"]),
        ("utf16-csv/drug.csv", "node_id", ["DB1"]),
        ("dataverse-tab/semicolon.csv", "node_id", ["DB1"]),
        ("dataverse-tab/x.smi", "node_id", ["DB1", "DB2"]),
    ],
)
def test_marks_encodings_and_delimiters(tmp_path, file, id_column, ids):
    vectors, sidecar = export(CASES / file, tmp_path, "smiles")
    assert list(vectors) == ids
    assert vectors[ids[0]] == vector("CCO")
    assert (sidecar["id_column"], sidecar["failed"]) == (id_column, [])


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="column 'smiles' occurs 2 times"):
        export(CASES / "duplicate-column/drug.csv", tmp_path, "smiles")


def test_missing_sequences_fail_and_missing_descriptions_are_left_out(tmp_path):
    vectors, sidecar = export(CASES / "na-as-sequence/protein.csv", tmp_path / "p", "sequence")
    assert vectors == {"P1": vector("MKTAYIAKQR")}
    reasons = {f["id"]: f["reason"] for f in sidecar["failed"]}
    assert list(reasons) == ["P2", "P3", "P4", "P5", "P6", "P7"]
    assert reasons["P6"] == "'Not available' is a missing value"
    vectors, _ = export(CASES / "na-as-sequence/disease.csv", tmp_path / "d", "text")
    assert vectors == dict.fromkeys("ABC", vector("asthma"))
    options = ("--missing-values", "asthma", "--overwrite")
    vectors, _ = export(CASES / "na-as-sequence/disease.csv", tmp_path / "d", "text", *options)
    assert vectors == {"A": vector("nan"), "C": vector("NA")}


@pytest.mark.usefixtures("needs_rdkit")
def test_titles_of_smiles_are_cut_and_counted(tmp_path, capsys):
    vectors, sidecar = export(CASES / "smiles-title/drug.csv", tmp_path, "smiles")
    assert vectors == dict.fromkeys(("full", "title", "cx"), vector("CC(=O)Oc1ccccc1C(=O)O"))
    assert sidecar["failed"] == [{"id": "broken", "reason": "a blank within the SMILES"}]
    printed = capsys.readouterr().out
    assert "2 SMILES were cut at the first blank: a title or CXSMILES" in printed


def test_files_of_dataverse_and_uniprot(tmp_path):
    folder = CASES / "dataverse-tab"
    vectors, sidecar = export(folder / "drug_features.tab", tmp_path / "t", "text")
    assert vectors == {"14012": vector("aspirin. A drug, with commas")}
    assert sidecar["id_column"] == "node_index"
    for name in ("s.fasta", "uniprot.tsv"):
        vectors, _ = export(folder / name, tmp_path / name, "sequence")
        sequence = "MEEPQSDPSV" + ("EPPLSQETFS" if name == "s.fasta" else "")
        assert vectors == {"P04637": vector(sequence)}


def test_a_quoted_line_break_belongs_to_the_text(tmp_path):
    (tmp_path / "d.csv").write_text('id,node_name,description\nA,flu,"a fever\n\nand, so"\nB,x,y\n')
    vectors, _ = export(tmp_path / "d.csv", tmp_path / "out", "text")
    assert vectors == {"A": vector("flu. a fever\n\nand, so"), "B": vector("x. y")}


def test_a_file_that_is_cut_says_so(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("id,name,sequence\nP1,a,MKT\nP2,b,MKV\nP3,c")
    vectors, sidecar = export(tmp_path / "p.csv", tmp_path / "out", "sequence")
    assert list(vectors) == ["P1", "P2"]
    reason = "the file seems cut: download it again"
    assert sidecar["failed"] == [{"id": "", "reason": f"row 4: {reason}"}]
    assert f"{reason} (row 4)" in capsys.readouterr().out


def test_a_delimiter_and_a_format_can_be_named(tmp_path):
    (tmp_path / "p.txt").write_text("id:sequence\nP1:MKT\n")
    for delimiter in (":", "colon"):
        options = ("--format", "table", "--delimiter", delimiter)
        if delimiter == "colon":
            with pytest.raises(
                InputError, match="--delimiter 'colon': give one character, or comma"
            ):
                export(tmp_path / "p.txt", tmp_path / "out", "sequence", *options)
        else:
            vectors, _ = export(tmp_path / "p.txt", tmp_path / "out", "sequence", *options)
            assert vectors == {"P1": vector("MKT")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "id,sequence\nP1,MKT,x\nP2\n",
            "none of 2 rows can be used: 1 x 3 fields where there shou",
        ),
        ("id,sequence\n", "none of 0 rows can be used, because there are none"),
        ("id,sequence\n,MKT\n,MKV\n", r"2 rows can be used: 2 x no id \(first: row 2\)"),
    ],
)
def test_the_message_of_an_empty_export_is_the_first_cause(tmp_path, content, message):
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        export(tmp_path / "p.csv", tmp_path / "out", "sequence")


def test_no_control_character_is_printed(tmp_path, capsys):
    text = "id,sequence\nP1,MKT\nP\x1b[31m2,MKV\nP3,\x07\n\x00P4,MKL\n"
    (tmp_path / "p.csv").write_text(text)
    vectors, sidecar = export(tmp_path / "p.csv", tmp_path / "out", "text", "--text-columns", "id",
                              "--id-column", "id")  # fmt: skip
    assert list(vectors) == ["P1", "P3"]
    assert [f["reason"] for f in sidecar["failed"]] == [
        f"row {row}: an id with a control character" for row in (3, 5)
    ]
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()


def test_averages_are_over_the_rows_of_one_id(tmp_path):
    (tmp_path / "p.csv").write_text("id,sequence\nP1,MKT\nP2,A\nP1,MKTAA\nP1,NA\n")
    vectors, _ = export(tmp_path / "p.csv", tmp_path / "out", "sequence")
    np.testing.assert_allclose(vectors["P1"], np.mean([vector("MKT"), vector("MKTAA")], axis=0))
    assert vectors["P2"] == vector("A")
