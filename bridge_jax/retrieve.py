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

import numpy as np

from bridge_jax import cli, trained
from bridge_jax.answers import (
    SUFFIXES,
    as_text,
    check_writable,
    read_embedding,
    read_ids,
    write,
)
from bridge_jax.errors import InputError
from bridge_jax.neighbours import KNOWN
from bridge_jax.records import atomic_file, write_json
from bridge_jax.trained import Trained


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    output = None if args.output is None else Path(args.output)
    if args.export and output is None:
        raise InputError("--export faiss writes a folder; name it with --output")
    if output is not None:
        check_writable(output)
    if args.export and output is not None:
        bridge = trained.load(args.workdir, args.dataset, args.step)
        print(export_faiss(bridge, args.source, args.relation, args.target, output))
        return 0
    if output is not None and output.suffix not in SUFFIXES:
        raise InputError(f"--output {output}: the name must end in {', '.join(SUFFIXES)}")
    ids = read_ids(Path(args.ids_file)) if args.ids_file else args.id or []
    embedding = read_embedding(Path(args.embedding)) if args.embedding else None
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
        print(as_text(rows, bridge, args.source, marked))
    else:
        write(rows, output)
        print(f"{len(rows):,} rows written to {output}")
    return 0


def export_faiss(
    bridge: Trained, source: str, relation: str | None, target: str | None, folder: Path
) -> str:
    """Write a triple type's tails as `tails.faiss` beside `tails.tsv` and `about.json`.

    The index is an `IndexFlatIP` whose inner products with a query are the bridge's scores: a key
    is `[scale * z_t, prior]` and a query `[bridge(h, r), 1]`.

    Args:
      bridge: a trained bridge.
      source: the head's node type.
      relation: may be left out when it follows from the rest.
      target: the tail's node type, likewise.
      folder: where the files go.

    Returns:
      What was written, for people.

    Raises:
      InputError: unknown names, or FAISS is not installed.
    """
    try:
        import faiss
    except ImportError as e:
        raise InputError("--export faiss needs FAISS: pip install 'bridge_jax[faiss]'") from e
    kind = bridge.triple_type(source, relation, target)
    found = bridge.neighbours
    nodes, keys, prior = found.names(kind.tail), found.keys(kind.tail), found.prior(kind)
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
        "triple_type": list(kind),
        "step": bridge.step,
        "count": len(keys),
        "dim": keys.shape[1] + 1,
        "key": "[scale * projected tail, prior]; row i is line i of tails.tsv after its header",
        "query": "[bridge.project(x, source, relation, target), 1]; the inner product is the score",
    }
    write_json(folder / "about.json", about)
    return f"{len(keys):,} vectors of {kind} written to {folder}/tails.{{faiss,tsv}}"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.retrieve", __doc__)
    parser.add_argument("--workdir", required=True, help="a trained run, e.g. runs/demo")
    parser.add_argument("--source", required=True, help="node type of the query")
    parser.add_argument("--relation", help="may be left out when source and target decide it")
    parser.add_argument("--target", help="node type of the answers")
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument("--id", nargs="+", help="nodes of the dataset")
    query.add_argument("--name", nargs="+", help="the same by name")
    query.add_argument("--ids-file", metavar="FILE", help="one id a line")
    query.add_argument("--embedding", metavar="X.npy", help="new embeddings, [dim] or [n, dim]")
    query.add_argument("--export", choices=("faiss",), help="write an index of the target instead")
    parser.add_argument("--k", type=int, default=10, help="answers for each query; default: 10")
    parser.add_argument("--known", choices=KNOWN, default="mark", help="known facts; default: mark")
    parser.add_argument("--output", help="a .json, .csv or .parquet file; a folder with --export")
    parser.add_argument("--step", type=int, help="a checkpoint; default: the best by validation")
    parser.add_argument("--dataset", help="another place of the run's dataset")
    return parser


if __name__ == "__main__":
    cli.run(main)
