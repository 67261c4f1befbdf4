"""Which nodes does a relation lead to? The nearest neighbours that a trained bridge finds.

    python -m bridge_jax.retrieve --workdir runs/demo --source gene/protein \\
        --target molecular_function --name TP53 --k 5

A query is a node of the dataset (by id or by name, whatever its case) or a new embedding of the
same encoder (.npy). All nodes of the target type are scored, exactly as evaluation scores them for
its row `bridge`, and the best are printed; known facts are marked with the split that holds them.
--output writes them as .json, .csv or .parquet. --export faiss writes the target's vectors as an
index that plain FAISS opens.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bridge_jax import cli
from bridge_jax.errors import InputError
from bridge_jax.retrieval.results import (
    KNOWN,
    SUFFIXES,
    as_text,
    check_writable,
    read_embedding,
    read_ids,
    write,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output = None if args.output is None else Path(args.output)
    if args.export and output is None:
        raise InputError("--export faiss writes a folder; name it with --output")
    if args.k < 1:
        raise InputError(f"--k {args.k}: must be at least 1")
    if output is not None:
        check_writable(output)
    if args.export and output is not None:
        from bridge_jax import predictor as trained
        from bridge_jax.retrieval.faiss_index import export_faiss

        bridge = trained.load(args.workdir, args.dataset, args.step)
        triple_type = bridge.triple_type(args.source, args.relation, args.target)
        print(export_faiss(bridge.neighbours, triple_type, bridge.step, output))
        return 0
    if output is not None and output.suffix not in SUFFIXES:
        raise InputError(f"--output {output}: the name must end in {', '.join(SUFFIXES)}")
    ids = read_ids(Path(args.ids_file)) if args.ids_file else args.id or []
    embedding = read_embedding(Path(args.embedding)) if args.embedding else None
    from bridge_jax import predictor as trained

    bridge = trained.load(args.workdir, args.dataset, args.step)
    rows = bridge.retrieve(
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
        marked = args.known != "show" and embedding is None
        print(as_text(rows, bridge.neighbours.names(args.source), marked))
    else:
        write(rows, output)
        print(f"{len(rows):,} rows written to {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.retrieve", __doc__)
    read = parser.add_argument_group("what is read")
    ask = parser.add_argument_group("what is asked")
    cli.add_run_arguments(read)
    ask.add_argument("--source", required=True, help="node type of the query, e.g. gene/protein")
    ask.add_argument("--relation", help="default: the one that source and target leave")
    ask.add_argument(
        "--target", help="node type of the answers; default: the one that source and relation leave"
    )
    query = ask.add_mutually_exclusive_group(required=True)
    query.add_argument("--id", nargs="+", help="nodes of the dataset")
    query.add_argument("--name", nargs="+", help="the same by name")
    query.add_argument("--ids-file", metavar="FILE", help="one id a line")
    query.add_argument("--embedding", metavar="X.npy", help="new embeddings, [dim] or [n, dim]")
    query.add_argument("--export", choices=("faiss",), help="write an index of the target instead")
    ask.add_argument("--k", type=int, default=10, help="answers for each query; default: 10")
    ask.add_argument(
        "--known",
        choices=KNOWN,
        default="mark",
        help="known facts: mark, leave out, or tell not apart; default: mark",
    )
    write = parser.add_argument_group("what is written")
    write.add_argument(
        "--output",
        help="a .json, .csv or .parquet file, a folder with --export; default: the terminal",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
