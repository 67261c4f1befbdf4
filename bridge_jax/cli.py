"""What every command line shares: errors as plain messages, and tables as plain text."""

import argparse
import sys
from collections.abc import Callable, Sequence

from bridge_jax.errors import InputError


def run(main: Callable[[Sequence[str] | None], int | None]) -> None:
    """Run a command and exit.

    Input errors and operating-system errors print their message alone and exit with 2; Ctrl-C
    exits with 130; a bug keeps its traceback.

    Args:
      main: takes the arguments (None for `sys.argv`), returns an exit code or None.
    """
    try:
        code = main(None) or 0
        sys.stdout.flush()
    except InputError as e:
        code = _say(str(e), 2)
    except BrokenPipeError:
        sys.stderr.close()
        code = 1
    except OSError as e:
        named = f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e)
        code = _say(named, 2)
    except KeyboardInterrupt:
        code = _say("interrupted", 130)
    sys.exit(code)


def parser(command: str, doc: str | None) -> argparse.ArgumentParser:
    """The parser of `python -m <command>`, described by its module's docstring as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m {command}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _say(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> str:
    """Lay rows out in aligned columns: text to the left, numbers to the right."""
    cells = [[str(c) for c in header]] + [[_cell(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [
        bool(rows) and all(isinstance(r[i], int | float) for r in rows) for i in range(len(header))
    ]
    lines = [
        "  ".join(
            c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
