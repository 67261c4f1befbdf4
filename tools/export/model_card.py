"""Model card of a training run: Markdown with the metadata block of the Hugging Face Hub."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import jax

from bridge_jax.data.manifest import Manifest
from bridge_jax.errors import InputError
from bridge_jax.experiment.workdir import TrainedRun
from bridge_jax.formatting import format_optional, markdown_table

_TAGS = ["biology", "knowledge-graph", "contrastive-learning", "jax"]
_HEADLINE = {"mrr": "macro MRR", "hits@10": "macro Hits@10"}
_UNKNOWN_LICENCE = "not recorded"


def format_model_card(
    run: TrainedRun,
    results: Mapping[str, Any],
    provenance: Mapping[str, Any],
    title: str,
    licence: str | None = None,
) -> str:
    """Formats the model card of a run.

    Args:
      run: Run, loaded at the exported checkpoint.
      results: Contents of `results.json` of the checkpoint's evaluation; empty if there is none.
      provenance: Contents of `run.json`; empty if there is none.
      title: Title of the card.
      licence: Licence of the weights, as the Hub spells it; default: the data's, if it has one.

    Returns:
      The card, Markdown below a YAML metadata block.

    Raises:
      InputError: The package huggingface_hub is not installed.
    """
    experiment, manifest = run.experiment, run.experiment.manifest
    head, relation, tail = experiment.graph.triple_types[0]
    dims = {t.name: t.dim for t in manifest.node_types}
    known = data_licences(manifest)
    default_licence = known[0].lower() if len(known) == 1 else "other"
    template = Template(Path(__file__).with_name("model_card.md").read_text(encoding="utf-8"))
    return template.substitute(
        metadata=_metadata(title, licence or default_licence, manifest.name, results),
        title=title,
        head=head,
        relation=relation,
        tail=tail,
        dim=dims[head],
        tail_dim=dims[tail],
        manifest=manifest.hash(),
        node_types=_node_type_table(run),
        relations=_relation_table(run),
        training=_describe_training(run),
        results=_describe_results(results),
        sources=_source_table(manifest),
        licence_note=licence_note(known, licence),
        comparison=_describe_comparison(results),
        provenance=_describe_provenance(run, provenance),
    )


def data_licences(manifest: Manifest) -> list[str]:
    """Returns the distinct licences of a dataset, sorted.

    A source without a licence counts as `not recorded`; so does a node type with embeddings if
    the dataset lists no sources.
    """
    licences = {t.licence for t in manifest.node_types if t.licence}
    per_source = [source.get("licence", "") for source in manifest.sources]
    if not per_source:
        per_source = [t.licence for t in manifest.node_types if t.dim]
    return sorted(licences | {licence or _UNKNOWN_LICENCE for licence in per_source})


def licence_note(known: Sequence[str], licence: str | None) -> str:
    """Returns a sentence on the terms of the weights.

    Args:
      known: Licences of the training data, from `data_licences`.
      licence: Licence that the user chose for the weights, if any.
    """
    if licence:
        return f"Whoever exported these weights gave them the licence `{licence}`."
    if known == [_UNKNOWN_LICENCE] or not known:
        return "The dataset records no licences: settle the terms before you share these weights."
    if len(known) == 1:
        return f"All parts are {known[0]}, and these weights are given under the same terms."
    return (
        f"The training data came under different terms ({', '.join(known)}): the strictest may "
        "bind these weights."
    )


def _metadata(title: str, licence: str, dataset: str, results: Mapping[str, Any]) -> str:
    """The Hub's YAML block, with the bridge's macro metrics as `model-index`."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as e:
        raise InputError(
            "a model card needs huggingface_hub; install it with pip install 'bridge_jax[hub]'"
        ) from e
    bridge = results["macro"]["bridge"] if results else {}
    evaluation = [
        EvalResult(
            task_type="graph-ml",
            task_name="cross-modal retrieval",
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=metric,
            metric_name=name,
            metric_value=round(bridge[metric], 4),
        )
        for metric, name in _HEADLINE.items()
        if bridge
    ]
    data = ModelCardData(
        library_name="bridge_jax",
        license=licence,
        tags=_TAGS,
        model_name=title if evaluation else None,
        eval_results=evaluation or None,
    )
    return str(data.to_yaml())


def _node_type_table(run: TrainedRun) -> str:
    graph = run.experiment.graph
    rows = [
        [t.name, t.dim, t.encoder, t.pooling, len(graph.train_nodes(t.name)),
         t.licence or _UNKNOWN_LICENCE]
        for t in run.experiment.manifest.node_types if t.dim
    ]  # fmt: skip
    header = ("node type", "dimension", "encoder", "pooling", "training nodes", "data licence")
    return markdown_table(rows, header)


def _relation_table(run: TrainedRun) -> str:
    pairs = run.experiment.graph.pairs(["train"])
    rows = [[*triple_type, len(p.heads)] for triple_type, p in pairs.items()]
    return markdown_table(rows, ("from", "relation", "to", "training facts"))


def _source_table(manifest: Manifest) -> str:
    if not manifest.sources:
        return "The dataset names no sources."
    fields = ("part", "source", "licence")
    return markdown_table([[s.get(f, "") for f in fields] for s in manifest.sources], fields)


def _describe_training(run: TrainedRun) -> str:
    config, manifest = run.experiment.config, run.experiment.manifest
    num_params = sum(a.size for a in jax.tree.leaves(run.params))
    num_heldout = sum(file.count for file in manifest.heldout.values())
    return (
        f"{num_params:,} parameters ({config.model.arch}, width {config.model.width}, "
        f"{config.model.layers} layers), checkpoint of step {run.step:,}, batches of "
        f"{config.batch.size:,} triples, negatives `{config.loss.negatives}`, seed {config.seed}. "
        f"Dataset `{manifest.name}`, split `{manifest.split['rule']}` (seed "
        f"{manifest.split.get('seed')}), {num_heldout:,} held-out nodes. `config.json` has every "
        "field."
    )


def _describe_results(results: Mapping[str, Any]) -> str:
    if not results:
        return "This checkpoint was not evaluated before it was exported."
    models, origin = list(results["macro"]), results["about"]
    macro = [
        [model, row["mrr"], _interval(row), row["hits@1"], row["hits@10"]]
        for model, row in results["macro"].items()
    ]
    rows_of_task: dict[str, dict[str, Any]] = {}
    for row in results["rows"]:
        rows_of_task.setdefault(row["task"], {})[row["model"]] = row
    tasks = []
    for task, rows in rows_of_task.items():
        first = next(iter(rows.values()))
        mrr = [rows[model]["mrr"] if model in rows else "" for model in models]
        tasks.append([task, first["queries"], first["candidates"], *mrr])
    return "\n\n".join(
        [
            f"Filtered ranks of the held-out facts of the {origin['split']} split among all nodes "
            "of the tail type, realistic ties; macro means over the tasks with a 95 % interval "
            "over heads. The pretrained bridge is the row `bridge`.",
            markdown_table(macro, ("model", "MRR", "95 % interval", "Hits@1", "Hits@10")),
            "MRR by task:",
            markdown_table(tasks, ("task", "queries", "candidates", *models)),
            f"Command: `{origin['command']}`, commit {origin['git_commit']}. All metrics are in "
            "`results.json`.",
        ]
    )


def _interval(row: Mapping[str, Any]) -> str:
    """A task with a single head has no interval."""
    low, high = (format_optional(row[key]) for key in ("mrr_low", "mrr_high"))
    return f"{low} to {high}" if low and high else ""


def _describe_comparison(results: Mapping[str, Any]) -> str:
    """Names the model that beats the bridge in the most tasks."""
    if not results:
        return "How it compares to simple baselines is not known."
    mrr = {(row["task"], row["model"]): row["mrr"] for row in results["rows"]}
    tasks = {task for task, _ in mrr}
    losses = {
        model: sum(mrr.get((task, model), 0) > mrr[task, "bridge"] for task in tasks)
        for model in results["macro"]
        if not model.startswith("bridge")
    }
    strongest = max(losses, key=lambda model: losses[model], default=None)
    if strongest is None or not losses[strongest]:
        return "No other model of its evaluation was ahead of it in any task."
    return (
        f"`{strongest}` had the higher MRR in {losses[strongest]} of {len(tasks)} tasks; where it "
        "is available, use both."
    )


def _describe_provenance(run: TrainedRun, provenance: Mapping[str, Any]) -> str:
    manifest = run.experiment.manifest
    versions = ", ".join(f"{k} {v}" for k, v in provenance.get("versions", {}).items())
    return "\n".join(
        [
            f"- command: `{provenance.get('command', 'unknown')}`",
            f"- commit: {provenance.get('git_commit') or 'unknown'}",
            f"- versions: {versions or 'unknown'}",
            f"- dataset: `{manifest.name}`, manifest sha256 {manifest.hash()}",
        ]
    )
