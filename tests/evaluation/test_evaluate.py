"""The evaluate command on a small trained run, and external models in its table."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.graph import Pairs
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.evaluation import comparison
from bridge_jax.evaluation.comparison import name_external_models
from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
from tools import subset


@pytest.fixture(scope="module")
def workdir(trained, tmp_path_factory):
    """A copy of the trained run, evaluated on the test split."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("evaluated") / "run"))
    assert evaluate.main(["--workdir", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def results(workdir):
    return json.loads((workdir / "eval/test/results.json").read_text())


def test_results_hold_every_task_and_model(results, trained_run):
    models = ["random", "popularity", "ridge", "head_knn", "bridge", "fusion"]
    queries = trained_run.experiment.graph.queries("test")
    num_queries = {str(k): len(q.heads) for k, q in queries.items() if len(q.heads)}
    assert {(r["task"], r["model"]) for r in results["rows"]} == {
        (task, model) for task in num_queries for model in models
    }
    for row in results["rows"]:
        assert row["queries"] == num_queries[row["task"]]
        assert 0 < row["candidates"] <= 250
        assert 0 < row["mrr"] <= 1
        assert 0 <= row["hits@1"] <= row["hits@3"] <= row["hits@10"] <= 1
        if row["heads"] > 1:
            assert row["mrr_low"] <= row["mrr"] <= row["mrr_high"]
    assert list(results["macro"]) == models
    for model in models:
        mrr = [r["mrr"] for r in results["rows"] if r["model"] == model]
        assert results["macro"][model]["mrr"] == pytest.approx(sum(mrr) / len(mrr))


def test_results_hold_their_provenance(results, trained):
    about, run = results["about"], json.loads((trained / "run.json").read_text())
    assert about["manifest_sha256"] == run["manifest_sha256"]
    assert about["split"] == "test"
    assert {"jax", "bridge_jax", "python"} <= set(about["versions"])


def test_all_files_hold_the_same_results(results, workdir):
    folder = workdir / "eval/test"
    with open(folder / "results.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(r["mrr"]) for r in rows] == pytest.approx([r["mrr"] for r in results["rows"]])
    text = (folder / "results.md").read_text()
    assert all(r["task"] in text for r in results["rows"])
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")


def test_the_validation_split_has_its_own_queries(run_copy, trained_run):
    command = ["--workdir", str(run_copy), "--split", "validation", "--baselines"]
    assert evaluate.main(command) == 0
    macro = json.loads((run_copy / "eval/validation/results.json").read_text())["macro"]
    assert list(macro) == ["bridge", "fusion"]
    queries = trained_run.experiment.graph.queries("validation")
    assert macro["bridge"]["queries"] == sum(len(q.heads) for q in queries.values())


def test_an_override_changes_the_rows_but_not_the_config_of_the_run(run_copy):
    before = (run_copy / "config.json").read_bytes()
    command = ["--workdir", str(run_copy), "--baselines"]
    assert evaluate.main([*command, "--config.evaluate.bidirectional=true"]) == 0
    macro = json.loads((run_copy / "eval/test/results.json").read_text())["macro"]
    assert list(macro) == ["bridge", "bidirectional", "fusion"]
    assert (run_copy / "config.json").read_bytes() == before


def test_other_overrides_and_unknown_options_are_refused(trained):
    command = ["--workdir", str(trained), "--baselines"]
    with pytest.raises(InputError, match=r"config\.evaluate"):
        evaluate.main([*command, "--config.model.width=8"])
    with pytest.raises(InputError, match=r"did you mean 'evaluate.bidirectional'"):
        evaluate.main([*command, "--config.evaluate.bidirectionl=true"])
    with pytest.raises(InputError, match="unknown argument '--splt'"):
        evaluate.main([*command[:-1], "--splt", "validation"])


def test_an_unknown_baseline_is_refused(trained):
    with pytest.raises(InputError, match=r"baseline 'head_kn' .*did you mean 'head_knn'"):
        evaluate.main(["--workdir", str(trained), "--baselines", "head_kn"])


def test_subsampled_queries_keep_whole_heads():
    heads = np.repeat(np.arange(10, dtype=np.int32), 3)
    sample = subsample_queries(Pairs(heads, heads), 15)
    assert sorted(set(sample.heads.tolist())) == [0, 2, 4, 6, 8]
    assert len(sample.heads) == 15


def test_another_run_is_a_row_of_the_table(trained_run, run_copy):
    report = comparison.evaluate(trained_run, "test", ["popularity"], {"other": str(run_copy)})
    assert list(report.macro) == ["popularity", "other", "bridge", "fusion"]
    assert report.subject == "fusion"
    assert report.about["compare_with"] == {"other": str(run_copy)}
    for rows in report.by_task().values():  # a copy of the run ranks as the run does
        assert rows["other"]["mrr"] == rows["bridge"]["mrr"]
        assert rows["other"]["lead_p"] == rows["bridge"]["lead_p"]


def test_external_models_are_named_by_their_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("runs/a", "runs/b", "other/a", "x/ridge"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "config.json").touch()
    names = name_external_models(["runs/a", "runs/b/", "other/a", "x/ridge"], {"ridge"})
    assert names == {"a": "runs/a", "b": "runs/b/", "other/a": "other/a", "x/ridge": "x/ridge"}
    with pytest.raises(InputError, match="names other/a twice"):
        name_external_models(["runs/a", "other/a", "other/a"], set())
    with pytest.raises(InputError, match=r"^runs: neither a run .config.json. nor trained embeddi"):
        name_external_models(["runs"], set())


def test_external_models_of_another_dataset_are_refused(trained, trained_run, tiny, tmp_path):
    experiment = trained_run.experiment
    other = replace(experiment, config=experiment.config.copy_and_resolve_references())
    other.config.dataset = str(tmp_path / "other")
    keep = ["gene/protein=100", "molecular_function=40", "cellular_component=20"]
    subset.main([str(tiny), "--output", other.config.dataset, *(f"--keep={k}" for k in keep)])
    with pytest.raises(InputError, match="another dataset"):
        comparison.load_external_model(trained, other)
    smaller = replace(other, manifest=read_manifest(other.config.dataset))
    with pytest.raises(InputError, match=r"--compare-with .*: trained on another dataset"):
        comparison.check_external_model(trained, smaller)
    comparison.check_external_model(trained, experiment)


def test_a_damaged_external_model_is_refused_when_it_is_loaded(trained_run, tmp_path):
    (tmp_path / "embeddings.json").write_text("{")
    comparison.check_external_model(tmp_path, trained_run.experiment)
    with pytest.raises(InputError, match=f"^{tmp_path}: the embeddings cannot be read"):
        comparison.load_external_model(tmp_path, trained_run.experiment)


def test_a_split_without_queries_is_refused_before_any_model_is_fitted(trained_run, monkeypatch):
    no_queries = {
        k: Pairs(*np.zeros((2, 0), np.int32)) for k in trained_run.experiment.graph.triple_types
    }
    run = replace(trained_run, experiment=replace(trained_run.experiment))
    run.experiment.__dict__["queries"] = {"test": no_queries}
    monkeypatch.setattr(comparison, "BASELINES", {"ridge": None})
    with pytest.raises(InputError, match="tiny has no test query; evaluate another --split"):
        comparison.evaluate(run, "test", ["ridge"])
