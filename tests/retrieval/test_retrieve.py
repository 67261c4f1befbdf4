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
from bridge_jax.evaluation.evaluators.retrieval import rank_split
from bridge_jax.predictor import Predictor
from tests.helpers.commands import refused
from tests.helpers.held_lock import held

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
    asked = {"ids": ids, "k": 12, "known": "show", "answer": "bridge"}
    results = bridge.retrieve(PROTEIN, target=FUNCTION, **asked)
    scores = np.asarray(bridge.experiment.scorer(bridge.params)(triple_type, np.asarray(rows)))
    tails = bridge.experiment.tables[FUNCTION].ids
    for i, node in enumerate(ids):
        of_node = [r for r in results if r.query == node]
        order = np.argsort(-scores[i], kind="stable")[:12]
        assert [r.id for r in of_node] == [tails[t] for t in order]
        np.testing.assert_allclose([r.score for r in of_node], scores[i][order], atol=1e-5)
        assert [r.rank for r in of_node] == list(range(1, 13))
        assert [r.percentile for r in of_node[:2]] == [100, 100 * (1 - 1 / len(tails))]
        total = np.exp(scores[i].astype(np.float64)).sum()
        expected = np.exp(scores[i][order].astype(np.float64)) / total
        np.testing.assert_allclose([r.probability for r in of_node], expected, rtol=1e-4)


@pytest.mark.parametrize("answer", ["fusion", "bridge"])
def test_served_ranks_are_those_of_the_evaluation(bridge, answer):
    """Every test query through `retrieve` gives the MRR of the row in the table, exactly."""
    experiment = bridge.experiment
    ranks = rank_split(bridge.retriever.scorer(answer), experiment, "test")
    assert len(ranks) >= 4
    for triple_type, expected in ranks.items():
        tails = experiment.tables[triple_type.tail].ids
        heads = np.unique(expected.heads).tolist()
        ids = [experiment.tables[triple_type.head].ids[h] for h in heads]
        asked = {"ids": ids, "k": len(tails), "known": "show", "answer": answer}
        results = bridge.retrieve(*triple_type, **asked)
        row_of = {node: row for row, node in enumerate(tails)}
        scores = {node: np.full(len(tails), -np.inf) for node in ids}
        for r in results:
            scores[r.query][row_of[r.id]] = r.score
        known = experiment.known[triple_type]
        for head, tail, rank in zip(
            expected.heads, expected.tails, expected.realistic, strict=True
        ):
            node = experiment.tables[triple_type.head].ids[head]
            others = scores[node].copy()
            others[known.of(np.asarray([head]))[1]] = -np.inf
            true = scores[node][tail]
            ties = np.sum(others == true)
            assert 1 + np.sum(others > true) + ties / 2 == rank


def test_training_facts_come_first(bridge, triple_type):
    """At most half of the answers, ordered by the model, with the percentile that it gives."""
    pairs = bridge.experiment.graph.pairs(["train"])[triple_type]
    head = int(np.argmax(np.bincount(pairs.heads)))
    ids = [bridge.experiment.tables[PROTEIN].ids[head]]
    known = bridge.retriever.find_known_tails(triple_type, head)
    num_facts = sum(split == "train" for split in known.values())
    assert num_facts > 1
    for k in (2, 5, 2 * num_facts + 3):
        marked = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=k)
        first = min(num_facts, k // 2)
        assert [r.known for r in marked[:first]] == ["train"] * first
        assert [r.rank for r in marked] == list(range(1, k + 1))
        for part in (marked[:first], marked[first:]):
            percentiles = [r.percentile for r in part]
            assert percentiles == sorted(percentiles, reverse=True)
        assert all(r.confidence is None for r in marked if r.known)
        assert all(0 <= r.confidence <= 1 for r in marked if not r.known)


def test_known_facts_are_marked_with_their_split_or_hidden(bridge, triple_type, heads):
    rows, ids = heads
    tails = bridge.experiment.tables[FUNCTION].ids
    row_of = {node: row for row, node in enumerate(tails)}
    marked = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=len(tails))
    marked.sort(key=lambda r: (r.query, -r.score))
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
    shown.sort(key=lambda r: (r.query, -r.score))
    assert [(r.query, r.id, r.score) for r in marked] == [(r.query, r.id, r.score) for r in shown]
    assert {r.known for r in shown} == {""}


def test_a_node_can_be_given_by_id_by_name_or_by_its_embedding(bridge, heads):
    rows, ids = heads
    name = bridge.retriever.node_index(PROTEIN).names[rows[0]]
    by_id = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids[:1], k=4)
    assert bridge.retrieve(PROTEIN, target=FUNCTION, names=[name.lower()], k=4) == by_id
    stored = np.asarray(bridge.experiment.tables[PROTEIN].stored[rows[0]], np.float32)
    by_embedding = bridge.retrieve(PROTEIN, target=FUNCTION, embedding=stored, k=4)
    label = f"embedding 0 ({ids[0]})"  # recognised, so that its facts are known
    assert by_embedding == [r._replace(query=label) for r in by_id]
    other = stored + np.random.default_rng(0).normal(size=stored.shape).astype(np.float32)
    both = np.stack([other, stored])
    of_both = bridge.retrieve(PROTEIN, target=FUNCTION, embedding=both, k=4)
    assert [r.query for r in of_both] == ["embedding 0"] * 4 + [f"embedding 1 ({ids[0]})"] * 4
    assert {r.known for r in of_both[:4]} == {""}
    assert [r._replace(query=label) for r in of_both[4:]] == by_embedding


def test_a_node_is_not_its_own_neighbour(same_type_bridge):
    ids = same_type_bridge.experiment.tables[FUNCTION].ids
    results = same_type_bridge.retrieve(
        FUNCTION, target=FUNCTION, ids=[ids[3]], k=99, answer="bridge"
    )
    assert len(results) == len(ids) - 1
    assert ids[3] not in {r.id for r in results}


def test_wrong_arguments_are_refused(bridge):
    for wrong in ({}, {"ids": ["a"], "names": ["b"]}):
        with pytest.raises(InputError, match="one of these"):
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
    columns = first.splitlines()[1].split()
    assert columns == ["rank", "id", "name", "probability", "percentile", "confidence", "known"]
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
        text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in expected]
        assert written == text
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
    asked = {"ids": ids, "k": 6, "known": "show", "answer": "bridge"}
    expected = bridge.retrieve(PROTEIN, target=FUNCTION, **asked)
    assert [lines[i].split("\t")[0] for i in tails.ravel()] == [r.id for r in expected]
    np.testing.assert_allclose(scores.ravel(), [r.score for r in expected], atol=1e-4)


def test_a_faiss_index_is_replaced_as_a_whole_by_one_command(loaded, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    output = tmp_path / "index"
    arguments = ["--workdir", "-", *QUERY, "--export", "faiss", "--output", str(output)]
    assert retrieve.main(arguments) == 0
    before = {p.name: p.read_bytes() for p in output.iterdir()}
    assert before.keys() == {"tails.faiss", "tails.tsv", "about.json"}

    def fail(*_):
        raise OSError(28, "full")

    with monkeypatch.context() as patch:
        patch.setattr("bridge_jax.retrieval.faiss_index.write_json", fail)
        with pytest.raises(OSError, match="full"):
            retrieve.main(arguments)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == before
    with held(output), pytest.raises(InputError, match="another process writes here"):
        retrieve.main(arguments)
    (output / "about.json").write_text("{}")
    with pytest.raises(InputError, match=r"about\.json: is not of an index"):
        retrieve.main(arguments)


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
    "empty array file": (
        [*QUERY, "--embedding", "empty.npy"],
        "empty.npy: cannot be read: it is empty",
    ),
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
