"""Files: writes are complete or not there, stored paths stay inside, temporaries are swept."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bridge_jax.data.files import (
    DiskFullError,
    atomic_file,
    check_file_size,
    path_inside,
    read_json_object,
    remove_temporary_files,
    write_json,
)
from bridge_jax.data.folder_swap import staged_files
from bridge_jax.errors import InputError

NAMES = ("a.txt", "b.txt", "marker.json")


def fill(folder: Path, text: str, names: tuple[str, ...] = NAMES) -> None:
    for name in names:
        (folder / name).write_text(text)


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


@pytest.fixture
def small_files():
    """Files may not grow beyond 4 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_names_the_file_and_what_was_kept(tmp_path: Path, small_files: None) -> None:
    path = tmp_path / "value.json"
    for state in ("nothing was left under its name", "its old content was kept"):
        with pytest.raises(DiskFullError, match=f"{state}; make room") as e:
            write_json(path, "x" * 10_000)
        assert e.value.filename == str(path)
        assert e.value.errno == errno.EFBIG
        assert not list(tmp_path.glob(".*"))
        path.write_text("old")
    assert path.read_text() == "old"


def test_the_inner_of_two_files_is_named(tmp_path: Path) -> None:
    outer, inner = atomic_file(tmp_path / "outer"), atomic_file(tmp_path / "inner")
    with pytest.raises(DiskFullError) as e, outer, inner:
        raise OSError(errno.ENOSPC, "full")
    assert e.value.filename == str(tmp_path / "inner")
    assert not list(tmp_path.iterdir())


def test_another_error_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_file(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "denied", "elsewhere")


def test_lost_bytes_are_noticed(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as handle:
        handle.write(b"abc")
        handle.flush()
        check_file_size(handle, 3)
        with pytest.raises(OSError, match="3 bytes after 4 were written"):
            check_file_size(handle, 4)


def test_staged_files_replace_all_names_or_none(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(FileNotFoundError), staged_files(tmp_path, NAMES) as staging:
        fill(staging / "missing", "new")
    assert texts(tmp_path) == dict.fromkeys(NAMES, "old") | {"mine": "mine"}
    with staged_files(tmp_path, NAMES) as staging:
        fill(staging, "new", ("b.txt", "marker.json"))
        (staging / "unlisted").touch()
        assert (tmp_path / "marker.json").read_text() == "old"
    assert texts(tmp_path) == {"b.txt": "new", "marker.json": "new", "mine": "mine"}


@pytest.mark.parametrize("stop", range(2, 5))  # the first writes the list of files
def test_an_interrupted_swap_has_no_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    fill(tmp_path, "old")
    replace, calls = os.replace, [0]

    def stopping(*paths: Path) -> None:
        calls[0] += 1
        if calls[0] == stop:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt), staged_files(tmp_path, NAMES) as staging:
        fill(staging, "new")
    assert "marker.json" not in texts_of_files(tmp_path)
    assert not list(tmp_path.glob(".new*"))
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError), staged_files(tmp_path, NAMES) as staging:
        fill(staging / "missing", "newer")
    assert texts(tmp_path) == dict.fromkeys(NAMES, "new")  # the swap was finished


KILLED = """
import os, signal, sys
from pathlib import Path
from bridge_jax.data.files import atomic_file
from bridge_jax.data.folder_swap import staged_files
folder = Path(sys.argv[1])
with staged_files(folder, ["a.txt"]) as staging, atomic_file(folder / "b") as b:
    (staging / "a.txt").write_text("new")
    b.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    fill(tmp_path, "old")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert texts_of_files(tmp_path) == dict.fromkeys(NAMES, "old")
    assert len(list(tmp_path.glob(".*.tmp"))) == 2
    outside = tmp_path / "outside"
    outside.mkdir()
    fill(outside, "mine")
    (tmp_path / ".new.7.tmp").symlink_to(outside)
    for name in (".gitignore", ".x.tmp", "x.7.tmp"):
        (tmp_path / name).write_text("mine")
    remove_temporary_files([tmp_path, tmp_path / "missing"])
    left = {p.name for p in tmp_path.iterdir()}
    kept = {".new.7.tmp", ".gitignore", ".x.tmp", "x.7.tmp", ".lock"}
    assert left == {*NAMES, "outside", *kept}
    assert texts(outside) == dict.fromkeys(NAMES, "mine")


def texts_of_files(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}


@pytest.mark.parametrize("file", ["../x", "/etc/x", "a/../../x", "a//x", "./x", "", "a\0b", "a\nb"])
def test_a_stored_path_must_be_relative(tmp_path: Path, file: str) -> None:
    with pytest.raises(InputError, match="is not a relative one inside its folder"):
        path_inside(tmp_path, file)


def test_a_stored_path_must_not_leave_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "inside")
    (tmp_path / "inside" / "link").symlink_to(tmp_path)
    (tmp_path / "inside" / "same").symlink_to(tmp_path / "inside")
    for root in (tmp_path / "inside", tmp_path / "root"):
        assert path_inside(root, "nodes/x") == root / "nodes/x"
        assert path_inside(root, "same/x") == root / "same/x"
        with pytest.raises(InputError, match="is a link out of its folder"):
            path_inside(root, "link/x")


@pytest.mark.parametrize("raw", [b"", b"[]", b"3", b"\xff", b"{", b"[" * 100_000])
def test_json_that_is_no_object_is_read_as_an_empty_one(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x").write_bytes(raw)
    assert read_json_object(tmp_path / "x") == read_json_object(tmp_path / "missing") == {}
