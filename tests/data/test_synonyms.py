"""Synonyms: lists of a node table, the stored file, and those of the demo."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bridge_jax.data.manifest import read_manifest
from bridge_jax.data.synonyms import (
    distinct_synonyms,
    read_synonyms,
    synonym_columns,
    write_synonyms,
)
from bridge_jax.errors import InputError
from tests.data.test_manifest import MANIFEST
from tests.helpers.tiny_run import DEMO

SYNONYMS = {"DB1": ("Aspirin", "acetylsalicylic acid"), "DB2": (), "DB3": ("Ménière, 2",)}


def test_lists_are_joined_without_repetitions_and_the_name() -> None:
    assert distinct_synonyms(["p53|TP53|", " P53 |LFS1", "a  b\tc"], "tp53") == (
        "p53", "LFS1", "a b c",
    )  # fmt: skip
    assert distinct_synonyms([]) == ()
    assert synonym_columns(["id", "Synonyms", "synonym", "names"]) == ["Synonyms", "synonym"]


def test_synonyms_survive_a_round_trip_in_equal_bytes(tmp_path: Path) -> None:
    entry = write_synonyms(tmp_path, "drug", SYNONYMS)
    assert entry is not None
    assert entry.count == 2
    manifest = replace(MANIFEST, synonyms={"drug": entry})
    assert manifest.hash() == MANIFEST.hash()
    assert manifest.to_json() != MANIFEST.to_json()
    assert read_synonyms(tmp_path, manifest, "drug") == {k: v for k, v in SYNONYMS.items() if v}
    assert write_synonyms(tmp_path, "drug", dict(SYNONYMS)) == entry
    assert write_synonyms(tmp_path, "disease", {"a": ()}) is None
    assert read_synonyms(tmp_path, MANIFEST, "drug") == {}
    with pytest.raises(InputError, match="node type 'drugs'"):
        read_synonyms(tmp_path, MANIFEST, "drugs")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "sha256"),
        (lambda path: path.write_bytes(gzip.compress(b"id\tsynonyms\nDB1\tx\n")), "sha256"),
    ],
)
def test_damage_is_an_input_error(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    entry = write_synonyms(tmp_path, "drug", SYNONYMS)
    assert entry is not None
    damage(tmp_path / entry.file)
    with pytest.raises(InputError, match=f"drug.synonyms.tsv.gz: cannot be read: .*{message}"):
        read_synonyms(tmp_path, replace(MANIFEST, synonyms={"drug": entry}), "drug")


@pytest.mark.parametrize(
    ("node_type", "node", "synonym"),
    [
        ("gene/protein", "P04637", "P53"),
        ("gene/protein", "P04626", "HER2"),
        ("gene/protein", "P00533", "ERBB1"),
        ("gene/protein", "P00533", "Epidermal growth factor receptor"),
        ("cellular_component", "GO:0000118", "HDAC complex"),
        ("disease", "DI-00001", "MIM:300438"),
    ],
)
def test_the_demo_knows_what_people_call_its_nodes(node_type: str, node: str, synonym: str) -> None:
    manifest = read_manifest(DEMO)
    assert synonym in read_synonyms(DEMO, manifest, node_type)[node]
