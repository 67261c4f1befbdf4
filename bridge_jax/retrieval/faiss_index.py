"""Export of a triple type's tails as a FAISS index."""

from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax.data.files import atomic_file, read_json_object, write_json
from bridge_jax.data.folder_swap import staged_files
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.retrieval.retriever import Retriever

_FILES = ("tails.faiss", "tails.tsv", "about.json")


def export_faiss(retriever: Retriever, triple_type: TripleType, step: int, folder: Path) -> str:
    """Writes the tails of a triple type as `tails.faiss`, `tails.tsv` and, last, `about.json`.

    The index is an `IndexFlatIP`. A key is `[scale * z_t, prior]` and a query is
    `[bridge(h, r), 1]`, so that their inner product is the score of the bridge.

    Args:
      retriever: Retriever of a trained bridge.
      triple_type: Triple type whose tails are written.
      step: Checkpoint step, recorded in `about.json`.
      folder: Folder to write; an index in it is replaced once the new one is complete.

    Returns:
      A message for the terminal.

    Raises:
      InputError: FAISS is not installed, or another process writes to the folder.
      OSError: The index cannot be written.
    """
    try:
        import faiss
    except ImportError as e:
        raise InputError("--export faiss needs FAISS: pip install 'bridge_jax[faiss]'") from e
    if (folder / "about.json").exists() and "triple_type" not in read_json_object(
        folder / "about.json"
    ):
        raise InputError(f"{folder}/about.json: is not of an index; choose another --output")
    nodes = retriever.node_index(triple_type.tail)
    keys = np.float32(retriever.logit_scale()) * retriever.project_tails(triple_type.tail)
    prior = retriever.tail_prior(triple_type)
    bias = np.zeros(len(keys), np.float32) if prior is None else prior
    index = faiss.IndexFlatIP(keys.shape[1] + 1)
    index.add(np.concatenate([keys, bias[:, None]], axis=1))
    lines = (f"{i}\t{name}\n" for i, name in zip(nodes.ids, nodes.names, strict=True))
    about = {
        "triple_type": list(triple_type),
        "step": step,
        "count": len(keys),
        "dim": keys.shape[1] + 1,
        "key": "[scale * projected tail, prior]; row i is line i of tails.tsv after its header",
        "query": "[bridge.project(x, source, relation, target), 1]; the inner product is the score",
    }
    with staged_files(folder, _FILES) as staging:
        with atomic_file(staging / "tails.faiss") as temporary:
            _write_index(faiss, index, temporary)
        with atomic_file(staging / "tails.tsv") as temporary:
            temporary.write_text("id\tname\n" + "".join(lines), encoding="utf-8")
        write_json(staging / "about.json", about)
    return f"{len(keys):,} vectors of {triple_type} written to {folder}/tails.{{faiss,tsv}}"


def _write_index(faiss: Any, index: Any, path: Path) -> None:
    """Writes an index; FAISS would report a full disk as a `RuntimeError`."""
    with open(path, "wb") as handle:
        handle.write(memoryview(faiss.serialize_index(index)))
