"""Arguments of `bridge_jax.project` in tests, and what it has written."""

from pathlib import Path

SOURCE, TARGET = "gene/protein", "molecular_function"
NUM_FILES, ROWS_PER_FILE, DIM = 8, 1500, 256  # of the fixture `library`


def command(workdir, source, output, *options) -> list[str]:
    """Arguments that project a source with a run into an output folder."""
    return [
        *("--workdir", str(workdir), "--input", str(source), "--source", SOURCE),
        *("--output", str(output), *map(str, options)),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def committed(output: Path) -> dict[Path, int]:
    """The journal entries of the finished shards, and when each was written."""
    return {p: p.stat().st_mtime_ns for p in output.glob(".export/*-of-*.json")}
