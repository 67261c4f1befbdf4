"""The tails of a triple type as an index that plain FAISS opens."""

from pathlib import Path

import numpy as np

from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import TripleType
from bridge_jax.errors import InputError
from bridge_jax.retrieval.neighbours import Neighbours


def export_faiss(found: Neighbours, triple_type: TripleType, step: int, folder: Path) -> str:
    """Write a triple type's tails as `tails.faiss` beside `tails.tsv` and `about.json`.

    The index is an `IndexFlatIP` whose inner products with a query are the bridge's scores: a key
    is `[scale * z_t, prior]` and a query `[bridge(h, r), 1]`.

    Args:
      found: what a trained bridge answers.
      triple_type: the triple type.
      step: of the checkpoint, for the record.
      folder: where the files go.

    Returns:
      What was written, for people.

    Raises:
      InputError: FAISS is not installed.
    """
    try:
        import faiss
    except ImportError as e:
        raise InputError("--export faiss needs FAISS: pip install 'bridge_jax[faiss]'") from e
    nodes, keys, prior = (
        found.names(triple_type.tail),
        found.keys(triple_type.tail),
        found.prior(triple_type),
    )
    keys = np.float32(found.scale()) * keys
    bias = np.zeros(len(keys), np.float32) if prior is None else prior
    index = faiss.IndexFlatIP(keys.shape[1] + 1)
    index.add(np.concatenate([keys, bias[:, None]], axis=1))
    with atomic_file(folder / "tails.faiss") as temporary:
        faiss.write_index(index, str(temporary))
    with atomic_file(folder / "tails.tsv") as temporary:
        lines = (f"{i}\t{name}\n" for i, name in zip(nodes.ids, nodes.names, strict=True))
        temporary.write_text("id\tname\n" + "".join(lines), encoding="utf-8")
    about = {
        "triple_type": list(triple_type),
        "step": step,
        "count": len(keys),
        "dim": keys.shape[1] + 1,
        "key": "[scale * projected tail, prior]; row i is line i of tails.tsv after its header",
        "query": "[bridge.project(x, source, relation, target), 1]; the inner product is the score",
    }
    write_json(folder / "about.json", about)
    return f"{len(keys):,} vectors of {triple_type} written to {folder}/tails.{{faiss,tsv}}"
