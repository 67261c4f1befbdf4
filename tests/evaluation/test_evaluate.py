"""The evaluate command on a small trained run."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import evaluate
from bridge_jax.data.dataset import read_manifest
from bridge_jax.data.graph import Pairs
from bridge_jax.errors import InputError
from bridge_jax.evaluation import comparison
from bridge_jax.evaluation.comparison import name_external_models
from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
from bridge_jax.experiment import workdir as workdirs
from tools import subset


@pytest.fixture(scope="module")
def results(trained):
    assert evaluate.main(["--workdir", str(trained)]) == 0
    return json.loads((trained / "eval/test/results.json").read_text())


def test_results_hold_every_task_and_model_side_by_side(results, trained):
    models = ["random", "popularity", "ridge", "head_knn", "bridge", "bridge + kNN"]
    queries = workdirs.load_run(trained).experiment.graph.queries("test")
    tasks = {str(k): len(q.heads) for k, q in queries.items() if len(q.heads)}
    assert {(r["task"], r["model"]) for r in results["rows"]} == {
        (t, m) for t in tasks for m in models
    }
    for row in results["rows"]:
        assert row["queries"] == tasks[row["task"]]
        assert 0 < row["candidates"] <= 250
        assert 0 < row["mrr"] <= 1
        assert 0 <= row["hits@1"] <= row["hits@3"] <= row["hits@10"] <= 1
        if row["heads"] > 1:
            assert row["mrr_low"] <= row["mrr"] <= row["mrr_high"]
    assert list(results["macro"]) == models
    for model in models:
        own = [r["mrr"] for r in results["rows"] if r["model"] == model]
        assert results["macro"][model]["mrr"] == pytest.approx(sum(own) / len(own))


def test_figures_stand_beside_their_provenance(results, trained):
    about = results["about"]
    assert (
        about["manifest_sha256"]
        == json.loads((trained / "run.json").read_text())["manifest_sha256"]
    )
    assert about["split"] == "test"
    assert {"jax", "bridge_jax", "python"} <= set(about["versions"])


def test_csv_markdown_and_picture_say_the_same(results, trained):
    folder = trained / "eval/test"
    with open(folder / "results.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(r["mrr"]) for r in rows] == pytest.approx([r["mrr"] for r in results["rows"]])
    text = (folder / "results.md").read_text()
    assert all(r["task"] in text for r in results["rows"])
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")


def test_validation_and_test_are_different_queries(trained):
    assert evaluate.main(["--workdir", str(trained), "--split", "validation", "--baselines"]) == 0
    made = json.loads((trained / "eval/validation/results.json").read_text())
    assert list(made["macro"]) == ["bridge", "bridge + kNN"]
    queries = workdirs.load_run(trained).experiment.graph.queries("validation")
    assert made["macro"]["bridge"]["queries"] == sum(len(q.heads) for q in queries.values())


def test_a_run_is_asked_for_other_rows_this_time_alone(trained, tmp_path):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    before = (workdir / "config.json").read_bytes()
    command = ["--workdir", str(workdir), "--baselines"]
    assert evaluate.main([*command, "--config.evaluate.bidirectional=true"]) == 0
    made = json.loads((workdir / "eval/test/results.json").read_text())
    assert list(made["macro"]) == ["bridge", "bidirectional", "bridge + kNN"]
    assert (workdir / "config.json").read_bytes() == before
    with pytest.raises(InputError, match=r"config.evaluate alone"):
        evaluate.main([*command, "--config.model.width=8"])
    with pytest.raises(InputError, match=r"did you mean 'evaluate.bidirectional'"):
        evaluate.main([*command, "--config.evaluate.both_way=true"])
    with pytest.raises(InputError, match="unknown argument '--splt'"):
        evaluate.main([*command[:-1], "--splt", "validation"])


def test_an_unknown_baseline_is_refused(trained):
    with pytest.raises(
        InputError, match=r"baseline 'nearset' is not in this version .did you mean 'nearest'"
    ):
        evaluate.main(["--workdir", str(trained), "--baselines", "nearset"])


def test_thinning_keeps_whole_heads():
    heads = np.repeat(np.arange(10, dtype=np.int32), 3)
    part = subsample_queries(Pairs(heads, heads), 15)
    assert sorted(set(part.heads.tolist())) == [0, 2, 4, 6, 8]
    assert len(part.heads) == 15


def test_another_run_stands_in_the_same_table(trained, tmp_path):
    rival = tmp_path / "rival"
    shutil.copytree(trained, rival)
    made = comparison.evaluate(
        workdirs.load_run(trained), "test", ["popularity"], {"rival": str(rival)}
    )
    assert list(made.macro) == ["popularity", "rival", "bridge", "bridge + kNN"]
    assert made.subject == "bridge + kNN"
    for rows in made.by_task().values():  # a copy of the run ranks as the run does
        assert rows["rival"]["mrr"] == rows["bridge"]["mrr"]
        assert rows["rival"]["lead_p"] == rows["bridge"]["lead_p"]


def test_rivals_are_called_by_their_folders(tmp_path, monkeypatch):
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


def test_what_cannot_be_compared_is_refused(trained, tiny, tmp_path):
    opened = workdirs.load_run(trained)
    other = replace(
        opened.experiment, config=opened.experiment.config.copy_and_resolve_references()
    )
    other.config.dataset = str(tmp_path / "other")
    keep = ["gene/protein=100", "molecular_function=40", "cellular_component=20"]
    subset.main([str(tiny), "--output", other.config.dataset, *(f"--keep={k}" for k in keep)])
    with pytest.raises(InputError, match="belongs to another dataset"):
        comparison.load_external_model(trained, other)
    smaller = replace(other, manifest=read_manifest(other.config.dataset))
    with pytest.raises(InputError, match=r"--compare-with .*: trained on another dataset"):
        comparison.check_external_model(trained, smaller)
    comparison.check_external_model(trained, opened.experiment)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "embeddings.json").write_text("{")
    comparison.check_external_model(
        broken, opened.experiment
    )  # what is wrong with it is said when it is opened
    with pytest.raises(InputError, match="broken: these embeddings cannot be read"):
        comparison.load_external_model(broken, opened.experiment)


def test_a_split_without_queries_is_refused_before_any_model_is_fitted(trained, monkeypatch):
    opened = workdirs.load_run(trained)
    nothing = {k: Pairs(*np.zeros((2, 0), np.int32)) for k in opened.experiment.graph.triple_types}
    opened.experiment.__dict__["queries"] = {"test": nothing}
    monkeypatch.setattr(comparison, "BASELINES", {"ridge": None})
    with pytest.raises(InputError, match="tiny has no test query; split the dataset anew"):
        comparison.evaluate(opened, "test", ["ridge"])
