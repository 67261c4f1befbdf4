"""Context and templates of prompts, answers of a language model, and scores of molecules."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import bridge_jax
from bridge_jax import prompt
from bridge_jax.errors import InputError
from bridge_jax.prompting.context import ContextBuilder
from bridge_jax.prompting.molecules import (
    MoleculeScore,
    extract_smiles,
    read_smiles,
    score_molecules,
)
from bridge_jax.prompting.template import read_template
from tests.helpers import checkpoints

ASPIRIN, ETHANOL, PHENOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO", "Oc1ccccc1"


@pytest.fixture(scope="module")
def bridge(trained):
    return bridge_jax.load(trained)


@pytest.fixture(scope="module")
def context(bridge):
    return ContextBuilder(bridge)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    for package in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(package)
    return checkpoints.save_gpt2(tmp_path_factory.mktemp("gpt2") / "plain")


def command_line(workdir, task, node_type, node_id, *options):
    """Arguments of the command, as strings."""
    query = ("--task", task, "--source", node_type, "--id", node_id)
    return [str(argument) for argument in ("--workdir", workdir, *query, *options)]


def test_the_first_hop_is_the_ranking_of_the_bridge(bridge, context):
    experiment = bridge.experiment
    sections = context.build("gene/protein", 7, 4)
    assert {s.triple_type for s in sections} == {
        t for t in experiment.graph.triple_types if t.head == "gene/protein"
    }
    for section in sections:
        logits = np.asarray(
            experiment.scorer(bridge.params)(section.triple_type, np.array([7], np.int32))
        )[0]
        assert list(section.rows) == np.argsort(-logits, kind="stable")[:4].tolist()
        known = context.known_tails(section.triple_type, [7])
        assert [n.known for n in section.nodes] == [r in known for r in section.rows]
        assert [n.id for n in section.nodes] == [
            experiment.tables[section.triple_type.tail].ids[r] for r in section.rows
        ]


def test_the_second_hop_averages_over_the_first_and_a_node_is_not_its_own_neighbour(
    bridge, context
):
    sections = context.build("molecular_function", 3, 5)
    same_type, first, second = (
        next(s for s in sections if s.triple_type.tail == t)
        for t in ("molecular_function", "gene/protein", "cellular_component")
    )
    assert 3 not in same_type.rows
    assert second.via == "gene/protein"
    logits = np.asarray(
        bridge.experiment.scorer(bridge.params)(second.triple_type, np.array(first.rows, np.int32))
    ).astype(np.float64)
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (exp / exp.sum(axis=1, keepdims=True)).mean(axis=0)
    assert list(second.rows) == np.argsort(-probabilities, kind="stable")[:5].tolist()
    known = set(context.known_tails(second.triple_type, first.rows))
    assert [n.known for n in second.nodes] == [r in known for r in second.rows]


def test_known_neighbours_are_direct_or_two_facts_away(bridge, context):
    triple_types = {(t.head, t.tail): t for t in bridge.experiment.graph.triple_types}
    to_proteins = triple_types["molecular_function", "gene/protein"]
    row = next(r for r in range(40) if context.known_tails(to_proteins, [r]))
    proteins = context.known_tails(to_proteins, [row])
    direct = context.known_neighbours("molecular_function", row, "gene/protein")
    ids = bridge.experiment.tables["gene/protein"].ids
    assert [n.id for n in direct] == [ids[p] for p in proteins]
    indirect = context.known_neighbours("molecular_function", row, "cellular_component")
    components = context.known_tails(triple_types["gene/protein", "cellular_component"], proteins)
    ids = bridge.experiment.tables["cellular_component"].ids
    assert [n.id for n in indirect] == [ids[c] for c in components]


def test_the_command_prints_the_prompt_and_imports_no_framework(trained, bridge, tmp_path):
    node_id = bridge.experiment.tables["gene/protein"].ids[7]
    options = ("--k", 3, "--output", tmp_path / "p.json")
    arguments = command_line(trained, "qa", "gene/protein", node_id, *options)
    code = (
        "import sys; from bridge_jax import prompt; prompt.main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'rdkit', 'tensorflow', 'ray'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    record = json.loads((tmp_path / "p.json").read_text())
    assert process.stdout.strip() == record["prompt"]
    assert f"({node_id})" in record["prompt"]
    assert "$" not in record["prompt"]
    for section in record["retrieved"]:
        assert len(section["nodes"]) == 3
        for node in section["nodes"]:
            line = f"- {node['name']} ({node['id']}){' [known]' if node['known'] else ''}\n"
            assert line in record["prompt"] + "\n"


def test_a_template_of_the_user_replaces_the_wording(trained, bridge, tmp_path, capsys):
    node_id = bridge.experiment.tables["gene/protein"].ids[0]
    path = tmp_path / "template.txt"
    path.write_text("About $id: $question It costs $$5.")
    options = ("--template", path, "--question", "What is $name?")
    prompt.main(command_line(trained, "qa", "gene/protein", node_id, *options))
    printed = capsys.readouterr().out
    assert printed.startswith(f"About {node_id}: What is ")
    assert printed.strip().endswith("? It costs $5.")


def test_a_faulty_template_is_an_error(tmp_path):
    path = tmp_path / "template.txt"
    for text, message in (
        ("$contxt", r"field '\$contxt' is not in a template"),
        ("", "is not a template"),
        ("costs $5", "is not a template; .* and \\$\\$ for a dollar sign"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_template("qa", str(path))
    with pytest.raises(InputError, match="no such template file"):
        read_template("qa", str(tmp_path / "none.txt"))


def test_a_node_by_its_name_gives_the_same_prompt(trained, bridge, capsys):
    index = bridge.retriever.node_index("gene/protein")
    row = next(r for r in range(250) if index.names.count(index.names[r]) == 1)
    arguments = command_line(trained, "qa", "gene/protein", index.ids[row])
    prompt.main(arguments)
    by_id = capsys.readouterr().out
    prompt.main([*arguments[:-2], "--name", index.names[row].lower()])
    assert capsys.readouterr().out == by_id


def test_a_language_model_gives_the_same_answers_for_a_seed(trained, bridge, gpt2, tmp_path):
    node_id = bridge.experiment.tables["gene/protein"].ids[0]
    records = []
    for trial in range(2):
        output = tmp_path / f"{trial}.json"
        options = ("--llm", gpt2, "--tokens", 6, "--samples", 3, "--seed", 5, "--output", output)
        prompt.main(command_line(trained, "qa", "gene/protein", node_id, *options))
        records.append(json.loads(output.read_text()))
    assert records[0] == records[1]
    assert len(records[0]["answers"]) == 3
    assert any(records[0]["answers"])
    assert not any(records[0]["prompt"][:40] in answer for answer in records[0]["answers"])


def test_the_chat_template_of_a_tokenizer_is_applied(gpt2, tmp_path):
    from bridge_jax.prompting.llm import generate

    template = "{% for m in messages %}<user> {{ m.content }} {% endfor %}acid acid acid"
    chat = str(checkpoints.save_gpt2(tmp_path / "chat", template))
    plain = generate(str(gpt2), "acid", max_new_tokens=8)
    assert plain == generate(str(gpt2), "acid", max_new_tokens=8)
    answer = generate(chat, "acid", max_new_tokens=8)
    assert answer == generate(str(gpt2), "<user> acid acid acid acid", max_new_tokens=8)
    assert answer != plain


def test_a_prompt_that_is_too_long_and_a_folder_without_model_are_errors(gpt2, tmp_path):
    from bridge_jax.prompting.llm import generate

    message = (
        r"the prompt has 2,000 tokens and an answer up to 5, but the model reads at most 1,024"
    )
    with pytest.raises(InputError, match=message):
        generate(str(gpt2), "acid " * 2000, max_new_tokens=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--llm .*check the folder"):
        generate(str(tmp_path / "empty"), "acid")


@pytest.fixture
def smiles_table(bridge, tmp_path):
    """Table that treats the molecular functions of the tiny graph as drugs with structures."""
    ids = bridge.experiment.tables["molecular_function"].ids
    smiles = [ASPIRIN, PHENOL, "not a molecule"] * 30
    lines = [f"{node_id},{text}" for node_id, text in zip(ids, smiles, strict=False)]
    path = tmp_path / "drug.csv"
    path.write_text("\n".join(["node_id,smiles", *lines]) + "\n")
    return path


def test_generation_shows_structures_and_scores_answers(
    trained, bridge, smiles_table, tmp_path, capsys
):
    pytest.importorskip("rdkit")
    answers, output = tmp_path / "answers.txt", tmp_path / "g.json"
    answers.write_text(f"<smiles>{ASPIRIN}</smiles>\nNothing fits.\nc1ccccc1CO\n")
    node_id = bridge.experiment.tables["gene/protein"].ids[0]
    options = ("--target", "molecular_function", "--smiles", smiles_table, "--answers", answers)
    options += ("--output", output)
    prompt.main(command_line(trained, "generate", "gene/protein", node_id, *options))
    printed = capsys.readouterr().out
    assert f": {ASPIRIN}" in printed
    assert "2 of 3 valid, 1 novel" in printed
    record = json.loads(output.read_text())
    first, second, third = record["outcomes"]
    assert (first["to_known"], first["novel"], first["smiles"]) == (1.0, False, ASPIRIN)
    assert second["smiles"] is None
    assert second["qed"] is None
    assert third["novel"]
    assert 0 < third["to_known"] < 1
    assert set(record["known_drugs"]) <= set(bridge.experiment.tables["molecular_function"].ids)


def test_scores_computed_by_hand():
    chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import rdFingerprintGenerator

    known_drugs = {"a": ASPIRIN, "b": PHENOL, "c": "?"}
    answers = ["OC(=O)c1ccccc1OC(C)=O", f"<smiles>{ETHANOL}</smiles>", "x"]
    same, new, invalid = score_molecules(answers, known_drugs, ["b"])
    assert same.smiles == chem.CanonSmiles(ASPIRIN)
    assert (same.nearest_drug, same.similarity, same.novel) == ("a", 1.0, False)
    # Tanimoto similarity of aspirin and phenol: common bits over all bits.
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    aspirin, phenol = (
        set(generator.GetFingerprint(chem.MolFromSmiles(s)).GetOnBits()) for s in (ASPIRIN, PHENOL)
    )
    expected = len(aspirin & phenol) / len(aspirin | phenol)
    assert same.node_similarity == pytest.approx(expected)
    assert same.qed == pytest.approx(0.550, abs=1e-3)
    assert new.novel
    assert new.smiles == ETHANOL
    assert invalid == MoleculeScore("x")
    with pytest.raises(InputError, match="can parse none of the SMILES of known drugs"):
        score_molecules(["CCO"], {"c": "?"})


def test_extracted_smiles_are_tagged_or_the_longest_molecule():
    pytest.importorskip("rdkit")
    assert extract_smiles(f"I think <SMILES> {ETHANOL} </SMILES> or {ASPIRIN}") == ETHANOL
    assert extract_smiles(f"I would take {ASPIRIN}, or {PHENOL}.") == ASPIRIN
    assert extract_smiles("I CON NOO") is None
    assert extract_smiles("<smiles>not(a</smiles>") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--id": "P0"}, r"no gene/protein has the id 'P0'"),
        ({"--source": "protein"}, "node type 'protein' is not in this graph .did you mean"),
        ({"--target": "drug", "--task": "generate"}, "node type 'drug' is not in this graph"),
        ({"--k": "0"}, "--k 0: must be at least 1"),
        ({"--workdir": "nowhere"}, "nowhere: not a run"),
        (
            {"--answers": "none.txt"},
            "none.txt: no such file; give a text file with one answer per line",
        ),
        ({"--smiles": "none.csv"}, "none.csv: no such file; give a CSV"),
        ({"--output": "."}, r"\.: is a folder; name the file to write"),
        ({"--output": f"{__file__}/x.json"}, "cannot be written: .* is not a folder"),
    ],
)
def test_bad_arguments_are_errors(trained, bridge, change, message):
    node_id = bridge.experiment.tables["gene/protein"].ids[0]
    arguments = command_line(trained, "qa", "gene/protein", node_id)
    options = dict(zip(arguments[::2], arguments[1::2], strict=True)) | change
    with pytest.raises(InputError, match=message):
        prompt.main([argument for option in options.items() for argument in option])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--llm", "gpt2"), "--answers replaces the answers of --llm; give one of them"),
        (("--task", "qa"), "--answers are scored as molecules; add --task generate"),
        ((), "--answers are compared with known drugs; give their --smiles"),
    ],
)
def test_options_that_exclude_or_need_each_other(trained, tmp_path, options, message):
    (tmp_path / "answers.txt").touch()
    arguments = ("--answers", tmp_path / "answers.txt", *options)
    with pytest.raises(InputError, match=message):
        prompt.main(command_line(trained, "generate", "gene/protein", "x", *arguments))


def test_a_run_without_checkpoint_is_an_error(trained, tmp_path):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        prompt.main(command_line(tmp_path, "qa", "gene/protein", "x"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id,smile\n1,C\n", "column 'smiles' is not in"),
        ("id,smiles\n1,\n", "contains no SMILES"),
    ],
)
def test_a_faulty_table_of_smiles_is_an_error(tmp_path, text, message):
    path = tmp_path / "drug.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_smiles(path)
