"""Projection on a local Ray cluster: one of two workers is killed while it writes a shard."""

import os
import signal
from pathlib import Path

import pytest

from bridge_jax import project
from bridge_jax.distributed.ray import cluster
from bridge_jax.errors import InputError
from bridge_jax.projection import job
from tests.helpers.projection import TARGET, command, committed, contents

pytest.importorskip("ray")


class MortalWorker(job.Worker):
    """Dies once, when it has written a block of shard 3 and before that shard is complete."""

    def __init__(self, options):
        super().__init__(options)
        self._killed = Path(options.output).with_name("killed")

    def project(self, shard):
        if shard == 3 and not self._killed.exists():
            self._killed.touch()
            self._projection.run(
                [shard], on_rows=lambda num_rows: os.kill(os.getpid(), signal.SIGKILL)
            )
        return super().project(shard)


# Ray forks its processes, here after JAX has started; the command starts Ray first.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_the_shard_of_a_killed_worker_is_retried(
    trained, library, uninterrupted, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(job, "Worker", MortalWorker)
    output = tmp_path / "out"
    arguments = command(trained, library, output, "--target", TARGET, "--launcher", "ray")
    with cluster():
        assert project.main([*arguments, "--workers", "2"]) == 0
        assert "8 shards (8 written now)" in capsys.readouterr().out
        assert (tmp_path / "killed").exists()
        assert contents(output) == contents(uninterrupted)
        before = committed(output)
        assert project.main(arguments) == 0  # all shards are finished
        assert committed(output) == before
        with pytest.raises(InputError, match="--workers 99: must be from 1 to"):
            project.main(
                [*command(trained, library, tmp_path / "b", *arguments[-2:]), "--workers=99"]
            )
