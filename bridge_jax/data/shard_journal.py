"""Journal of an export or a projection, so that an interrupted one can be resumed.

    FOLDER/.export/<type>.json                       fingerprint of the inputs and options
    FOLDER/.export/<type>-00000-of-00008.json        entry of a finished shard: checksum, rejects

Each file is written atomically, and the entry of a shard after the shard itself. Workers never
write the same file, so they need no lock.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_jax.data.files import sha256_of_file, write_json
from bridge_jax.data.manifest import file_name, shard_file
from bridge_jax.errors import InputError


class Journal:
    """Journal of the export of one node type.

    Attributes:
      root: Output folder.
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
        self._fingerprint_file = root / ".export" / f"{self.stem}.json"

    def open(self, fingerprint: Mapping[str, Any], num_shards: int, overwrite: bool) -> None:
        """Starts an export, or resumes one with the same fingerprint.

        Args:
          fingerprint: The input and all options that the result depends on, as JSON values.
          num_shards: Number of shards.
          overwrite: Whether to delete an existing export with another fingerprint.

        Raises:
          InputError: The folder is a dataset, or it holds another export of this node type and
            `overwrite` is False.
        """
        self.num_shards = num_shards
        if (self.root / "manifest.json").exists():
            raise InputError(
                f"{self.root}: is a dataset directory; export to another folder and import it again"
            )
        text = json.dumps(fingerprint, sort_keys=True).encode()
        self._key = hashlib.sha256(text).hexdigest()[:16]
        current = dict(fingerprint)
        stored = None
        if self._fingerprint_file.is_file():
            stored = json.loads(self._fingerprint_file.read_text())
        if stored == current:
            return
        existing = [*self._fingerprint_file.parent.glob(f"{self.stem}-?????-of-?????.json")]
        existing += [*self.root.glob(f"nodes/{self.stem}-?????-of-?????.*"), self.sidecar]
        if not overwrite and any(path.exists() for path in existing):
            raise InputError(
                f"{self.root}: holds an export of {self.stem} {_difference(stored, current)}; pass "
                "--overwrite to replace it, or choose another --output"
            )
        self.sidecar.unlink(missing_ok=True)  # first, because it marks the shards as complete
        for path in existing:
            path.unlink(missing_ok=True)
        write_json(self._fingerprint_file, current)

    def check_encoder(self, encoder: Mapping[str, str], overwrite: bool) -> None:
        """Checks that the same weights made all finished shards.

        Args:
          encoder: `encoder` and `pooling`, as each entry records them.
          overwrite: Whether to forget shards that other weights made.

        Raises:
          InputError: Other weights made a finished shard, and `overwrite` is False.
        """
        for k in range(self.num_shards):
            entry = self.read_entry(k)
            if entry is None or all(entry[key] == value for key, value in encoder.items()):
                continue
            if not overwrite:
                raise InputError(
                    f"{self.root / self.shard_path(k)}: made by {entry['encoder']}, "
                    f"{entry['pooling']}; this command has {encoder['encoder']}, "
                    f"{encoder['pooling']}: the weights changed; pass --overwrite to start again"
                )
            self.sidecar.unlink(missing_ok=True)
            self._entry_file(k).unlink(missing_ok=True)

    def shard_path(self, k: int) -> str:
        """Returns the path of shard `k`, relative to the output folder."""
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
        if not self._entry_file(k).is_file():
            return None
        entry: dict[str, Any] = json.loads(self._entry_file(k).read_text())
        if entry["export"] != self._key:  # written by a worker that still has other options
            return None
        files = [entry["shard"], entry.get("ids")]  # an npy shard has its ids in a second file
        if all(self._is_intact(file, check) for file in files if file):
            return entry
        return None

    def _is_intact(self, file: Mapping[str, Any], check: bool) -> bool:
        path = self.root / file["file"]
        if not path.is_file() or not check:
            return path.is_file()
        return sha256_of_file(path) == file["sha256"]

    def write_entry(self, k: int, entry: Mapping[str, Any]) -> None:
        """Records that shard `k` is finished."""
        write_json(self._entry_file(k), {"export": self._key, **entry})

    def remove_temporary_files(self, k: int | None = None) -> None:
        """Removes the incomplete files of a killed worker.

        Args:
          k: Index of a shard; default all shards of the node type.
        """
        patterns = f"{self.stem}.json", f"{self.stem}-?????-of-?????.*"
        if k is not None:
            patterns = f"{Path(self.shard_path(k)).stem}.*", self._entry_file(k).name
        for folder in (self.root / "nodes", self._fingerprint_file.parent):
            for pattern in patterns:
                for path in folder.glob(f".{pattern}.*.tmp"):
                    path.unlink(missing_ok=True)


def _difference(stored: Mapping[str, Any] | None, current: Mapping[str, Any]) -> str:
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
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise InputError(f"--shard {shard}: write it as i/n with i < n, as in 0/4")
    return int(i), int(n)
