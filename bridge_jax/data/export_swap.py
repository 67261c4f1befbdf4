"""Files of one node type's export, and their replacement by another export.

    FOLDER/.export/<type>.new-<fingerprint>/     the new export while it is made
    FOLDER/.export/<type>.swap/                  the new export, complete, while it is moved

The old export stays as it is until the new one is complete. Its files are then replaced, the
sidecar last. If that is interrupted, the next command finishes it; until then the sidecar and the
shards do not agree, and readers refuse them by their checksums.
"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from bridge_jax.data.files import path_inside, read_json_object, write_json
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError

_LIST = "files.json"
_OPTIONS = ("num_shards", "suffix")  # of the fingerprint file, beside the fingerprint
_SHARD_SUFFIXES = (".tfrecord", ".npy", ".ids.txt", ".parquet")
_SWAP_SECONDS = 60.0


class ExportFiles:
    """Files of the export of one node type in a folder.

    Attributes:
      root: The folder.
      stem: Node type as a file name.
    """

    def __init__(self, root: Path, stem: str) -> None:
        """Builds the paths; reads and writes nothing."""
        self.root, self.stem = root, stem
        self._journal = root / ".export"
        self._fingerprint_file = self._journal / f"{stem}.json"
        self._swap = self._journal / f"{stem}.swap"
        ends, name = "|".join(map(re.escape, _SHARD_SUFFIXES)), re.escape(stem)
        self._name = re.compile(
            rf"nodes/{name}(-(?P<k>\d{{5,9}})-of-(?P<n>\d{{5,9}})(?P<end>{ends})|\.json|"
            rf"\.rejects\.tsv)|\.export/{name}(-\d{{5,9}}-of-\d{{5,9}})?\.json"
        )

    def staging(self, key: str) -> "ExportFiles":
        """Returns the files of an export that will replace this one."""
        return ExportFiles(self._journal / f"{self.stem}.new-{key}", self.stem)

    def remove_staging(self) -> None:
        """Removes unfinished exports that should have replaced this one."""
        for folder in self._journal.glob(f"{escape(self.stem)}.new-*"):
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)

    def fingerprint(self) -> dict[str, Any]:
        """Returns the fingerprint that the export was started with; empty if it is not known."""
        stored = read_json_object(self._fingerprint_file)
        return {key: value for key, value in stored.items() if key not in _OPTIONS}

    def write_fingerprint(
        self, fingerprint: Mapping[str, Any], num_shards: int, suffix: str
    ) -> None:
        """Starts an export; it owns the files that these shards will have."""
        options = dict(zip(_OPTIONS, (num_shards, suffix), strict=True))
        write_json(self._fingerprint_file, {**fingerprint, **options})

    def exists(self) -> bool:
        """Returns whether the folder has any file of an export of the node type."""
        return bool(self._present())

    def refuse_foreign_files(self) -> None:
        """Checks that this software has written all files that an export could replace.

        Raises:
          InputError: A file is listed neither by the journal nor by the sidecar.
        """
        if foreign := sorted(self._present() - self._own()):
            raise InputError(
                f"{self.root / foreign[0]}: is listed by no export in this folder, so it is not "
                "replaced; move it away, or choose another --output"
            )

    def swap(self, staging: "ExportFiles", sidecar: Mapping[str, Any]) -> None:
        """Completes a staged export and replaces the files of this one by it.

        Args:
          staging: The new export, without its sidecar.
          sidecar: Content of its sidecar.
        """
        with output_lock(self.root, None, f"{self.stem} swap", _SWAP_SECONDS):
            if not staging.fingerprint():  # another worker was faster
                return
            write_json(staging.root / f"nodes/{self.stem}.json", dict(sidecar))
            files = sorted(str(p.relative_to(staging.root)) for p in staging.root.rglob("*.*"))
            files = [f for f in files if (staging.root / f).is_file() and not _is_temporary(f)]
            write_json(staging.root / _LIST, {"files": files})
            os.rename(staging.root, self._swap)
            self._move()

    def is_swapping(self) -> bool:
        """Returns whether a replacement is under way, or was interrupted."""
        return self._swap.is_dir() and not self._swap.is_symlink()

    def finish_swap(self) -> None:
        """Finishes a replacement that was interrupted."""
        if self.is_swapping():
            with output_lock(self.root, None, f"{self.stem} swap", _SWAP_SECONDS):
                if self.is_swapping():  # still
                    self._move()

    def _move(self) -> None:
        sidecar, fingerprint = f"nodes/{self.stem}.json", f".export/{self.stem}.json"
        files = read_json_object(self._swap / _LIST).get("files", [])
        for file in files:
            if not isinstance(file, str) or not self._name.fullmatch(file):
                raise InputError(f"{self._swap}: lists the file {file!r}; delete this folder")
        if sidecar not in files:
            raise InputError(f"{self._swap}: does not hold a complete export; delete this folder")
        if (self._swap / sidecar).is_file():  # else it was moved, and so was all the rest
            for file in sorted(self._own() - set(files)):
                path_inside(self.root, file).unlink(missing_ok=True)
            last = [fingerprint, sidecar]
            for file in [*(f for f in files if f not in last), *last]:
                if (self._swap / file).is_file():
                    target = path_inside(self.root, file)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(self._swap / file, target)
        shutil.rmtree(self._swap, ignore_errors=True)

    def _present(self) -> set[str]:
        """Returns the present files that have the name of an export's, without the fingerprint."""
        found = {
            f"{folder}/{path.name}"
            for folder in ("nodes", ".export")
            for path in (self.root / folder).glob(f"{escape(self.stem)}[-.]*")
        }
        return {f for f in found if self._name.fullmatch(f)} - {f".export/{self.stem}.json"}

    def _own(self) -> set[str]:
        """Returns the files that the journal and the sidecar of the export list."""
        stored = read_json_object(self._fingerprint_file)
        sidecar = read_json_object(self.root / f"nodes/{self.stem}.json")
        entries = self._journal.glob(f"{escape(self.stem)}-*.json")
        contents = {f".export/{p.name}": read_json_object(p) for p in entries}
        listed = [e.get(key) for e in contents.values() for key in ("shard", "ids")]
        shards = sidecar.get("shards")
        listed += shards if isinstance(shards, list) else []
        files = {str(s["file"]) for s in listed if isinstance(s, dict) and "file" in s}
        files |= {file for file, entry in contents.items() if "export" in entry}
        if stored or shards:
            files |= {f"nodes/{self.stem}{end}" for end in (".json", ".rejects.tsv")}
        files |= {file for file in self._present() if self._is_planned(file, stored, files)}
        return {f for f in files if self._name.fullmatch(f)}

    def _is_planned(self, file: str, stored: Mapping[str, Any], listed: Iterable[str]) -> bool:
        """Returns whether a shard is one of those that the export was started with."""
        name = self._name.fullmatch(file)
        if not stored or not name or not name["end"]:
            return False
        if _OPTIONS[0] not in stored:  # written by an earlier version
            return any(f"-of-{name['n']}." in other for other in listed)
        suffix = ".npy" if name["end"] == ".ids.txt" else name["end"]
        return (int(name["n"]), suffix) == tuple(stored.get(key) for key in _OPTIONS)

    def remove_temporary_files(self, patterns: Iterable[str]) -> None:
        """Removes temporary files of targets whose name matches a pattern."""
        for folder in (self.root / "nodes", self._journal):
            for pattern in patterns:
                for path in folder.glob(f".{pattern}.*.tmp"):
                    path.unlink(missing_ok=True)


def _is_temporary(file: str) -> bool:
    return Path(file).name.startswith(".")
