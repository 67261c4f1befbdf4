"""Retrieves the nodes that a relation leads to, ranked by a trained bridge.

    python -m bridge_jax.retrieve --workdir runs/demo --source gene/protein \\
        --target molecular_function --name TP53 --k 5

A query is a node of the dataset, given by its id or name (case is ignored), or a new embedding of
the same encoder. All nodes of the target type are scored as in the last row of an evaluation: by
the bridge mixed with its nearest neighbours. Known facts are marked with the split that contains
them. --output writes the results as .json, .csv
or .parquet. --export faiss writes the target's vectors as an index for FAISS.
"""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bridge_jax import cli
from bridge_jax.data.encoder_spec import read_spec_beside
from bridge_jax.data.output_lock import output_lock
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import (
    ANSWERS,
    KNOWN_MODES,
    SUFFIXES,
    as_text,
    check_writable,
    read_embedding,
    read_ids,
    write,
)

if TYPE_CHECKING:
    import numpy as np

    from bridge_jax.predictor import Predictor
    from bridge_jax.retrieval.explanations import Explanation
    from bridge_jax.retrieval.results import Neighbour


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.k < 1:
        raise InputError(f"--k {args.k}: must be at least 1")
    output = None if args.output is None else Path(args.output)
    if output is None and args.export:
        raise InputError("--export faiss writes a folder; name it with --output")
    if output is not None:
        check_writable(output)
    if output is not None and not args.export and output.suffix not in SUFFIXES:
        raise InputError(f"--output {output}: the name must end in {', '.join(SUFFIXES)}")
    if args.explain and output is not None and output.suffix != ".json":
        raise InputError(f"--explain goes into .json or a printed table, not into {output}")
    if args.explain and args.answer not in ("", "fusion"):
        raise InputError(f"--explain explains the answer fusion, not --answer {args.answer}")
    ids = read_ids(Path(args.ids_file)) if args.ids_file else args.id or []
    reading = cli.embedding_options(args)
    embedding = read_embedding(Path(args.embedding), reading) if args.embedding else None

    if output is not None and args.export:
        with output_lock(output):  # while the vectors are computed, too
            _export_faiss(args, output)
        return 0

    from bridge_jax import predictor

    bridge = predictor.load(args.workdir, args.dataset, args.step)
    spec = read_spec_beside(Path(args.embedding)) if args.embedding else None
    if spec:
        bridge.check_encoder(args.source, spec, args.embedding, args.allow_other_encoder)
    results = bridge.retrieve(
        args.source,
        args.relation,
        args.target,
        ids=ids,
        names=args.name or [],
        embedding=embedding,
        k=args.k,
        known=args.known,
        answer=args.answer,
    )
    if args.embedding and not spec:  # a notice; only once the embeddings are known to be sound
        bridge.check_encoder(args.source, None, args.embedding)
    explanations = _explain(args, bridge, results, embedding) if args.explain else []
    if output is None:
        with_known = args.known != "show" and any(result.known for result in results)
        print(as_text(results, bridge.retriever.node_index(args.source), with_known))
        if explanations:
            print("", *(explanation.as_text(args.source) for explanation in explanations), sep="\n")
    else:
        write(results, output, explanations)
        print(f"{len(results):,} rows written to {output}")
    return 0


def _explain(
    args: argparse.Namespace,
    bridge: "Predictor",
    results: Sequence["Neighbour"],
    embedding: "np.ndarray | None",
) -> list["Explanation"]:
    """Returns the explanation of each result."""
    explanations = []
    for row, (query, group) in enumerate(groupby(results, key=lambda result: result.query)):
        asked = {"id": query} if embedding is None else {"embedding": embedding[row]}
        explanations += bridge.explain(
            args.source, args.relation, args.target, answers=[r.id for r in group], **asked
        )
    return explanations


def _export_faiss(args: argparse.Namespace, output: Path) -> None:
    from bridge_jax import predictor
    from bridge_jax.retrieval.faiss_index import export_faiss

    bridge = predictor.load(args.workdir, args.dataset, args.step)
    triple_type = bridge.triple_type(args.source, args.relation, args.target)
    print(export_faiss(bridge.retriever, triple_type, bridge.step, output))


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.retrieve", __doc__)
    inputs = parser.add_argument_group("inputs")
    cli.add_run_arguments(inputs)
    queries = parser.add_argument_group("queries")
    queries.add_argument(
        "--source", required=True, help="node type of the queries, e.g. gene/protein"
    )
    queries.add_argument("--relation", help="relation; may be omitted if --target implies it")
    queries.add_argument(
        "--target", help="node type of the results; may be omitted if --relation implies it"
    )
    query = queries.add_mutually_exclusive_group(required=True)
    query.add_argument("--id", nargs="+", help="ids of nodes")
    query.add_argument("--name", nargs="+", help="names of nodes; case is ignored")
    query.add_argument("--ids-file", metavar="FILE", help="file with one id per line")
    query.add_argument(
        "--embedding",
        metavar="FILE",
        help="new embeddings: .npy [dim] or [n, dim], or a file of any format that is imported",
    )
    query.add_argument("--export", choices=("faiss",), help="write an index of the target instead")
    queries.add_argument(
        "--answer",
        choices=ANSWERS,
        default="",
        help="fusion: the bridge mixed with its nearest neighbours; bridge: the bridge alone; knn: "
        "the neighbours alone; default: the last row of the run's evaluation",
    )
    embeddings = parser.add_argument_group("embeddings")
    cli.add_embedding_arguments(embeddings)
    cli.add_other_encoder_argument(embeddings)
    queries.add_argument("--k", type=int, default=10, help="results per query; default: 10")
    queries.add_argument(
        "--known",
        choices=KNOWN_MODES,
        default="mark",
        help="known facts: mark them, hide them, or show them unmarked; default: mark",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--explain",
        action="store_true",
        help="say for each answer which part of the fusion gives its probability, which similar "
        "nodes have it, and which known facts lead to it",
    )
    outputs.add_argument(
        "--output",
        help=".json, .csv or .parquet file, or a folder with --export; default: print a table",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
