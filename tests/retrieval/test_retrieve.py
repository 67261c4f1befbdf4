"""Retrieval from a trained run, in Python and by command, against the scores of evaluation."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import bridge_jax
from bridge_jax import retrieve
from bridge_jax.data.graph import Facts, TripleType
from bridge_jax.errors import InputError
from bridge_jax.predictor import Predictor
from tests.helpers.commands import refused

PROTEIN, FUNCTION = "gene/protein", "molecular_function"
QUERY = ["--source", PROTEIN, "--target", FUNCTION]


@pytest.fixture(scope="module")
def bridge(trained) -> Predictor:
    return bridge_jax.load(trained)


@pytest.fixture(scope="module")
def triple_type(bridge):
    return bridge.triple_type(PROTEIN, "interacts with", FUNCTION)


@pytest.fixture(scope="module")
def heads(bridge, triple_type):
    """One head with a training fact and one with a test fact, as rows and as ids."""
    graph = bridge.experiment.graph
    rows = [int(graph.pairs([s])[triple_type].heads[0]) for s in ("train", "test")]
    return rows, [bridge.experiment.tables[PROTEIN].ids[row] for row in rows]


@pytest.fixture(scope="module")
def same_type_bridge(bridge):
    """A bridge over a graph with facts between nodes of one type, not trained on them."""
    graph, experiment = bridge.experiment.graph, bridge.experiment
    first = int(graph.offsets[graph.type_id(FUNCTION)])
    facts = {
        split: Facts(*(np.int32([v]) for v in (first + i, 0, first + i + 1, 1)))
        for i, split in enumerate(("train", "validation", "test"))
    }
    triple_type = TripleType(FUNCTION, graph.relations[0], FUNCTION)
    graph = dataclasses.replace(graph, facts=facts)
    experiment = dataclasses.replace(experiment, graph=graph)
    return dataclasses.replace(bridge, experiment=experiment, triple_types=(triple_type,))


@pytest.fixture
def loaded(bridge, monkeypatch):
    """Lets the command use the run that is loaded already."""
    monkeypatch.setattr("bridge_jax.predictor.load", lambda *_: bridge)


@pytest.mark.parametrize("prior", [0.0, 0.7])
def test_scores_and_order_equal_those_of_evaluation(bridge, triple_type, heads, prior):
    rows, ids = heads
    config = bridge.config.copy_and_resolve_references()
    config.loss.prior = prior
    experiment = dataclasses.replace(bridge.experiment, config=config)
    bridge = dataclasses.replace(bridge, config=config, experiment=experiment)
    results = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=12)
    scores = np.asarray(bridge.experiment.scorer(bridge.params)(triple_type, np.asarray(rows)))
    tails = bridge.experiment.tables[FUNCTION].ids
    for i, node in enumerate(ids):
        of_node = [r for r in results if r.query == node]
        order = np.argsort(-scores[i], kind="stable")[:12]
        assert [r.id for r in of_node] == [tails[t] for t in order]
        np.testing.assert_allclose([r.score for r in of_node], scores[i][order], atol=1e-5)
        assert [r.rank for r in of_node] == list(range(1, 13))


def test_known_facts_are_marked_with_their_split_or_hidden(bridge, triple_type, heads):
    rows, ids = heads
    tails = bridge.experiment.tables[FUNCTION].ids
    row_of = {node: row for row, node in enumerate(tails)}
    marked = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=len(tails))
    for split in ("train", "validation", "test"):
        pairs = bridge.experiment.graph.pairs([split])[triple_type]
        facts = set(zip(pairs.heads.tolist(), pairs.tails.tolist(), strict=True))
        for row, node in zip(rows, ids, strict=True):
            of_split = [r for r in marked if r.query == node and r.known == split]
            assert {(row, row_of[r.id]) for r in of_split} == {f for f in facts if f[0] == row}
    assert {r.known for r in marked} >= {"train", "test", ""}
    hidden = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=5, known="hide")
    for node in ids:
        expected = [r.id for r in marked if r.query == node and not r.known][:5]
        assert [r.id for r in hidden if r.query == node] == expected
        assert [r.rank for r in hidden if r.query == node] == [1, 2, 3, 4, 5]
    shown = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=len(tails), known="show")
    assert [r._replace(known="") for r in marked] == shown


def test_a_node_can_be_given_by_id_by_name_or_by_its_embedding(bridge, heads):
    rows, ids = heads
    name = bridge.retriever.node_index(PROTEIN).names[rows[0]]
    by_id = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids[:1], k=4)
    assert bridge.retrieve(PROTEIN, target=FUNCTION, names=[name.lower()], k=4) == by_id
    stored = np.asarray(bridge.experiment.tables[PROTEIN].stored[rows[0]], np.float32)
    by_embedding = bridge.retrieve(PROTEIN, target=FUNCTION, embedding=stored, k=4)
    assert [r.id for r in by_embedding] == [r.id for r in by_id]
    assert {r.query for r in by_embedding} == {"embedding 0"}
    assert {r.known for r in by_embedding} == {""}


def test_a_node_is_not_its_own_neighbour(same_type_bridge):
    ids = same_type_bridge.experiment.tables[FUNCTION].ids
    results = same_type_bridge.retrieve(FUNCTION, target=FUNCTION, ids=[ids[3]], k=10_000)
    assert len(results) == len(ids) - 1
    assert ids[3] not in {r.id for r in results}


def test_wrong_arguments_are_refused(bridge):
    for wrong in ({}, {"ids": ["a"], "names": ["b"]}):
        with pytest.raises(InputError, match="one of the three"):
            bridge.retrieve(PROTEIN, target=FUNCTION, **wrong)
    with pytest.raises(InputError, match="opened without a dataset"):
        dataclasses.replace(bridge, experiment=None).retrieve(PROTEIN, target=FUNCTION, ids=["a"])
    ids = bridge.experiment.tables[PROTEIN].ids[:1]
    with pytest.raises(InputError, match="k 0: must be at least 1"):
        bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=0)
    with pytest.raises(InputError, match="known 'drop': must be one of mark, hide, show"):
        bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, known="drop")


def test_the_command_prints_a_table(trained, heads, capsys):
    _, ids = heads
    assert retrieve.main(["--workdir", str(trained), *QUERY, "--id", *ids, "--k", "3"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[0].startswith(ids[0])
    assert first.splitlines()[1].split() == ["rank", "id", "name", "score", "known"]
    assert len(first.splitlines()) == len(second.splitlines()) == 6
    assert " GO:" in second


@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet"])
def test_the_command_writes_what_the_call_returns(loaded, bridge, heads, tmp_path, suffix):
    _, ids = heads
    (tmp_path / "ids.txt").write_text("\n".join([*ids, "", ""]))
    output = tmp_path / f"new/rows{suffix}"
    arguments = ["--ids-file", str(tmp_path / "ids.txt"), "--output", str(output), "--k", "4"]
    assert retrieve.main(["--workdir", "-", *QUERY, *arguments]) == 0
    expected = [r._asdict() for r in bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=4)]
    if suffix == ".json":
        assert json.loads(output.read_text()) == expected
    elif suffix == ".csv":
        with open(output, newline="") as handle:
            written = list(csv.DictReader(handle))
        assert written == [{k: str(v) for k, v in row.items()} for row in expected]
    else:
        import pyarrow.parquet as pq

        assert pq.read_table(output).to_pylist() == expected


def test_the_faiss_index_returns_the_same_neighbours(loaded, bridge, heads, tmp_path):
    faiss = pytest.importorskip("faiss")
    rows, ids = heads
    output = ["--export", "faiss", "--output", str(tmp_path / "index")]
    assert retrieve.main(["--workdir", "-", *QUERY, *output]) == 0
    index = faiss.read_index(str(tmp_path / "index/tails.faiss"))
    lines = (tmp_path / "index/tails.tsv").read_text().splitlines()[1:]
    x = np.asarray(bridge.experiment.tables[PROTEIN].stored[rows], np.float32)
    queries = bridge.project(x, PROTEIN, target=FUNCTION)
    scores, tails = index.search(np.pad(queries, ((0, 0), (0, 1)), constant_values=1), 6)
    expected = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=6)
    assert [lines[i].split("\t")[0] for i in tails.ravel()] == [r.id for r in expected]
    np.testing.assert_allclose(scores.ravel(), [r.score for r in expected], atol=1e-4)


BY_ID = [*QUERY, "--id", "P04637"]
BAD_ARGUMENTS = {
    "unknown id": ([*QUERY, "--id", "P0463"], "no gene/protein has the id 'P0463'"),
    "unknown name": ([*QUERY, "--name", "???"], "no gene/protein is named '???'"),
    "unknown type": (["--source", "gene", "--id", "x"], "node type 'gene' is not in this"),
    "wrong dimension": (
        [*QUERY, "--embedding", "narrow.npy"],
        "[n, 256], as in training; got [2, 7]",
    ),
    "not floats": ([*QUERY, "--embedding", "int.npy"], "holds int32 of shape [2, 256]"),
    "NaN": ([*QUERY, "--embedding", "nan.npy"], "row 0 of the embeddings is a NaN"),
    "empty array file": ([*QUERY, "--embedding", "empty.npy"], "empty.npy: is not a .npy file"),
    "empty list": ([*QUERY, "--ids-file", "empty.txt"], "empty.txt: contains no id"),
    "binary list": ([*QUERY, "--ids-file", "nan.npy"], "nan.npy: is not a text file"),
    "missing file": ([*QUERY, "--ids-file", "none.txt"], "none.txt: No such file"),
    "unwritable output": ([*BY_ID, "--output", "empty.npy/a.csv"], "empty.npy is not a folder"),
    "unknown suffix": ([*BY_ID, "--output", "rows.xls"], "must end in .json, .csv, .parquet"),
    "no output folder": ([*QUERY, "--export", "faiss"], "--export faiss writes a folder"),
    "k too small": ([*BY_ID, "--k", "0"], "--k 0: must be at least 1"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_input_is_one_line(loaded, tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    np.save("narrow.npy", np.ones((2, 7), np.float32))
    np.save("int.npy", np.ones((2, 256), np.int32))
    np.save("nan.npy", np.full((1, 256), np.nan, np.float32))
    Path("empty.npy").touch()
    Path("empty.txt").write_text("\n \n")
    before = sorted(tmp_path.rglob("*"))
    arguments, message = BAD_ARGUMENTS[case]
    assert message in refused(retrieve.main, ["--workdir", "-", *arguments], capsys, monkeypatch)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_faiss_is_named(loaded, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    arguments = ["--workdir", "-", *QUERY, "--export", "faiss", "--output", str(tmp_path / "index")]
    line = refused(retrieve.main, arguments, capsys, monkeypatch)
    assert line == "error: --export faiss needs FAISS: pip install 'bridge_jax[faiss]'"
    assert not (tmp_path / "index").exists()


def test_a_run_without_a_checkpoint_is_refused(trained, tmp_path, capsys, monkeypatch):
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    arguments = ["--workdir", str(tmp_path), *BY_ID]
    assert "no checkpoint yet" in refused(retrieve.main, arguments, capsys, monkeypatch)
