"""Replacement of many files of a folder: written beside the old ones, then swapped by renames.

    FOLDER/.new.<pid>.tmp/    the new files while they are written; removed after a failure
    FOLDER/.swap/             the new files, complete and on disk, while they are moved

Until `.swap` exists, the folder has all of its old files. The moves then take milliseconds. If they
are interrupted, the folder lacks the file that marks it as complete, so that readers refuse it, and
the next writer of the folder finishes them.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

from bridge_jax.data.files import (
    NO_SPACE,
    DiskFullError,
    path_inside,
    read_json_object,
    remove_temporary_files,
    sync,
    write_json,
)
from bridge_jax.data.output_lock import LOCK_FOLDER, SWAP_FOLDER, output_lock
from bridge_jax.errors import InputError

_LIST = ".files.json"


@contextmanager
def staged_folder(
    folder: Path,
    marker: str,
    old_files: Callable[[Path], Set[str]],
    replaceable: Callable[[Path], Set[str]] | None = None,
) -> Iterator[Path]:
    """Yields a new folder inside `folder`; on success its files replace the old ones.

    The output lock is held meanwhile. Files of `folder` that are neither old ones nor replaceable
    are kept, whatever their names.

    Args:
      folder: Folder to write. Created if missing.
      marker: Path, relative to the folder, of the file without which readers refuse it.
      old_files: Function that returns the files of the old output in the folder, relative to it;
        those that are not written anew are removed.
      replaceable: Function that returns further files that may be replaced, but are not removed;
        default: none.

    Yields:
      The folder to write to.

    Raises:
      InputError: Another process writes to the folder; or a new file would replace one that is
        neither old nor replaceable.
      DiskFullError: The disk or the quota is full; the old files were kept.
    """
    with output_lock(folder):
        folder.mkdir(parents=True, exist_ok=True)
        finish_swap(folder)
        remove_temporary_files([folder])
        old = set(old_files(folder))
        allowed = old | set(replaceable(folder) if replaceable else ())
        staging = folder / f".new.{os.getpid()}.tmp"
        try:
            staging.mkdir()
            yield staging
            files = _files(staging)
            _refuse_foreign_files(folder, files, allowed)
            entry = {"marker": marker, "files": files, "removed": sorted(old - set(files))}
            write_json(staging / _LIST, entry)
            for path in sorted(p for p in staging.rglob("*") if p.is_dir()):
                sync(path)
            sync(staging)
            os.rename(staging, folder / SWAP_FOLDER)
            sync(folder)
            _move(folder)
        except OSError as e:
            raise _in_words(e, folder, staging, marker) from e
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_files(folder: Path, names: Sequence[str], known_by: str = "") -> Iterator[Path]:
    """Yields a new folder inside `folder`; on success its files replace those of the same names.

    As `staged_folder` does, for an output of a few files whose names never change.

    Args:
      folder: Folder to write. Created if missing.
      names: Names of all files that may be written, the one that marks a complete folder last.
        Files of these names that are not written anew are removed.
      known_by: Name of the file whose presence says that the files of these names are an old
        output; default: the last of `names`.

    Yields:
      The folder to write to; other files in it are dropped.

    Raises:
      InputError: Another process writes to the folder; or it has a file of one of the names that
        is not of an old output.
      DiskFullError: The disk or the quota is full; the old files were kept.
    """
    *_, marker = names

    def old_files(folder: Path) -> set[str]:
        return set(names) if (folder / (known_by or marker)).is_file() else set()

    with staged_folder(folder, marker, old_files) as staging:
        yield staging
        for path in staging.iterdir():
            if path.name not in names:
                path.unlink()


def finish_swap(folder: Path) -> None:
    """Finishes a replacement that was interrupted during the renames, if there is one.

    Args:
      folder: Folder whose output lock is held.

    Raises:
      InputError: The list of files to move is damaged.
    """
    swap = folder / SWAP_FOLDER
    if swap.is_dir() and not swap.is_symlink():
        _move(folder)


def is_swap_interrupted(folder: Path) -> bool:
    """Returns whether a replacement of a folder's files is under way, or was interrupted."""
    return (folder / SWAP_FOLDER / _LIST).is_file()


def _files(staging: Path) -> list[str]:
    paths = (p for p in staging.rglob("*") if p.is_file())
    names = (str(p.relative_to(staging)) for p in paths)
    return sorted(n for n in names if not n.startswith(f"{LOCK_FOLDER}/"))


def _refuse_foreign_files(folder: Path, files: list[str], allowed: Set[str]) -> None:
    for file in files:
        path = path_inside(folder, file)
        if file not in allowed and os.path.lexists(path):
            raise InputError(
                f"{path}: is not a file of the output that this command replaces, so it is kept; "
                "move it away, or choose another --output"
            )


def _move(folder: Path) -> None:
    swap = folder / SWAP_FOLDER
    entry = read_json_object(swap / _LIST)
    marker, files, removed = entry.get("marker"), _paths(entry, "files"), _paths(entry, "removed")
    if marker not in files and _files(swap):
        raise InputError(f"{swap}: does not list the files to move; delete this folder")
    if isinstance(marker, str) and (swap / marker).is_file():  # else everything was moved
        for file in [marker, *removed]:
            path_inside(folder, file).unlink(missing_ok=True)
        for file in [*(f for f in files if f != marker), marker]:
            if (swap / file).is_file():
                target = path_inside(folder, file)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(swap / file, target)
        for parent in {(folder / file).parent for file in files}:
            sync(parent)
    shutil.rmtree(swap, ignore_errors=True)


def _paths(entry: Mapping[str, object], key: str) -> list[str]:
    values = entry.get(key)
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _in_words(e: OSError, folder: Path, staging: Path, marker: str) -> OSError:
    """Names the file as the user knows it, and says what was kept."""
    if e.errno not in NO_SPACE:
        return e
    file = str(e.filename or folder / marker).replace(f"{staging}{os.sep}", f"{folder}{os.sep}")
    if is_swap_interrupted(folder):
        state = "the new files are complete; the next command puts them in their place"
    elif (folder / marker).exists():
        state = "the old files were kept"
    else:
        state = "nothing was left"
    message = f"{os.strerror(e.errno or errno.ENOSPC)}; {state}; make room and run it again"
    return DiskFullError(e.errno, message, file)
