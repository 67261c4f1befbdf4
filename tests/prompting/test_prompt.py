"""Prompts hold what the bridge retrieves; a language model may answer; molecules are scored."""

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
from bridge_jax.prompting.molecules import proposal, read_smiles, score
from bridge_jax.prompting.template import read_template
from tests.helpers import checkpoints

ASPIRIN, ETHANOL, PHENOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO", "Oc1ccccc1"


@pytest.fixture(scope="module")
def bridge(trained):
    return bridge_jax.load(trained)


@pytest.fixture(scope="module")
def find(bridge):
    return ContextBuilder(bridge)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    for package in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(package)
    return checkpoints.save_gpt2(tmp_path_factory.mktemp("gpt2") / "plain")


def words(run, task, node_type, node_id, *more):
    arguments = ("--workdir", run, "--task", task, "--source", node_type, "--id", node_id, *more)
    return list(map(str, arguments))


def test_one_hop_is_the_ranking_of_the_bridge(bridge, find):
    experiment = bridge.experiment
    sections = find.around("gene/protein", 7, 4)
    assert {s.kind for s in sections} == {
        k for k in experiment.graph.triple_types if k.head == "gene/protein"
    }
    for section in sections:
        logits = np.asarray(
            experiment.scorer(bridge.params)(section.kind, np.array([7], np.int32))
        )[0]
        assert list(section.rows) == np.argsort(-logits, kind="stable")[:4].tolist()
        facts = find.facts(section.kind, [7])
        assert [n.known for n in section.nodes] == [r in facts for r in section.rows]
        assert [n.id for n in section.nodes] == [
            experiment.tables[section.kind.tail].ids[r] for r in section.rows
        ]


def test_two_hops_ask_the_neighbours_found_and_a_node_is_not_its_own(bridge, find):
    sections = find.around("molecular_function", 3, 5)
    own, first, second = (
        next(s for s in sections if s.kind.tail == t)
        for t in ("molecular_function", "gene/protein", "cellular_component")
    )
    assert 3 not in own.rows
    assert second.via == "gene/protein"
    logits = np.asarray(
        bridge.experiment.scorer(bridge.params)(second.kind, np.array(first.rows, np.int32))
    ).astype(np.float64)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean = (share / share.sum(axis=1, keepdims=True)).mean(axis=0)
    assert list(second.rows) == np.argsort(-mean, kind="stable")[:5].tolist()
    held = set(find.facts(second.kind, first.rows))
    assert [n.known for n in second.nodes] == [r in held for r in second.rows]


def test_what_is_known_is_found_directly_or_through_what_is_between(bridge, find):
    kinds = {(k.head, k.tail): k for k in bridge.experiment.graph.triple_types}
    row = next(r for r in range(40) if find.facts(kinds["molecular_function", "gene/protein"], [r]))
    proteins = find.facts(kinds["molecular_function", "gene/protein"], [row])
    direct = find.known_of_type("molecular_function", row, "gene/protein")
    ids = bridge.experiment.tables["gene/protein"].ids
    assert [n.id for n in direct] == [ids[p] for p in proteins]
    through = find.known_of_type("molecular_function", row, "cellular_component")
    between = find.facts(kinds["gene/protein", "cellular_component"], proteins)
    ids = bridge.experiment.tables["cellular_component"].ids
    assert [n.id for n in through] == [ids[c] for c in between]


def test_the_command_prints_the_prompt_and_imports_no_framework(trained, bridge, tmp_path):
    name = bridge.experiment.tables["gene/protein"].ids[7]
    arguments = words(
        trained, "qa", "gene/protein", name, "--k", 3, "--output", tmp_path / "p.json"
    )
    code = (
        "import sys; from bridge_jax import prompt; prompt.main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'rdkit', 'tensorflow', 'ray'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "p.json").read_text())
    assert done.stdout.strip() == record["prompt"]
    assert f"({name})" in record["prompt"]
    assert "$" not in record["prompt"]
    for section in record["retrieved"]:
        assert len(section["nodes"]) == 3
        for node in section["nodes"]:
            line = f"- {node['name']} ({node['id']}){' [known]' if node['known'] else ''}\n"
            assert line in record["prompt"] + "\n"


def test_a_users_template_replaces_the_wording(trained, bridge, tmp_path, capsys):
    name = bridge.experiment.tables["gene/protein"].ids[0]
    (tmp_path / "mine.txt").write_text("About $id: $question It costs $$5.")
    more = ("--template", tmp_path / "mine.txt", "--question", "What is $name?")
    prompt.main(words(trained, "qa", "gene/protein", name, *more))
    shown = capsys.readouterr().out
    assert shown.startswith(f"About {name}: What is ")
    assert shown.strip().endswith("? It costs $5.")
    for text, message in (
        ("$contxt", r"field '\$contxt' is not in a template"),
        ("", "not a temp"),
    ):
        (tmp_path / "mine.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            read_template("qa", str(tmp_path / "mine.txt"))
    with pytest.raises(InputError, match="no such template"):
        read_template("qa", str(tmp_path / "none.txt"))


def test_a_node_by_its_name_gives_the_same_prompt(trained, bridge, capsys):
    names = bridge.neighbours.names("gene/protein")
    row = next(r for r in range(250) if names.names.count(names.names[r]) == 1)
    given = words(trained, "qa", "gene/protein", names.ids[row])
    prompt.main(given)
    by_id = capsys.readouterr().out
    prompt.main([*given[:-2], "--name", names.names[row].lower()])
    assert capsys.readouterr().out == by_id


def test_a_language_model_answers_the_same_twice(trained, bridge, gpt2, tmp_path):
    name = bridge.experiment.tables["gene/protein"].ids[0]
    records = []
    for k in range(2):
        output = tmp_path / f"{k}.json"
        more = ("--llm", gpt2, "--tokens", 6, "--samples", 3, "--seed", 5, "--output", output)
        prompt.main(words(trained, "qa", "gene/protein", name, *more))
        records.append(json.loads(output.read_text()))
    assert records[0] == records[1]
    assert len(records[0]["answers"]) == 3
    assert any(records[0]["answers"])
    assert not any(records[0]["prompt"][:40] in a for a in records[0]["answers"])


def test_a_chat_template_is_used_where_there_is_one(gpt2, tmp_path):
    from bridge_jax.prompting.llm import generate

    shout = "{% for m in messages %}<user> {{ m.content }} {% endfor %}acid acid acid"
    talker = checkpoints.save_gpt2(tmp_path / "chat", shout)
    assert generate(str(gpt2), "acid", tokens=8) == generate(str(gpt2), "acid", tokens=8)
    assert generate(str(talker), "acid", tokens=8) == generate(
        str(gpt2), "<user> acid acid acid acid", tokens=8
    )
    assert generate(str(talker), "acid", tokens=8) != generate(str(gpt2), "acid", tokens=8)


def test_a_language_model_that_does_not_fit_is_named(gpt2, tmp_path):
    from bridge_jax.prompting.llm import generate

    with pytest.raises(
        InputError, match=r"the prompt has 2,000 tokens, and 5 are to come; .*1,024"
    ):
        generate(str(gpt2), "acid " * 2000, tokens=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"--llm .*check the folder"):
        generate(str(tmp_path / "empty"), "acid")


@pytest.fixture
def structures(bridge, tmp_path):
    """Every second function of the tiny graph stands for a drug with a structure."""
    ids = bridge.experiment.tables["molecular_function"].ids
    lines = [
        f"{i},{s}" for i, s in zip(ids, [ASPIRIN, PHENOL, "not a molecule"] * 30, strict=False)
    ]
    path = tmp_path / "drug.csv"
    path.write_text("\n".join(["node_id,smiles", *lines]) + "\n")
    return path


def test_generation_shows_structures_and_scores_answers(
    trained, bridge, structures, tmp_path, capsys
):
    pytest.importorskip("rdkit")
    (tmp_path / "answers.txt").write_text(
        f"<smiles>{ASPIRIN}</smiles>\nNothing fits.\nc1ccccc1CO\n"
    )
    ids = bridge.experiment.tables["gene/protein"].ids
    more = (
        "--target",
        "molecular_function",
        "--smiles",
        structures,
        "--output",
        tmp_path / "g.json",
    )
    asked = words(trained, "generate", "gene/protein", ids[0], *more)
    prompt.main([*asked, "--answers", str(tmp_path / "answers.txt")])
    shown = capsys.readouterr().out
    assert f": {ASPIRIN}" in shown
    assert "2 of 3 valid, 1 novel" in shown
    record = json.loads((tmp_path / "g.json").read_text())
    first, second, third = record["outcomes"]
    assert (first["to_known"], first["novel"], first["smiles"]) == (1.0, False, ASPIRIN)
    assert second["smiles"] is None
    assert second["qed"] is None
    assert third["novel"]
    assert 0 < third["to_known"] < 1
    assert set(record["known_drugs"]) <= set(bridge.experiment.tables["molecular_function"].ids)


def test_outcomes_by_hand():
    chem = pytest.importorskip("rdkit.Chem")
    known = {"a": ASPIRIN, "b": PHENOL, "c": "?"}
    (same, new, bad) = score(
        ["OC(=O)c1ccccc1OC(C)=O", f"<smiles>{ETHANOL}</smiles>", "x"], known, "b"
    )
    assert same.smiles == chem.CanonSmiles(ASPIRIN)
    assert (same.nearest, same.to_known, same.novel) == ("a", 1.0, False)
    # Phenol's bits are within aspirin's ring: shared over united, counted here from the bits.
    from rdkit.Chem import rdFingerprintGenerator

    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    one, two = (
        set(make.GetFingerprint(chem.MolFromSmiles(s)).GetOnBits()) for s in (ASPIRIN, PHENOL)
    )
    assert same.to_own == pytest.approx(len(one & two) / len(one | two))
    assert same.qed == pytest.approx(0.550, abs=1e-3)
    assert new.novel
    assert new.smiles == ETHANOL
    assert bad == type(bad)("x")
    with pytest.raises(InputError, match="can read none of the known drugs"):
        score(["CCO"], {"c": "?"})


def test_a_proposal_is_what_is_marked_else_the_longest_molecule():
    pytest.importorskip("rdkit")
    assert proposal(f"I think <SMILES> {ETHANOL} </SMILES> or {ASPIRIN}") == ETHANOL
    assert proposal(f"I would take {ASPIRIN}, or {PHENOL}.") == ASPIRIN
    assert proposal("I CON NOO") is None
    assert proposal("<smiles>not(a</smiles>") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--id": "P0"}, r"no gene/protein has the id 'P0'"),
        ({"--source": "protein"}, "node type 'protein' is not in this graph .did you mean"),
        ({"--target": "drug", "--task": "generate"}, "node type 'drug' is not in this graph"),
        ({"--k": "0"}, "--k 0: must be at least 1"),
        ({"--workdir": "nowhere"}, "nowhere: not a run"),
        ({"--answers": "none.txt"}, "none.txt: no such file of answers"),
        ({"--smiles": "none.csv"}, "none.csv: no such file of structures"),
        ({"--output": "."}, r"\.: is a folder; name the file to write"),
        ({"--output": f"{__file__}/x.json"}, "cannot be written: .* is not a folder"),
    ],
)
def test_bad_words_are_named(trained, bridge, change, message):
    given = words(trained, "qa", "gene/protein", bridge.experiment.tables["gene/protein"].ids[0])
    pairs = dict(zip(given[::2], given[1::2], strict=True)) | change
    with pytest.raises(InputError, match=message):
        prompt.main([word for pair in pairs.items() for word in pair])


def test_a_run_without_a_checkpoint_and_broken_structures(trained, tmp_path):
    shutil.copy(trained / "config.json", tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        prompt.main(words(tmp_path, "qa", "gene/protein", "x"))
    path = tmp_path / "s.csv"
    for text, message in (
        ("", "column 'node_id' is not in"),
        ("id,smile\n1,C\n", "column 'smiles' is not in"),
        ("id,smiles\n1,\n", "holds no structure"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_smiles(path)
