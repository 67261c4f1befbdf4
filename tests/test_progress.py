"""Progress on a terminal and in a log file."""

import io

from bridge_jax import progress
from bridge_jax.progress import Progress, clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_file_gets_plain_lines(monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    stream = io.StringIO()
    shown = Progress(4, "step", stream=stream)
    shown.print("begins")
    for step in (1, 2, 4):
        shown.update(step, loss=0.5)
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "begins"
    assert [line.split()[1] for line in lines[1:]] == ["1/4", "2/4", "4/4"]
    assert all("loss 0.5" in line for line in lines[1:])
    assert "\r" not in stream.getvalue()


def test_a_log_file_gets_the_last_step_however_fast_it_goes():
    stream = io.StringIO()
    shown = Progress(3, stream=stream)
    for step in (1, 2, 3):
        shown.update(step)
    assert stream.getvalue().startswith("step 3/3")


def test_a_terminal_gets_a_live_bar_that_a_message_does_not_break():
    stream = Terminal()
    shown = Progress(4, "row", stream=stream)
    shown.update(1, loss=0.5)
    shown.print("a message")
    shown.update(4, loss=0.25)
    shown.close()
    assert "\r" in stream.getvalue()
    assert "a message\n" in stream.getvalue()
    assert "4/4 rows" in stream.getvalue()


def test_other_processes_show_nothing():
    stream = io.StringIO()
    shown = Progress(1, stream=stream, active=False)
    shown.update(1)
    shown.print("nothing")
    shown.close()
    assert stream.getvalue() == ""


def test_clock():
    assert [clock(s) for s in (5.0, 75.0, 3700.0)] == ["0:05", "1:15", "1:01:40"]
