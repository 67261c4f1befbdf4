"""Node feature tables: BioBridge's columns are recognised, and damage is an input error."""

import gzip
from pathlib import Path

import pytest

from bridge_jax.errors import InputError
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
