"""Train a knowledge-graph embedding with PyKEEN, as a rival of the bridge.

    python -m tools.train_pykeen --dataset DATASET --model TransE --output runs/transe
    python -m bridge_jax.evaluate --workdir RUN --compare-with runs/transe

An embedding has one vector a node seen in training, so it is fair on a transductive split
(`tools.import_graph --split transductive`); on another one it can only guess for unseen nodes.

A triple type is a relation and both directions of a fact are trained on, so that every query asks
for a tail. --candidates sampled is the library's default for the model: loss, negatives, dimension.
--candidates all scores every node against each (head, relation) under cross-entropy, the strongest
way to train DistMult and ComplEx. --search N tries the first N settings of one list, the same for
every model, and keeps the best by validation MRR; --dim and --learning-rate name one setting
instead. Vectors are written without pickles.
"""

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bridge_jax import cli
from bridge_jax.data.dataset import read_manifest
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.graph import Graph, TripleType, known_positives, load_graph
from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines import EMBEDDING_MODELS
from bridge_jax.evaluation.baselines.kge import Embeddings
from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
from bridge_jax.evaluation.ranking import rank

CANDIDATES = ("sampled", "all")
# The library's own setting first; None leaves the model's default.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"embedding_dim": None, "learning_rate": 1e-3},
    {"embedding_dim": 256, "learning_rate": 1e-2},
    {"embedding_dim": 256, "learning_rate": 1e-3},
    {"embedding_dim": 64, "learning_rate": 1e-2},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.evaluation.baselines.kge import MODEL, save
    from bridge_jax.experiment.workdir import provenance

    output = Path(args.output)
    refuse_to_overwrite(output / MODEL, args.overwrite, "trained embeddings")
    if not 1 <= args.search <= len(SETTINGS):
        raise InputError(f"--search {args.search} is not between 1 and {len(SETTINGS)}")
    if min(args.epochs, args.batch_size, args.dim or 1) < 1:
        raise InputError("--epochs, --batch-size and --dim must be at least 1")
    settings = SETTINGS[: args.search]
    if args.dim or args.learning_rate:
        if args.search > 1:
            raise InputError("--search tries a list; --dim and --learning-rate name one setting")
        settings = ({"embedding_dim": args.dim, "learning_rate": args.learning_rate or 1e-3},)
    manifest = read_manifest(args.dataset)
    graph = load_graph(args.dataset, manifest)
    if graph.heldout:
        print(
            f"warning: {args.dataset} has a {manifest.split['rule']} split, whose test asks about "
            "unseen nodes: an embedding knows nothing of them",
            file=sys.stderr,
        )
    tried, best = [], None
    for setting in settings:
        start = time.monotonic()
        norm, vectors = train(
            graph, args.model, setting, args.candidates, args.epochs, args.batch_size, args.seed
        )
        seconds = time.monotonic() - start
        mrr = validate(graph, args.model, norm, vectors)
        shown = ", ".join(f"{k} {v or 'default'}" for k, v in setting.items())
        print(f"{args.model}: {shown}: validation MRR {mrr:.4f}, {seconds:.0f} s", file=sys.stderr)
        tried.append({**setting, "validation_mrr": mrr, "seconds": seconds})
        if best is None or mrr > best[0]:
            best = mrr, norm, vectors
    assert best is not None
    about = {
        "model": args.model,
        "norm": best[1],
        "triple_types": [str(k) for k in graph.triple_types],
        "manifest_sha256": manifest.hash(),
        "validation_mrr": best[0],
        "search": tried,
        "candidates": args.candidates,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "seed": args.seed,
        **provenance(),
        "pykeen": importlib.metadata.version("pykeen"),
    }
    save(output, about, best[2])
    print(f"validation MRR {best[0]:.4f}; written to {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.train_pykeen", __doc__)
    read = parser.add_argument_group("what is read")
    write = parser.add_argument_group("what is written")
    how = parser.add_argument_group("how")
    read.add_argument("--dataset", required=True, help="a dataset directory")
    how.add_argument("--model", choices=EMBEDDING_MODELS, required=True, help="which one")
    write.add_argument("--output", required=True, help="the folder to write")
    how.add_argument(
        "--candidates",
        choices=CANDIDATES,
        default="sampled",
        help="what a fact is told from; default: sampled",
    )
    how.add_argument(
        "--epochs", type=int, default=50, help="over the training triples; default: 50"
    )
    how.add_argument("--batch-size", type=int, default=1024, help="triples a step; default: 1024")
    how.add_argument(
        "--search",
        type=int,
        default=1,
        metavar="N",
        help=f"settings to try, 1 to {len(SETTINGS)}; default: 1, the library's own",
    )
    how.add_argument("--dim", type=int, metavar="D", help="of a vector; default: the model's own")
    how.add_argument("--learning-rate", type=float, metavar="X", help="of Adam; default: 0.001")
    how.add_argument(
        "--seed", type=int, default=0, help="of the first vectors and the order; default: 0"
    )
    write.add_argument("--overwrite", action="store_true", help="replace trained embeddings")
    return parser


if __name__ == "__main__":
    cli.run(main)


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
            ranks = rank(scorer, kind, subsample_queries(queries, _QUERIES), known[kind])
            found.append(float((1 / ranks.realistic).mean()))
    return float(np.mean(found)) if found else 0.0
