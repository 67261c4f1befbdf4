"""Journal of an export or a projection, so that an interrupted one can be resumed.

    FOLDER/.export/<type>.json                       fingerprint of the inputs and options
    FOLDER/.export/<type>-00000-of-00008.json        entry of a finished shard: checksum, rejects
    FOLDER/.export/<type>.new-<fingerprint>/         an export that will replace the one in FOLDER

Each file is written atomically, and the entry of a shard after the shard itself. Workers of one
export never write the same file; an export of the same node type with other options is locked out.
"""

import atexit
import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from glob import escape
from pathlib import Path
from typing import Any

from bridge_jax.data.export_swap import ExportFiles
from bridge_jax.data.files import path_inside, read_json_object, sha256_of_file, write_json
from bridge_jax.data.manifest import file_name, shard_file
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError


class Journal:
    """Journal of the export of one node type; as a context, it holds the lock until its end.

    Attributes:
      root: Folder to write shards to: the output folder, or a subfolder of it until an export that
        replaces another one is complete.
      stem: Node type as a file name.
      suffix: File suffix of the shards.
      sidecar: Path of `nodes/<type>.json`, the file that completes the export.
      num_shards: Number of shards; 0 until `open` is called.
    """

    def __init__(self, root: Path, node_type: str, suffix: str = ".tfrecord") -> None:
        """Builds the paths; reads and writes nothing.

        Args:
          root: Output folder.
          node_type: Node type to export.
          suffix: File suffix of the shards, default `.tfrecord`.
        """
        self.root = root
        self.stem = file_name(node_type)
        self.suffix = suffix
        self.sidecar = root / "nodes" / f"{self.stem}.json"
        self.num_shards = 0
        self._key = ""
        self._fingerprint: dict[str, Any] = {}
        self._output = ExportFiles(root, self.stem)
        self._staging = self._output
        self._lock = ExitStack()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock of the output folder."""
        self._lock.close()
        atexit.unregister(self._lock.close)

    def open(
        self,
        fingerprint: Mapping[str, Any],
        num_shards: int,
        overwrite: bool,
        worker: int | None = 0,
        num_workers: int = 1,
    ) -> None:
        """Locks the output folder, and starts an export or resumes one with the same fingerprint.

        Args:
          fingerprint: The input and all options that the result depends on, as JSON values.
          num_shards: Number of shards.
          overwrite: Whether to replace an existing export with another fingerprint, once this one
            is complete.
          worker: Index of this worker, default 0; None for a worker whose shards are assigned by
            worker 0 while it runs.
          num_workers: Number of workers, default 1; 0 if worker 0 assigns the shards.

        Raises:
          InputError: The folder is a dataset; another process writes another export of this node
            type, or is the same worker; or the folder holds another export and `overwrite` is
            False.
        """
        self.num_shards = num_shards
        text = json.dumps(fingerprint, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._fingerprint = dict(fingerprint)
        self._staging = self._output.staging(self._key)
        if not self._output.is_swapping():
            self._refuse_folder(overwrite)  # before the lock, whose message would say less
        atexit.register(self._lock.close)
        try:
            self._open(text, overwrite, worker, num_workers)
        except BaseException:
            self.close()
            raise

    def _open(self, text: str, overwrite: bool, worker: int | None, num_workers: int) -> None:
        root = self._output.root
        job = None if num_workers == 1 else f"{text} {num_workers}"
        self._lock.enter_context(output_lock(root, job, self.stem))
        if worker is not None:
            self._lock.enter_context(output_lock(root, None, f"{self.stem} worker {worker}"))
        self._output.finish_swap()
        self._refuse_folder(overwrite)
        if self._staging.fingerprint() == self._fingerprint:
            self.root = self._staging.root
        elif self._output.fingerprint() != self._fingerprint:
            self._start()

    def _refuse_folder(self, overwrite: bool) -> None:
        """Raises an error if the folder must not be written to; changes nothing."""
        root = self._output.root
        if (root / "manifest.json").exists():
            raise InputError(
                f"{root}: is a dataset directory; export to another folder and import it again"
            )
        for folder in ("nodes", ".export"):
            path_inside(root, folder)
        stored = self._output.fingerprint()
        if self._fingerprint in (stored, self._staging.fingerprint()):
            return
        if not overwrite and self._output.exists():
            raise InputError(
                f"{root}: holds an export of {self.stem} {_difference(stored, self._fingerprint)}; "
                "pass --overwrite to replace it, or choose another --output"
            )
        self._output.refuse_foreign_files()

    def _start(self) -> None:
        """Writes the fingerprint of a new export, beside an export that is there already."""
        self._output.remove_staging()
        files = self._staging if self._output.exists() else self._output
        self.root = files.root
        files.write_fingerprint(self._fingerprint, self.num_shards, self.suffix)

    def check_encoder(self, encoder: Mapping[str, str], overwrite: bool) -> None:
        """Checks that the same weights made all finished shards.

        Args:
          encoder: `encoder` and `pooling`, as each entry records them.
          overwrite: Whether to make all shards again if other weights made one.

        Raises:
          InputError: Other weights made a finished shard, and `overwrite` is False.
        """
        for k in range(self.num_shards):
            entry = self.read_entry(k)
            if entry is None or all(entry.get(key) == value for key, value in encoder.items()):
                continue
            if not overwrite:
                raise InputError(
                    f"{self.root / self.shard_path(k)}: made by {entry.get('encoder')}, "
                    f"{entry.get('pooling')}; this command has {encoder['encoder']}, "
                    f"{encoder['pooling']}: the weights changed; pass --overwrite to start again"
                )
            self._start()
            return

    def shard_path(self, k: int) -> str:
        """Returns the path of shard `k`, relative to `root`."""
        path = Path(shard_file("nodes", self.stem, k, self.num_shards))
        return str(path.with_suffix(self.suffix))

    def _entry_file(self, k: int) -> Path:
        return self.root / ".export" / f"{Path(self.shard_path(k)).stem}.json"

    def read_entry(self, k: int, check: bool = False) -> dict[str, Any] | None:
        """Returns the entry of shard `k`, or None if the shard is not finished.

        Args:
          k: Index of the shard.
          check: Whether to compare the shard with its checksum instead of only looking for the
            file, default False.
        """
        if self.root != self._output.root and not self._staging.fingerprint():
            self.root = self._output.root  # another worker has completed the export
        entry = read_json_object(self._entry_file(k))
        if entry.get("export") != self._key:  # written by a worker that still has other options
            return None
        shard = self.shard_path(k)
        files = {"shard": shard}
        if self.suffix == ".npy":
            files["ids"] = str(Path(shard).with_suffix(".ids.txt"))
        if entry.get("shard", "") is None:  # without a record, and so without a file
            return entry
        if all(self._is_intact(file, entry.get(key), check) for key, file in files.items()):
            return entry
        return None

    def _is_intact(self, file: str, stored: Any, check: bool) -> bool:
        path = self.root / file
        if not isinstance(stored, dict) or stored.keys() != {"file", "records", "sha256"}:
            return False
        if stored["file"] != file or type(stored["records"]) is not int or not path.is_file():
            return False
        return not check or sha256_of_file(path) == stored["sha256"]

    def write_entry(self, k: int, entry: Mapping[str, Any]) -> None:
        """Records that shard `k` is finished."""
        write_json(self._entry_file(k), {"export": self._key, **entry})

    def complete(self, sidecar: Mapping[str, Any]) -> None:
        """Writes the sidecar of an export whose shards are all finished; it replaces an old export.

        Args:
          sidecar: Content of `nodes/<type>.json`.
        """
        if self.root == self._output.root:
            write_json(self.sidecar, dict(sidecar))
        else:
            self._output.swap(self._staging, dict(sidecar))
            self.root = self._output.root

    def remove_temporary_files(self, k: int | None = None) -> None:
        """Removes the incomplete files of a killed worker.

        Args:
          k: Index of a shard; default all shards of the node type.
        """
        if k is None:
            patterns = [f"{escape(self.stem)}{rest}" for rest in ("-*", ".json", ".rejects.tsv")]
        else:
            patterns = [f"{escape(Path(self.shard_path(k)).stem)}.*"]
        for root in {self.root, self._output.root}:
            ExportFiles(root, self.stem).remove_temporary_files(patterns)


def _difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> str:
    """Describes how the fingerprint of an existing export differs from this command's."""
    changed = [
        f"{key} {stored.get(key)!r} where this command has {value!r}"
        for key, value in current.items()
        if stored and stored.get(key) != value
    ]
    return f"with {'; '.join(changed)}" if changed else "of unknown origin"


def parse_shard(shard: str) -> tuple[int, int]:
    """Parses the option `--shard`, which assigns a worker its share of the shards.

    Args:
      shard: Text `i/n`, e.g. `0/4` for the first of four workers.

    Returns:
      Index `i` of the worker and number `n` of workers.

    Raises:
      InputError: The text has another form, or `i` is not below `n`.
    """
    i, _, n = shard.partition("/")
    if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise InputError(f"--shard {shard}: write it as i/n with i < n, as in 0/4")
    return int(i), int(n)
