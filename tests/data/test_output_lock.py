"""Output lock: one job per folder; locks of dead processes do not count, and nothing stays."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from bridge_jax.data.output_lock import LOCK_FOLDER, is_empty, output_lock
from bridge_jax.errors import InputError
from tests.helpers.held_lock import held


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with held(folder) as process:
        said = rf"out: another process writes here \(pid {process.pid} on .* since .*python.* -c"
        with pytest.raises(InputError, match=said), output_lock(folder):
            pass
    assert not folder.exists()
    with output_lock(folder):
        (folder / "result").touch()
    assert [p.name for p in folder.iterdir()] == ["result"]


def test_workers_of_one_job_share_the_lock(tmp_path: Path) -> None:
    with held(tmp_path, "job"):
        with output_lock(tmp_path, "job"):
            assert not [p for p in tmp_path.iterdir() if p.name != LOCK_FOLDER]
        for other in ("another job", None):
            with pytest.raises(InputError, match="another process"), output_lock(tmp_path, other):
                pass


def test_parts_of_a_folder_are_locked_on_their_own(tmp_path: Path) -> None:
    with held(tmp_path, "job", "drug"):
        with output_lock(tmp_path, "another job", "disease"):
            pass
        for part in ("drug", None):
            lock = output_lock(tmp_path, "another job", part)
            with pytest.raises(InputError, match="another process"), lock:
                pass


def test_the_lock_of_a_killed_process_does_not_count(tmp_path: Path) -> None:
    with held(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list((tmp_path / LOCK_FOLDER).iterdir())) == 2
        with output_lock(tmp_path):
            assert len(list((tmp_path / LOCK_FOLDER).iterdir())) == 2
        assert is_empty(tmp_path)


def test_of_many_that_start_together_one_writes_at_a_time(tmp_path: Path) -> None:
    inside, most, refusals = [0], [0], []

    def work() -> None:
        for _ in range(10):
            try:
                with output_lock(tmp_path):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    inside[0] -= 1
            except InputError as e:
                refusals.append(str(e))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(refusals) < 40
    assert is_empty(tmp_path)


def test_a_thread_may_lock_again_what_it_has_locked(tmp_path: Path) -> None:
    with output_lock(tmp_path), output_lock(tmp_path), output_lock(tmp_path, "job", "drug"):
        assert len(list((tmp_path / LOCK_FOLDER).glob("*.lock"))) == 1
    assert is_empty(tmp_path)


def test_what_another_process_says_of_itself_is_printed_safely(tmp_path: Path) -> None:
    with held(tmp_path):
        (about,) = (tmp_path / LOCK_FOLDER).glob("*.json")
        said = {"pid": 1, "host": "\x1b[31m", "since": "x\ny", "command": "z" * 10_000}
        for text in (json.dumps(said), "{", "[]", json.dumps({"pid": 1})):
            about.write_text(text)
            with pytest.raises(InputError) as e, output_lock(tmp_path):
                pass
            assert str(e.value).isprintable()
            assert len(str(e.value)) < 500 + len(str(tmp_path))


def test_files_of_others_are_not_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    mine = outside / f"all-exclusive-1-{'0' * 16}.lock"
    mine.write_text("mine")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / LOCK_FOLDER).symlink_to(outside)
    with pytest.raises(InputError, match="must be a folder of lock files"), output_lock(folder):
        pass
    (folder / LOCK_FOLDER).unlink()
    (folder / LOCK_FOLDER).mkdir()
    (folder / LOCK_FOLDER / mine.name).symlink_to(mine)
    (folder / LOCK_FOLDER / "notes.lock").write_text("mine")
    with output_lock(folder):
        pass
    assert mine.read_text() == (folder / LOCK_FOLDER / "notes.lock").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file"), output_lock(tmp_path / "file"):
        pass
    assert os.listdir(tmp_path) == ["file"]
