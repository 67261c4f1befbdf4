"""What the trials of a study found: mean and interval over seeds, as a table and a plot."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.files import atomic_file, write_json
from bridge_jax.errors import InputError
from bridge_jax.formatting import markdown_table, text_table

_HEADER = ("setting", "seeds", "validation MRR", "test MRR", "minus the first", "test Hits@10")
_NOTE = (
    "Macro means over tasks. ± is half a 95 % interval of the mean over seeds (Student's t); it "
    "tells nothing of other data. The difference of test MRR to the first setting is taken seed by "
    "seed. The setting that is best on validation is starred."
)


@dataclass(frozen=True)
class Result:
    """What one finished trial found: macro figures, and the test MRR of each task."""

    validation: float
    test: float
    hits: float
    tasks: dict[str, float]


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting with one seed.

    Attributes:
      setting: its name.
      seed: of the run.
      workdir: of the run.
      spec: the study's config file.
      changes: `--config.<field>=<value>`.
      config: all of it together.
    """

    setting: str
    seed: int
    workdir: Path
    spec: str
    changes: Sequence[str]
    config: ConfigDict

    def __str__(self) -> str:
        return f"{self.setting}, seed {self.seed}"

    @property
    def command(self) -> list[str]:
        """What runs the trial, after `python`."""
        run = ["-m", "bridge_jax.train", "--config", self.spec, "--workdir", str(self.workdir)]
        return [*run, *self.changes]

    @property
    def log(self) -> Path:
        """Everything that the trial says."""
        return self.workdir / "log.txt"

    @property
    def finished(self) -> bool:
        """Whether this very trial (not one of another config) was trained and tested."""
        path = self.workdir / "config.json"
        if not (self._results.is_file() and path.is_file()):
            return False
        theirs = configs.from_json(json.loads(path.read_text()))
        return configs.to_json(theirs) == configs.to_json(self.config)

    @property
    def _results(self) -> Path:
        return self.workdir / "eval/test/results.json"

    def error_message(self) -> str:
        """The last error that an unfinished trial named, or else its last words."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        last = next((line for line in reversed(lines) if "rror: " in line), "".join(lines[-1:]))
        return last.removeprefix("error: ") or "it said nothing"

    def result(self) -> Result:
        """Read what a finished trial found.

        Its validation MRR is that of the checkpoint that was tested, the best of the run; NaN for
        a dataset without validation queries.
        """
        found = json.loads(self._results.read_text())
        macro = found["macro"][found["about"]["subject"]]
        lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines())
        validations = [v for line in lines if (v := line.get("validation/mrr")) is not None]
        return Result(
            max(validations, default=float("nan")),
            macro["mrr"],
            macro["hits@10"],
            {r["task"]: r["mrr"] for r in found["rows"] if r["model"] == found["about"]["subject"]},
        )


@dataclass(frozen=True)
class SweepResults:
    """The results of every finished trial, by setting, in the order of the study."""

    settings: dict[str, dict[int, Result]]
    config: str

    @cached_property
    def best(self) -> str:
        """The setting with the highest mean validation MRR."""
        return max(self.settings, key=lambda s: float(np.mean(self.values(s, "validation"))))

    def values(self, setting: str, name: str) -> list[float]:
        """One figure of `Result` for every seed."""
        return [getattr(r, name) for r in self.settings[setting].values()]

    def minus_first(self, setting: str) -> list[float]:
        """Test MRR less that of the first setting with the same seed, for the seeds of both."""
        first, own = next(iter(self.settings.values())), self.settings[setting]
        return [own[seed].test - first[seed].test for seed in own if seed in first]


def collect(trials: Sequence[Trial]) -> SweepResults:
    """Read every finished trial."""
    settings: dict[str, dict[int, Result]] = {}
    for trial in trials:
        if trial.finished:
            settings.setdefault(trial.setting, {})[trial.seed] = trial.result()
    return SweepResults(settings, trials[0].spec)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; NaN for a single value."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan")
    import scipy.stats  # type: ignore[import-untyped]

    return mean, float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def as_text(study: SweepResults) -> str:
    """The study for a terminal."""
    return text_table(_rows(study), _HEADER)


def _rows(study: SweepResults) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, results in study.settings.items():
        figures = [_cell(study.values(name, k)) for k in ("validation", "test", "hits")]
        star = " *" if name == study.best and len(study.settings) > 1 else ""
        gain = study.minus_first(name) if rows else []
        figures.insert(2, _cell(gain, "+.3f") if gain else "")
        rows.append([name, len(results), figures[0] + star, *figures[1:]])
    return rows


def _cell(values: Sequence[float], shown: str = ".3f") -> str:
    mean, half = mean_and_half(values)
    return f"{mean:{shown}}" if np.isnan(half) else f"{mean:{shown}} ± {half:.3f}"


def write(study: SweepResults, workdir: str | Path) -> None:
    """Write `sweep.json`, `.md` and `.png`, each atomically."""
    folder = Path(workdir)
    settings = {
        name: {str(seed): vars(result) for seed, result in results.items()}
        for name, results in study.settings.items()
    }
    write_json(
        folder / "sweep.json", {"config": study.config, "settings": settings, "best": study.best}
    )
    with atomic_file(folder / "sweep.md") as path:
        table = markdown_table(_rows(study), _HEADER)
        path.write_text(f"# {study.config}\n\n{table}\n\n{_NOTE}\n")
    with atomic_file(folder / "sweep.png") as path:
        _draw(study).savefig(path, format="png")


def _draw(study: SweepResults) -> Any:
    """Every seed as a dot, the mean and its interval as a bar; test MRR."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise InputError("the plot needs matplotlib: pip install matplotlib") from e
    names = list(study.settings)
    inches = 0.34 * len(names) + 1.25
    figure = Figure(figsize=(8, inches), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.3, 0.55 / inches, 0.66, 1 - 1.1 / inches))
    for row, name in enumerate(names):
        values = study.values(name, "test")
        mean, half = mean_and_half(values)
        colour = "#D55E00" if name == study.best else "#0072B2"
        axes.errorbar(mean, row, xerr=np.nan_to_num(half), color=colour, lw=2, capsize=3)
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot(mean, row, "o", color=colour, markersize=7, markeredgecolor="white")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(axis="x", color="#E6E6E6")
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("macro MRR of the test; bars: 95 % over seeds", fontsize=9, color="#757575")
    title = f"{Path(study.config.partition(':')[0]).stem}: best on validation in orange"
    figure.text(0.02, 1 - 0.34 / inches, title, fontsize=12, weight="bold")
    return figure
