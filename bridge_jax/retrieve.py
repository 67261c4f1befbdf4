"""Retrieves the nodes that a relation leads to, ranked by a trained bridge.

    python -m bridge_jax.retrieve --workdir runs/demo --source gene/protein \\
        --target molecular_function --name TP53 --k 5

A query is a node of the dataset, given by its id or name (case is ignored), or a new embedding of
the same encoder (.npy). All nodes of the target type are scored as in evaluation's row `bridge`.
Known facts are marked with the split that contains them. --output writes the results as .json, .csv
or .parquet. --export faiss writes the target's vectors as an index for FAISS.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import (
    KNOWN_MODES,
    SUFFIXES,
    as_text,
    check_writable,
    read_embedding,
    read_ids,
    write,
)


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
    ids = read_ids(Path(args.ids_file)) if args.ids_file else args.id or []
    embedding = read_embedding(Path(args.embedding)) if args.embedding else None

    from bridge_jax import predictor

    bridge = predictor.load(args.workdir, args.dataset, args.step)
    if output is not None and args.export:
        from bridge_jax.retrieval.faiss_index import export_faiss

        triple_type = bridge.triple_type(args.source, args.relation, args.target)
        print(export_faiss(bridge.retriever, triple_type, bridge.step, output))
        return 0
    results = bridge.retrieve(
        args.source,
        args.relation,
        args.target,
        ids=ids,
        names=args.name or [],
        embedding=embedding,
        k=args.k,
        known=args.known,
    )
    if output is None:
        with_known = args.known != "show" and embedding is None
        print(as_text(results, bridge.retriever.node_index(args.source), with_known))
    else:
        write(results, output)
        print(f"{len(results):,} rows written to {output}")
    return 0


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
    query.add_argument("--embedding", metavar="X.npy", help="new embeddings, [dim] or [n, dim]")
    query.add_argument("--export", choices=("faiss",), help="write an index of the target instead")
    queries.add_argument("--k", type=int, default=10, help="results per query; default: 10")
    queries.add_argument(
        "--known",
        choices=KNOWN_MODES,
        default="mark",
        help="known facts: mark them, hide them, or show them unmarked; default: mark",
    )
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output",
        help=".json, .csv or .parquet file, or a folder with --export; default: print a table",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
