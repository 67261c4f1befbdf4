"""The audit command: it finds every kind of leakage, and its tables agree with the graph."""

import re
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.graph import load_graph
from bridge_jax.data.manifest import read_manifest
from tests.helpers.excerpt import import_excerpt
from tests.helpers.tiny_run import EXCERPT
from tools import audit

pytestmark = pytest.mark.usefixtures("no_fsync")


def run_audit(dataset: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Returns the exit code and the output."""
    capsys.readouterr()
    code = audit.main([str(dataset)])
    return code, capsys.readouterr().out


def cells(output: str, start: str) -> list[str]:
    """Returns the cells of the first table row with this start."""
    line = next(row for row in output.splitlines() if row.startswith(start))
    return re.split(r"\s{2,}", line)


def test_an_inductive_split_is_clean(
    excerpt_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = run_audit(excerpt_dataset, capsys)
    assert code == 0
    assert output.rstrip().endswith("clean: no leakage")
    graph = load_graph(excerpt_dataset, read_manifest(excerpt_dataset))
    num_rows = 2 * len(graph.facts["test"])
    assert cells(output, "test ")[1:] == [str(num_rows), *"00000", str(num_rows), "0.0%"]
    queried: set[int] = set()
    for triple_type, pairs in graph.queries("test").items():
        if triple_type.head == "gene/protein":
            queried |= set(pairs.heads.tolist())
    proteins = cells(output, "gene/protein  ")
    assert proteins[1] == "34"
    assert proteins[-2:] == ["3", str(len(queried))]
    heldout_types = graph.types_of(graph.heldout["test"])
    assert (heldout_types == graph.type_id("gene/protein")).sum() == 3
    num_facts = sum(len(f) for f in graph.facts.values())
    rows = [cells(output, str(t)) for t in graph.triple_types if f"{t} " in output]
    assert sum(int(row[1]) for row in rows) == num_facts == 479


def test_the_released_split_rule_is_never_called_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = import_excerpt(tmp_path, "--split", "biobridge")
    code, output = run_audit(dataset, capsys)
    assert code == 1
    graph = load_graph(dataset, read_manifest(dataset))
    test, train = graph.facts["test"], graph.facts["train"]
    mirrored_train = set(
        zip(train.tail.tolist(), train.relation.tolist(), train.head.tolist(), strict=True)
    )
    test_rows = zip(test.head.tolist(), test.relation.tolist(), test.tail.tolist(), strict=True)
    num_mirrored = sum(row in mirrored_train for row in test_rows)
    assert "LEAKY: training reveals validation: " in output
    assert f"test: {num_mirrored} of {len(test)} rows mirror" in output
    line = next(r for r in output.splitlines() if r.startswith("test ") and "%)" in r)
    by_split = [int(n) for n in re.findall(r"(\d+) \(", line)]
    assert by_split[0] == num_mirrored
    assert sum(by_split) == len(test)  # every row is stored in both directions
    heldout = np.concatenate(list(graph.heldout.values()))
    assert num_mirrored == (~np.isin(test.tail, heldout)).sum()
    heads = np.concatenate([test.head, train.head, graph.facts["validation"].head])
    degree = np.bincount(heads, minlength=sum(graph.counts))
    i = graph.type_id("gene/protein")
    largest = degree[graph.offsets[i] : graph.offsets[i + 1]].max()
    assert int(cells(output, "gene/protein  ")[6]) == largest


def test_a_near_duplicate_relation_and_a_cartesian_product_make_a_split_leaky(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = EXCERPT.read_text().splitlines()[1:]
    copies = [r.replace(",associated with,", ",linked to,") for r in rows if "associated with" in r]
    grid = [
        f"x,treats,{9000 + i},D{i},drug,drug {i},X,{9100 + j},A{j},anatomy,part {j},X"
        for i in range(8) for j in range(9)
    ]  # fmt: skip
    more_rows = "\n".join([*copies, *grid]) + "\n"
    dataset = import_excerpt(tmp_path, "--split", "transductive", more_rows=more_rows)
    code, output = run_audit(dataset, capsys)
    assert code == 1
    overlap = cells(output, "disease → associated with → gene/protein  disease → linked to")
    assert overlap[2:] == ["163", "1.000", "1.000", "yes"]
    density = cells(output, "anatomy → treats → drug")
    assert density[1:4] == ["72", "9", "8"]
    assert density[-2:] == ["1.0000", "yes"]
    assert re.search(
        r"LEAKY: .*test: \d+ of \d+ rows near duplicate; test: 14 of \d+ rows cart", output
    )
