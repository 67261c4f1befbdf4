"""The command line `bridge-jax`."""

import subprocess
import sys

import pytest

from bridge_jax import __main__ as command_line
from bridge_jax.errors import InputError


def test_alone_it_lists_every_command_with_a_line_each(capsys):
    assert command_line.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(None, 1) for line in lines if line.startswith("  "))
    assert list(listed) == list(command_line.COMMANDS)
    assert all(0 < len(text) < 100 and text.endswith(".") for text in listed.values()), listed


def test_python_m_bridge_jax_does_the_same(capsys):
    command_line.main(["--help"])
    done = subprocess.run(
        [sys.executable, "-m", "bridge_jax"], capture_output=True, text=True, check=True
    )
    assert done.stdout == capsys.readouterr().out


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_a_subcommand_names_itself_in_its_help(name):
    code = f"from bridge_jax.__main__ import main; main([{name!r}, '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: bridge-jax {name} ")


def test_an_unknown_command_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'retrieve'"):
        command_line.main(["retreive"])
