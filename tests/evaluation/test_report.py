"""Reports: numbers against their ranks, and files against each other."""

import csv
import json

import numpy as np
import pytest

from bridge_jax.data.graph import Pairs, TripleType
from bridge_jax.errors import InputError
from bridge_jax.evaluation import plots, report
from bridge_jax.evaluation.ranking import (
    Ranks,
    bootstrap_mrr,
    confidence_interval,
    metrics,
    paired_p_value,
    pool,
)

TREATS = TripleType("drug", "treats", "disease")
BINDS = TripleType("gene/protein", "binds_to", "gene/protein")
EMPTY = TripleType("drug", "resembles", "drug")


def make_ranks(heads, values, candidates=50):
    r = np.asarray(values, float)
    n = np.full(len(r), candidates)
    tails = np.arange(len(r), dtype=np.int32) % 7
    return Ranks(np.asarray(heads, np.int32), tails, r, r, n)


def make_results():
    """Ranks of three models by triple type; the bridge tends to be the best."""
    rng = np.random.default_rng(0)
    a, b = np.repeat(np.arange(20), 3), np.arange(15)
    results = {}
    for name, worst in (("random", 50), ("head_knn", 8), ("bridge", 5)):
        results[name] = {
            EMPTY: make_ranks([], []),
            TREATS: make_ranks(a, rng.integers(1, worst, 60)),
            BINDS: make_ranks(b, rng.integers(1, worst, 15), 30),
        }
    return results


@pytest.fixture(scope="module")
def small():
    """The report of `make_results`."""
    train = {k: Pairs(*np.zeros((2, 3), np.int32)) for k in (EMPTY, TREATS, BINDS)}
    return report.build(make_results(), train=train, about={"dataset": "small", "split": "test"})


def row_of(built, triple_type, model):
    return built.by_task()[str(triple_type)][model]


def test_rows_hold_the_metrics_of_their_ranks(small):
    assert [(r["task"], r["model"]) for r in small.rows] == [
        (str(triple_type), model)
        for triple_type in (TREATS, BINDS)
        for model in ("random", "head_knn", "bridge")
    ]
    for triple_type, queries, heads, candidates in ((TREATS, 60, 20, 50), (BINDS, 15, 15, 30)):
        for model in small.models:
            row = row_of(small, triple_type, model)
            assert (row["queries"], row["heads"], row["candidates"]) == (queries, heads, candidates)
            expected = metrics(make_results()[model][triple_type])
            assert {m: row[m] for m in expected} == expected
            assert row["mrr_low"] < row["mrr"] < row["mrr_high"]
    assert list(small.rows[0])[:10] == [
        *("task", "model", "queries", "heads", "candidates"),
        *("mrr", "mrr_low", "mrr_high", "hits@1", "hits@3"),
    ]


def test_a_task_without_a_choice_is_in_no_mean_and_is_named(tmp_path):
    lone = TripleType("disease", "is in", "anatomy")
    untested = TripleType("anatomy", "is in", "disease")
    results = make_results()
    for ranks in results.values():
        ranks[lone] = make_ranks([0, 1], [1, 1], candidates=1)
    train = {k: Pairs(*np.zeros((2, 3), np.int32)) for k in (EMPTY, TREATS, BINDS, lone, untested)}
    built = report.build(results, train=train)
    without = report.build(make_results(), train=train)
    assert (built.rows, built.macro, built.cross) == (without.rows, without.macro, without.cross)
    assert built.about["left_out"] == {
        str(EMPTY): "no query: its held-out part is empty",
        str(lone): "fewer than two candidates",
        str(untested): "no query: its held-out part is empty",
    }
    for text in (report.as_text(built), report.as_markdown(built)):
        assert f"fewer than two candidates: {lone}" in text
        assert f"no query: its held-out part is empty: {EMPTY}, {untested}" in text
    assert all(np.isfinite(row["amri"]) for row in (*built.rows, *built.macro.values()))
    with pytest.raises(InputError, match="every task has fewer than two candidates"):
        report.build({m: {lone: r[lone]} for m, r in results.items()})


def test_macro_is_the_mean_over_tasks_and_micro_pools_them(small):
    ranks = {m: [make_results()[m][k] for k in (TREATS, BINDS)] for m in small.models}
    draws = [
        bootstrap_mrr([ranks[m][i] for m in ranks], str(k)) for i, k in enumerate((TREATS, BINDS))
    ]
    for column, model in enumerate(small.models):
        macro, by_task = small.macro[model], [metrics(r) for r in ranks[model]]
        assert (macro["tasks"], macro["queries"]) == (2, 75)
        for name in ("mrr", "hits@10", "amri", "ndcg@10"):
            assert macro[name] == pytest.approx(np.mean([values[name] for values in by_task]))
            assert macro[f"micro_{name}"] == pytest.approx(metrics(pool(ranks[model]))[name])
        low, high = confidence_interval((draws[0][:, column] + draws[1][:, column]) / 2)
        assert (macro["mrr_low"], macro["mrr_high"]) == pytest.approx((low, high))


def test_cross_modal_tasks_are_those_between_two_node_types(small):
    assert small.cross.keys() == small.macro.keys()
    for model, means in small.cross.items():
        task = row_of(small, TREATS, model)  # the only one: both ends of BINDS are proteins
        assert means["tasks"] == 1
        assert {k: means[k] for k in ("mrr", "mrr_low", "hits@10")} == {
            k: task[k] for k in ("mrr", "mrr_low", "hits@10")
        }
    assert small.cross["head_knn"]["lead_p"] == row_of(small, TREATS, "head_knn")["lead_p"]
    for triple_type in (TREATS, BINDS):  # with all or no tasks cross-modal, macro is enough
        built = report.build({m: {triple_type: r[triple_type]} for m, r in make_results().items()})
        assert built.cross == {}
        assert "macro, cross-modal" not in report.as_text(built)
    assert "macro, cross-modal" in report.as_text(small)


def test_leads_are_paired_differences_to_the_subject(small):
    assert small.subject == "bridge"
    assert "lead" not in row_of(small, TREATS, "bridge")
    draws = bootstrap_mrr([make_results()[m][TREATS] for m in ("head_knn", "bridge")], str(TREATS))
    lead = draws[:, 1] - draws[:, 0]
    row = row_of(small, TREATS, "head_knn")
    assert row["lead"] == pytest.approx(row_of(small, TREATS, "bridge")["mrr"] - row["mrr"])
    assert (row["lead_low"], row["lead_high"]) == pytest.approx(confidence_interval(lead))
    assert row["lead_p"] == paired_p_value(lead)
    assert small.macro["random"]["lead"] > 0
    assert small.macro["random"]["lead_p"] == pytest.approx(2 / 1001)

    row = row_of(report.build(make_results(), subject="random"), TREATS, "bridge")
    assert row["lead"] == -row_of(small, TREATS, "random")["lead"]
    assert row["lead_high"] == pytest.approx(-row_of(small, TREATS, "random")["lead_low"])


def test_degree_is_the_number_of_training_facts_of_the_true_tail():
    train = {TREATS: Pairs(*np.array([[0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 3]], np.int32))}
    ranks = {TREATS: make_ranks([0, 0, 0, 1, 1], [1, 2, 4, 5, 10])}
    built = report.build({"m": ranks}, train=train)
    bands = {k: v for k, v in built.rows[0].items() if "degree" in k}
    assert bands["queries_degree_0"] == 3
    assert bands["mrr_degree_0"] == pytest.approx((1 + 1 / 4 + 1 / 10) / 3)
    assert bands["mrr_degree_1-4"] == pytest.approx(1 / 5)
    assert bands["mrr_degree_5-19"] == pytest.approx(1 / 2)
    assert np.isnan(bands["mrr_degree_100+"])
    assert built.macro["m"]["micro_mrr_degree_0"] == bands["mrr_degree_0"]
    assert built.macro["m"]["micro_queries_degree_100+"] == 0
    assert "| m " in report.as_markdown(built)


def test_degree_bands_are_pooled_by_their_queries():
    train = {k: Pairs(*np.zeros((2, 0), np.int32)) for k in (TREATS, BINDS)}
    ranks = {TREATS: make_ranks([0, 1, 2], [1, 1, 1]), BINDS: make_ranks([0], [2])}
    macro = report.build({"m": ranks}, train=train).macro["m"]
    assert macro["micro_queries_degree_0"] == 4
    assert macro["micro_mrr_degree_0"] == pytest.approx(3.5 / 4)


def test_files_agree_and_are_reproducible(small, tmp_path):
    for folder in ("a", "b"):
        report.write(small, tmp_path / folder)
    names = {"results.json", "results.csv", "results.md", "results.png"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    stored = json.loads((tmp_path / "a/results.json").read_text(), parse_constant=pytest.fail)
    assert list(stored) == ["rows", "macro", "cross", "about"]
    assert stored["about"] == {
        "dataset": "small", "split": "test", "subject": "bridge",
        "left_out": {str(EMPTY): "no query: its held-out part is empty"},
    }  # fmt: skip
    assert stored["rows"][2]["mrr"] == row_of(small, TREATS, "bridge")["mrr"]
    assert stored["rows"][0]["mrr_degree_100+"] is None
    with open(tmp_path / "a/results.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == len(stored["rows"])
    for line, expected in zip(table, stored["rows"], strict=True):
        assert line["task"] == expected["task"]
        assert float(line["hits@10"]) == expected["hits@10"]
        assert line["lead"] == ("" if "lead" not in expected else str(expected["lead"]))
    assert (tmp_path / "a/results.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a/results.md").read_text() == report.as_markdown(small)


def test_publish_writes_the_files_and_returns_the_text(small, tmp_path):
    text = report.publish(small, tmp_path)
    assert text.startswith(report.as_text(small))
    assert text.endswith(f"written to {tmp_path}/results.{{json,csv,md,png}}")
    assert (tmp_path / "results.md").read_text() == report.as_markdown(small)


def test_tables_mark_the_best_model_of_each_task(small):
    text, page = report.as_text(small), report.as_markdown(small)
    for triple_type, queries in ((TREATS, "60"), (BINDS, "15")):
        rows = {m: row_of(small, triple_type, m) for m in small.models}
        best = max(rows.values(), key=lambda row: row["mrr"])
        line = next(x for x in text.splitlines() if x.startswith(str(triple_type)))
        assert line.split()[-5] == queries
        assert line.count("*") == 1
        assert f"{best['mrr']:.3f}*" in line
        line = next(x for x in page.splitlines() if x.startswith(f"| {triple_type}"))
        cell = f"{best['mrr']:.3f} [{best['mrr_low']:.3f}, {best['mrr_high']:.3f}]"
        assert line.count("**") == 2
        assert f"**{cell}**" in line
    lead = small.macro["head_knn"]
    assert f"{lead['lead']:+.3f} [{lead['lead_low']:+.3f}, {lead['lead_high']:+.3f}]" in text
    assert max(map(len, text.splitlines())) < 120
    widths = {len(x) for x in page.splitlines() if x.startswith(("| task", f"| {TREATS}"))}
    assert len(widths) == 1


def test_clear_wins_and_losses_are_counted():
    results = {
        "other": {TREATS: make_ranks(range(40), [1] * 40), BINDS: make_ranks(range(40), [9] * 40)},
        "m": {TREATS: make_ranks(range(40), [2] * 40), BINDS: make_ranks(range(40), [9] * 40)},
    }
    line = report.as_text(report.build(results)).splitlines()[-1]
    assert line.split()[0] == "other"
    assert line.split()[-3:] == ["0", "1", "2"]


def test_a_single_head_has_no_interval(tmp_path):
    results = {"a": {TREATS: make_ranks([3, 3], [1, 2])}, "b": {TREATS: make_ranks([3, 3], [2, 2])}}
    report.write(report.build(results), tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert stored["rows"][0]["mrr"] == 0.75
    for row in (stored["rows"][0], stored["macro"]["a"]):
        assert row["mrr_low"] is row["mrr_high"] is row["lead_p"] is None


def test_the_plot_shows_every_value(small):
    figure = plots.plot(small.by_task(), small.macro, small.subject, "A title")
    axes = figure.axes[0]
    texts = [t.get_text() for t in axes.texts] + [t.get_text() for t in figure.texts]
    assert "drug → disease" in texts
    assert "gene/protein → gene/protein" in texts
    assert "binds to · 15 queries · 30 candidates" in texts
    assert "A title" in texts
    plotted = [float(x) for line in axes.lines for x in np.atleast_1d(line.get_xdata())]
    for rows in [*small.by_task().values(), small.macro]:
        for model in small.models:
            assert rows[model]["mrr"] in plotted
        assert {rows["bridge"]["mrr_low"], rows["bridge"]["mrr_high"]} <= set(plotted)
        assert f"{rows['bridge']['mrr']:.3f}" in texts
        assert rows["head_knn"]["mrr"] > rows["random"]["mrr"]
        lead = f"{rows['head_knn']['lead']:+.3f}".replace("-", "\N{MINUS SIGN}")
        assert f"{lead}  head_knn" in texts
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["bridge", "head_knn", "random"]


def test_the_plot_sorts_tasks_and_shows_uncertain_leads_in_grey():
    results = {
        "other": {TREATS: make_ranks(range(9), [5] * 9), BINDS: make_ranks(range(9), [2] * 9)},
        "m": {TREATS: make_ranks(range(9), [4] * 9), BINDS: make_ranks(range(9), [2] * 9)},
    }
    built = report.build(results)
    texts = plots.plot(built.by_task(), built.macro, "m", "").axes[0].texts
    tasks = [t for t in texts if t.get_text().startswith(("drug →", "gene/protein →"))]
    assert [t.get_text() for t in sorted(tasks, key=lambda t: t.get_position()[1])] == [
        "gene/protein → gene/protein",
        "drug → disease",
    ]
    colours = {t.get_text(): t.get_color() for t in texts}
    assert colours["±0.000  other"] != colours["+0.050  other"]


def test_no_two_models_look_the_same():
    styles = plots._styles([f"model {i}" for i in range(20)], "model 19")
    assert len({(s["color"], s["marker"]) for s in styles.values()}) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["random"].pop(TREATS), "model 'random' has no ranks for drug → treats"),
        (lambda r: [m.pop(k) for m in r.values() for k in (TREATS, BINDS)], "no query"),
        (
            lambda r: r["random"].update({BINDS: make_ranks(np.arange(1, 16), [1] * 15)}),
            "different",
        ),
    ],
)
def test_results_that_cannot_be_compared_are_refused(change, message):
    results = make_results()
    change(results)
    with pytest.raises(InputError, match=message):
        report.build(results)


def test_an_unknown_subject_is_refused():
    with pytest.raises(InputError, match=r"model 'brigde' .*these results.*bridge"):
        report.build(make_results(), subject="brigde")
