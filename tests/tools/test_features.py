"""Node feature tables: BioBridge's columns are recognised, and damage is an input error."""

import gzip
from pathlib import Path

import pytest

from bridge_jax.data.missing import is_missing
from bridge_jax.errors import InputError
from tools.formats.delimited import Finding
from tools.formats.features import FeatureColumns, FeatureRow, choose_columns, read_features

DISEASES = """node_index,mondo_id,mondo_name,definition
50,123,flu,"a fever
and a cough"
51,,cold,
"""


def test_columns_are_recognised_and_texts_joined(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv"
    path.write_text(DISEASES)
    columns = FeatureColumns("node_index", "mondo_name", ("mondo_name", "definition"))
    assert choose_columns(path) == choose_columns(path, input_type="text") == columns
    assert list(read_features(path)) == [
        FeatureRow("50", "50", "flu", "flu. a fever\nand a cough"),
        FeatureRow("51", "51", "cold", "cold"),
    ]
    assert choose_columns(path, "mondo_id", ("definition",)).text == ("definition",)


def test_a_byte_order_mark_is_no_part_of_a_column_name(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + DISEASES).encode()))
    assert [row.id for row in read_features(path)] == ["50", "51"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id_column": "mondo"}, "column 'mondo' is not in .*mean 'mondo_id'"),
        ({"text_columns": ("text",)}, "column 'text' is not in"),
        ({"input_type": "smiles"}, "no smiles among node_index, .*--text-columns"),
    ],
)
def test_a_column_that_is_missing_is_named(tmp_path: Path, options: dict, message: str) -> None:
    path = tmp_path / "disease.csv"
    path.write_text(DISEASES)
    with pytest.raises(InputError, match=message):
        choose_columns(path, **options)


def test_a_table_without_ids_names_the_option(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv"
    path.write_text("name,definition\nflu,a fever\n")
    with pytest.raises(InputError, match=r"no id column among name, definition; .*--id-column"):
        choose_columns(path)


def test_a_truncated_table_is_an_input_error(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv.gz"
    path.write_bytes(gzip.compress((DISEASES * 999).encode())[:-20])
    with pytest.raises(InputError, match=r"disease\.csv\.gz: cannot be read to the end"):
        list(read_features(path))


@pytest.mark.parametrize(
    "text", ["", " ", "NA", "na", "NaN", "None", "NULL", "n/a", "NOT AVAILABLE", " - ", "<NA>"]
)
def test_a_missing_value_is_known_whatever_its_case(text: str) -> None:
    assert is_missing(text)
    assert is_missing(text, []) == (not text.strip())


@pytest.mark.parametrize("text", ["N", "NAN A", "Nana", "0", "--", "none of these", "MKT"])
def test_other_texts_are_values(text: str) -> None:
    assert not is_missing(text)
    assert is_missing(text, ["NA", text.upper()])


def test_missing_values_are_left_out_of_texts_and_never_ids(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv"
    path.write_text("id,node_name,description\nNA,flu,null\nB,nan,a fever\nC,-,N/A\nD,,\n")
    rows = list(read_features(path))
    assert [(r.id, r.name, r.text, r.reason) for r in rows] == [
        ("NA", "flu", "flu", ""), ("B", "", "a fever", ""), ("C", "", "", "'-' is a missing value"),
        ("D", "", "", ""),
    ]  # fmt: skip
    rows = list(read_features(path, missing_values=["a fever"]))
    assert [r.text for r in rows] == ["flu. null", "nan", "-. N/A", ""]


def test_rejects_are_handed_over_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "drug.csv"
    path.write_text("id,name,smiles\nDB1,x,CCO\nDB2,1,2-x,ClC\nDB3,y,CCN\n")
    findings: list[Finding] = []
    assert [r.id for r in read_features(path, findings=findings)] == ["DB1", "DB3"]
    reason = "4 fields where there should be 3"
    assert findings == [Finding("drug.csv", 3, reason, "DB2,1,2-x,ClC")]
    with pytest.raises(InputError, match=f"row 3: {reason}; correct or remove it"):
        list(read_features(path))


def test_row_numbers_are_those_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "disease.csv"
    path.write_text(DISEASES)
    assert [row.row for row in read_features(path)] == [2, 4]
