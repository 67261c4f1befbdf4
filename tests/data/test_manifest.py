"""Manifest: a round trip keeps everything, and every change is detected."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge_jax.data.manifest import (
    Manifest,
    NodeTable,
    SplitFile,
    read_manifest,
    sha256_of_json,
    write_manifest,
)
from bridge_jax.data.tfrecord import Shard
from bridge_jax.errors import InputError

SHARD = Shard("nodes/drug-00000-of-00001.tfrecord", 3, "ab" * 32)
MANIFEST = Manifest(
    name="Ménière",
    node_types=(NodeTable("drug", 4, "float16", 3, 5, (SHARD,), failed=({"id": "x"},)),),
    relations=("ppi", "target"),
    triple_types=({"head": "drug", "relation": "ppi", "tail": "drug", "train": 7},),
    triples={"train": SplitFile(7, (SHARD,))},
    heldout={"test": SplitFile(1, (SHARD,))},
    split={"rule": "inductive", "seed": 0, "test": 0.1, "clean": True},
    counts={"rows": 12, "facts": 7},
    sources=({"part": "drugs", "licence": "BSD"},),
)


def write_edited(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Writes a manifest with a change and the checksum of the changed manifest."""
    write_manifest(root, MANIFEST)
    value = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    del value["sha256"]
    change(value)
    value["sha256"] = sha256_of_json(value)
    (root / "manifest.json").write_text(json.dumps(value))
    return root


def test_a_manifest_survives_a_round_trip(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    back = read_manifest(tmp_path)
    assert back == MANIFEST
    assert back.hash() == MANIFEST.hash()
    assert replace(MANIFEST, name="other").hash() != MANIFEST.hash()
    assert back.files() == {SHARD.file}
    assert back.table("drug").layout.frame_bytes > 8
    with pytest.raises(InputError, match=r"node type 'drugs' is not .*mean 'drug'"):
        back.table("drugs")


def test_every_changed_digit_or_letter_is_detected(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    text = path.read_text(encoding="utf-8")
    for at in [m.start() for m in re.finditer(r"[0-9a-z]", text)]:
        other = "7" if text[at] != "7" else "8"
        path.write_text(text[:at] + other + text[at + 1 :], encoding="utf-8")
        with pytest.raises(InputError, match=r"was changed|cannot be read|format version"):
            read_manifest(tmp_path)


def test_indentation_and_key_order_do_not_matter(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    value = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(dict(reversed(value.items())), indent=4))
    assert read_manifest(tmp_path) == MANIFEST


@pytest.mark.parametrize("version", [1, 3])
def test_another_format_version_is_an_input_error(tmp_path: Path, version: int) -> None:
    with pytest.raises(InputError, match=f"format version {version}; this code reads 2"):
        read_manifest(write_edited(tmp_path, lambda v: v.update(format_version=version)))


@pytest.mark.parametrize("checksum", [None, "0" * 64])
def test_a_missing_or_wrong_checksum_is_an_input_error(
    tmp_path: Path, checksum: str | None
) -> None:
    write_manifest(tmp_path, MANIFEST)
    value = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(value | {"sha256": checksum}))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("split"), "field 'split' is missing"),
        (lambda v: v.pop("format_version"), "field 'format_version' is missing"),
        (lambda v: v["node_types"][0].pop("dim"), "field 'dim' is missing"),
        (lambda v: v["node_types"][0].update(dim="4"), "'4' is not a whole number"),
        (lambda v: v["node_types"][0].update(dim=True), "True is not a whole number"),
        (lambda v: v["node_types"][0].update(dim=1 << 40), "not a whole number from 0 to 1048576"),
        (lambda v: v["node_types"][0].update(id_bytes=-1), "-1 is not a whole number"),
        (
            lambda v: v["node_types"][0].update(dtype="float8"),
            "dtype 'float8' is not in this format",
        ),
        (lambda v: v["node_types"][0].update(colour=1), "colour"),
        (lambda v: v["node_types"][0]["shards"][0].update(records=1e999), "inf is not a whole"),
        (lambda v: v["triples"]["train"].update(count=1.5), r"1\.5 is not a whole number"),
        (lambda v: v.update(triples=3), "cannot be read"),
        (lambda v: v.update(node_types=[3]), "cannot be read"),
    ],
)
def test_an_invalid_field_is_an_input_error_that_names_it(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_manifest(write_edited(tmp_path, change))


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"3", b'"x"', b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_a_file_that_is_not_json_of_a_manifest_is_an_input_error(
    tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "manifest.json").write_bytes(raw)
    with pytest.raises(InputError, match="the manifest cannot be read"):
        read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_an_input_error_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.json.*python -m tools\.import_graph"):
        read_manifest(tmp_path)
