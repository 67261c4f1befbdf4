"""Two processes of four devices each: the same run as one process, and what a death does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.data.output_lock import output_lock
from bridge_jax.distributed.mesh import join_processes
from bridge_jax.errors import InputError
from bridge_jax.experiment.process_agreement import describe_disagreement
from tests.helpers.tiny_run import STEPS
from tests.training.test_train import final_state, wait_for_step

SHARED = ["--config.batch.size=48", "--config.batch.shards=8", "--config.devices=0"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    recipe: Path,
    workdir: Path,
    processes: int,
    devices: int,
    of_second: Sequence[str] = (),
    only: int | None = None,
    first_too: bool = False,
) -> list[subprocess.Popen[str]]:
    port = free_port()
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate", *SHARED]
    command += ["--config", str(recipe), "--workdir", str(workdir)]
    env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    started = []
    for i in range(processes):
        flags = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(processes)]
        flags = [*flags, "--process-id", str(i)] if processes > 1 else []
        flags += of_second if i == 1 or first_too else []
        if only not in (None, i):
            continue
        started.append(
            subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True, env=env)
        )
    return started


def finish(started: list[subprocess.Popen[str]]) -> list[str]:
    out = [p.communicate(timeout=180)[1] for p in started]
    assert [p.returncode for p in started] == [0] * len(started), out
    return out


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process with one device."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    finish(start(recipe, workdir, 1, 1))
    return workdir


def losses(workdir: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def test_a_death_ends_the_others_and_the_restart_on_another_count_goes_on(recipe, alone, tmp_path):
    """2 x 4 devices, one process killed; the other says so; 1 x 2 devices finish the run."""
    workdir = tmp_path / "pair"
    pair = start(recipe, workdir, 2, 4)
    wait_for_step(workdir, 5, pair[0])
    pair[1].send_signal(signal.SIGKILL)
    began = time.monotonic()
    _, stderr = pair[0].communicate(timeout=60)
    pair[1].communicate()
    assert time.monotonic() - began < 20
    assert pair[0].returncode != 0
    assert "another process of this run has died" in stderr.splitlines()[-1]
    assert re.search(r"from step [3468]$", stderr)
    finish(start(recipe, workdir, 1, 2))
    expected, found = losses(alone), losses(workdir)
    assert sorted(found) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(
        [found[s] for s in sorted(found)], [expected[s] for s in sorted(found)], rtol=1e-5
    )
    ours = final_state(workdir)
    for name, value in final_state(alone).items():
        if "['key']['bias']" in name:
            continue  # softmax ignores it: its gradient is rounding noise, which Adam magnifies
        np.testing.assert_allclose(ours[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


def test_a_process_that_hangs_ends_the_others(recipe, tmp_path):
    """Its connections stay open, so the runtime notices, not Python; the message is the same."""
    pair = start(recipe, tmp_path, 2, 1)
    wait_for_step(tmp_path, 1, pair[0])
    pair[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    _, stderr = pair[0].communicate(timeout=60)
    pair[1].kill()
    pair[1].communicate()
    assert time.monotonic() - began < 20
    assert pair[0].returncode != 0
    assert "another process of this run has died" in stderr.splitlines()[-1]


def test_the_losses_agree_with_the_dense_reference_over_two_processes():
    """2 x 4 devices; each process compares what lies on its own devices."""
    port, env = free_port(), os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-m", "tests.helpers.loss_cases", f"127.0.0.1:{port}", "2"]
    finish(
        [
            subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True, env=env)
            for i in range(2)
        ]
    )


def test_flags_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="go together"):
        join_processes(coordinator="127.0.0.1:1")
    with pytest.raises(InputError, match="--process-id 2 is not below --num-processes 2"):
        join_processes("127.0.0.1:1", 2, 2)


def test_without_flags_or_a_cluster_nothing_is_joined():
    join_processes(environment={"SLURM_NTASKS": "1", "TPU_WORKER_HOSTNAMES": "localhost"})


def test_processes_that_differ_end_before_the_first_step_and_say_in_what(recipe, tmp_path):
    pair = start(recipe, tmp_path, 2, 1, ["--config.seed=1", "--config.optimizer.learning_rate=1."])
    out = [p.communicate(timeout=120)[1] for p in pair]
    assert [p.returncode for p in pair] == [2, 2], out
    for text in out:
        assert "error: process 1 differs from process 0: optimizer.learning_rate = 1.0" in text
        assert "; seed = 1, not 0; start" in text
        assert "start all processes with the same config, dataset and versions" in text
    assert not (tmp_path / "config.json").exists()


def test_what_differs_is_named():
    first = {"seed": 0, "dataset (manifest)": "a", "version of jax": "1"}
    assert describe_disagreement([first, first]) == ""
    other = {**first, "dataset (manifest)": "b", "version of jax": "2"}
    assert describe_disagreement([first, first, other]).startswith(
        "process 2 differs from process 0: dataset (manifest) = 'b', not 'a'; version of jax = '2',"
    )
    assert describe_disagreement([first, {**first, "error": "x: not a dataset"}]) == (
        "process 1: x: not a dataset"
    )


def test_a_port_that_is_taken_is_refused_before_the_runtime_starts(monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", lambda *_, **__: pytest.fail("started"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of this machine is taken; choose"):
            join_processes(f"127.0.0.1:{port}", 2, 0)
    for address in ("127.0.0.1", "host:", "host:x", "host:99999", ":80"):
        with pytest.raises(InputError, match="must be HOST:PORT"):
            join_processes(address, 2, 1)


def test_an_index_that_is_used_already_is_refused_before_it_joins(recipe, tmp_path):
    """The runtime would end the two good processes."""
    with output_lock(tmp_path / ".process-1"):
        pair = start(recipe, tmp_path, 2, 1, only=1)
        assert "another process writes here" in pair[0].communicate(timeout=60)[1]
    assert pair[0].returncode == 2


def test_ctrl_c_in_one_process_stops_both_at_the_same_step(recipe, tmp_path):
    pair = start(recipe, tmp_path, 2, 1, ["--config.train.steps=100000"], first_too=True)
    wait_for_step(tmp_path, 2, pair[0])
    pair[1].send_signal(signal.SIGINT)
    out = [p.communicate(timeout=60)[1] for p in pair]
    assert [p.returncode for p in pair] == [0, 130], out
    steps = {re.search(r"stopped by \w+ at step (\d+)", text)[1] for text in out}
    assert len(steps) == 1
    assert (tmp_path / "checkpoints" / steps.pop()).is_dir()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
