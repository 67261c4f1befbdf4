"""What the page says about its model: what it was trained on, and how good it is."""

import json
from collections.abc import Collection, Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from bridge_jax.data.graph import TripleType
from bridge_jax.predictor import Predictor

_VALIDATION_KEY = "validation/retrieval/mrr: "


class Quality(NamedTuple):
    """Mean reciprocal rank of one triple type; None where it was not measured.

    Attributes:
      test: On the test split, of what answers by default.
      num_queries: Queries of the test split.
      validation: On the validation split, of the bridge alone, at the step of the checkpoint.
    """

    test: float | None = None
    num_queries: int = 0
    validation: float | None = None

    def as_text(self) -> str:
        """Returns one sentence; empty if nothing was measured."""
        parts = []
        if self.test is not None:
            parts.append(f"test MRR {self.test:.2f} over {self.num_queries:,} facts")
        if self.validation is not None:
            parts.append(f"validation MRR of the bridge alone {self.validation:.2f}")
        return f"This relation: {', '.join(parts)}." if parts else ""


def read_quality(folder: Path, step: int, answer: str) -> dict[str, Quality]:
    """Reads how good a run is by triple type, as far as its folder says so.

    Args:
      folder: Folder of the run.
      step: Step of the checkpoint; results of another one are left out.
      answer: What answers by default, `fusion` or `bridge`.

    Returns:
      Quality by the text of the triple type.
    """
    qualities: dict[str, Quality] = {}
    results = _read_json(folder / "eval" / "test" / "results.json")
    about, rows = results.get("about"), results.get("rows")
    if isinstance(about, dict) and about.get("checkpoint") == step and isinstance(rows, list):
        for row in rows:
            if row.get("model") == answer and isinstance(row.get("mrr"), float):
                quality = Quality(row["mrr"], int(row.get("queries", 0)))
                qualities[str(row.get("task"))] = quality
    for name, value in _validation_metrics(folder, step).items():
        quality = qualities.get(name, Quality())
        qualities[name] = quality._replace(validation=value)
    return qualities


def _validation_metrics(folder: Path, step: int) -> dict[str, float]:
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        record = _parse(line)
        if record.get("step") == step and any(k.startswith(_VALIDATION_KEY) for k in record):
            return {
                key.removeprefix(_VALIDATION_KEY): value
                for key, value in record.items()
                if key.startswith(_VALIDATION_KEY) and isinstance(value, float)
            }
    return {}


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        return _parse(path.read_text())
    except OSError:
        return {}


def _parse(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_PLURALS = {"sequence": "sequences", "smiles": "molecules", "text": "texts"}


def introduction(bridge: Predictor, modalities: Collection[str]) -> str:
    """Returns the two lines at the top of the page, as HTML.

    Args:
      bridge: Bridge that was opened with its dataset.
      modalities: What its nodes are encoded from.
    """
    experiment = bridge.experiment
    assert experiment is not None
    manifest, graph = experiment.manifest, experiment.graph
    encoded = [plural for modality, plural in _PLURALS.items() if modality in modalities]
    of = f" of {' and '.join(encoded)}" if encoded else ""
    return (
        f"<p>Predicts missing facts of the knowledge graph <em>{escape(manifest.name)}</em> from "
        f"embeddings{of} and the facts of similar nodes; trained on "
        f"{manifest.triples['train'].count:,} facts between {int(graph.offsets[-1]):,} nodes.</p>"
        "<p><em>Probability</em>: among all candidates. <em>Confidence</em>: how often such an "
        "answer was a fact of the validation split, which was not trained on. Hypotheses to be "
        "tested, <em>no medical advice</em>.</p>"
    )


def data_sources(bridge: Predictor) -> str:
    """Returns the names of the sources of the dataset, separated by commas."""
    assert bridge.experiment is not None
    sources = bridge.experiment.manifest.sources
    names = dict.fromkeys(s.get("source", "").partition(", through")[0] for s in sources)
    return ", ".join(name for name in names if name)


def quality_of(qualities: Mapping[str, Quality], triple_type: TripleType) -> str:
    """Returns one sentence about a triple type."""
    return qualities.get(str(triple_type), Quality()).as_text()
