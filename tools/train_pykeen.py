"""Train a knowledge-graph embedding with PyKEEN, as a rival of the bridge.

    python -m tools.train_pykeen --dataset DATASET --model TransE --output runs/transe
    python -m bridge_jax.evaluate --workdir RUN --against runs/transe

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge_jax import cli
from bridge_jax.data.dataset import read_manifest
from bridge_jax.data.graph import load_graph
from bridge_jax.errors import InputError
from bridge_jax.evaluation.baselines import EMBEDDING_MODELS

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
    from bridge_jax.experiment.experiment import provenance
    from tools.pykeen_models import train, validate

    output = Path(args.output)
    if (output / MODEL).exists() and not args.overwrite:
        raise InputError(f"{output}: holds trained embeddings already; pass --overwrite")
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
