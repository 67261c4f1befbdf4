"""Knowledge-graph embeddings by PyKEEN: trained on a graph, and read out as plain arrays."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from bridge_jax.data.graph import Graph, TripleType, known_positives
from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines.kge import Embeddings
from bridge_jax.evaluation.evaluators.retrieval import thin
from bridge_jax.evaluation.ranking import rank

BILINEAR = ("DistMult", "ComplEx")
_QUERIES = 2000  # validation queries a triple type, at most


def train(
    graph: Graph,
    model: str,
    setting: Mapping[str, Any],
    candidates: str,
    epochs: int,
    batch_size: int,
    seed: int,
) -> tuple[int, dict[str, np.ndarray]]:
    """Train one model.

    Args:
      graph: its training facts are read.
      model: one of `baselines.EMBEDDING_MODELS`.
      setting: `embedding_dim` (None for the model's default) and `learning_rate`.
      candidates: `sampled` or `all`; see `tools.train_pykeen`.
      epochs: over all directed training triples.
      batch_size: triples, or with `all` (head, relation) pairs.
      seed: of the initialisation and the order.

    Returns:
      The norm of its distance (2 where it has none), and its vectors as `Embeddings` takes them.

    Raises:
      InputError: PyKEEN is not installed.
    """
    try:
        import pykeen.models
        import pykeen.training
        import torch
        from pykeen.triples import CoreTriplesFactory
        from pykeen.utils import set_random_seed
    except ImportError as e:
        raise InputError(
            "training embeddings needs PyKEEN: pip install 'bridge_jax[baselines]'"
        ) from e
    set_random_seed(seed)
    triples = CoreTriplesFactory.create(
        torch.from_numpy(directed_triples(graph)),
        num_entities=int(graph.offsets[-1]),
        num_relations=len(graph.triple_types),
    )
    options: dict[str, Any] = {}
    if setting["embedding_dim"]:
        options["embedding_dim"] = setting["embedding_dim"]
    loop: Any = pykeen.training.SLCWATrainingLoop
    if candidates == "all":
        options["loss"] = "crossentropy"
        loop = pykeen.training.LCWATrainingLoop
        if model in BILINEAR:
            options["regularizer"] = None
        if model == "DistMult":
            options["entity_constrainer"] = None  # unit vectors could not be sure of anything
        if model == "ComplEx":  # its own start, of unit variance, is sure of everything
            small = partial(torch.nn.init.normal_, std=0.01)
            options |= {"entity_initializer": small, "relation_initializer": small}
    made = pykeen.models.model_resolver.make(
        model, options, triples_factory=triples, random_seed=seed
    )
    if candidates == "all" and model in BILINEAR:
        made.score_t = partial(score_tails, made)
    loop(
        model=made,
        triples_factory=triples,
        optimizer="adam",
        optimizer_kwargs={"lr": setting["learning_rate"]},
    ).train(
        triples_factory=triples,
        num_epochs=epochs,
        batch_size=batch_size,
        use_tqdm=sys.stderr.isatty(),
        use_tqdm_batch=False,
    )
    return vectors_of(made)


def score_tails(model: Any, hr_batch: Any, **_: Any) -> Any:
    """Every tail's score as one matrix product, float `[b, nodes]`, for DistMult and ComplEx.

    PyKEEN's own way to the same numbers holds `b x nodes x dim` floats: 25 GB for OpenBioKG.
    """
    import torch

    h, r, t = model._get_representations(h=hr_batch[:, 0], r=hr_batch[:, 1], t=None, mode=None)
    query = h * r
    if query.is_complex():  # the real part of <query, conjugate of t>
        query, t = (torch.view_as_real(x).flatten(-2) for x in (query, t))
    return query @ t.T


def vectors_of(model: Any) -> tuple[int, dict[str, np.ndarray]]:
    """What `Embeddings` takes of a PyKEEN model: its norm (2 where there is none) and arrays."""
    vectors = {}
    for part in ("entity", "relation"):
        for i, representation in enumerate(getattr(model, f"{part}_representations")):
            vectors[f"{part}_{i}"] = representation(indices=None).detach().cpu().numpy()
    return int(getattr(model.interaction, "p", 2)), vectors


def directed_triples(graph: Graph) -> np.ndarray:
    """Every training fact in both directions: int64 `[n, 3]` of head, triple type, tail."""
    parts = []
    starts = dict(zip(graph.node_types, graph.offsets.tolist(), strict=False))
    for number, (kind, pairs) in enumerate(graph.pairs(["train"]).items()):
        relation = np.full(len(pairs.heads), number)
        parts.append(
            np.stack(
                [pairs.heads + starts[kind.head], relation, pairs.tails + starts[kind.tail]], 1
            )
        )
    return np.concatenate(parts).astype(np.int64)


def validate(graph: Graph, model: str, norm: int, vectors: Mapping[str, np.ndarray]) -> float:
    """Macro MRR on a sample of the validation queries; 0 where there is none."""
    scorer = Embeddings(model, norm, vectors, graph, [str(k) for k in graph.triple_types])
    known: Mapping[TripleType, Any] = known_positives(graph, ["train", "validation"])
    found = []
    for kind, queries in graph.queries("validation").items():
        if len(queries.heads):
            ranks = rank(scorer, kind, thin(queries, _QUERIES), known[kind])
            found.append(float((1 / ranks.realistic).mean()))
    return float(np.mean(found)) if found else 0.0
