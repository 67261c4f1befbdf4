"""A dataset is replaced by a complete one or not at all, by every command that writes datasets."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge_jax.data import tfrecord
from bridge_jax.data.files import DiskFullError
from bridge_jax.data.manifest import read_manifest
from bridge_jax.errors import InputError
from tests.helpers.excerpt import write_embeddings
from tests.helpers.failing_disk import fail_once
from tests.helpers.held_lock import held
from tests.helpers.tiny_run import DEMO, EXCERPT, ROOT
from tools import build_openbiokg, import_biobridge, import_graph, subset, verify_shards
from tools.formats import FORMATS

NEW = ("--overwrite", "--seed", "1", "--split", "transductive")  # without the folder heldout/
COMMANDS: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
    "import_graph": (import_graph.main, ["--format", "primekg", "--input", str(EXCERPT)]),
    "import_biobridge": (import_biobridge.main, ["--input", "missing"]),
    "subset": (subset.main, [str(DEMO), "--keep", "disease=9"]),
    "build_openbiokg": (build_openbiokg.main, ["--cache", "missing"]),
}
# Kills an import after so many renames of folders and, after these, so many of files.
KILLED = """
import os, signal, sys
from tools import import_graph
renames, replaces, *argv = sys.argv[1:]
seen = {"rename": 0, "replace": 0}
def counted(name, call):
    def wrapped(*paths):
        if seen == {"rename": int(renames), "replace": int(replaces)}:
            os.kill(os.getpid(), signal.SIGKILL)
        call(*paths)
        seen[name] += 1
        if name == "rename":
            seen["replace"] = 0
    return wrapped
os.rename, os.replace = counted("rename", os.rename), counted("replace", os.replace)
import_graph.main(argv)
"""


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    """Arguments that import the excerpt into `tmp_path / "out"`."""
    embeddings = write_embeddings(tmp_path / "vectors", FORMATS["primekg"](EXCERPT).nodes)
    return ["--format", "primekg", "--input", str(EXCERPT), "--embeddings", str(embeddings),
            "--output", str(tmp_path / "out")]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and ".lock" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize(
    ("moment", "swapping"),
    [((0, 1), False), ((0, 9), False), ((1, 0), True), ((1, 4), True), ((1, 20), True)],
)
def test_a_killed_import_leaves_the_old_dataset_or_finishes_the_new_one(
    argv: list[str], tmp_path: Path, moment: tuple[int, int], swapping: bool
) -> None:
    out = tmp_path / "out"
    import_graph.main(argv)
    (out / "notes.txt").write_text("mine")
    old = contents(out)
    command = [sys.executable, "-c", KILLED, *map(str, moment), *argv, *NEW]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    if swapping:
        assert (out / ".swap/manifest.json").is_file()
    else:
        assert {k: v for k, v in contents(out).items() if not k.startswith(".new")} == old
        assert verify_shards.main([str(out)]) == 0
    if moment == (1, 4):
        with pytest.raises(InputError, match="replacement was interrupted; run the command"):
            read_manifest(out)
    assert import_graph.main([*argv, *NEW]) == 0
    fresh = tmp_path / "fresh/out"
    import_graph.main([*argv[:-1], str(fresh), *NEW])
    assert contents(out) == contents(fresh) | {"notes.txt": b"mine"}
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_a_replacement_is_finished_even_if_the_next_command_fails(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    import_graph.main(argv)
    command = [sys.executable, "-c", KILLED, "1", "7", *argv, *NEW]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    fail_once(monkeypatch, tfrecord, 1)
    with pytest.raises(DiskFullError):
        import_graph.main([*argv, "--overwrite"])
    assert read_manifest(out).split["rule"] == "transductive"
    assert verify_shards.main([str(out)]) == 0


@pytest.mark.parametrize("fails_at", [1, 7])
def test_a_full_disk_names_the_file_and_keeps_the_old_dataset(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    out = tmp_path / "out"
    import_graph.main(argv)
    old = contents(out)
    with monkeypatch.context() as patch:
        fail_once(patch, tfrecord, fails_at)
        with pytest.raises(DiskFullError, match="the old files were kept; make room") as e:
            import_graph.main([*argv, *NEW])
    assert re.fullmatch(rf"{out}/(nodes|triples)/[a-z_0-9-]+\.tfrecord", str(e.value.filename))
    assert contents(out) == old
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_a_full_disk_leaves_nothing_of_a_first_import(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, tfrecord, 3)
    with pytest.raises(DiskFullError, match="nothing was left; make room"):
        import_graph.main(argv)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("old", [False, True])
def test_a_file_of_someone_else_is_refused_by_name(
    argv: list[str], tmp_path: Path, old: bool
) -> None:
    out = tmp_path / "out"
    mine = out / "heldout/test-00000-of-00001.tfrecord"
    if old:
        import_graph.main([*argv, *NEW])
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    before = contents(out)
    with pytest.raises(InputError, match=f"{mine}: is not a file of the output .* move it away"):
        import_graph.main([*argv, "--overwrite"])
    assert contents(out) == before


def test_a_link_out_of_the_folder_is_not_followed(argv: list[str], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/triples").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link out of its folder"):
        import_graph.main(argv)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_dataset_can_be_replaced(argv: list[str], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "out/manifest.json"
    import_graph.main(argv)
    whole = contents(tmp_path / "out")
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 4') if damage == "flip" else text[:-30])
    with pytest.raises(InputError):
        read_manifest(tmp_path / "out")
    import_graph.main([*argv, "--overwrite"])
    assert contents(tmp_path / "out") == whole


def test_a_dataset_may_be_written_over_the_export_it_is_made_from(
    argv: list[str], tmp_path: Path
) -> None:
    import_graph.main([*argv[:-1], str(tmp_path / "other/out")])
    table = read_manifest(tmp_path / "other/out").table("disease")
    (shard,) = table.shards
    export = tmp_path / "out/nodes"
    export.mkdir(parents=True)
    shutil.copy(tmp_path / "other/out" / shard.file, export)
    sidecar = {"shards": [vars(shard), {"file": "nodes/disease-00001-of-00002.tfrecord"}]}
    (export / "disease.json").write_text(json.dumps(sidecar))
    (export / "disease-00001-of-00002.tfrecord").write_text("another shard of the export")
    import_graph.main(argv)
    assert read_manifest(tmp_path / "out").table("disease") == table
    assert (export / "disease-00001-of-00002.tfrecord").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_of_two_commands_at_once_one_is_refused(command: str, tmp_path: Path) -> None:
    main, options = COMMANDS[command]
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.json").write_text("old")
    message = r"another process writes here \(pid \d+ on .+ since \d{4}-"
    with held(out), pytest.raises(InputError, match=message):
        main([*options, "--output", str(out), "--overwrite"])
    with pytest.raises(InputError, match="holds a dataset already; pass --overwrite"):
        main([*options, "--output", str(out)])
    assert (out / "manifest.json").read_text() == "old"


def test_a_subset_replaces_only_what_a_dataset_lists(tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = [str(DEMO), "--output", str(out), "--keep", "gene/protein=300", "--keep"]
    subset.main([*argv, "molecular_function=40"])
    (out / ".new.7.tmp").mkdir()
    (out / "nodes/notes.txt").write_text("mine")
    subset.main([*argv, "disease=30", "--overwrite"])
    assert {p.name for p in (out / "nodes").glob("*.t*") if p.suffix != ".gz"} == {
        *("disease.tsv", "disease-00000-of-00001.tfrecord", "notes.txt"),
        *("gene_protein.tsv", "gene_protein-00000-of-00001.tfrecord"),
    }
    assert not (out / ".new.7.tmp").exists()


INTERRUPTED = """
import gc, os, signal, time
from bridge_jax import cli
def callback(phase, info):
    if phase == "start":
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGINT)
def main(argv):
    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(5)
cli.run(main)
"""


def test_an_interrupt_during_garbage_collection_is_not_lost() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (130, "error: interrupted\n")
