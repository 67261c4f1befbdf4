"""Knowledge-graph embeddings, trained elsewhere, as scorers: one vector a node, none for new nodes.

`tools.train_pykeen` writes a folder of `embeddings.json` (which model, of which dataset) and
`embeddings.npz` (its vectors). The seven models and their scores, with h, r, t of a query:

    TransE    -|h + r - t|                          DistMult  sum h r t
    TransH    -|h' + r - t'|, e' = e - (e.w) w      ComplEx   Re sum h r conj(t)
    TransD    -|h' + r - t'|^2, e' = e + (e.f) g    RotatE    -|h r - t|, |r| = 1
    TransR    -|h' + r - t'|, e' = e M

in the variants of PyKEEN 1.11: e' of TransD and TransR has at most length 1. A relation is a triple
type, so that both directions of a fact are asked for their tail.
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
from bridge_jax.evaluation.baselines import EMBEDDING_MODELS

MODEL, VECTORS = "embeddings.json", "embeddings.npz"
Vectors = Mapping[str, np.ndarray]


class Embeddings:
    """A trained embedding model; a scorer."""

    def __init__(
        self, model: str, norm: int, vectors: Vectors, graph: Graph, triple_types: Sequence[str]
    ) -> None:
        """Hold the vectors.

        Args:
          model: one of `EMBEDDING_MODELS`.
          norm: of its distance, 1 or 2; unused by DistMult and ComplEx.
          vectors: `entity_0`, `entity_1`, … `[nodes, …]` in the order of the global ids, and
            `relation_0`, … `[kinds, …]`.
          graph: of the dataset.
          kinds: the triple types (as text) in the order of the relations.

        Raises:
          InputError: an unknown model, or vectors that do not fit the graph.
        """
        if model not in EMBEDDING_MODELS:
            raise unknown("embedding model", model, EMBEDDING_MODELS, "this version")
        self.name = model
        self._graph, self._vectors = graph, vectors
        self._relation = {triple_type: i for i, triple_type in enumerate(triple_types)}
        sizes = {"entity": int(graph.offsets[-1]), "relation": len(triple_types)}
        for name, value in vectors.items():
            if len(value) != sizes[name.partition("_")[0]]:
                raise InputError(f"{model}: {name} has {len(value)} rows; {sizes} are needed")
        self._score = jax.jit(partial(_score, model, norm))

    @classmethod
    def load(cls, folder: str | Path, graph: Graph, manifest: str) -> "Embeddings":
        """Read a folder written by `save`.

        Args:
          folder: which.
          graph: of the dataset.
          manifest: hash of the dataset's manifest.

        Raises:
          InputError: damaged, or of another dataset.
        """
        path = Path(folder) / MODEL
        try:
            about = json.loads(path.read_text())
            with np.load(Path(folder) / VECTORS, allow_pickle=False) as arrays:
                vectors = dict(arrays)
            model, norm, triple_types = about["model"], about["norm"], about["triple_types"]
            trained_on = about["manifest_sha256"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as e:
            raise InputError(f"{folder}: these embeddings cannot be read: {e}") from e
        if trained_on != manifest:
            raise InputError(
                f"{folder}: these embeddings are of another dataset (manifest {trained_on[:12]}; "
                f"the run's has {manifest[:12]})"
            )
        return cls(model, norm, vectors, graph, triple_types)

    def __call__(
        self, triple_type: TripleType, heads: Int[np.ndarray, "b"]
    ) -> Float32[jax.Array, "b nodes"]:
        """Score every tail for each head."""
        starts = dict(zip(self._graph.node_types, self._graph.offsets.tolist(), strict=False))
        count = self._graph.counts[self._graph.type_id(triple_type.tail)]
        tails = slice(starts[triple_type.tail], starts[triple_type.tail] + count)
        entities, relation = (
            [v for name, v in sorted(self._vectors.items()) if name.startswith(part)]
            for part in ("entity", "relation")
        )
        return self._score(
            [v[starts[triple_type.head] + heads] for v in entities],
            [v[self._relation[str(triple_type)]] for v in relation],
            [v[tails] for v in entities],
        )


def save(folder: str | Path, about: Mapping[str, Any], vectors: Vectors) -> None:
    """Write a model's description and vectors; the description last, for it means complete."""
    with atomic_file(Path(folder) / VECTORS) as path, open(path, "wb") as handle:
        np.savez(handle, allow_pickle=False, **vectors)
    write_json(Path(folder) / MODEL, dict(about))


def _score(
    model: str, norm: int, heads: list[Array], relation: list[Array], tails: list[Array]
) -> Float32[Array, "b n"]:
    """Scores of `b` heads against `n` tails under one relation."""
    with jax.default_matmul_precision("highest"):
        h, t = (_projected(model, norm, e, relation) for e in (heads, tails))
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


def _projected(model: str, norm: int, entity: list[Array], relation: list[Array]) -> Array:
    """The entities as the relation sees them."""
    e = entity[0]
    if model == "TransH":
        return e - (e @ relation[0])[:, None] * relation[0]
    if model == "TransD":
        return _clamped(e + (e * entity[1]).sum(-1, keepdims=True) * relation[1], 2)
    if model == "TransR":
        return _clamped(e @ relation[1], norm)
    return e


def _clamped(x: Array, norm: int) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, ord=norm, axis=-1, keepdims=True), 1.0)


def _length(model: str, norm: int, x: Array) -> Array:
    size = jnp.abs(x)
    if norm == 1:
        return size.sum(-1)
    squares = (size * size).sum(-1)
    return squares if model == "TransD" else jnp.sqrt(squares)
