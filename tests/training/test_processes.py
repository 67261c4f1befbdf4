"""Two processes of four devices each: the same run as one process, and what a death does."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bridge_jax.distributed.mesh import join_processes
from bridge_jax.errors import InputError
from tests.helpers.tiny_run import STEPS
from tests.training.test_train import final_state, wait_for_step

SHARED = ["--config.batch.size=48", "--config.batch.shards=8", "--config.devices=0"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(recipe: Path, workdir: Path, processes: int, devices: int) -> list[subprocess.Popen[str]]:
    port = free_port()
    command = [sys.executable, "-m", "bridge_jax.train", "--no-evaluate", *SHARED]
    command += ["--config", str(recipe), "--workdir", str(workdir)]
    env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    started = []
    for i in range(processes):
        flags = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(processes)]
        flags = [*flags, "--process-id", str(i)] if processes > 1 else []
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
