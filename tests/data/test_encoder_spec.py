"""Encoder specifications: comparison, JSON, sidecars, and manifests with and without them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge_jax.data.encoder_spec import (
    EncoderSpec,
    check_same_encoder,
    normalise_rows,
    notice_once,
    read_spec_beside,
    spec_from_json,
    text_of_columns,
)
from bridge_jax.data.manifest import read_manifest, write_manifest
from bridge_jax.errors import InputError
from tests.data.test_manifest import MANIFEST

SPEC = EncoderSpec(
    "minilm", "ab" * 32, "mean", 64, "tokens", "truncate", "name. definition", "l2", "float16"
)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"dtype": "float32"}, []),
        ({"weights": ""}, []),
        ({"encoder": "minilm:copy"}, []),  # the weights are the same
        ({"encoder": "hf:copy"}, ["encoder"]),
        ({"weights": "", "encoder": "minilm:copy"}, ["encoder"]),
        ({"weights": "cd" * 32}, ["weights"]),
        ({"max_length": 96, "text": "name"}, ["max_length", "text"]),
        ({"normalisation": "none"}, ["normalisation"]),
        ({"projection": "of a bridge"}, ["projection"]),
    ],
)
def test_what_another_encoder_is(change: dict[str, Any], names: list[str]) -> None:
    assert SPEC.differences(replace(SPEC, **change)) == names
    assert replace(SPEC, **change).differences(SPEC) == names


def test_another_encoder_is_refused_or_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    notice_once.cache_clear()
    other = replace(SPEC, max_length=96)
    check_same_encoder("x.npz: disease", SPEC, SPEC)
    with pytest.raises(
        InputError, match=r"x.npz: disease: trained on minilm@abababababab, mean, first 64 tokens, "
        r"unit length, .* given .* first 96 tokens.*--allow-other-encoder"
    ):  # fmt: skip
        check_same_encoder("x.npz: disease", SPEC, other)
    assert not capsys.readouterr().err
    check_same_encoder("x.npz: disease", SPEC, other, allow_other=True)
    assert "other max_length" in capsys.readouterr().err


def test_an_unknown_encoder_is_noticed_once(capsys: pytest.CaptureFixture[str]) -> None:
    notice_once.cache_clear()
    for _ in range(3):
        check_same_encoder("x.npz: disease", SPEC, None)
        check_same_encoder("y.npz: disease", None, SPEC)
        check_same_encoder("z.npz: disease", None, None)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" is not recorded")[0] for line in lines] == [
        "notice: x.npz: disease: the encoder of these embeddings",
        "notice: y.npz: disease: the encoder of the dataset",
        "notice: z.npz: disease: the encoder of the dataset and of these embeddings",
    ]
    assert lines[0].endswith(f"; the dataset's is {SPEC}")


def test_a_specification_survives_json() -> None:
    assert spec_from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC
    assert spec_from_json(SPEC.to_json() | {"of a later version": 1}) == SPEC
    assert EncoderSpec("esm2").to_json() == {"encoder": "esm2"}
    assert spec_from_json(None) is None


@pytest.mark.parametrize(
    "value",
    [[], {}, {"encoder": 1}, {"encoder": ""}, {"encoder": "a", "max_length": "1"},
     {"encoder": "a", "max_length": True}, {"encoder": "a", "pooling": "b\nc"}],
)  # fmt: skip
def test_a_faulty_specification_is_refused_everywhere(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="encoder_spec: "):
        spec_from_json(value)
    (tmp_path / "drug.json").write_text(json.dumps({"encoder_spec": value}))
    with pytest.raises(InputError, match=r"drug.json: cannot be read: encoder_spec: "):
        read_spec_beside(tmp_path / "drug.npy")


@pytest.mark.parametrize("name", ["drug.npz", "drug.csv.gz", "drug.h5"])
def test_a_file_s_specification_lies_beside_it(tmp_path: Path, name: str) -> None:
    assert read_spec_beside(tmp_path / name) is None
    (tmp_path / "drug.json").write_text(json.dumps({"encoder_spec": SPEC.to_json()}))
    assert read_spec_beside(tmp_path / name) == SPEC
    for text in ("{}", "[1]", "{", '{"encoder_spec": null}'):
        (tmp_path / "drug.json").write_text(text)
        assert read_spec_beside(tmp_path / name) is None


def test_columns_become_parts_of_a_text() -> None:
    assert text_of_columns(("mondo_name", "definition")) == "name. definition"
    assert text_of_columns(["node_name", "Description"]) == "name. definition"
    assert text_of_columns(["smiles"]) == "smiles"


def test_vectors_are_scaled_to_unit_length() -> None:
    x = np.array([[3, 4], [0, 0], [1e-30, 0]], np.float32)
    np.testing.assert_array_equal(normalise_rows(x, "l2"), np.float32([[0.6, 0.8], [0, 0], [1, 0]]))
    assert normalise_rows(x, "none") is x


def test_a_run_still_fits_its_dataset_after_a_specification_was_added(tmp_path: Path) -> None:
    tables = (replace(MANIFEST.node_types[0], encoder_spec=SPEC),)
    manifest = replace(MANIFEST, node_types=tables)
    write_manifest(tmp_path, manifest)
    back = read_manifest(tmp_path)
    assert back == manifest
    assert back.hash() == MANIFEST.hash()
    write_manifest(tmp_path, MANIFEST)
    assert "encoder_spec" not in (tmp_path / "manifest.json").read_text()  # as before
    assert read_manifest(tmp_path).node_types[0].encoder_spec is None
