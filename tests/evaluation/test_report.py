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
    """Ranks of three models, by triple type; the bridge is the best."""
    rng = np.random.default_rng(0)
    a, b = np.repeat(np.arange(20), 3), np.arange(15)
    results = {}
    for name, worst in (("random", 50), ("head_knn", 8), ("bridge", 5)):
        results[name] = {
            EMPTY: ranks([], []),
            TREATS: ranks(a, rng.integers(1, worst, 60)),
            BINDS: ranks(b, rng.integers(1, worst, 15), 30),
        }
    return results


@pytest.fixture(scope="module")
def small():
    """The report of `make_results`."""
    train = {k: Pairs(*np.zeros((2, 3), np.int32)) for k in (EMPTY, TREATS, BINDS)}
    return report.build(make_results(), train=train, about={"dataset": "small", "split": "test"})


def row_of(small, triple_type, model):
    return small.by_task()[str(triple_type)][model]


def test_rows_hold_the_metrics_of_their_ranks(found):
    assert [(r["task"], r["model"]) for r in found.rows] == [
        (str(triple_type), model)
        for triple_type in (TREATS, BINDS)
        for model in ("random", "head_knn", "bridge")
    ]
    for triple_type, queries, heads, candidates in ((TREATS, 60, 20, 50), (BINDS, 15, 15, 30)):
        for model in found.models:
            row = row_of(found, triple_type, model)
            assert (row["queries"], row["heads"], row["candidates"]) == (queries, heads, candidates)
            expected = metrics(make_results()[model][triple_type])
            assert {m: row[m] for m in expected} == expected
            assert row["mrr_low"] < row["mrr"] < row["mrr_high"]
    first = list(found.rows[0])[:10]
    assert first == [
        *("task", "model", "queries", "heads", "candidates"),
        *("mrr", "mrr_low", "mrr_high", "hits@1", "hits@3"),
    ]


def test_macro_is_the_mean_over_tasks_and_micro_pools_them(found):
    ranks = {m: [make_results()[m][k] for k in (TREATS, BINDS)] for m in found.models}
    draws = [
        bootstrap_mrr([ranks[m][i] for m in ranks], str(k)) for i, k in enumerate((TREATS, BINDS))
    ]
    for column, model in enumerate(found.models):
        macro, by_task = found.macro[model], [metrics(r) for r in ranks[model]]
        assert (macro["tasks"], macro["queries"]) == (2, 75)
        for name in ("mrr", "hits@10", "amri", "ndcg@10"):
            assert macro[name] == pytest.approx(np.mean([values[name] for values in by_task]))
            assert macro[f"micro_{name}"] == pytest.approx(metrics(pool(ranks[model]))[name])
        low, high = confidence_interval((draws[0][:, column] + draws[1][:, column]) / 2)
        assert (macro["mrr_low"], macro["mrr_high"]) == pytest.approx((low, high))


def test_cross_modal_tasks_are_those_between_two_types(found):
    assert found.cross.keys() == found.macro.keys()
    for model, means in found.cross.items():
        task = row(found, TREATS, model)  # the only one; BINDS stays among the proteins
        assert means["tasks"] == 1
        assert {k: means[k] for k in ("mrr", "mrr_low", "hits@10")} == {
            k: task[k] for k in ("mrr", "mrr_low", "hits@10")
        }
    assert found.cross["head_knn"]["lead_p"] == row(found, TREATS, "head_knn")["lead_p"]
    for alone in (TREATS, BINDS):  # the macro row says it already
        one = {m: {alone: r[alone]} for m, r in results().items()}
        assert report.build(one).cross == {}
        assert "macro, cross-modal" not in report.as_text(report.build(one))
    assert "macro, cross-modal" in report.as_text(found)


def test_leads_are_paired_differences_to_the_subject(found):
    assert found.subject == "bridge"
    assert "lead" not in row(found, TREATS, "bridge")
    draws = bootstrap([results()[m][TREATS] for m in ("head_knn", "bridge")], str(TREATS))
    ahead = draws[:, 1] - draws[:, 0]
    got = row(found, TREATS, "head_knn")
    assert got["lead"] == pytest.approx(row(found, TREATS, "bridge")["mrr"] - got["mrr"])
    assert (got["lead_low"], got["lead_high"]) == pytest.approx(interval(ahead))
    assert got["lead_p"] == two_sided(ahead)
    assert found.macro["random"]["lead"] > 0
    assert found.macro["random"]["lead_p"] == pytest.approx(2 / 1001)

    turned = report.build(results(), subject="random")
    got = turned.by_task()[str(TREATS)]["bridge"]
    assert got["lead"] == -row(found, TREATS, "random")["lead"]
    assert got["lead_high"] == pytest.approx(-row(found, TREATS, "random")["lead_low"])


def test_degrees_are_training_facts_of_the_true_tail():
    train = {TREATS: Pairs(*np.array([[0, 1, 2, 3, 4, 5], [1, 1, 1, 1, 1, 3]], np.int32))}
    model = {TREATS: ranks([0, 0, 0, 1, 1], [1, 2, 4, 5, 10])}
    got = report.build({"m": model}, train=train)
    bands = {k: v for k, v in got.rows[0].items() if "degree" in k}
    assert bands["queries_degree_0"] == 3
    assert bands["mrr_degree_0"] == pytest.approx((1 + 1 / 4 + 1 / 10) / 3)
    assert bands["mrr_degree_1-4"] == pytest.approx(1 / 5)
    assert bands["mrr_degree_5-19"] == pytest.approx(1 / 2)
    assert np.isnan(bands["mrr_degree_100+"])
    assert got.macro["m"]["micro_mrr_degree_0"] == bands["mrr_degree_0"]
    assert got.macro["m"]["micro_queries_degree_100+"] == 0
    assert "| m " in report.as_markdown(got)


def test_bands_are_pooled_by_their_queries():
    train = {k: Pairs(*np.zeros((2, 0), np.int32)) for k in (TREATS, BINDS)}
    model = {TREATS: ranks([0, 1, 2], [1, 1, 1]), BINDS: ranks([0], [2])}
    macro = report.build({"m": model}, train=train).macro["m"]
    assert macro["micro_queries_degree_0"] == 4
    assert macro["micro_mrr_degree_0"] == pytest.approx(3.5 / 4)


def test_files_agree_and_are_written_the_same_twice(found, tmp_path):
    for folder in ("a", "b"):
        report.write(found, tmp_path / folder)
    names = {"results.json", "results.csv", "results.md", "results.png"}
    assert {p.name for p in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()

    stored = json.loads((tmp_path / "a/results.json").read_text(), parse_constant=pytest.fail)
    assert list(stored) == ["rows", "macro", "cross", "about"]
    assert stored["about"] == {"dataset": "small", "split": "test", "subject": "bridge"}
    assert stored["rows"][2]["mrr"] == row(found, TREATS, "bridge")["mrr"]
    assert stored["rows"][0]["mrr_degree_100+"] is None
    with open(tmp_path / "a/results.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == len(stored["rows"])
    for line, expected in zip(table, stored["rows"], strict=True):
        assert line["task"] == expected["task"]
        assert float(line["hits@10"]) == expected["hits@10"]
        assert line["lead"] == ("" if "lead" not in expected else str(expected["lead"]))
    assert (tmp_path / "a/results.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a/results.md").read_text() == report.as_markdown(found)


def test_tables_mark_the_best_and_say_what_was_asked(found):
    text, page = report.as_text(found), report.as_markdown(found)
    for kind, queries in ((TREATS, "60"), (BINDS, "15")):
        rows = {m: row(found, kind, m) for m in found.models}
        best = max(rows, key=lambda m: rows[m]["mrr"])
        line = next(x for x in text.splitlines() if x.startswith(str(kind)))
        assert line.split()[-5] == queries
        assert line.count("*") == 1
        assert f"{rows[best]['mrr']:.3f}*" in line
        line = next(x for x in page.splitlines() if x.startswith(f"| {kind}"))
        cell = (
            f"{rows[best]['mrr']:.3f} [{rows[best]['mrr_low']:.3f}, {rows[best]['mrr_high']:.3f}]"
        )
        assert line.count("**") == 2
        assert f"**{cell}**" in line
    lead = found.macro["head_knn"]
    assert f"{lead['lead']:+.3f} [{lead['lead_low']:+.3f}, {lead['lead_high']:+.3f}]" in text
    assert max(map(len, text.splitlines())) < 120
    widths = {len(x) for x in page.splitlines() if x.startswith(("| task", f"| {TREATS}"))}
    assert len(widths) == 1


def test_clear_wins_and_losses_are_counted():
    model = {
        "rival": {TREATS: ranks(range(40), [1] * 40), BINDS: ranks(range(40), [9] * 40)},
        "m": {TREATS: ranks(range(40), [2] * 40), BINDS: ranks(range(40), [9] * 40)},
    }
    line = report.as_text(report.build(model)).splitlines()[-1]
    assert line.split()[0] == "rival"
    assert line.split()[-3:] == ["0", "1", "2"]


def test_one_head_has_no_interval(tmp_path):
    found = report.build(
        {"a": {TREATS: ranks([3, 3], [1, 2])}, "b": {TREATS: ranks([3, 3], [2, 2])}}
    )
    report.write(found, tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert stored["rows"][0]["mrr"] == 0.75
    for value in (stored["rows"][0], stored["macro"]["a"]):
        assert value["mrr_low"] is value["mrr_high"] is value["lead_p"] is None


def test_the_picture_shows_every_value(found):
    figure = plot(found.by_task(), found.macro, found.subject, "A title")
    axes = figure.axes[0]
    texts = [t.get_text() for t in axes.texts] + [t.get_text() for t in figure.texts]
    assert "drug → disease" in texts
    assert "gene/protein → gene/protein" in texts
    assert "binds to · 15 queries · 30 candidates" in texts
    assert "A title" in texts
    shown = [float(x) for line in axes.lines for x in np.atleast_1d(line.get_xdata())]
    for rows in [*found.by_task().values(), found.macro]:
        for model in found.models:
            assert rows[model]["mrr"] in shown
        assert {rows["bridge"]["mrr_low"], rows["bridge"]["mrr_high"]} <= set(shown)
        assert f"{rows['bridge']['mrr']:.3f}" in texts
        assert rows["head_knn"]["mrr"] > rows["random"]["mrr"]
        lead = f"{rows['nearest']['lead']:+.3f}".replace("-", "\N{MINUS SIGN}")
        assert f"{lead}  nearest" in texts
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["bridge", "head_knn", "random"]


def test_the_best_task_comes_first_and_doubtful_leads_are_grey():
    model = {
        "rival": {TREATS: ranks(range(9), [5] * 9), BINDS: ranks(range(9), [2] * 9)},
        "m": {TREATS: ranks(range(9), [4] * 9), BINDS: ranks(range(9), [2] * 9)},
    }
    found = report.build(model)
    texts = plot(found.by_task(), found.macro, "m", "").axes[0].texts
    tasks = [t for t in texts if t.get_text().startswith(("drug →", "gene/protein →"))]
    assert [t.get_text() for t in sorted(tasks, key=lambda t: t.get_position()[1])] == [
        "gene/protein → gene/protein",
        "drug → disease",
    ]
    colours = {t.get_text(): t.get_color() for t in texts}
    assert colours["±0.000  rival"] != colours["+0.050  rival"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["random"].pop(TREATS), "model 'random' has no ranks for drug → treats"),
        (lambda r: [m.pop(k) for m in r.values() for k in (TREATS, BINDS)], "no query"),
        (lambda r: r["random"].update({BINDS: ranks(np.arange(1, 16), [1] * 15)}), "different"),
    ],
)
def test_results_that_cannot_be_compared_are_refused(change, message):
    broken = results()
    change(broken)
    with pytest.raises(InputError, match=message):
        report.build(broken)


def test_an_unknown_subject_is_refused():
    with pytest.raises(InputError, match=r"model 'brigde' is not in these results.*bridge"):
        report.build(results(), subject="brigde")


def test_no_two_models_look_the_same():
    looks = picture._styles([f"model {i}" for i in range(20)], "model 19")
    assert len({(s["color"], s["marker"]) for s in looks.values()}) == 20
