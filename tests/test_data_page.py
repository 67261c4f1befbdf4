"""Every line of docs/data.md that says what to type for a source is run with a tiny file of it."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from tests.helpers import source_files
from tests.helpers.encoders import LetterCounter
from tools import export_embeddings, import_graph
from tools.ingest.embeddings import read_folder

PAGE = Path(__file__).parents[1] / "docs/data.md"


def rows(heading: str) -> list[list[str]]:
    """Returns the cells of the table below a heading, without the first column and backticks."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    table = re.findall(r"^\|.+\|$", section.partition("\n## ")[0], re.M)
    cells = [[c.strip().strip("`") for c in line.strip("|").split("|")][1:] for line in table[2:]]
    assert cells, f"docs/data.md: no table below {heading}"
    return cells


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


@pytest.mark.parametrize("line", [cells[0] for cells in rows("You have a graph")])
def test_a_graph(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)
    graph = Path(option(arguments, "--input"))
    source_files.write_graph(graph)
    source_files.write_vectors(Path("vectors"), graph, option(arguments, "--format"))
    assert import_graph.main([*arguments, "--embeddings", "vectors", "--output", "mine"]) == 0
    manifest = read_manifest(Path("mine"))
    num_facts = manifest.counts["facts"]
    assert manifest.counts["rows"] == num_facts
    assert num_facts >= len(source_files.PAIRS)
    tables = {len(source_files.PROTEINS), len(source_files.DRUGS)}
    assert {t.count for t in manifest.node_types} == tables


@pytest.mark.parametrize(("path", "options"), rows("You have embeddings"))
def test_embeddings(
    path: str, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(f"protein::{p}", "target", f"drug::{d}") for p, d in source_files.PAIRS]
    source_files.write_rows(Path("mine.tsv"), rows)
    source_files.write_embeddings(Path(path), options)
    drugs = Path(path.replace("protein", "drug"))
    source_files.write_embeddings(drugs, options, source_files.DRUGS)
    arguments = ["--format", "tsv", "--input", "mine.tsv", "--embeddings", "vectors"]
    assert import_graph.main([*arguments, *shlex.split(options), "--output", "mine"]) == 0
    table = read_folder(Path("mine"))["protein"]
    expected = dict(zip(source_files.PROTEINS, source_files.X, strict=True))
    assert set(table.ids) == set(expected)
    np.testing.assert_array_equal(table.x, [expected[i] for i in table.ids])


@pytest.mark.parametrize("line", [c[0] for c in rows("You have sequences, molecules or text")])
def test_entities(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(line)
    name = option(arguments, "--encoder").partition(":")[0]
    modality, takes_checkpoint = ENCODERS[name].modality, ENCODERS[name].takes_checkpoint
    family = Family(
        modality, LetterCounter, modality, "letters", 1000, 64, takes_checkpoint=takes_checkpoint
    )
    monkeypatch.setitem(ENCODERS, name, family)
    path = Path(option(arguments, "--input"))
    source_files.write_entities(path)
    assert export_embeddings.main([*arguments, "--output", "vectors"]) == 0
    ((node_type, table),) = read_folder(Path("vectors")).items()
    assert node_type == option(arguments, "--type")
    expected = {"protein": source_files.PROTEINS, "drug": source_files.DRUGS,
                "disease": ["D1"], "term": ["GO:1"]}  # fmt: skip
    assert table.ids == expected[node_type]
    assert not table.metadata["failed"]
