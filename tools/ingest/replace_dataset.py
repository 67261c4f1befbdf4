"""Locks the folder of a dataset, and replaces a dataset in it once the new one is complete."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge_jax.data.files import read_json_object, refuse_to_overwrite
from bridge_jax.data.folder_swap import staged_folder
from bridge_jax.data.manifest import file_name, read_manifest
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError

MANIFEST, REJECTS = "manifest.json", "rejects.tsv"
_LISTED = re.compile(r"(nodes|triples|heldout|similarity)/[^/]+\.(tfrecord|tsv\.gz)")
_TFDS = ("dataset_info.json", "features.json")


@contextmanager
def dataset_lock(output: Path, overwrite: bool) -> Iterator[None]:
    """Locks the folder of a dataset against other processes while the context lasts.

    Args:
      output: Dataset directory that will be written.
      overwrite: Whether the command was given `--overwrite`.

    Raises:
      InputError: Another process writes to the folder, or it holds a dataset and `overwrite` is
        False.
    """
    refuse_to_overwrite(output / MANIFEST, overwrite, "a dataset")
    with output_lock(output):
        refuse_to_overwrite(output / MANIFEST, overwrite, "a dataset")
        yield


@contextmanager
def staged_dataset(output: Path) -> Iterator[Path]:
    """Yields an empty folder for a new dataset; on success it replaces the old one in `output`.

    Args:
      output: Dataset directory. Files in it that no dataset or export lists are kept.

    Yields:
      The folder to write to.

    Raises:
      InputError: Another process writes to the directory, or a file of the new dataset has the
        name of one that no dataset or export lists.
      DiskFullError: The disk is full; the old dataset was kept.
    """
    with staged_folder(output, MANIFEST, files_of_dataset, shards_of_exports) as staging:
        yield staging


def files_of_dataset(output: Path) -> set[str]:
    """Returns the files of the dataset in a folder; none if it contains no dataset.

    Of a damaged manifest, all that can still be read counts.
    """
    path = output / MANIFEST
    if not path.is_file():
        return set()
    try:
        manifest = read_manifest(output)
        listed, node_types = manifest.files(), [t.name for t in manifest.node_types]
    except InputError:
        text = path.read_text(encoding="utf-8", errors="replace")
        listed = {f for f in re.findall(r'"file": "([^"\\]+)"', text) if _LISTED.fullmatch(f)}
        node_types = re.findall(r'"name": "([^"\\]+)"', text)
    names = {file_name(node_type) for node_type in node_types}
    files = listed | {f"nodes/{n}.tsv" for n in names}
    files |= {f"nodes/{n}.synonyms.tsv.gz" for n in names}
    builders = ["triples", *(f"nodes/{n}" for n in names)]
    files |= {f"tfds/{builder}/{file}" for builder in builders for file in _TFDS}
    return files | {MANIFEST, REJECTS}


def shards_of_exports(output: Path) -> set[str]:
    """Returns the shards that the sidecars of exports in a folder list.

    A dataset may be imported into the folder of the exported embeddings that it is made from.
    """
    sidecars = (read_json_object(path) for path in output.glob("nodes/*.json"))
    lists = (sidecar.get("shards") for sidecar in sidecars)
    entries = [e for shards in lists if isinstance(shards, list) for e in shards]
    files = {str(e["file"]) for e in entries if isinstance(e, dict) and "file" in e}
    return {f for f in files if _LISTED.fullmatch(f)}
