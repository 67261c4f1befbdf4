"""Files of a dataset and of a run to damage; most have a checksum in the manifest or inside."""

import hashlib
import json
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzing.case import ACCOUNTED, OTHER_VALUES, SAME, Factory, Target
from benchmarks.fuzzing.embedding_targets import text_of
from bridge_jax.data.dataset import read_columns, read_nodes, write_columns, write_nodes
from bridge_jax.data.embedding_files import read_sidecar
from bridge_jax.data.embedding_formats.ids import as_ids
from bridge_jax.data.encoder_spec import EncoderSpec, read_spec_beside
from bridge_jax.data.manifest import Manifest, SplitFile, read_manifest, write_manifest
from bridge_jax.data.synonyms import read_synonyms, write_synonyms
from bridge_jax.data.tfrecord import triple_layout


def _nodes(folder: Path) -> Target:
    root, rng = folder / "shard", np.random.default_rng(0)
    ids = [f"P{i:05d}"[: int(rng.integers(4, 7))] + f"x{i}" for i in range(120)]
    other_table = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    other = (root / other_table.shards[0].file).read_bytes()
    table = write_nodes(root, "drug", ids, rng.normal(size=(120, 24)).astype(np.float16))
    path = root / table.shards[0].file
    expected = np.array(read_nodes(root, table)[1])

    def read(_: bytes) -> str:
        read_ids, x = read_nodes(root, table)
        assert read_ids == ids, "other ids"
        assert x.tobytes() == expected.tobytes(), "other vectors"
        return SAME

    return Target(path, path.read_bytes(), other, read)


def _triples(folder: Path) -> Target:
    root, rng = folder / "triples", np.random.default_rng(0)
    shards = []
    for _ in range(2):
        columns = {name: rng.integers(0, 99, 1500) for name, _ in triple_layout().features}
        file = write_columns(root, "triples", "train", triple_layout(), columns)
        shards.append((root / file.shards[0].file).read_bytes())

    def read(_: bytes) -> str:
        stored = read_columns(root, file, triple_layout())
        assert all(np.array_equal(stored[k], v) for k, v in columns.items()), "other facts"
        return SAME

    return Target(root / file.shards[0].file, shards[1], shards[0], read)


def _write_dataset(root: Path, name: str, seed: int = 0) -> Manifest:
    ids, rng = ["a", "b"], np.random.default_rng(seed)
    split = {"rule": "inductive", "seed": 0, "test": 0.1, "validation": 0.05, "clean": True}
    counts = {"rows": 14, "facts": 7, "mirrored": 7, "rejects": 0}
    tables = tuple(
        write_nodes(
            root, node_type, ids, rng.normal(size=(2, 3)).astype(np.float32), encoder="ESM-2 µ"
        )
        for node_type in ("drug", "gene/protein")
    )
    shard = tables[0].shards[0]
    shards = {
        s: replace(shard, file=f"triples/{s}-00000-of-00001.tfrecord") for s in ("train", "test")
    }
    triples = {s: SplitFile(7, (shards[s],)) for s in shards}
    manifest = Manifest(name, tables, ("ppi", "target"), (), triples, {}, split, counts)
    write_manifest(root, manifest)
    return manifest


def _manifest(folder: Path) -> Target:
    root = folder / "manifest"
    _write_dataset(root, "other", 1)
    other = (root / "manifest.json").read_bytes()
    valid = _write_dataset(root, "openbiokg")

    def read(_: bytes) -> str:
        manifest = read_manifest(root)
        for table in manifest.node_types:  # another dataset's manifest does not fit the shards
            read_nodes(root, table)
        assert manifest == valid, "another manifest"
        return SAME

    return Target(root / "manifest.json", (root / "manifest.json").read_bytes(), other, read)


def _equals(expected: Any, read: Callable[[], Any]) -> Callable[[bytes], str]:
    """Returns a reader that accepts nothing but the content of the valid file."""

    def check(_: bytes) -> str:
        found = read()
        assert found == expected, f"other content: {found}"
        return SAME

    return check


def _synonyms(folder: Path) -> Target:
    root = folder / "synonyms"
    manifest = _write_dataset(root, "openbiokg")
    write_synonyms(root, "drug", {"a": ["x"], "b": ["y", "z"]})
    other = (root / "nodes/drug.synonyms.tsv.gz").read_bytes()
    valid = {f"D{i}": (f"name {i}", f"µ {i}") for i in range(20)}
    entry = write_synonyms(root, "drug", valid)
    assert entry is not None
    manifest = replace(manifest, synonyms={"drug": entry})
    path = root / entry.file
    read = _equals(valid, lambda: read_synonyms(root, manifest, "drug"))
    return Target(path, path.read_bytes(), other, read)


def _names(folder: Path) -> Target:
    from bridge_jax.data.embedding_tables import read_names

    root = folder / "names"
    manifest = _write_dataset(root, "openbiokg")
    path = root / "nodes/drug.tsv"
    valid, other = (
        ("id\tname\n" + "".join(f"{start}{i}\tname {i}\n" for i in range(20))).encode()
        for start in "DE"
    )
    manifest = replace(manifest, names={"drug": hashlib.sha256(valid).hexdigest()})
    expected = {f"D{i}": f"name {i}" for i in range(20)}
    return Target(path, valid, other, _equals(expected, lambda: read_names(root, manifest, "drug")))


def _sidecar(folder: Path) -> Target:
    """The sidecar of an export has no checksum of its own; its shards have one in it."""
    root = folder / "sidecar"
    path = root / "nodes/drug.json"
    raws = []
    for seed in (1, 0):
        table = _write_dataset(root, "openbiokg", seed).node_types[0]
        table = replace(table, encoder_spec=EncoderSpec("minilm", "ab" * 32, "mean", 256, "tokens"))
        path.write_text(json.dumps({**table.to_json(), "id_column": "node_id"}))
        raws.append(path.read_bytes())
    expected_x = read_nodes(root, table)

    def read(_: bytes) -> str:
        found, id_column = read_sidecar(path)
        ids, x = read_nodes(root, found)
        assert ids == expected_x[0], "other ids"
        assert x.tobytes() == np.asarray(expected_x[1]).tobytes(), "other vectors"
        return SAME if (found, id_column) == (table, "node_id") else OTHER_VALUES

    return Target(path, raws[1], raws[0], read, has_checksum=False)


def _spec(folder: Path) -> Target:
    """A specification beside a file of embeddings; JSON without one is something else."""
    path = folder / "spec/drug.json"
    path.parent.mkdir(exist_ok=True)
    valid, other = (
        EncoderSpec(name, name[0] * 64, "mean", 256, "tokens", "truncate", "name. definition")
        for name in ("minilm", "unirep:256")
    )
    raws = [json.dumps({"encoder_spec": s.to_json()}).encode() for s in (valid, other)]

    def read(_: bytes) -> str:
        found = read_spec_beside(path.with_suffix(".npz"))
        if found is None:
            return ACCOUNTED  # every command says that it is not recorded
        return SAME if found == valid else OTHER_VALUES

    return Target(path, *raws, read, has_checksum=False)


def _fusion(folder: Path) -> Target:
    from bridge_jax.data.graph import TripleType
    from bridge_jax.evaluation.calibration import ConfidenceBin
    from bridge_jax.evaluation.fusion_settings import (
        FusionSettings,
        read_settings,
        write_settings,
    )
    from bridge_jax.models.knn import Setting

    root = folder / "fusion"
    root.mkdir(exist_ok=True)
    triple_types = [TripleType("drug", r, "disease") for r in ("indication", "µ")]
    raws = []
    for step in (1, 7):
        settings = FusionSettings(
            step, "c" * 64, ("tails",), dict.fromkeys(triple_types, (0.25,)),
            {"tails": {t: Setting("raw", 0.1) for t in triple_types}},
            confidence={t: (ConfidenceBin(0.5, 0.25, 9),) for t in triple_types},
        )  # fmt: skip
        write_settings(root, settings)
        raws.append((root / "fusion.json").read_bytes())
    other = read_settings(root)

    def read(raw: bytes) -> str:
        found = read_settings(root)
        if raw == raws[0] or found is None or found.step == 1:
            assert found is not None, "no settings from a file"
            assert found.to_json() == json.loads(raws[0]), "other content"
            return ACCOUNTED  # the run of another step; `fits` refuses it
        assert found == other, f"other content: {found}"
        return SAME

    return Target(root / "fusion.json", raws[1], raws[0], read)


def _ids(folder: Path) -> Target:
    """A list of ids, one per line; it has no checksum, and each line is an id."""
    from bridge_jax.retrieval.results import read_ids

    path = folder / "ids.txt"
    valid, other = ("".join(f"{s}{i:04}\n" for i in range(30)).encode() for s in "PQ")
    expected = [f"P{i:04}" for i in range(30)]

    def read(raw: bytes) -> str:
        with redirect_stderr(StringIO()):
            ids = read_ids(path)
        if ids == expected:
            return SAME
        lines = as_ids(text_of(raw).split("\n"), "lines")
        assert ids == [line for line in lines if line], "ids that are not the lines"
        return ACCOUNTED

    return Target(path, valid, other, read)


def factories() -> dict[str, Factory]:
    """Returns the targets by name; each is made in a folder."""
    return {
        "nodes": _nodes,
        "triples": _triples,
        "manifest": _manifest,
        "synonyms": _synonyms,
        "names": _names,
        "sidecar": _sidecar,
        "encoder spec": _spec,
        "fusion.json": _fusion,
        "list of ids": _ids,
    }
