"""The evaluate command on a small trained run."""

import csv
import json

import pytest

from bridge_jax import evaluate, run
from bridge_jax.errors import InputError
from bridge_jax.graph import Pairs


@pytest.fixture(scope="module")
def results(trained):
    assert evaluate.main(["--workdir", str(trained)]) == 0
    return json.loads((trained / "eval/test/results.json").read_text())


def test_results_hold_every_task_and_model_side_by_side(results, trained):
    models = ["random", "popularity", "ridge", "nearest", "bridge", "bridge + memory"]
    queries = run.open_run(trained).setup.graph.queries("test")
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
    assert list(made["macro"]) == ["bridge", "bridge + memory"]
    queries = run.open_run(trained).setup.graph.queries("validation")
    assert made["macro"]["bridge"]["queries"] == sum(len(q.heads) for q in queries.values())


def test_an_unknown_baseline_is_refused(trained):
    with pytest.raises(
        InputError, match=r"baseline 'nearset' is not in this version .did you mean 'nearest'"
    ):
        evaluate.main(["--workdir", str(trained), "--baselines", "nearset"])


def test_thinning_keeps_whole_heads():
    import numpy as np

    heads = np.repeat(np.arange(10, dtype=np.int32), 3)
    part = evaluate.thin(Pairs(heads, heads), 15)
    assert sorted(set(part.heads.tolist())) == [0, 2, 4, 6, 8]
    assert len(part.heads) == 15
