"""Scores of knowledge-graph embedding models that were trained with PyKEEN.

`tools.train_pykeen` writes a folder with `embeddings.json` (the model and its dataset) and
`embeddings.npz` (the vectors). The seven models and their scores, for a query h, r and a tail t:

    TransE    -|h + r - t|                          DistMult  sum h r t
    TransH    -|h' + r - t'|, e' = e - (e.w) w      ComplEx   Re sum h r conj(t)
    TransD    -|h' + r - t'|^2, e' = e + (e.f) g    RotatE    -|h r - t|, |r| = 1
    TransR    -|h' + r - t'|, e' = e M

in the variants of PyKEEN 1.11, where e' of TransD and TransR has at most length 1. Each triple type
is a relation of its own, so that both directions of a fact predict a tail. A node that training has
not seen has no useful vector.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int

from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.data.graph import Graph, TripleType
from bridge_jax.errors import InputError, unknown
from bridge_jax.evaluation.baselines import KGE_MODELS

MODEL_FILE, VECTORS_FILE = "embeddings.json", "embeddings.npz"
Vectors = Mapping[str, np.ndarray]


class KGEScorer:
    """Scores of a trained knowledge-graph embedding model.

    Attributes:
      name: Name of the model, one of `KGE_MODELS`.
    """

    def __init__(
        self, model: str, norm: int, vectors: Vectors, graph: Graph, triple_types: Sequence[str]
    ) -> None:
        """Stores the vectors.

        Args:
          model: Name of the model, one of `KGE_MODELS`.
          norm: Norm of its distance, 1 or 2; ignored by DistMult and ComplEx.
          vectors: `entity_0`, `entity_1`, … `[nodes, …]` in the order of the global ids, and
            `relation_0`, … `[triple types, …]`.
          graph: The graph of the dataset.
          triple_types: Triple types (as text) in the order of the relations.

        Raises:
          InputError: The model is unknown, or the vectors do not fit the graph.
        """
        if model not in KGE_MODELS:
            raise unknown("embedding model", model, KGE_MODELS, "this version")
        self.name = model
        self._graph, self._vectors = graph, vectors
        self._relation_ids = {triple_type: i for i, triple_type in enumerate(triple_types)}
        sizes = {"entity": int(graph.offsets[-1]), "relation": len(triple_types)}
        for name, value in vectors.items():
            expected = sizes[name.partition("_")[0]]
            if len(value) != expected:
                raise InputError(
                    f"{model}: {name} has {len(value)} rows; the dataset needs {expected}; train "
                    "the model again with tools.train_pykeen"
                )
        self._score = jax.jit(partial(_score, model, norm))

    @classmethod
    def load(cls, folder: str | Path, graph: Graph, manifest: str) -> "KGEScorer":
        """Reads a folder written by `save`.

        Args:
          folder: Folder to read.
          graph: The graph of the dataset.
          manifest: Hash of the dataset's manifest.

        Raises:
          InputError: The folder is damaged, or its model belongs to another dataset.
        """
        path = Path(folder) / MODEL_FILE
        try:
            about = json.loads(path.read_text())
            with np.load(Path(folder) / VECTORS_FILE, allow_pickle=False) as arrays:
                vectors = dict(arrays)
            model, norm, triple_types = about["model"], about["norm"], about["triple_types"]
            trained_on = about["manifest_sha256"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as e:
            raise InputError(
                f"{folder}: the embeddings cannot be read ({e}); train them again with "
                "tools.train_pykeen"
            ) from e
        if trained_on != manifest:
            raise InputError(
                f"{folder}: the embeddings belong to another dataset (manifest {trained_on[:12]}; "
                f"the run's has {manifest[:12]}); train them again with tools.train_pykeen"
            )
        return cls(model, norm, vectors, graph, triple_types)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Scores every tail for each head."""
        first_head, first_tail = (
            int(self._graph.offsets[self._graph.type_id(node_type)])
            for node_type in (triple_type.head, triple_type.tail)
        )
        num_tails = self._graph.counts[self._graph.type_id(triple_type.tail)]
        entities, relations = (
            [v for name, v in sorted(self._vectors.items()) if name.startswith(prefix)]
            for prefix in ("entity", "relation")
        )
        return self._score(
            [v[first_head + heads] for v in entities],
            [v[self._relation_ids[str(triple_type)]] for v in relations],
            [v[first_tail : first_tail + num_tails] for v in entities],
        )


def save(folder: str | Path, about: Mapping[str, Any], vectors: Vectors) -> None:
    """Writes a model's vectors, then its description, whose presence means complete.

    Args:
      folder: Folder to write; created if missing.
      about: Content of `embeddings.json`: `model`, `norm`, `triple_types`, `manifest_sha256`, and
        anything else to keep.
      vectors: Arrays as `KGEScorer` takes them.
    """
    with atomic_file(Path(folder) / VECTORS_FILE) as path, open(path, "wb") as handle:
        np.savez(handle, allow_pickle=False, **vectors)
    write_json(Path(folder) / MODEL_FILE, dict(about))


def _score(
    model: str, norm: int, heads: list[Array], relation: list[Array], tails: list[Array]
) -> Float32[Array, "b n"]:
    """Scores `b` heads against `n` tails under one relation."""
    with jax.default_matmul_precision("highest"):
        h, t = (_project(model, norm, e, relation) for e in (heads, tails))
        if model == "DistMult":
            return (h * relation[0]) @ t.T
        if model == "ComplEx":
            return jnp.real((h * relation[0]) @ jnp.conj(t).T)
        if model == "RotatE":
            query = h * relation[0]
        else:
            query = h + relation[1 if model == "TransH" else 0]
        # One head at a time: all differences at once would be `b n d` numbers.
        return -jax.lax.map(lambda q: _length(model, norm, q - t), query)


def _project(model: str, norm: int, entity: list[Array], relation: list[Array]) -> Array:
    """Computes e' of the entities under the relation."""
    e = entity[0]
    if model == "TransH":
        return e - (e @ relation[0])[:, None] * relation[0]
    if model == "TransD":
        return _clip_length(e + (e * entity[1]).sum(-1, keepdims=True) * relation[1], 2)
    if model == "TransR":
        return _clip_length(e @ relation[1], norm)
    return e


def _clip_length(x: Array, norm: int) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, ord=norm, axis=-1, keepdims=True), 1.0)


def _length(model: str, norm: int, x: Array) -> Array:
    magnitude = jnp.abs(x)
    if norm == 1:
        return magnitude.sum(-1)
    squares = (magnitude * magnitude).sum(-1)
    return squares if model == "TransD" else jnp.sqrt(squares)
