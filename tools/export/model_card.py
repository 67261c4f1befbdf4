"""A run as it is shared: what its folder holds, and the model card that tells of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import jax
import numpy as np

from bridge_jax import predictor as trained
from bridge_jax.data.dataset import Manifest
from bridge_jax.experiment.workdir import TrainedRun
from bridge_jax.models.pretrained import Exported


def export(run: TrainedRun) -> Exported:
    """What a run's export holds.

    Args:
      run: at the checkpoint to export.
    """
    bridge, manifest = trained.from_run(run), run.experiment.manifest
    return Exported(
        config=bridge.config,
        params=jax.tree.map(np.asarray, bridge.params),
        transforms={k: (t.mean, t.matrix) for k, t in bridge.transforms.items()},
        node_types=tuple(
            {"name": t.name, "dim": t.dim, "encoder": t.encoder, "pooling": t.pooling}
            for t in manifest.node_types
        ),
        relations=manifest.relations,
        triple_types=bridge.triple_types,
        step=run.step,
        manifest=manifest.hash(),
        dataset=manifest.name,
    )


def model_card(
    run: TrainedRun,
    exported: Exported,
    results: Mapping[str, Any],
    about: Mapping[str, Any],
    title: str,
    licence: str | None,
) -> str:
    """The model card, in Markdown with the Hub's YAML header.

    Args:
      run: what is exported.
      exported: its parts.
      results: `results.json` of its evaluation; empty when there is none.
      about: `run.json`.
      title: of the card.
      licence: of the weights, as the Hub spells it; by default the data's, when it has only one.
    """
    experiment, manifest = run.experiment, run.experiment.manifest
    kind = exported.triple_types[0]
    known = _licences(manifest)
    dims = {t.name: t.dim for t in manifest.node_types}
    example = (kind.head, kind.relation, kind.tail)
    template = Template(Path(__file__).with_name("model_card.md").read_text(encoding="utf-8"))
    return template.substitute(
        license=licence or (known[0].lower() if len(known) == 1 else "other"),
        index=_index(title, manifest, results),
        title=title,
        head=example[0],
        relation=example[1],
        tail=example[2],
        dim=dims[kind.head],
        tail_dim=dims[kind.tail],
        manifest=exported.manifest,
        types=_rows(
            [t.name, t.dim, t.encoder, t.pooling, len(experiment.graph.train_nodes(t.name)),
             t.licence or "not recorded"]
            for t in manifest.node_types if t.dim
        ),
        kinds=_rows([*k, len(p.heads)] for k, p in experiment.graph.pairs(["train"]).items()),
        training=_training(run),
        results=_results(results),
        sources=_sources(manifest),
        licence_note=_licence_note(known, licence),
        rival=_rival(results),
        provenance=_provenance(run, about),
    )  # fmt: skip


def _licences(manifest: Manifest) -> list[str]:
    """Every licence that the dataset names; a part without one makes the whole uncertain."""
    given = {t.licence for t in manifest.node_types if t.licence}
    parts = [s.get("licence", "") for s in manifest.sources]
    if not parts:
        parts = [t.licence for t in manifest.node_types if t.dim]
    return sorted(given | {p or "not recorded" for p in parts})


def _licence_note(known: Sequence[str], licence: str | None) -> str:
    if licence:
        return f"Whoever exported these weights gave them the licence `{licence}`."
    if known == ["not recorded"] or not known:
        return "The dataset records no licences: settle the terms before you share these weights."
    if len(known) == 1:
        return f"All parts are {known[0]}, and these weights are given under the same terms."
    parts = ", ".join(known)
    return f"Parts under different terms went in ({parts}): the strictest may bind these weights."


def _sources(manifest: Manifest) -> str:
    rows = [
        [s.get("part", ""), s.get("source", ""), s.get("licence", "")] for s in manifest.sources
    ]
    if not rows:
        return "The dataset names no sources."
    return "| part | source | licence |\n|---|---|---|\n" + _rows(rows)


def _training(run: TrainedRun) -> str:
    config, split = run.experiment.config, run.experiment.manifest.split
    count = sum(a.size for a in jax.tree.leaves(run.params))
    heldout = sum(file.count for file in run.experiment.manifest.heldout.values())
    return (
        f"{count:,} parameters ({config.model.arch}, width {config.model.width}, "
        f"{config.model.layers} layers), checkpoint of step {run.step:,}, batches of "
        f"{config.batch.size:,} triples, negatives `{config.loss.negatives}`, seed {config.seed}. "
        f"Dataset `{run.experiment.manifest.name}`, split `{split['rule']}` (seed {split.get('seed')}), "
        f"with {heldout:,} nodes held out. config.json has every field."
    )


def _results(results: Mapping[str, Any]) -> str:
    if not results:
        return "This checkpoint was not evaluated before it was exported."
    macro = [
        [name, _figure(m["mrr"]), f"{_figure(m['mrr_low'])} to {_figure(m['mrr_high'])}",
         _figure(m["hits@1"]), _figure(m["hits@10"])]
        for name, m in results["macro"].items()
    ]  # fmt: skip
    tasks: dict[str, dict[str, Any]] = {}
    for row in results["rows"]:
        tasks.setdefault(row["task"], {})[row["model"]] = row
    names = list(results["macro"])
    by_task = [
        [task, next(iter(rows.values()))["queries"], next(iter(rows.values()))["candidates"],
         *(_figure(rows[n]["mrr"]) if n in rows else "" for n in names)]
        for task, rows in tasks.items()
    ]  # fmt: skip
    about = results["about"]
    return "\n".join(
        [
            f"Filtered ranks of the held-out facts of the {about['split']} split among all nodes "
            "of the tail type, realistic ties; macro means over the tasks with a 95 % interval "
            "over heads. The loaded bridge gives the row `bridge`.",
            "",
            "| model | MRR | 95 % interval | Hits@1 | Hits@10 |",
            "|---|---:|---|---:|---:|",
            _rows(macro),
            "",
            f"MRR by task:\n\n| task | queries | candidates | {' | '.join(names)} |",
            "|---|---:|---:|" + "---:|" * len(names),
            _rows(by_task),
            "",
            f"Command: `{about['command']}`, commit {about['git_commit']}. All figures: "
            "results.json.",
        ]
    )


def _rival(results: Mapping[str, Any]) -> str:
    """What the bridge alone loses to, in a sentence."""
    if not results:
        return "How it compares to simple rivals is not known."
    mrr = {(r["task"], r["model"]): r["mrr"] for r in results["rows"]}
    tasks = {task for task, _ in mrr}
    lost = {
        model: sum(mrr.get((t, model), 0) > mrr[t, "bridge"] for t in tasks)
        for model in results["macro"]
        if not model.startswith("bridge")
    }
    worst = max(lost, key=lambda m: lost[m], default=None)
    if worst is None or not lost[worst]:
        return "No rival of its evaluation was ahead of it in any task."
    return (
        f"The rival `{worst}` had the higher MRR in {lost[worst]} of {len(tasks)} tasks; where it "
        "is at hand, ask both."
    )


def _provenance(run: TrainedRun, about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())
    return "\n".join(
        [
            f"- trained by: `{about.get('command', 'unknown')}`",
            f"- commit: {about.get('git_commit') or 'unknown'}",
            f"- versions: {versions or 'unknown'}",
            f"- dataset: `{run.experiment.manifest.name}`, manifest sha256 {run.experiment.manifest.hash()}",
        ]
    )


def _index(title: str, manifest: Manifest, results: Mapping[str, Any]) -> str:
    """The results as the Hub's YAML `model-index`; empty when there are none."""
    if not results:
        return ""
    bridge = results["macro"]["bridge"]
    lines = [
        "model-index:",
        f"- name: {json.dumps(title)}",
        "  results:",
        "  - task:",
        "      type: graph-ml",
        "      name: cross-modal retrieval",
        "    dataset:",
        f"      type: {json.dumps(manifest.name)}",
        f"      name: {json.dumps(manifest.name)}",
        "    metrics:",
    ]
    for key, name in (("mrr", "macro MRR"), ("hits@10", "macro Hits@10")):
        lines += [f"    - type: {key}", f"      name: {name}", f"      value: {bridge[key]:.4f}"]
    return "\n".join(lines) + "\n"


def _rows(rows: Any) -> str:
    def cell(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")

    return "\n".join(f"| {' | '.join(map(cell, row))} |" for row in rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
