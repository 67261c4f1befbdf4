"""A projection on a local Ray: one of its two workers is killed amid a part."""

import os
import signal
from pathlib import Path

import pytest

from bridge_jax import project
from bridge_jax.distributed import ray as ray_workers
from bridge_jax.errors import InputError
from tests.projection.test_project import TARGET, command, committed, contents, library, whole

__all__ = ["library", "whole"]
ray = pytest.importorskip("ray")


class Mortal(ray_workers.Worker):
    """Dies once, when it has written a block of part 3 and before that part is whole."""

    def __init__(self, options):
        super().__init__(options)
        self._mark = Path(options.output).with_name("killed")

    def part(self, k):
        if k == 3 and not self._mark.exists():
            self._mark.touch()
            self._projection.run([k], tell=lambda rows: os.kill(os.getpid(), signal.SIGKILL))
        return super().part(k)


# Ray starts its processes by fork and exec, after JAX in the tests; the command does it before.
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_a_killed_worker_costs_nothing_but_time(
    trained, library, whole, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(ray_workers, "Worker", Mortal)
    output = tmp_path / "out"
    arguments = command(trained, library, output, "--target", TARGET, "--launcher", "ray")
    with ray_workers.cluster():
        assert project.main([*arguments, "--workers", "2"]) == 0
        assert "8 shards (8 written now)" in capsys.readouterr().out
        assert (tmp_path / "killed").exists()
        assert contents(output) == contents(whole)
        before = committed(output)
        assert project.main(arguments) == 0  # nothing is left to do
        assert committed(output) == before
        with pytest.raises(InputError, match="--workers 99: from 1 to the"):
            project.main(
                [*command(trained, library, tmp_path / "b", *arguments[-2:]), "--workers=99"]
            )
