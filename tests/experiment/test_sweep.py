"""Sweeps: trials that finish, are skipped, fail, or belong to another sweep."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bridge_jax import config as configs
from bridge_jax import sweep
from bridge_jax.data.files import write_json
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError
from bridge_jax.experiment.run_files import record_progress
from bridge_jax.experiment.sweep_results import (
    SweepResults,
    TrialResult,
    as_text,
    mean_and_half_width,
)
from tests.helpers.locks import locked_elsewhere
from tests.helpers.tiny_run import CONFIG

ROOT = Path(__file__).parents[2]
SWEEPS = sorted(p for p in (ROOT / "configs/ablations").glob("[a-z]*.py") if p.stem != "base")
SWEEP = """
def sweep():
    yield "wide", {"model.width": 32}
    yield "bad", {"dataset": "no-such-folder"}
    yield "narrow", {"model.width": 16}
"""


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """A sweep of two settings that train, and one that fails."""
    path = tmp_path_factory.mktemp("sweep") / "widths.py"
    text = CONFIG.format(steps=2, dataset=str(tiny)) + SWEEP
    path.write_text(text.replace("config.evaluate.knn = True", "config.evaluate.baselines = ()"))
    return path


@pytest.fixture
def executed(monkeypatch):
    """List of executed trials, which only write the files of a training run."""
    trials = []

    def run(trial):
        trials.append(str(trial))
        trial.workdir.mkdir(parents=True, exist_ok=True)
        config = trial.workdir / "config.json"
        if trial.setting == "bad" or config.is_file():
            trial.log.write_text("much\nerror: no such thing\nand more\n")
            return trial, 0.0
        config.write_text(json.dumps(configs.to_json(trial.config)))
        record_progress(trial.workdir, 2, 2, complete=True, best=2)
        lines = [{"step": i, "validation/mrr": v} for i, v in ((1, 0.2), (2, 0.3), (3, 0.25))]
        (trial.workdir / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        mrr = (0.4 if trial.setting == "wide" else 0.6) + 0.1 * trial.seed
        metrics = {"mrr": mrr, "hits@10": 0.5}
        write_json(
            trial.workdir / "eval/test/results.json",
            {
                "about": {"subject": "bridge", "checkpoint": 2},
                "macro": {"bridge": metrics},
                "rows": [{"task": "a", "model": "bridge", **metrics}],
            },
        )
        return trial, 0.0

    monkeypatch.setattr(sweep, "_run", run)
    return trials


def test_a_sweep_writes_a_table_and_a_plot_and_names_failed_trials(
    recipe, tmp_path, executed, capsys
):
    command = ["--config", str(recipe), "--workdir", str(tmp_path), "--seeds", "2"]
    assert sweep.main(command) == 1
    out, err = capsys.readouterr()
    assert "failed: bad, seed 0: no such thing; full log: " in err
    settings = json.loads((tmp_path / "sweep.json").read_text())["settings"]
    test = {name: [r["test"] for r in by_seed.values()] for name, by_seed in settings.items()}
    assert test == {"wide": [0.4, 0.5], "narrow": [0.6, 0.7]}
    assert settings["wide"]["1"]["validation"] == 0.3
    # Student's t with 1 degree of freedom, 12.706, times 0.0707 / sqrt(2).
    assert re.search(r"wide +2 +2 of 2 +0.300 ± 0.000 \* +0.450 ± 0.635 +0.500", out)
    # The difference is the same for both seeds.
    assert re.search(
        r"narrow +2 +2 of 2 +0.300 ± 0.000 +0.650 ± 0.635 +\+0.200 ± 0.000 +0.500", out
    )
    assert (tmp_path / "sweep.md").read_text().count("\n| ") == 4
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")

    # The same command again skips finished trials and repeats failed ones.
    executed.clear()
    assert sweep.main(command) == 1
    assert executed == ["bad, seed 0", "bad, seed 1"]

    # A run with another config in the same folder does not count as finished.
    executed.clear()
    assert sweep.main([*command, "--config.model.layers=2"]) == 1
    assert len(executed) == 6


def test_a_trial_is_finished_when_its_last_step_is_made_and_tested(recipe, tmp_path, executed):
    trial = sweep.plan(str(recipe), tmp_path, 1)[0]
    sweep._run(trial)
    assert trial.finished
    assert trial.result().step == trial.result().num_steps == 2
    # Killed at step 1 of 2 and evaluated by hand; then trained to the end, but not tested again.
    record_progress(trial.workdir, 1, 2)
    assert not trial.finished
    record_progress(trial.workdir, 2, 2, complete=True, best=1)
    assert not trial.finished
    # Ended by patience.
    record_progress(trial.workdir, 1, 2, complete=True, best=2)
    assert trial.finished
    for name in ("config.json", "run.json", "eval/test/results.json"):
        content = (trial.workdir / name).read_bytes()
        (trial.workdir / name).write_bytes(content[:-20])
        assert not trial.finished
        (trial.workdir / name).write_bytes(content)
    assert trial.finished


def test_a_trial_of_an_earlier_version_is_judged_by_its_checkpoints(recipe, tmp_path, executed):
    trial = sweep.plan(str(recipe), tmp_path, 1)[0]
    sweep._run(trial)
    (trial.workdir / "run.json").unlink()
    (trial.workdir / "checkpoints/1").mkdir(parents=True)
    assert not trial.finished
    (trial.workdir / "checkpoints/2").mkdir()
    assert trial.finished


def test_two_sweeps_in_one_folder_are_refused(recipe, tmp_path, executed):
    with locked_elsewhere(tmp_path), pytest.raises(InputError, match="another process writes here"):
        sweep.main(["--config", str(recipe), "--workdir", str(tmp_path)])
    assert executed == []


def test_a_signal_reaches_the_trial_and_ends_the_sweep(recipe, tmp_path):
    """SIGTERM to the sweep: the trial saves a checkpoint; the sweep exits with 0."""
    command = [sys.executable, "-m", "bridge_jax.sweep", "--config", str(recipe), "--seeds", "1"]
    command += ["--workdir", str(tmp_path), "--config.train.steps=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    log = tmp_path / "wide/seed0/metrics.jsonl"
    while not (log.is_file() and log.read_text().count("\n") > 2):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped by SIGTERM in wide, seed 0; the same command goes on from there" in err
    assert any((tmp_path / "wide/seed0/checkpoints").iterdir())
    assert "stopped by SIGTERM at step" in (tmp_path / "wide/seed0/log.txt").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux does it")
def test_a_killed_sweep_takes_its_trial_along(recipe, tmp_path):
    """So that the same command can go on at once, instead of meeting a lock."""
    command = [sys.executable, "-m", "bridge_jax.sweep", "--config", str(recipe), "--seeds", "1"]
    command += ["--workdir", str(tmp_path), "--config.train.steps=100000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
    log = tmp_path / "wide/seed0/metrics.jsonl"
    while not (log.is_file() and log.read_text().count("\n") > 2):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.kill()
    process.communicate()
    for _ in range(100):
        try:
            with output_lock(log.parent):
                break
        except InputError:
            time.sleep(0.05)
    else:
        pytest.fail("the trial still holds its lock")


@pytest.mark.slow
def test_printed_commands_run_a_trial(recipe, tmp_path, capsys):
    workdir = tmp_path / "a sweep"
    command = ["--config", str(recipe), "--workdir", str(workdir), "--seeds", "1"]
    assert sweep.main([*command, "--launcher", "print"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert not workdir.exists()
    python, *arguments = shlex.split(lines[2])
    assert python == "python"
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    trials = sweep.plan(str(recipe), workdir, 1)
    assert [t.finished for t in trials] == [False, False, True]
    result = trials[2].result()
    assert 0 < result.test < 1
    assert 0 < result.validation < 1
    assert sum(mrr > 0 for mrr in result.tasks.values()) == 6


def test_a_trial_runs_in_its_own_process_and_its_output_is_logged(recipe, tmp_path):
    trial = sweep.plan(str(recipe), tmp_path, 1)[1]
    returned, seconds = sweep._run(trial)
    assert returned is trial
    assert seconds > 0
    assert not trial.finished
    assert trial.error_message().startswith("no-such-folder: not a dataset directory")


def test_mean_and_interval_by_hand():
    # Student's t with 2 degrees of freedom: 4.3027; the standard deviation is 0.1.
    mean, half_width = mean_and_half_width([0.2, 0.3, 0.4])
    assert mean == pytest.approx(0.3)
    assert half_width == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert np.isnan(mean_and_half_width([0.2])[1])


def test_settings_are_compared_seed_by_seed():
    a = {0: TrialResult(0.3, 0.1, 0.2, {}), 1: TrialResult(0.3, 0.5, 0.2, {})}
    b = {1: TrialResult(0.3, 0.4, 0.2, {}), 2: TrialResult(0.3, 0.9, 0.2, {})}
    results = SweepResults({"a": a, "b": b}, "x.py")
    assert results.minus_first("b") == [pytest.approx(-0.1)]
    assert results.minus_first("a") == [0.0, 0.0]


def test_the_best_setting_is_selected_on_validation():
    a, b = TrialResult(0.3, 0.1, 0.2, {}), TrialResult(0.2, 0.4, 0.5, {})
    results = SweepResults({"a": {0: a}, "b": {0: b}}, "x.py")
    assert results.best == "a"
    text = as_text(results)
    assert "0.300 *" in text
    assert text.count("*") == 1


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_sweep_in_configs_has_valid_fields(path, tmp_path):
    spec = f"{path}:datasets=data/a+data/b" if path.stem == "encoder" else str(path)
    trials = sweep.plan(spec, tmp_path, 2)
    assert len({t.workdir for t in trials}) == len(trials) >= 4
    assert len({json.dumps(configs.to_json(t.config)) for t in trials}) == len(trials)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield 'a', {'model.widht': 8}", "no field 'model.widht'; did you mean 'model.width'"),
        ("yield from [('a', {}), ('a', {})]", "names the setting 'a' more than once"),
        ("return iter(())", "yields no setting"),
        ("yield '../a', {}", "setting '../a' cannot name a folder"),
    ],
)
def test_an_invalid_sweep_is_refused_before_it_starts(recipe, tmp_path, body, message):
    path = tmp_path / "bad.py"
    path.write_text(recipe.read_text().partition("def sweep")[0] + f"def sweep():\n    {body}\n")
    with pytest.raises(InputError, match=message):
        sweep.main(["--config", str(path), "--workdir", str(tmp_path / "w")])
    assert not (tmp_path / "w").exists()


def test_a_config_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"demo.py: has no sweep\(\); sweeps are in"):
        sweep.plan(str(ROOT / "configs/demo.py"), tmp_path, 1)
    with pytest.raises(InputError, match="--seeds 0: must be at least 1"):
        sweep.plan(str(SWEEPS[0]), tmp_path, 0)
    with pytest.raises(InputError, match="name two or more"):
        sweep.plan(str(ROOT / "configs/ablations/encoder.py"), tmp_path, 1)


def test_trials_run_on_ray(recipe, tmp_path):
    pytest.importorskip("ray")
    # In a subprocess: Ray forks when it starts, which is not safe with JAX's threads.
    path = tmp_path / "bad.py"
    config = recipe.read_text().partition("def sweep")[0]
    path.write_text(config + 'def sweep():\n    yield "bad", {"dataset": "no-such-folder"}\n')
    command = [sys.executable, "-m", "bridge_jax.sweep", "--launcher", "ray", "--seeds", "2"]
    done = subprocess.run(
        [*command, "--config", str(path), "--workdir", str(tmp_path / "runs")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 1, done.stderr
    assert "2/2" in done.stderr
    for seed in (0, 1):
        assert f"failed: bad, seed {seed}: no-such-folder: not a dataset dir" in done.stderr
        assert (tmp_path / f"runs/bad/seed{seed}/log.txt").is_file()
