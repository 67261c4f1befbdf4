"""Retrieves the nodes that a relation leads to, ranked by a trained bridge.

    python -m bridge_jax.retrieve --workdir runs/demo --source gene/protein \\
        --target molecular_function --name TP53 --k 5

A query is a node of the dataset, given by its id or name (case is ignored); a new sequence, SMILES
or text, which is encoded as the dataset was; or a new embedding by the same encoder. All nodes of
the target type are scored as in the last row of an evaluation: by the bridge mixed with its nearest
neighbours. Known facts are marked with the split that contains them. --path asks several relations
in a row. --output writes the results as .json, .csv or .parquet. --export faiss writes the target's
vectors as an index for FAISS.
"""

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from bridge_jax import cli
from bridge_jax.data.encoder_spec import read_spec_beside
from bridge_jax.data.output_lock import output_lock
from bridge_jax.encoders.entities.entity_file import FORMATS
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
    from bridge_jax.retrieval.results import Neighbours


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    if args.k < 1:
        raise InputError(f"--k {args.k}: must be at least 1")
    _check_path(args)
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
    if args.definition and len(args.definition) != len(args.text or ()):
        raise InputError(
            f"--definition: {len(args.definition)} for {len(args.text or ())} of --text; give one "
            "for each text"
        )
    ids = read_ids(Path(args.ids_file)) if args.ids_file else args.id or []
    reading = cli.embedding_options(args)
    embedding = read_embedding(Path(args.embedding), reading) if args.embedding else None

    if output is not None and args.export:
        with output_lock(output):  # while the vectors are computed, too
            _export_faiss(args, output)
        return 0

    from bridge_jax import predictor
    from bridge_jax.retrieval.path_query import parse_path

    bridge = predictor.load(args.workdir, args.dataset, args.step)
    if args.path:
        args.source = parse_path(args.path, bridge.triple_type)[0].head
    spec = read_spec_beside(Path(args.embedding)) if args.embedding else None
    if spec:
        bridge.check_encoder(args.source, spec, args.embedding, args.allow_other_encoder)
    labels: Sequence[str] = ()
    new = (args.sequence, args.smiles, args.text, args.fasta, args.input)
    if any(value is not None for value in new):
        embedding, labels = _encode(args, bridge)
    if args.path:
        _follow_path(args, bridge, ids, embedding, labels)
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
        answer=args.answer,
        labels=labels,
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


def _encode(args: argparse.Namespace, bridge: "Predictor") -> tuple["np.ndarray", Sequence[str]]:
    """Encodes new sequences, SMILES or texts; returns embeddings and labels."""
    from bridge_jax.encoders.query_encoder import labels_of
    from bridge_jax.retrieval.query_files import QueryFile, drop_failed, read_queries

    bridge.dim(args.source)  # names an unknown node type before anything is loaded
    if not args.path:
        bridge.triple_type(args.source, args.relation, args.target)
    encoder = bridge.query_encoder
    is_fasta = args.fasta is not None
    if is_fasta or args.input is not None:
        path = Path(args.fasta if is_fasta else args.input)
        if is_fasta:
            encoder.check_modality(args.source, "sequence")
        file = QueryFile(
            path,
            "fasta" if is_fasta else args.format,
            args.id_column,
            tuple(args.text_columns),
            args.delimiter,
        )
        new = read_queries(file, args.source, encoder)
        vectors = encoder.try_encode(new.queries, args.source, args.checkpoint, args.device)
        return drop_failed(path, new, vectors)
    given = {"sequence": args.sequence, "smiles": args.smiles, "text": args.text}
    modality, queries = next((m, q) for m, q in given.items() if q is not None)
    encoder.check_modality(args.source, modality)
    if args.definition:
        queries = list(zip(queries, args.definition, strict=True))
    return bridge.encode(queries, args.source, args.checkpoint, args.device), labels_of(queries)


def _check_path(args: argparse.Namespace) -> None:
    """Refuses a path beside a single relation, and what a path has not."""
    if not args.path and not args.source:
        raise InputError("give the node type of the queries with --source, or a --path")
    if not args.path:
        return
    single = {"--source": args.source, "--relation": args.relation, "--target": args.target}
    other = {"--explain": args.explain, "--export": args.export}
    for option, value in {**single, **other}.items():
        if value:
            raise InputError(f"--path: cannot be given beside {option}")
    if args.output and not args.output.endswith(".json"):
        raise InputError(f"--path goes into .json or a printed table, not into {args.output}")


def _follow_path(
    args: argparse.Namespace,
    bridge: "Predictor",
    ids: Sequence[str],
    embedding: "np.ndarray | None",
    labels: Sequence[str],
) -> None:
    """Answers the path question and prints or writes the answers."""
    from bridge_jax.data.files import write_json
    from bridge_jax.retrieval.path_query import as_text as path_as_text

    answers = bridge.follow_path(
        args.path, ids=ids, names=args.name or [], embedding=embedding, k=args.k, answer=args.answer
    )
    if labels:
        answers = [a._replace(query=labels[i // args.k]) for i, a in enumerate(answers)]
    if args.output:
        write_json(Path(args.output), [a._asdict() for a in answers])
        print(f"{len(answers):,} rows written to {args.output}")
    else:
        groups = groupby(answers, key=lambda a: a.query)
        index = bridge.retriever.node_index(args.source)
        print("\n\n".join(path_as_text([*group], index) for _, group in groups))


def _explain(
    args: argparse.Namespace,
    bridge: "Predictor",
    results: "Neighbours",
    embedding: "np.ndarray | None",
) -> list["Explanation"]:
    """Returns the explanation of each result."""
    explanations = []
    for row, group in enumerate(results.by_query()):
        asked = {"id": group[0].query} if embedding is None else {"embedding": embedding[row]}
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
    queries.add_argument("--source", help="node type of the queries, e.g. gene/protein")
    queries.add_argument("--relation", help="relation; may be omitted if --target implies it")
    queries.add_argument(
        "--target", help="node type of the results; may be omitted if --relation implies it"
    )
    queries.add_argument(
        "--path",
        metavar="TEXT",
        help="instead of these: several relations in a row, e.g. 'drug -[target]-> gene/protein "
        "-[associated with]-> disease'; answers are composed over the nodes in between",
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
    query.add_argument(
        "--sequence",
        nargs="+",
        metavar="SEQ",
        help="new amino-acid sequences, encoded as training did",
    )
    query.add_argument("--smiles", nargs="+", help="new molecules, likewise")
    query.add_argument(
        "--text", nargs="+", help="new texts, likewise; add --definition if they are names"
    )
    query.add_argument("--fasta", metavar="FILE", help="FASTA file of new sequences")
    query.add_argument(
        "--input",
        metavar="FILE",
        help="new sequences, SMILES or texts: a table with a header, FASTA, SMILES file, SDF or "
        "Parquet, as tools.export_embeddings reads it",
    )
    query.add_argument("--export", choices=("faiss",), help="write an index of the target instead")
    queries.add_argument(
        "--definition", nargs="+", metavar="TEXT", help="definition of each --text, in their order"
    )
    queries.add_argument(
        "--answer",
        choices=ANSWERS,
        default="",
        help="fusion: the bridge mixed with its nearest neighbours; bridge: the bridge alone; knn: "
        "the neighbours alone; default: the last row of the run's evaluation",
    )
    _add_encoding_arguments(parser.add_argument_group("encoding of new queries"))
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


def _add_encoding_arguments(group: argparse._ArgumentGroup) -> None:
    cli.add_encoder_arguments(group)
    group.add_argument(
        "--format", choices=FORMATS, default="", help="format of --input; default: by its content"
    )
    group.add_argument(
        "--id-column", default="", help="column of --input with the names of the queries"
    )
    group.add_argument(
        "--text-columns",
        nargs="+",
        default=(),
        metavar="COLUMN",
        help='columns of --input to encode, joined by ". "; default: those with the usual names',
    )
    group.add_argument(
        "--delimiter",
        default="",
        metavar="CHARACTER",
        help="field separator of a table; default: found by the header and the first rows",
    )


if __name__ == "__main__":
    cli.run(main)
