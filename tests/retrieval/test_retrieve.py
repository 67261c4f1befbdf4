"""Retrieval from a trained run: the same answers as evaluation's, by call and by command."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import bridge_jax
from bridge_jax import retrieve
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor
from tests.helpers.commands import refused

PROTEIN, FUNCTION = "gene/protein", "molecular_function"
ASK = ["--source", PROTEIN, "--target", FUNCTION]


@pytest.fixture(scope="module")
def bridge(trained) -> Predictor:
    return bridge_jax.load(trained)


@pytest.fixture(scope="module")
def kind(bridge):
    return bridge.triple_type(PROTEIN, "interacts with", FUNCTION)


@pytest.fixture(scope="module")
def heads(bridge, kind):
    """One head with a known fact in each split, as rows and as ids."""
    pairs = {
        split: bridge.experiment.graph.pairs([split])[kind].heads for split in ("train", "test")
    }
    rows = [int(pairs["train"][0]), int(pairs["test"][0])]
    return rows, [bridge.experiment.tables[PROTEIN].ids[row] for row in rows]


@pytest.mark.parametrize("prior", [0.0, 0.7])
def test_scores_and_order_are_those_of_evaluation(bridge, kind, heads, prior):
    rows, ids = heads
    config = bridge.config.copy_and_resolve_references()
    config.loss.prior = prior
    experiment = dataclasses.replace(bridge.experiment, config=config)
    bridge = dataclasses.replace(bridge, config=config, experiment=experiment)
    found = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=12)
    scores = np.asarray(bridge.experiment.scorer(bridge.params)(kind, np.asarray(rows)))
    tails = bridge.experiment.tables[FUNCTION].ids
    for i, node in enumerate(ids):
        own = [r for r in found if r.query == node]
        order = np.argsort(-scores[i], kind="stable")[:12]
        assert [r.id for r in own] == [tails[t] for t in order]
        np.testing.assert_allclose([r.score for r in own], scores[i][order], atol=1e-5)
        assert [r.rank for r in own] == list(range(1, 13))


def test_known_facts_are_marked_with_their_split_or_hidden(bridge, kind, heads):
    rows, ids = heads
    count = len(bridge.experiment.tables[FUNCTION].ids)
    every = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=count)
    at = {node: row for row, node in enumerate(bridge.experiment.tables[FUNCTION].ids)}
    for split in ("train", "validation", "test"):
        heads_, tails = bridge.experiment.graph.pairs([split])[kind]
        facts = set(zip(heads_.tolist(), tails.tolist(), strict=True))
        for row, node in zip(rows, ids, strict=True):
            marked = {(row, at[r.id]) for r in every if r.query == node and r.known == split}
            assert marked == {(h, t) for h, t in facts if h == row}
    assert {r.known for r in every} >= {"train", "test", ""}
    hidden = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=5, known="hide")
    new = [r for r in every if not r.known]
    for node in ids:
        wanted = [r.id for r in new if r.query == node][:5]
        assert [r.id for r in hidden if r.query == node] == wanted
        assert [r.rank for r in hidden if r.query == node] == [1, 2, 3, 4, 5]
    shown = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=count, known="show")
    assert [r._replace(known="") for r in every] == shown


def test_a_new_embedding_and_a_name_answer_as_the_node_does(bridge, heads):
    rows, ids = heads
    name = bridge.neighbours.names(PROTEIN).names[rows[0]]
    by_id = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids[:1], k=4)
    assert bridge.retrieve(PROTEIN, target=FUNCTION, names=[name.lower()], k=4) == by_id
    stored = np.asarray(bridge.experiment.tables[PROTEIN].stored[rows[0]], np.float32)
    new = bridge.retrieve(PROTEIN, target=FUNCTION, embedding=stored, k=4)
    assert [r.id for r in new] == [r.id for r in by_id]
    assert {r.query for r in new} == {"embedding 0"}
    assert {r.known for r in new} == {""}


def test_a_head_is_not_its_own_neighbour(demo_bridge):
    node = demo_bridge.experiment.tables[FUNCTION].ids[3]
    rows = demo_bridge.retrieve(FUNCTION, target=FUNCTION, ids=[node], k=10_000)
    assert len(rows) == len(demo_bridge.experiment.tables[FUNCTION].ids) - 1
    assert node not in {r.id for r in rows}


@pytest.fixture(scope="module")
def demo_bridge(bridge):
    """A bridge over a graph with facts within one type; untrained numbers serve as well."""
    from bridge_jax.data.graph import Facts, TripleType

    graph, experiment = bridge.experiment.graph, bridge.experiment
    first = int(graph.offsets[graph.type_id(FUNCTION)])
    facts = {
        split: Facts(*(np.int32([v]) for v in (first + i, 0, first + i + 1, 1)))
        for i, split in enumerate(("train", "validation", "test"))
    }
    within = TripleType(FUNCTION, graph.relations[0], FUNCTION)
    graph = dataclasses.replace(graph, facts=facts)
    experiment = dataclasses.replace(experiment, graph=graph)
    return dataclasses.replace(bridge, experiment=experiment, triple_types=(within,))


def test_every_query_is_one_of_three(bridge):
    for wrong in ({}, {"ids": ["a"], "names": ["b"]}):
        with pytest.raises(InputError, match="one of the three"):
            bridge.retrieve(PROTEIN, target=FUNCTION, **wrong)
    with pytest.raises(InputError, match="opened without a dataset"):
        dataclasses.replace(bridge, experiment=None).retrieve(PROTEIN, target=FUNCTION, ids=["a"])
    with pytest.raises(InputError, match="k 0 is too small"):
        bridge.retrieve(
            PROTEIN, target=FUNCTION, ids=bridge.experiment.tables[PROTEIN].ids[:1], k=0
        )


@pytest.fixture
def opened(bridge, monkeypatch):
    """The command, with the run open already."""
    monkeypatch.setattr("bridge_jax.predictor.load", lambda *_: bridge)


def test_the_command_prints_a_table(trained, heads, capsys):
    _, ids = heads
    assert retrieve.main(["--workdir", str(trained), *ASK, "--id", *ids, "--k", "3"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[0].startswith(ids[0])
    assert first.splitlines()[1].split() == ["rank", "id", "name", "score", "known"]
    assert len(first.splitlines()) == len(second.splitlines()) == 6
    assert " GO:" in second


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_the_command_writes_what_the_call_returns(opened, bridge, heads, tmp_path, suffix):
    _, ids = heads
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "", ""]))
    output = tmp_path / f"new/rows{suffix}"
    arguments = ["--ids-file", str(tmp_path / "ids.txt"), "--output", str(output), "--k", "4"]
    assert retrieve.main(["--workdir", "-", *ASK, *arguments]) == 0
    rows = [r._asdict() for r in bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=4)]
    if suffix == ".json":
        assert json.loads(output.read_text()) == rows
    elif suffix == ".csv":
        with open(output, newline="") as handle:
            read = list(csv.DictReader(handle))
        assert read == [{k: str(v) for k, v in row.items()} for row in rows]
    else:
        import pyarrow.parquet as pq

        assert pq.read_table(output).to_pylist() == rows


def test_faiss_opens_the_index_and_finds_the_same(opened, bridge, heads, tmp_path):
    faiss = pytest.importorskip("faiss")
    rows, ids = heads
    output = ["--export", "faiss", "--output", str(tmp_path / "index")]
    assert retrieve.main(["--workdir", "-", *ASK, *output]) == 0
    index = faiss.read_index(str(tmp_path / "index/tails.faiss"))
    lines = (tmp_path / "index/tails.tsv").read_text().splitlines()[1:]
    x = np.asarray(bridge.experiment.tables[PROTEIN].stored[rows], np.float32)
    queries = bridge.project(x, PROTEIN, target=FUNCTION)
    scores, found = index.search(np.pad(queries, ((0, 0), (0, 1)), constant_values=1), 6)
    own = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=6)
    assert [lines[i].split("\t")[0] for i in found.ravel()] == [r.id for r in own]
    np.testing.assert_allclose(scores.ravel(), [r.score for r in own], atol=1e-4)


BY_ID = [*ASK, "--id", "P04637"]
BAD = {
    "an unknown id": ([*ASK, "--id", "P0463"], "no gene/protein has the id 'P0463'"),
    "an unknown name": ([*ASK, "--name", "???"], "no gene/protein is named '???'"),
    "an unknown type": (["--source", "gene", "--id", "x"], "node type 'gene' is not in this"),
    "another dimension": (
        [*ASK, "--embedding", "wrong.npy"],
        "[n, 256], as those of training; got",
    ),
    "no floats": ([*ASK, "--embedding", "whole.npy"], "holds int32 of shape [2, 256]"),
    "a NaN": ([*ASK, "--embedding", "nan.npy"], "row 0 of the embeddings is a NaN"),
    "an empty array file": ([*ASK, "--embedding", "empty.npy"], "empty.npy: is no .npy file"),
    "an empty list": ([*ASK, "--ids-file", "empty.txt"], "empty.txt: no id in this file"),
    "a list of bytes": ([*ASK, "--ids-file", "nan.npy"], "nan.npy: is no text"),
    "no file": ([*ASK, "--ids-file", "none.txt"], "none.txt: No such file"),
    "an unwritable output": ([*BY_ID, "--output", "empty.npy/a.csv"], "empty.npy is not a folder"),
    "an unknown ending": ([*BY_ID, "--output", "rows.xls"], "must end in .json, .csv, .parquet"),
    "no folder": ([*ASK, "--export", "faiss"], "--export faiss writes a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(opened, tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    np.save("wrong.npy", np.ones((2, 7), np.float32))
    np.save("whole.npy", np.ones((2, 256), np.int32))
    np.save("nan.npy", np.full((1, 256), np.nan, np.float32))
    Path("empty.npy").touch()
    Path("empty.txt").write_text("\n \n")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD[case]
    assert message in refused(retrieve.main, ["--workdir", "-", *arguments], capsys, monkeypatch)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_extra_is_named(opened, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    arguments = ["--workdir", "-", *ASK, "--export", "faiss", "--output", str(tmp_path / "index")]
    line = refused(retrieve.main, arguments, capsys, monkeypatch)
    assert line == "error: --export faiss needs FAISS: pip install 'bridge_jax[faiss]'"
    assert not (tmp_path / "index").exists()


def test_a_run_without_a_checkpoint(trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    arguments = ["--workdir", str(tmp_path), *ASK, "--id", "P04637"]
    assert "no checkpoint yet" in refused(retrieve.main, arguments, capsys, monkeypatch)
