"""Training end to end: resume bit for bit, stop and restart, refuse what does not fit."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from bridge_jax import config as configs
from bridge_jax import evaluate, train
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment import workdir as workdirs
from bridge_jax.training import hooks, trainer
from tests.helpers.commands import refused
from tests.helpers.locks import locked_elsewhere
from tests.helpers.tiny_run import DEMO, STEPS
from tools import subset


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    opened = workdirs.load_run(workdir, step=STEPS)
    flat, _ = jax.tree_util.tree_flatten_with_path(opened.params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def start(recipe: Path, workdir: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate"]
    return subprocess.Popen(
        [*command, "--config", str(recipe), "--workdir", str(workdir), *overrides],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error::UserWarning"},
    )


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Block until the run has logged a step."""
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None:
        lines = metrics.read_text().splitlines() if metrics.is_file() else []
        if any(f'"step": {step},' in line for line in lines):
            return
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}: {process.stderr.read()}")


def test_a_run_learns_and_keeps_its_books(trained, tiny):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert [line["step"] for line in lines if "validation/mrr" in line] == [4, 8, 12]
    about = json.loads((trained / "run.json").read_text())
    assert about["manifest_sha256"] == read_manifest(tiny).hash()
    assert set(about["versions"]) >= {"jax", "flax", "optax", "orbax-checkpoint", "python"}
    assert json.loads((trained / "config.json").read_text())["model"]["width"] == 16
    assert list((trained / "tensorboard").glob("events*"))


def test_the_best_checkpoint_is_kept_and_loaded(trained):
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    mrr = {line["step"]: line["validation/mrr"] for line in lines if "validation/mrr" in line}
    opened = workdirs.load_run(trained)
    assert opened.step == max(mrr, key=mrr.__getitem__)
    again = hooks.validate(opened.experiment, opened.params)
    assert again["mrr"] == pytest.approx(mrr[opened.step], rel=1e-6)


def test_killed_three_times_the_run_ends_in_the_same_bits(recipe, trained, tmp_path):
    """SIGKILL early, right after a save was started, and late; then to the end."""
    workdir = tmp_path / "killed"
    for step, pause in ((1, 0.0), (3, 0.02), (9, 0.05)):
        process = start(recipe, workdir)
        wait_for_step(workdir, step, process)
        time.sleep(pause)
        process.kill()
        process.communicate()
    process = start(recipe, workdir)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "resuming at" in stderr
    expected = final_state(trained)
    for name, value in final_state(workdir).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    steps = [json.loads(s)["step"] for s in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, STEPS + 1))
    assert len([s for s in steps if s == 2]) == 1  # lines of a cut run are dropped


def on_a_full_disk(recipe: Path, workdir: Path, first: int, last: int) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.helpers.full_disk", recipe, workdir, first, last]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def test_a_full_disk_costs_checkpoints_and_nothing_else(recipe, trained, tmp_path):
    """Those of steps 4 and 6 are missing; the log and the end are whole."""
    code, said = on_a_full_disk(recipe, tmp_path, 4, 7)
    assert code == 0, said
    assert "could not be written (File too large); that of step 3 is there; training goes" in said
    expected = final_state(trained)
    for name, value in final_state(tmp_path).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    steps = [json.loads(s)["step"] for s in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == list(range(1, STEPS + 1))


def test_a_disk_that_stays_full_ends_the_run_with_what_there_is(recipe, trained, tmp_path):
    code, said = on_a_full_disk(recipe, tmp_path, 4, STEPS)
    assert code == 2
    assert "error: the checkpoint of step 12 could not be written (File too large); make" in said
    assert "the same command goes on from step 3" in said
    assert trainer.train(configs.load(str(recipe)), tmp_path)
    assert final_state(tmp_path).keys() == final_state(trained).keys()


def test_sigterm_saves_and_exits_with_0(recipe, trained, tmp_path):
    workdir = tmp_path / "stopped"
    process = start(recipe, workdir)
    wait_for_step(workdir, 1, process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "stopped by SIGTERM at step" in stderr
    assert train.main(["--config", str(recipe), "--workdir", str(workdir), "--no-evaluate"]) == 0
    expected = final_state(trained)
    for name, value in final_state(workdir).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_workdir_of_another_config_or_dataset_is_refused(recipe, trained, tiny, tmp_path):
    before = sorted((p, p.stat().st_mtime_ns) for p in trained.rglob("*"))
    with pytest.raises(InputError, match=r"optimizer.learning_rate = 0.01, not 0.1"):
        trainer.train(configs.load(str(recipe), ["--config.optimizer.learning_rate=0.1"]), trained)
    config = configs.load(str(recipe))
    config.dataset = str(Path(__file__).parents[2] / "data/demo")
    with pytest.raises(InputError, match="belongs to another dataset"):
        trainer.train(config, trained)
    with pytest.raises(InputError, match="belongs to another dataset"):
        workdirs.load_run(trained, dataset=config.dataset)
    assert sorted((p, p.stat().st_mtime_ns) for p in trained.rglob("*")) == before


def test_a_run_can_be_asked_other_questions_later(recipe, trained, tmp_path):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    config = configs.load(str(recipe), ["--config.evaluate.bidirectional=true"])
    trainer.train(config, workdir)
    assert workdirs.load_run(workdir).experiment.config == config


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("knn_spaces=('soruce',)", ".*'soruce' .*did you mean 'source'"),
        ("baselines=('hed_knn',)", "baseline 'hed_knn' .*did you mean 'head_knn'"),
        ("evaluators=('phenotype',)", "holds out no node type as a whole"),
    ],
)
def test_a_row_that_cannot_be_is_refused_before_training_and_not_kept(
    recipe, trained, tmp_path, field, message
):
    config = configs.load(str(recipe), [f"--config.evaluate.{field}"])
    for workdir in (tmp_path / "new", Path(shutil.copytree(trained, tmp_path / "finished"))):
        before = sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*"))
        with pytest.raises(InputError, match=message):
            trainer.train(config, workdir)
        assert sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*")) == before


def test_every_field_that_differs_is_named(recipe, trained):
    changed = ["--config.model.width=32", "--config.loss.temperature=0.3"]
    with pytest.raises(InputError, match=r"temperature = 0.1, not 0.3; model.width = 16, not 32"):
        trainer.train(configs.load(str(recipe), changed), trained)


def test_a_step_that_was_not_kept_names_those_that_were(trained):
    kept = sorted(int(p.name) for p in (trained / "checkpoints").iterdir())
    with pytest.raises(InputError, match=f"no checkpoint of step 7; there are: .*{kept[-1]}"):
        workdirs.load_run(trained, step=7)


def test_a_loss_that_is_not_finite_stops_the_run(recipe, tmp_path):
    overrides = ["--config.optimizer.learning_rate=1e30", "--config.optimizer.clip=1e30"]
    with pytest.raises(InputError, match=r"step \d+: the loss is not finite"):
        trainer.train(configs.load(str(recipe), overrides), tmp_path / "wild")


def test_averaged_parameters_are_kept_resumed_and_evaluated(recipe, tmp_path):
    overrides = ["--config.train.ema=0.5", "--config.train.steps=4"]
    config = configs.load(str(recipe), overrides)
    workdir = tmp_path / "averaged"
    assert trainer.train(config, workdir)
    opened = workdirs.load_run(workdir, step=4)
    plain = configs.load(str(recipe), ["--config.train.steps=4"])
    assert trainer.train(plain, tmp_path / "plain")
    last = workdirs.load_run(tmp_path / "plain", step=4).params
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), opened.params, last)
    assert max(jax.tree.leaves(moved)) > 1e-4
    lines = [json.loads(s) for s in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = next(s["validation/mrr"] for s in lines if "validation/mrr" in s)
    assert hooks.validate(opened.experiment, opened.params)["mrr"] == pytest.approx(
        logged, rel=1e-6
    )


def test_patience_ends_a_run_that_does_not_improve(recipe, tmp_path):
    overrides = ["--config.optimizer.learning_rate=1e-12", "--config.train.patience=2"]
    overrides += ["--config.train.validate_every=2", "--config.train.steps=40"]
    workdir = tmp_path / "stuck"
    assert trainer.train(configs.load(str(recipe), overrides), workdir)
    lines = [json.loads(s) for s in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [s["step"] for s in lines if "validation/mrr" in s] == [2, 4, 6]
    assert trainer.train(configs.load(str(recipe), overrides), workdir)
    assert (workdir / "metrics.jsonl").read_text().count("validation/mrr") == 3


def test_a_dataset_without_validation_is_trained_to_its_latest_checkpoint(recipe, tmp_path):
    keep = ["gene/protein=250", "molecular_function=80", "cellular_component=40"]
    dataset = tmp_path / "unvalidated"
    arguments = ["--output", str(dataset), *(f"--keep={k}" for k in keep)]
    subset.main([str(DEMO), *arguments, "--validation-fraction", "0"])
    overrides = ["--config.train.steps=4", f"--config.dataset={dataset}"]
    assert trainer.train(configs.load(str(recipe), overrides), tmp_path / "run")
    assert workdirs.load_run(tmp_path / "run").step == 4


def test_two_runs_in_one_workdir_are_refused(recipe, tmp_path, capsys, monkeypatch):
    arguments = ["--config", str(recipe), "--workdir", str(tmp_path / "run")]
    with locked_elsewhere(tmp_path / "run"):
        line = refused(train.main, arguments, capsys, monkeypatch)
        assert re.search(r"another process writes here \(pid \d+ on .* since ", line)
        assert not (tmp_path / "run/config.json").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 0)])
def test_other_signals_save_a_checkpoint_too(recipe, tmp_path, number, code):
    workdir = tmp_path / "stopped"
    process = start(recipe, workdir, "--config.train.steps=100000", "--config.train.save_every=0")
    wait_for_step(workdir, 2, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    name = signal.Signals(number).name
    assert re.search(rf"stopped by {name} at step \d+; the same command goes on", stderr)
    step = int(re.search(r"at step (\d+)", stderr)[1])
    assert workdirs.load_run(workdir, step=step).step == step
    assert not (workdir / ".lock").exists()
    assert json.loads((workdir / "run.json").read_text())["progress"]["complete"] is False


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_unfinished(recipe, tmp_path):
    workdir = tmp_path / "stopped"
    process = start(recipe, workdir, "--config.train.steps=100000", "--config.train.save_every=1")
    wait_for_step(workdir, 3, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert not [p for p in workdir.rglob("*") if "tmp" in p.name or p.name == ".lock"]


def test_an_evaluation_says_at_which_step_of_how_many_it_was_made(trained, tmp_path, capsys):
    workdir = Path(shutil.copytree(trained, tmp_path / "run"))
    assert evaluate.main(["--workdir", str(workdir), "--baselines", "random"]) == 0
    assert re.search(r"made with the checkpoint of step \d+ of 12\n", capsys.readouterr().out)
