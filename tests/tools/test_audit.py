"""The audit command: a leaky split is never called clean, and the figures are the graph's own."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.dataset import read_manifest
from bridge_jax.data.graph import load_graph
from tests.helpers.tiny_run import EXCERPT
from tools import audit, import_graph


@pytest.fixture(autouse=True)
def _do_not_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def dataset(folder: Path, *split: str, extra: str = "") -> Path:
    """Import the excerpt, and further rows, with random embeddings."""
    source = folder / "kg.csv"
    source.write_text(EXCERPT.read_text() + extra)
    edges = import_graph.FORMATS["primekg"](source)
    for kind in {n.type for n in edges.nodes}:
        ids = [n.id for n in edges.nodes if n.type == kind]
        x = np.random.default_rng(0).normal(size=(len(ids), 3)).astype(np.float16)
        np.savez(folder / f"{kind.replace('/', '_')}.npz", ids=np.array(ids), x=x)
    import_graph.main(["--format", "primekg", "--input", str(source), "--embeddings", str(folder),
                       "--output", str(folder / "out"), "--split", *split])  # fmt: skip
    return folder / "out"


def rows_of(told: str, first: str) -> list[str]:
    """The cells of the table row that begins so."""
    line = next(row for row in told.splitlines() if row.startswith(first))
    return re.split(r"\s{2,}", line)


def test_an_inductive_split_is_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = dataset(tmp_path, "inductive")
    capsys.readouterr()
    assert audit.main([str(out)]) == 0
    told = capsys.readouterr().out
    assert told.rstrip().endswith("clean: nothing leaks")
    graph = load_graph(out, read_manifest(out))
    rows = 2 * len(graph.facts["test"])
    assert rows_of(told, "test ")[1:] == [str(rows), *"00000", str(rows), "0.0%"]
    test = graph.heldout["test"]
    asked = {k.head: set() for k in graph.triple_types}
    for kind, pairs in graph.queries("test").items():
        asked[kind.head] |= set(pairs.heads.tolist())
    proteins = rows_of(told, "gene/protein  ")
    assert proteins[1] == "34"
    assert proteins[-2:] == ["3", str(len(asked["gene/protein"]))]
    assert (graph.types_of(test) == graph.type_id("gene/protein")).sum() == 3
    facts = sum(len(f) for f in graph.facts.values())
    found = [rows_of(told, str(k)) for k in graph.triple_types if f"{k} " in told]
    assert sum(int(f[1]) for f in found) == facts == 479


def test_the_released_rule_is_never_called_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = dataset(tmp_path, "biobridge")
    capsys.readouterr()
    assert audit.main([str(out)]) == 1
    told = capsys.readouterr().out
    graph = load_graph(out, read_manifest(out))
    test, train = graph.facts["test"], graph.facts["train"]
    stored = set(
        zip(train.tail.tolist(), train.relation.tolist(), train.head.tolist(), strict=True)
    )
    asked = zip(test.head.tolist(), test.relation.tolist(), test.tail.tolist(), strict=True)
    mirrors = sum(row in stored for row in asked)
    assert "LEAKY: training gives away validation: " in told
    assert f"test: {mirrors} of {len(test)} rows mirror" in told
    line = next(r for r in told.splitlines() if r.startswith("test ") and "%)" in r)
    inside = [int(n) for n in re.findall(r"(\d+) \(", line)]
    assert inside[0] == mirrors
    assert sum(inside) == len(test)  # every row is stored in both directions
    held = np.concatenate(list(graph.heldout.values()))
    assert mirrors == (~np.isin(test.tail, held)).sum()
    degree = rows_of(told, "gene/protein  ")
    both = np.concatenate([test.head, train.head, graph.facts["validation"].head])
    span = graph.type_id("gene/protein")
    counts = np.bincount(both, minlength=sum(graph.counts))
    assert int(degree[6]) == counts[graph.offsets[span] : graph.offsets[span + 1]].max()


def test_a_near_duplicate_relation_and_a_block_make_a_split_leaky(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = EXCERPT.read_text().splitlines()[1:]
    again = [r.replace(",associated with,", ",linked to,") for r in rows if "associated with" in r]
    grid = [
        f"x,treats,{9000 + i},D{i},drug,drug {i},X,{9100 + j},A{j},anatomy,part {j},X"
        for i in range(8) for j in range(9)
    ]  # fmt: skip
    out = dataset(tmp_path, "transductive", extra="\n".join([*again, *grid]) + "\n")
    capsys.readouterr()
    assert audit.main([str(out)]) == 1
    told = capsys.readouterr().out
    pair = rows_of(told, "disease → associated with → gene/protein  disease → linked to")
    assert pair[2:] == ["163", "1.000", "1.000", "yes"]
    block = rows_of(told, "anatomy → treats → drug")
    assert block[1:4] == ["72", "9", "8"]
    assert block[-2:] == ["1.0000", "yes"]
    assert re.search(
        r"LEAKY: .*test: \d+ of \d+ rows near duplicate; test: 14 of \d+ rows cart", told
    )
