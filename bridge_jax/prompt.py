"""Writes a prompt about a node from its retrieved neighbours; a language model may answer it.

    python -m bridge_jax.prompt --workdir runs/demo --task qa --source gene/protein --name BRCA1

The node is one of the dataset, or a new sequence, SMILES or text, which is encoded as the dataset
was. --task qa asks a question about it; --task generate asks for a molecule against it. The prompt
is printed, which needs no language model. --llm generates answers with a language model from the
Hugging Face Hub or a folder. --smiles names the table that the drug encoder read: the prompt of
`generate` then shows the structures of drugs, and proposed molecules are scored. --answers scores
answers from elsewhere, one per line. The templates are in bridge_jax/prompting/templates/;
--template replaces them.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bridge_jax import cli
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError
from bridge_jax.formatting import format_optional, text_table
from bridge_jax.prompting.molecules import MoleculeScore, read_smiles, score_molecules
from bridge_jax.prompting.template import (
    DEFAULT_QUESTIONS,
    TASKS,
    ContextNode,
    Section,
    fill_template,
    read_template,
)
from bridge_jax.retrieval.results import check_writable

if TYPE_CHECKING:
    import numpy as np

    from bridge_jax.predictor import Predictor


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    _check_arguments(args)
    template = read_template(args.task, args.template)
    smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
    from bridge_jax import predictor
    from bridge_jax.prompting.context import ContextBuilder

    bridge = predictor.load(args.workdir, args.dataset, args.step)
    bridge.dim(args.source)  # names an unknown node type before anything is computed
    context = ContextBuilder(bridge)
    if args.task == "generate":
        bridge.dim(args.target)
    row, x, label = _find_query(args, bridge)
    node = ContextNode("new", label) if row is None else context.node(args.source, row)
    sections = context.build(args.source, row, args.k, x)
    known_drugs: list[ContextNode] = []
    if args.task == "generate":
        sections = [s for s in sections if not s.via or s.triple_type.tail == args.target]
        if row is not None:
            known_drugs = context.known_neighbours(args.source, row, args.target)
    question = args.question or DEFAULT_QUESTIONS[args.task]
    prompt = fill_template(template, args.source, node, sections, question, smiles)
    print(prompt)
    answers = _read_or_generate_answers(args, prompt)
    scores = []
    if answers and smiles:
        scores = score_molecules(answers, smiles, [drug.id for drug in known_drugs])
        print(f"\n{format_scores(scores)}")
    if args.output:
        record = _as_record(node, prompt, sections, known_drugs, answers, scores)
        write_json(Path(args.output), record)
    return 0


def _find_query(
    args: argparse.Namespace, bridge: "Predictor"
) -> tuple[int | None, "np.ndarray | None", str]:
    """Returns the row of the node; of a new one None, its embedding and what to call it."""
    from bridge_jax.encoders.query_encoder import label_of

    index = bridge.retriever.node_index(args.source)
    if args.id is not None:
        return index.row_of_id(args.id), None, ""
    if args.name is not None:
        return index.row_of_name(args.name), None, ""
    given = {"sequence": args.sequence, "smiles": args.query_smiles, "text": args.text}
    modality, query = next((m, q) for m, q in given.items() if q is not None)
    bridge.query_encoder.check_modality(args.source, modality)
    if args.definition:
        query = (query, args.definition)
    x = bridge.encode([query], args.source, args.checkpoint, args.device)
    (row,) = bridge.retriever.find_same_nodes(args.source, x)
    return row, x if row is None else None, label_of(query)


def format_scores(scores: Sequence[MoleculeScore]) -> str:
    """Formats scores as a table with a summary below it."""
    header = ("answer", "SMILES", "to known", "to node's", "QED", "nearest", "novel")
    rows = [
        [
            number,
            score.smiles or "not valid",
            *map(format_optional, (score.similarity, score.node_similarity, score.qed)),
            score.nearest_drug or "",
            {True: "yes", False: "no", None: ""}[score.novel],
        ]
        for number, score in enumerate(scores, 1)
    ]
    num_valid = sum(score.smiles is not None for score in scores)
    num_novel = sum(bool(score.novel) for score in scores)
    return (
        f"{text_table(rows, header)}\n\n{num_valid} of {len(scores)} valid, {num_novel} novel; "
        "Tanimoto similarity to the nearest known drug and to the nearest of the node"
    )


def _read_or_generate_answers(args: argparse.Namespace, prompt: str) -> list[str]:
    if args.answers:
        text = Path(args.answers).read_text(encoding="utf-8")
        answers = [line for line in text.splitlines() if line.strip()]
        if not answers:
            raise InputError(f"{args.answers}: contains no answer; write one per line")
        return answers
    if not args.llm:
        return []
    from bridge_jax.prompting.llm import generate  # imports PyTorch

    answers = generate(args.llm, prompt, args.samples, args.tokens, args.seed)
    for number, answer in enumerate(answers, 1):
        print(f"\n--- answer {number} of {args.llm}\n{answer}")
    return answers


def _as_record(
    node: ContextNode,
    prompt: str,
    sections: Sequence[Section],
    known_drugs: Sequence[ContextNode],
    answers: Sequence[str],
    scores: Sequence[MoleculeScore],
) -> dict[str, object]:
    """The content of --output."""
    return {
        "node": {"id": node.id, "name": node.name},
        "prompt": prompt,
        "retrieved": [
            {
                "triple_type": list(section.triple_type),
                "via": section.via,
                "nodes": [asdict(n) for n in section.nodes],
            }
            for section in sections
        ],
        "known_drugs": [drug.id for drug in known_drugs],
        "answers": list(answers),
        "outcomes": [
            {
                "answer": score.answer,
                "smiles": score.smiles,
                "nearest": score.nearest_drug,
                "to_known": score.similarity,
                "to_own": score.node_similarity,
                "qed": score.qed,
                "novel": score.novel,
            }
            for score in scores
        ],
    }


def _check_arguments(args: argparse.Namespace) -> None:
    for flag, value in (("--k", args.k), ("--samples", args.samples), ("--tokens", args.tokens)):
        if value < 1:
            raise InputError(f"{flag} {value}: must be at least 1")
    if args.definition and args.text is None:
        raise InputError("--definition belongs to --text; give both")
    if args.answers and args.llm:
        raise InputError("--answers replaces the answers of --llm; give one of them")
    if args.answers and not Path(args.answers).is_file():
        raise InputError(f"{args.answers}: no such file; give a text file with one answer per line")
    if args.answers and args.task != "generate":
        raise InputError("--answers are scored as molecules; add --task generate")
    if args.answers and not args.smiles:
        raise InputError("--answers are compared with known drugs; give their --smiles")
    if args.output:
        if Path(args.output).is_dir():
            raise InputError(f"{args.output}: is a folder; name the file to write")
        check_writable(Path(args.output))


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.prompt", __doc__)
    inputs = parser.add_argument_group("inputs")
    cli.add_run_arguments(inputs)
    inputs.add_argument(
        "--smiles",
        metavar="FILE",
        help="CSV of known drugs with columns of ids and smiles; default: no structures",
    )
    inputs.add_argument(
        "--template", metavar="FILE", help="prompt template; default: the package's for the task"
    )
    inputs.add_argument(
        "--answers", metavar="FILE", help="answers to score in place of --llm, one per line"
    )
    query = parser.add_argument_group("query")
    query.add_argument(
        "--task",
        choices=TASKS,
        required=True,
        help="qa: question about the node; generate: molecule against it",
    )
    query.add_argument("--source", required=True, help="node type of the node, e.g. drug")
    node = query.add_mutually_exclusive_group(required=True)
    node.add_argument("--id", help="id of the node, e.g. DB00316")
    node.add_argument("--name", help="name of the node; case is ignored")
    node.add_argument("--sequence", help="new amino-acid sequence, encoded as training did")
    node.add_argument("--query-smiles", metavar="SMILES", help="new molecule, likewise")
    node.add_argument("--text", help="new text, likewise; add --definition if it is a name")
    query.add_argument("--definition", metavar="TEXT", help="definition of --text")
    cli.add_encoder_arguments(query)
    query.add_argument(
        "--question", help="question to ask, may contain $name; default: one for the task"
    )
    query.add_argument("--k", type=int, default=5, help="neighbours per triple type; default: 5")
    query.add_argument(
        "--target",
        default="drug",
        help="node type of molecules, for --task generate; default: drug",
    )
    llm = parser.add_argument_group("language model")
    llm.add_argument(
        "--llm",
        metavar="MODEL",
        help="causal language model: a name on the Hugging Face Hub, or a folder",
    )
    llm.add_argument(
        "--samples",
        type=int,
        default=1,
        help="number of answers: 1 is decoded greedily, more are sampled; default: 1",
    )
    llm.add_argument(
        "--tokens", type=int, default=256, help="maximum tokens per answer; default: 256"
    )
    llm.add_argument("--seed", type=int, default=0, help="seed of the sampling; default: 0")
    outputs = parser.add_argument_group("outputs")
    outputs.add_argument(
        "--output",
        metavar="FILE",
        help="JSON file with prompt, neighbours, answers and scores; default: none",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
