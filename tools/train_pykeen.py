"""Train a knowledge-graph embedding with PyKEEN, to be compared with the bridge.

    python -m tools.train_pykeen --dataset DATASET --model TransE --output runs/transe
    python -m bridge_jax.evaluate --workdir RUN --compare-with runs/transe

An embedding model has one vector for each node seen in training, so the comparison is fair on a
transductive split (`tools.import_graph --split transductive`). On other splits it can only guess
for unseen nodes.

Each triple type is a relation of its own, and both directions of a fact are training triples, so
that every query asks for a tail. With --candidates sampled, loss, negatives and dimension are
PyKEEN's defaults for the model. With --candidates all, every node is scored against each (head,
relation) under cross-entropy, which suits DistMult and ComplEx best. --search N tries the first N
settings of a list that is the same for all models, and keeps the best by validation MRR; --dim and
--learning-rate name one setting instead. The vectors are written without pickles.
"""

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridge_jax import cli
from bridge_jax.data.files import refuse_to_overwrite
from bridge_jax.data.folder_swap import staged_files
from bridge_jax.data.graph import Graph, known_positives, load_graph
from bridge_jax.data.manifest import read_manifest
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines import KGE_MODELS

BILINEAR = ("DistMult", "ComplEx")
CANDIDATES = ("sampled", "all")
# PyKEEN's own setting first; None stands for the model's default.
SEARCH_SPACE: tuple[dict[str, Any], ...] = (
    {"embedding_dim": None, "learning_rate": 1e-3},
    {"embedding_dim": 256, "learning_rate": 1e-2},
    {"embedding_dim": 256, "learning_rate": 1e-3},
    {"embedding_dim": 64, "learning_rate": 1e-2},
)
_VALIDATION_QUERIES = 2000  # per triple type, at most


class TrainedEmbeddings(NamedTuple):
    """Vectors of a trained model.

    Attributes:
      norm: Norm of the model's distance, 1 or 2; 2 if it has none.
      vectors: Arrays by name (`entity_0`, `relation_0`, …), as
        `bridge_jax.evaluation.baselines.kge.KGEScorer` takes them.
    """

    norm: int
    vectors: dict[str, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    from bridge_jax.evaluation.baselines.kge import MODEL_FILE

    output = Path(args.output)
    settings = _settings(args)
    refuse_to_overwrite(output / MODEL_FILE, args.overwrite, "trained embeddings")
    with output_lock(output):  # during training too, which would be lost otherwise
        refuse_to_overwrite(output / MODEL_FILE, args.overwrite, "trained embeddings")
        return _train_and_save(args, output, settings)


def _train_and_save(
    args: argparse.Namespace, output: Path, settings: Sequence[dict[str, Any]]
) -> int:
    """Trains a model with each setting and writes the best one."""
    from bridge_jax.evaluation.baselines.kge import MODEL_FILE, VECTORS_FILE, save
    from bridge_jax.experiment.workdir import provenance

    manifest = read_manifest(args.dataset)
    graph = load_graph(args.dataset, manifest)
    if graph.heldout:
        print(
            f"warning: {args.dataset} has a {manifest.split['rule']} split, whose test queries are "
            "about unseen nodes: embeddings know nothing about them",
            file=sys.stderr,
        )
    trials: list[dict[str, Any]] = []
    best_mrr, best = -1.0, None
    for setting in settings:
        start = time.monotonic()
        model = train(
            graph, args.model, setting, args.candidates, args.epochs, args.batch_size, args.seed
        )
        seconds = time.monotonic() - start
        mrr = validation_mrr(graph, args.model, model)
        shown = ", ".join(f"{k} {v or 'default'}" for k, v in setting.items())
        print(f"{args.model}: {shown}: validation MRR {mrr:.4f}, {seconds:.0f} s", file=sys.stderr)
        trials.append({**setting, "validation_mrr": mrr, "seconds": seconds})
        if mrr > best_mrr:
            best_mrr, best = mrr, model
    assert best is not None
    description = {
        "model": args.model,
        "norm": best.norm,
        "triple_types": [str(triple_type) for triple_type in graph.triple_types],
        "manifest_sha256": manifest.hash(),
        "validation_mrr": best_mrr,
        "search": trials,
        "candidates": args.candidates,
        "epochs": args.epochs,
        "batch_size": args.batch_size,
        "seed": args.seed,
        **provenance(),
        "pykeen": importlib.metadata.version("pykeen"),
    }
    with staged_files(output, (VECTORS_FILE, MODEL_FILE)) as staging:
        save(staging, description, best.vectors)
    print(f"validation MRR {best_mrr:.4f}; written to {output}")
    return 0


def train(
    graph: Graph,
    model: str,
    setting: Mapping[str, Any],
    candidates: str,
    epochs: int,
    batch_size: int,
    seed: int,
) -> TrainedEmbeddings:
    """Trains one model on the training facts of a graph.

    Args:
      graph: Split graph.
      model: Name from `bridge_jax.evaluation.baselines.KGE_MODELS`.
      setting: `embedding_dim` (None for the model's default) and `learning_rate`.
      candidates: `sampled` for PyKEEN's default loss and negatives, or `all` for cross-entropy
        over all nodes.
      epochs: Number of passes over the training triples.
      batch_size: Training triples per step, or (head, relation) pairs if `candidates` is `all`.
      seed: Seed of the initialisation and of the order of the triples.

    Returns:
      The vectors of the trained model.

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
            # Scores of unit vectors are too small for a confident softmax.
            options["entity_constrainer"] = None
        if model == "ComplEx":
            # PyKEEN's initial vectors, of unit variance, start with a saturated softmax.
            small = partial(torch.nn.init.normal_, std=0.01)
            options |= {"entity_initializer": small, "relation_initializer": small}
    pykeen_model = pykeen.models.model_resolver.make(
        model, options, triples_factory=triples, random_seed=seed
    )
    if candidates == "all" and model in BILINEAR:
        pykeen_model.score_t = partial(score_tails, pykeen_model)
    loop(
        model=pykeen_model,
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
    return extract_embeddings(pykeen_model)


def score_tails(model: Any, hr_batch: Any, **_: Any) -> Any:
    """Scores all tails of DistMult or ComplEx with one matrix product.

    PyKEEN's `score_t` gives the same numbers from an intermediate array of `b x nodes x dim`
    floats, which takes 25 GB for OpenBioKG.

    Args:
      model: PyKEEN model.
      hr_batch: Ids of heads and relations, int64 `[b, 2]`.

    Returns:
      Scores, float `[b, nodes]`.
    """
    import torch

    h, r, t = model._get_representations(h=hr_batch[:, 0], r=hr_batch[:, 1], t=None, mode=None)
    query = h * r
    if query.is_complex():  # the real part of <query, conjugate of t>
        query, t = (torch.view_as_real(x).flatten(-2) for x in (query, t))
    return query @ t.T


def extract_embeddings(model: Any) -> TrainedEmbeddings:
    """Copies the vectors of a PyKEEN model to numpy arrays."""
    vectors = {}
    for prefix in ("entity", "relation"):
        for i, representation in enumerate(getattr(model, f"{prefix}_representations")):
            vectors[f"{prefix}_{i}"] = representation(indices=None).detach().cpu().numpy()
    return TrainedEmbeddings(int(getattr(model.interaction, "p", 2)), vectors)


def directed_triples(graph: Graph) -> np.ndarray:
    """Lists the training facts of a graph in both directions.

    Returns:
      Global head id, index of the triple type and global tail id, int64 `[n, 3]`.
    """
    offsets = dict(zip(graph.node_types, graph.offsets.tolist(), strict=False))
    triples = []
    for index, (triple_type, pairs) in enumerate(graph.pairs(["train"]).items()):
        heads = pairs.heads + offsets[triple_type.head]
        tails = pairs.tails + offsets[triple_type.tail]
        triples.append(np.stack([heads, np.full(len(heads), index), tails], axis=1))
    return np.concatenate(triples).astype(np.int64)


def validation_mrr(graph: Graph, model: str, embeddings: TrainedEmbeddings) -> float:
    """Computes the macro MRR on at most 2,000 validation queries per triple type.

    Args:
      graph: Split graph.
      model: Name of the model.
      embeddings: Vectors of the trained model.

    Returns:
      Mean over triple types of the filtered MRR; 0 if there are no validation queries.
    """
    from bridge_jax.evaluation.baselines.kge import KGEScorer
    from bridge_jax.evaluation.evaluators.retrieval import subsample_queries
    from bridge_jax.evaluation.ranking import rank

    triple_types = [str(triple_type) for triple_type in graph.triple_types]
    scorer = KGEScorer(model, embeddings.norm, embeddings.vectors, graph, triple_types)
    known = known_positives(graph, ["train", "validation"])
    values = []
    for triple_type, queries in graph.queries("validation").items():
        if len(queries.heads):
            sample = subsample_queries(queries, _VALIDATION_QUERIES)
            ranks = rank(scorer, triple_type, sample, known[triple_type])
            values.append(float((1 / ranks.realistic).mean()))
    return float(np.mean(values)) if values else 0.0


def _settings(args: argparse.Namespace) -> tuple[dict[str, Any], ...]:
    """The settings to try: the start of the search space, or the one named by options."""
    if not 1 <= args.search <= len(SEARCH_SPACE):
        raise InputError(f"--search {args.search} is not between 1 and {len(SEARCH_SPACE)}")
    if min(args.epochs, args.batch_size, args.dim or 1) < 1:
        raise InputError("--epochs, --batch-size and --dim must be at least 1")
    if not (args.dim or args.learning_rate):
        return SEARCH_SPACE[: args.search]
    if args.search > 1:
        raise InputError("--search tries a list; --dim and --learning-rate name one setting")
    return ({"embedding_dim": args.dim, "learning_rate": args.learning_rate or 1e-3},)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("tools.train_pykeen", __doc__)
    inputs = parser.add_argument_group("inputs")
    inputs.add_argument("--dataset", required=True, help="dataset directory")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", choices=KGE_MODELS, required=True, help="embedding model of PyKEEN"
    )
    model.add_argument(
        "--dim", type=int, metavar="D", help="dimension of the vectors; default: the model's own"
    )
    model.add_argument(
        "--candidates",
        choices=CANDIDATES,
        default="sampled",
        help="tails that a fact is contrasted with: sampled negatives or all nodes; "
        "default: sampled",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs", type=int, default=50, help="passes over the training triples; default: 50"
    )
    training.add_argument(
        "--batch-size", type=int, default=1024, help="triples per step; default: 1024"
    )
    training.add_argument(
        "--learning-rate", type=float, metavar="X", help="learning rate of Adam; default: 0.001"
    )
    training.add_argument(
        "--search",
        type=int,
        default=1,
        metavar="N",
        help=f"number of settings to try, 1 to {len(SEARCH_SPACE)}; default: 1, PyKEEN's own",
    )
    training.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the initialisation and the order of the triples; default: 0",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument("--output", required=True, metavar="FOLDER", help="folder to write")
    outputs.add_argument(
        "--overwrite", action="store_true", help="replace trained embeddings in the output folder"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
