"""An exported bridge gives the same bits as its run, without the run and the dataset."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import bridge_jax
from bridge_jax import evaluate, project
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from tests.helpers.held_lock import held
from tools import export_model, subset
from tools.export import model_card

pytest.importorskip("safetensors")
huggingface_hub = pytest.importorskip("huggingface_hub")
BASELINES = ("popularity", "head_knn")
SOURCE, TARGET = "gene/protein", "molecular_function"
KEEP = ("--keep=gene/protein=200", "--keep=molecular_function=80", "--keep=cellular_component=40")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """The trained run, evaluated and exported."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("eval"))
    assert evaluate.main(["--workdir", str(workdir), "--baselines", *BASELINES]) == 0
    output = tmp_path_factory.mktemp("hub") / "bridge"
    assert export_model.main(["--workdir", str(workdir), "--output", str(output)]) == 0
    return output


def test_the_folder_projects_the_same_bits_without_a_dataset(trained, folder, tiny):
    run, exported = bridge_jax.load(trained), bridge_jax.load(folder)
    assert exported.experiment is None
    assert exported.config.dataset == ""
    x = np.random.default_rng(0).normal(size=(40, 256)).astype(np.float32)
    for target in ((), ("interacts with", TARGET)):
        assert np.array_equal(exported.project(x, SOURCE, *target), run.project(x, SOURCE, *target))
    assert exported.triple_types == run.triple_types
    assert exported.model == run.model
    with pytest.raises(InputError, match=r"opened without a dataset.*dataset=FOLDER"):
        exported.retrieve(SOURCE, target=TARGET, ids=["x"])


def test_exported_with_its_dataset_it_retrieves_and_explains_by_itself(trained, tmp_path):
    output = tmp_path / "bridge"
    command = ["--workdir", str(trained), "--output", str(output)]
    assert export_model.main([*command, "--with-dataset"]) == 0
    run, exported = bridge_jax.load(trained), bridge_jax.load(output)
    ids = run.experiment.tables[SOURCE].ids[:4]
    answers = run.retrieve(SOURCE, target=TARGET, ids=ids, k=3)
    assert exported.retrieve(SOURCE, target=TARGET, ids=ids, k=3) == answers
    asked = {"id": ids[0], "answers": [answers[0].id]}
    assert exported.explain(SOURCE, target=TARGET, **asked) == run.explain(
        SOURCE, target=TARGET, **asked
    )
    assert export_model.main([*command, "--overwrite"]) == 0  # without the dataset: it is removed
    assert not list(output.glob("dataset/**/*.tfrecord"))
    assert bridge_jax.load(output).experiment is None


def test_with_the_dataset_it_retrieves_as_the_run_does(trained, folder, tiny, tmp_path):
    run, exported = bridge_jax.load(trained), bridge_jax.load(folder, dataset=str(tiny))
    ids = run.experiment.tables[SOURCE].ids[:5]
    assert exported.retrieve(SOURCE, target=TARGET, ids=ids) == run.retrieve(
        SOURCE, target=TARGET, ids=ids
    )
    other = tmp_path / "other"
    subset.main([str(tiny), "--output", str(other), *KEEP])
    with pytest.raises(InputError, match="belongs to another dataset"):
        bridge_jax.load(folder, dataset=str(other))
    with pytest.raises(InputError, match="holds only step 12, not 4"):
        bridge_jax.load(folder, step=4)


def test_the_project_command_takes_the_folder_for_a_run(trained, folder, tiny, tmp_path):
    for name, workdir in (("run", trained), ("folder", folder)):
        arguments = ["--workdir", workdir, "--input", tiny, "--source", SOURCE]
        arguments += ["--output", tmp_path / name]
        assert project.main([str(a) for a in arguments]) == 0
    shards = [next((tmp_path / n).glob("nodes/*.tfrecord")).read_bytes() for n in ("run", "folder")]
    assert shards[0] == shards[1]


def test_the_files_are_plain_and_complete(folder):
    from safetensors.numpy import load_file

    assert sorted(p.name for p in folder.iterdir()) == [
        *(
            "README.md",
            "config.json",
            "fusion.json",
            "model.safetensors",
            "results.json",
            "vocabulary.json",
        )
    ]
    arrays = load_file(folder / "model.safetensors")
    assert arrays["params/model/project_gene_protein/kernel"].shape == (256, 16)
    assert arrays["transforms/gene_protein/mean"].shape == (256,)
    assert "params/log_scale" in arrays
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    node_types = ["cellular_component", "gene/protein", "molecular_function"]
    assert [t["name"] for t in vocabulary["node_types"]] == node_types
    assert vocabulary["relations"] == ["interacts with", "parent-child"]
    assert str(folder.parent) not in (folder / "config.json").read_text()


def test_the_card_says_what_went_in_and_what_came_out(folder, tiny):
    text = (folder / "README.md").read_text()
    card = re.sub(" +", " ", text)  # tables are padded
    results = json.loads((folder / "results.json").read_text())
    assert "$" not in card
    assert f"| bridge | {results['macro']['bridge']['mrr']:.3f} |" in card
    for row in results["rows"]:
        assert f"| {row['task']} | {row['queries']:,} |" in card
    for table in read_manifest(tiny).node_types:
        assert f"| {table.name} | {table.dim} | {table.encoder} | {table.pooling} | " in card
    mrr = {(r["task"], r["model"]): r["mrr"] for r in results["rows"]}
    tasks = {t for t, _ in mrr}
    losses = {m: sum(mrr[t, m] > mrr[t, "bridge"] for t in tasks) for m in BASELINES}
    strongest = max(losses, key=losses.get)
    assert f"`{strongest}` had the higher MRR in {losses[strongest]} of {len(tasks)} tasks" in card
    assert "All parts are CC-BY-4.0" in card


def test_the_hub_reads_the_metadata_of_the_card(folder, tiny):
    results = json.loads((folder / "results.json").read_text())
    data = huggingface_hub.ModelCard((folder / "README.md").read_text()).data
    assert (data.license, data.library_name) == ("cc-by-4.0", "bridge_jax")
    assert "knowledge-graph" in data.tags
    metrics = {r.metric_type: r.metric_value for r in data.eval_results}
    for name in ("mrr", "hits@10"):
        assert metrics[name] == pytest.approx(results["macro"]["bridge"][name], abs=1e-4)
    assert {r.dataset_name for r in data.eval_results} == {read_manifest(tiny).name}


@pytest.mark.parametrize(
    ("licences", "distinct", "note"),
    [
        (["MIT"], ["MIT"], "All parts are MIT"),
        (["MIT", ""], ["MIT", "not recorded"], "under different terms (MIT, not recorded)"),
        ([""], ["not recorded"], "records no licences: settle the terms"),
    ],
)
def test_licences_are_one_several_or_unknown(tiny, licences, distinct, note):
    manifest = read_manifest(tiny)
    manifest = replace(
        manifest,
        node_types=tuple(replace(t, licence="") for t in manifest.node_types),
        sources=tuple({"part": x, "source": "x", "licence": x} for x in licences),
    )
    assert model_card.data_licences(manifest) == distinct
    assert note in model_card.licence_note(distinct, None)


def test_a_run_that_was_not_evaluated_says_so(trained, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir, ignore=shutil.ignore_patterns("eval"))
    arguments = ["--workdir", str(workdir), "--output", str(tmp_path / "out"), "--licence", "mit"]
    export_model.main([*arguments, "--title", "Mine"])
    assert "the card has no results" in capsys.readouterr().out
    card = (tmp_path / "out/README.md").read_text()
    assert "# Mine\n" in card
    assert "license: mit" in card
    assert "was not evaluated" in card
    with pytest.raises(InputError, match="is an exported bridge; pass --overwrite"):
        export_model.main(arguments)
    assert export_model.main([*arguments, "--overwrite"]) == 0


def test_the_folder_is_no_run_to_evaluate(folder):
    with pytest.raises(InputError, match="is an exported bridge, which retrieves and projects"):
        evaluate.main(["--workdir", str(folder)])


def test_what_cannot_be_exported_or_written_is_named(trained, folder, tmp_path):
    def export(workdir, output):
        return export_model.main(["--workdir", str(workdir), "--output", str(output)])

    with pytest.raises(InputError, match="not a run"):
        export(tmp_path / "none", tmp_path / "out")
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    shutil.copy(trained / "config.json", untrained)
    with pytest.raises(InputError, match="no checkpoint yet"):
        export(untrained, tmp_path / "out")
    with pytest.raises(InputError, match="is exported already"):
        export(folder, tmp_path / "out")
    with pytest.raises(InputError, match="is not empty; choose another --output"):
        export(trained, untrained)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="is a file; name a folder"):
        export(trained, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model.safetensors", lambda raw: raw[:-50], "model.safetensors: damaged: it changed"),
        ("config.json", lambda raw: raw[:-50], "not a complete exported bridge"),
        ("vocabulary.json", lambda raw: b"{}", "vocabulary.json: damaged: it changed"),
        (
            "config.json",
            lambda raw: raw.replace(b'"format_version": 2', b'"format_version": 9'),
            "format version 9; this code reads 1 and 2",
        ),
        (
            "config.json",
            lambda raw: raw.replace(b'"width": 16', b'"width": 32'),
            "config.json: damaged: it changed since it was exported",
        ),
    ],
)
def test_a_damaged_folder_is_refused(folder, tmp_path, file, change, message):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / file).write_bytes(change((copy / file).read_bytes()))
    with pytest.raises(InputError, match=message):
        bridge_jax.load(copy)


def test_overwrite_keeps_the_old_export_until_the_new_one_is_complete(
    trained, folder, tmp_path, monkeypatch
):
    output = tmp_path / "bridge"
    shutil.copytree(folder, output)
    (output / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in output.iterdir()}
    arguments = ["--workdir", str(trained), "--output", str(output), "--overwrite"]
    with monkeypatch.context() as patch:
        patch.setattr(
            "bridge_jax.models.pretrained.write_json",
            lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        with pytest.raises(OSError, match="No space left"):
            export_model.main(arguments)
    assert {p.name: p.read_bytes() for p in output.iterdir()} == before
    assert export_model.main(arguments) == 0
    names = {
        "README.md",
        "config.json",
        "fusion.json",
        "model.safetensors",
        "vocabulary.json",
        "notes.txt",
    }
    assert {p.name for p in output.iterdir()} == names  # this run has no results


def test_an_interrupted_overwrite_can_be_repeated(trained, folder, tmp_path):
    output = tmp_path / "bridge"
    shutil.copytree(folder, output)
    (output / "model.safetensors").unlink()
    (output / ".new.7.tmp").mkdir()
    arguments = ["--workdir", str(trained), "--output", str(output)]
    with pytest.raises(InputError, match="is an exported bridge; pass --overwrite"):
        export_model.main(arguments)
    assert export_model.main([*arguments, "--overwrite"]) == 0
    assert not (output / ".new.7.tmp").exists()
    assert bridge_jax.load(output).step == bridge_jax.load(trained).step


def test_two_exports_into_one_folder_exclude_each_other(trained, tmp_path):
    output = tmp_path / "bridge"
    arguments = ["--workdir", str(trained), "--output", str(output)]
    with held(output), pytest.raises(InputError, match="another process writes here"):
        export_model.main(arguments)
    assert not output.exists()
