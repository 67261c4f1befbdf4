"""Runs commands in tests as a shell would."""

import sys
from collections.abc import Callable, Sequence

import pytest

from bridge_jax import cli

Command = Callable[[Sequence[str] | None], int]


def refused(
    main: Command, arguments: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch
) -> str:
    """Run a command as `python -m` does; it must exit with 2 and say one line."""
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda _: main(arguments))
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]
