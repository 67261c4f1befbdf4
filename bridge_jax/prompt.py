"""Write a prompt for a language model from what the bridge retrieves, and ask it if wanted.

    python -m bridge_jax.prompt --workdir runs/demo --task qa --source disease --id DI-01171

--task qa asks a question about a node; --task generate asks for a molecule against it. The prompt
is printed; no language model is needed for that. With --llm a model answers, by name or from a
folder. With --smiles (structures of the known drugs, as the table the drug encoder read) the prompt
of `generate` shows structures and its answers are scored; --answers scores what was answered
elsewhere, one answer a line. The wording is in bridge_jax/prompting/templates/; --template replaces
it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bridge_jax import cli
from bridge_jax.data.files import write_json
from bridge_jax.errors import InputError
from bridge_jax.formatting import text_table
from bridge_jax.prompting.molecules import Outcome, read_smiles, score
from bridge_jax.prompting.template import (
    QUESTIONS,
    TASKS,
    Node,
    Section,
    fill,
    read_template,
)
from bridge_jax.retrieval.results import check_writable


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    args = _parser().parse_args(argv)
    _check(args)
    template = read_template(args.task, args.template)
    smiles = read_smiles(Path(args.smiles)) if args.smiles else {}
    from bridge_jax import predictor as trained
    from bridge_jax.prompting.context import ContextBuilder

    bridge = trained.load(args.workdir, args.dataset, args.step)
    bridge.dim(args.source)
    find, names = ContextBuilder(bridge), bridge.neighbours.names(args.source)
    row = names.with_name(args.name) if args.name else names.with_id(args.id)
    node, own = find.node(args.source, row), list[Node]()
    sections = find.around(args.source, row, args.k)
    if args.task == "generate":
        bridge.dim(args.target)
        sections = [s for s in sections if not s.via or s.triple_type.tail == args.target]
        own = find.known_of_type(args.source, row, args.target)
    question = args.question or QUESTIONS[args.task]
    prompt = fill(template, args.source, node, sections, question, smiles)
    print(prompt)
    answers = _answers(args, prompt)
    outcomes = score(answers, smiles, [n.id for n in own]) if answers and smiles else []
    if outcomes:
        print(f"\n{as_text(outcomes)}")
    if args.output:
        write_json(Path(args.output), _record(node, prompt, sections, own, answers, outcomes))
    return 0


def as_text(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as a table, with a line on all of them."""
    shown = [
        [i + 1, o.smiles or "not valid", *(_figure(f) for f in (o.to_known, o.to_own, o.qed)),
         o.nearest or "", {True: "yes", False: "no", None: ""}[o.novel]]
        for i, o in enumerate(outcomes)
    ]  # fmt: skip
    header = ("answer", "SMILES", "to known", "to own", "QED", "head_knn", "novel")
    valid = [o for o in outcomes if o.smiles]
    novel = sum(bool(o.novel) for o in valid)
    return (
        f"{text_table(shown, header)}\n\n{len(valid)} of {len(outcomes)} valid, {novel} novel; "
        "Tanimoto similarity to the nearest known drug and to the nearest of the disease"
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _answers(args: argparse.Namespace, prompt: str) -> list[str]:
    if args.answers:
        text = Path(args.answers).read_text(encoding="utf-8")
        answers = [line for line in text.splitlines() if line.strip()]
        if not answers:
            raise InputError(f"{args.answers}: holds no answer; write one a line")
        return answers
    if not args.llm:
        return []
    from bridge_jax.prompting.llm import generate  # imports PyTorch

    answers = generate(args.llm, prompt, args.samples, args.tokens, args.seed)
    for i, answer in enumerate(answers):
        print(f"\n--- answer {i + 1} of {args.llm}\n{answer}")
    return answers


def _record(
    node: Node,
    prompt: str,
    sections: Sequence[Section],
    own: Sequence[Node],
    answers: Sequence[str],
    outcomes: Sequence[Outcome],
) -> dict[str, object]:
    return {
        "node": {"id": node.id, "name": node.name},
        "prompt": prompt,
        "retrieved": [
            {
                "triple_type": list(s.triple_type),
                "via": s.via,
                "nodes": [asdict(n) for n in s.nodes],
            }
            for s in sections
        ],
        "known_drugs": [n.id for n in own],
        "answers": list(answers),
        "outcomes": [asdict(o) for o in outcomes],
    }


def _check(args: argparse.Namespace) -> None:
    for flag, value in (("--k", args.k), ("--samples", args.samples), ("--tokens", args.tokens)):
        if value < 1:
            raise InputError(f"{flag} {value}: must be at least 1")
    if args.answers and args.llm:
        raise InputError("--answers is in place of --llm; give one of them")
    if args.answers and not Path(args.answers).is_file():
        raise InputError(f"{args.answers}: no such file of answers")
    if args.task != "generate" and args.answers:
        raise InputError("--answers are scored as molecules; that is for --task generate")
    if args.answers and not args.smiles:
        raise InputError("--answers are compared to known drugs; give their --smiles")
    if args.output:
        if Path(args.output).is_dir():
            raise InputError(f"{args.output}: is a folder; name the file to write")
        check_writable(Path(args.output))


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("bridge_jax.prompt", __doc__)
    read = parser.add_argument_group("what is read")
    cli.add_run_arguments(read)
    what = parser.add_argument_group("what to ask")
    what.add_argument("--task", choices=TASKS, required=True, help="a question, or a molecule")
    what.add_argument("--source", required=True, help="node type, e.g. drug")
    node = what.add_mutually_exclusive_group(required=True)
    node.add_argument("--id", help="of the node, e.g. DB00316")
    node.add_argument("--name", help="the same by name, whatever its case")
    what.add_argument("--question", help="default: one that suits the task")
    what.add_argument("--k", type=int, default=5, help="neighbours a triple type; default: 5")
    what.add_argument(
        "--target", default="drug", help="node type of the molecules, for generate; default: drug"
    )
    what.add_argument("--smiles", metavar="FILE", help="CSV of ids and smiles of the known drugs")
    what.add_argument("--template", metavar="FILE", help="default: the package's own for the task")
    whom = parser.add_argument_group("whom to ask")
    whom.add_argument("--llm", help="a causal language model: a Hub name, or a folder")
    whom.add_argument(
        "--samples", type=int, default=1, help="answers; more than 1 are drawn; default: 1"
    )
    whom.add_argument("--tokens", type=int, default=256, help="of an answer; default: 256")
    whom.add_argument("--seed", type=int, default=0, help="of the draws; default: 0")
    whom.add_argument("--answers", metavar="FILE", help="score these answers, one a line")
    write = parser.add_argument_group("what is written")
    write.add_argument("--output", metavar="FILE", help="all of it, as JSON; default: nothing")
    return parser


if __name__ == "__main__":
    cli.run(main)
