"""What an interrupted export or projection has already done, so that it goes on where it stopped.

    FOLDER/.export/<type>.json                       what is being written: the fingerprint
    FOLDER/.export/<type>-00000-of-00008.json        one finished shard: its checksum, its failures

Each file is written atomically, a shard's entry after the shard itself; workers never write the
same file, so they need no lock.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge_jax.data.dataset import file_name, shard_file
from bridge_jax.data.files import sha256_of_file, write_json
from bridge_jax.errors import InputError


class Journal:
    """The journal of one node type's export.

    Attributes:
      root: the output folder.
      stem: the node type as a file name.
      suffix: of the shards.
      sidecar: the file that completes the export.
      total: shards, once `open` has been called.
    """

    def __init__(self, root: Path, node_type: str, suffix: str = ".tfrecord") -> None:
        self.root = root
        self.stem = file_name(node_type)
        self.suffix = suffix
        self.sidecar = root / "nodes" / f"{self.stem}.json"
        self.total = 0
        self._key = ""
        self._head = root / ".export" / f"{self.stem}.json"

    def open(self, fingerprint: Mapping[str, Any], total: int, overwrite: bool) -> None:
        """Start an export, or continue one with the same fingerprint.

        Args:
          fingerprint: the input and every option that the result depends on.
          total: how many shards there are.
          overwrite: replace an export with another fingerprint.

        Raises:
          InputError: the folder holds another export of this type, or is a dataset.
        """
        self.total = total
        if (self.root / "manifest.json").exists():
            raise InputError(
                f"{self.root}: is a dataset directory; export to another folder and import it again"
            )
        text = json.dumps(fingerprint, sort_keys=True).encode()
        self._key = hashlib.sha256(text).hexdigest()[:16]
        found = json.loads(self._head.read_text()) if self._head.is_file() else None
        if found == dict(fingerprint):
            return
        done = [*self._head.parent.glob(f"{self.stem}-?????-of-?????.json")]
        done += [*self.root.glob(f"nodes/{self.stem}-?????-of-?????.*"), self.sidecar]
        if not overwrite and any(p.exists() for p in done):
            other = [
                f"{k} {found.get(k)!r} where this command has {v!r}"
                for k, v in fingerprint.items()
                if found and found.get(k) != v
            ]
            held = f"with {'; '.join(other)}" if other else "of unknown origin"
            raise InputError(
                f"{self.root}: holds an export of {self.stem} {held}; pass --overwrite to replace "
                "it, or choose another --output"
            )
        self.sidecar.unlink(missing_ok=True)  # first: it vouches for the rest
        for path in done:
            path.unlink(missing_ok=True)
        write_json(self._head, dict(fingerprint))

    def pin(self, made: Mapping[str, str], overwrite: bool) -> None:
        """Make sure that all finished shards were made by the weights at hand.

        Args:
          made: `encoder` and `pooling` as every entry records them.
          overwrite: forget shards made by others.

        Raises:
          InputError: a finished shard was made by others.
        """
        for k in range(self.total):
            entry = self.read(k)
            if entry is None or all(entry[key] == value for key, value in made.items()):
                continue
            if not overwrite:
                raise InputError(
                    f"{self.root / self.shard(k)}: made by {entry['encoder']}, {entry['pooling']}; "
                    f"this command has {made['encoder']}, {made['pooling']}: the weights changed; "
                    "pass --overwrite to start again"
                )
            self.sidecar.unlink(missing_ok=True)
            self._entry(k).unlink(missing_ok=True)

    def shard(self, k: int) -> str:
        """The path of shard `k` within the output folder."""
        return str(Path(shard_file("nodes", self.stem, k, self.total)).with_suffix(self.suffix))

    def _entry(self, k: int) -> Path:
        return self.root / ".export" / f"{Path(self.shard(k)).stem}.json"

    def read(self, k: int, check: bool = False) -> dict[str, Any] | None:
        """The entry of shard `k`, or None where it is not finished.

        Args:
          k: the shard.
          check: compare the shard's bytes with the checksum, not only whether it is there.
        """
        if not self._entry(k).is_file():
            return None
        entry: dict[str, Any] = json.loads(self._entry(k).read_text())
        if entry["export"] != self._key:  # a worker with other options is still at it
            return None
        files = [entry["shard"], entry.get("ids")]  # an npy shard has its ids in a second file
        if all(self._sound(file, check) for file in files if file):
            return entry
        return None

    def _sound(self, file: Mapping[str, Any], check: bool) -> bool:
        path = self.root / file["file"]
        if not path.is_file() or not check:
            return path.is_file()
        return sha256_of_file(path) == file["sha256"]

    def write(self, k: int, entry: Mapping[str, Any]) -> None:
        """Record that shard `k` is finished."""
        write_json(self._entry(k), {"export": self._key, **entry})

    def sweep(self, k: int | None = None) -> None:
        """Remove what a killed worker left half-written: of shard `k`, or of the whole type."""
        names = f"{self.stem}.json", f"{self.stem}-?????-of-?????.*"
        if k is not None:
            names = f"{Path(self.shard(k)).stem}.*", self._entry(k).name
        for folder in (self.root / "nodes", self._head.parent):
            for name in names:
                for path in folder.glob(f".{name}.*.tmp"):
                    path.unlink(missing_ok=True)


def parse_shard(shard: str) -> tuple[int, int]:
    """Parses the share of one worker.

    Args:
      shard: `i/n`, e.g. `0/4`: worker i of n.

    Returns:
      i and n.

    Raises:
      InputError: Not of this form, or i is not below n.
    """
    i, _, n = shard.partition("/")
    if not (i.isdigit() and n.isdigit() and int(i) < int(n)):
        raise InputError(f"--shard {shard}: write it as i/n with i < n, as in 0/4")
    return int(i), int(n)
