"""Results of a sweep: mean and confidence interval over seeds, as a table and a plot."""

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
from bridge_jax.experiment.checkpoint_files import CHECKPOINTS, list_steps
from bridge_jax.experiment.run_files import read_config, read_provenance
from bridge_jax.formatting import markdown_table, text_table

_HEADER = (
    *("setting", "seeds", "steps", "validation MRR", "test MRR", "minus the first"),
    "test Hits@10",
)
_NOTE = (
    "Macro means over tasks. ± is half the width of a 95 % confidence interval of the mean over "
    'seeds (Student\'s t); it does not cover the choice of the dataset. "Minus the first" is the '
    "difference in test MRR to the first setting, paired by seed. The best setting on validation "
    'has a star. "Steps" is that of the tested checkpoint, the best of a run, of all its steps.'
)


@dataclass(frozen=True)
class TrialResult:
    """Results of a finished trial, macro means over tasks.

    Attributes:
      validation: MRR on the validation split.
      test: MRR on the test split.
      hits: Hits@10 on the test split.
      tasks: Test MRR of each task.
      step: Step of the checkpoint that was tested, the best by validation.
      num_steps: Number of steps that the config asks for.
    """

    validation: float
    test: float
    hits: float
    tasks: dict[str, float]
    step: int = 0
    num_steps: int = 0


@dataclass(frozen=True, eq=False)
class Trial:
    """One setting with one seed.

    Attributes:
      setting: Name of the setting.
      seed: Seed of the run.
      workdir: Folder of the run.
      spec: Config file of the sweep.
      changes: Overrides `--config.<field>=<value>` of the trial.
      config: Config of the run, with the overrides applied.
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
        """Command that runs the trial, without the leading `python`."""
        run = ["-m", "bridge_jax.train", "--config", self.spec, "--workdir", str(self.workdir)]
        return [*run, *self.changes]

    @property
    def log(self) -> Path:
        """File with the output of the trial."""
        return self.workdir / "log.txt"

    @property
    def finished(self) -> bool:
        """Whether the trial has made its last step, or patience ended it, and was then tested.

        A trial that was killed and evaluated by hand is not finished, nor is one with another
        config than its present one.
        """
        try:
            stored = read_config(self.workdir)
            progress = read_provenance(self.workdir).get("progress") or self._old_progress(stored)
            tested = json.loads(self._results.read_bytes())["about"]["checkpoint"]
            if not progress["complete"] or configs.to_json(stored) != configs.to_json(self.config):
                return False
            return bool(tested == progress.get("best", tested))
        except (InputError, OSError, ValueError, KeyError, TypeError):
            return False

    def _old_progress(self, config: ConfigDict) -> dict[str, Any]:
        """Returns the progress of a run by a version before 0.2, which did not record it."""
        steps = list_steps(self.workdir / CHECKPOINTS)
        num_steps = config.train.steps
        return {"step": max(steps), "num_steps": num_steps, "complete": num_steps in steps}

    @property
    def _results(self) -> Path:
        return self.workdir / "eval/test/results.json"

    def error_message(self) -> str:
        """Returns the last error in the log of an unfinished trial, or else its last line."""
        lines = self.log.read_text().splitlines() if self.log.is_file() else []
        last = next((line for line in reversed(lines) if "rror: " in line), "".join(lines[-1:]))
        return last.removeprefix("error: ") or "no output"

    def result(self) -> TrialResult:
        """Reads the results of a finished trial.

        The validation MRR is that of the tested checkpoint, the best of the run; it is NaN for a
        dataset without validation queries.
        """
        results = json.loads(self._results.read_text())
        subject = results["about"]["subject"]
        macro = results["macro"][subject]
        lines = map(json.loads, (self.workdir / "metrics.jsonl").read_text().splitlines())
        validations = [v for line in lines if (v := line.get("validation/mrr")) is not None]
        progress = read_provenance(self.workdir).get("progress", {})
        return TrialResult(
            max(validations, default=float("nan")),
            macro["mrr"],
            macro["hits@10"],
            {row["task"]: row["mrr"] for row in results["rows"] if row["model"] == subject},
            results["about"]["checkpoint"],
            progress.get("num_steps", self.config.train.steps),
        )


@dataclass(frozen=True)
class SweepResults:
    """Results of the finished trials of a sweep.

    Attributes:
      settings: Results by setting, then by seed, in the order of the sweep.
      config: Config file of the sweep.
    """

    settings: dict[str, dict[int, TrialResult]]
    config: str

    @cached_property
    def best(self) -> str:
        """Setting with the highest mean validation MRR."""
        return max(self.settings, key=lambda s: float(np.mean(self.values(s, "validation"))))

    def values(self, setting: str, name: str) -> list[float]:
        """Returns one field of `TrialResult` for every seed of a setting."""
        return [getattr(result, name) for result in self.settings[setting].values()]

    def minus_first(self, setting: str) -> list[float]:
        """Returns test MRR minus that of the first setting, for the seeds that both have."""
        first, results = next(iter(self.settings.values())), self.settings[setting]
        return [results[seed].test - first[seed].test for seed in results if seed in first]


def collect(trials: Sequence[Trial]) -> SweepResults:
    """Reads the results of all finished trials."""
    settings: dict[str, dict[int, TrialResult]] = {}
    for trial in trials:
        if trial.finished:
            settings.setdefault(trial.setting, {})[trial.seed] = trial.result()
    return SweepResults(settings, trials[0].spec)


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and half the width of its 95 % confidence interval (Student's t).

    The half-width is NaN for a single value.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan")
    import scipy.stats  # type: ignore[import-untyped]

    return mean, float(scipy.stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def as_text(results: SweepResults) -> str:
    """Formats the results for a terminal."""
    return text_table(_rows(results), _HEADER)


def _rows(results: SweepResults) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for name, by_seed in results.settings.items():
        validation, test, hits = (
            _cell(results.values(name, field)) for field in ("validation", "test", "hits")
        )
        star = " *" if name == results.best and len(results.settings) > 1 else ""
        difference = results.minus_first(name) if rows else []
        minus_first = _cell(difference, "+.3f") if difference else ""
        steps = _steps_cell(list(by_seed.values()))
        rows.append([name, len(by_seed), steps, validation + star, test, minus_first, hits])
    return rows


def _steps_cell(trials: Sequence[TrialResult]) -> str:
    """Formats the steps of the tested checkpoints, e.g. `900–1,200 of 2,000`."""
    tested, total = {t.step for t in trials}, {t.num_steps for t in trials}
    return " of ".join(
        f"{min(steps):,}" + (f"–{max(steps):,}" if len(steps) > 1 else "")
        for steps in (tested, total)
    )


def _cell(values: Sequence[float], spec: str = ".3f") -> str:
    mean, half_width = mean_and_half_width(values)
    return f"{mean:{spec}}" if np.isnan(half_width) else f"{mean:{spec}} ± {half_width:.3f}"


def write(results: SweepResults, workdir: str | Path) -> None:
    """Writes `sweep.json`, `.md` and `.png`, each atomically.

    Raises:
      InputError: matplotlib is not installed.
    """
    folder = Path(workdir)
    settings = {
        name: {str(seed): vars(result) for seed, result in by_seed.items()}
        for name, by_seed in results.settings.items()
    }
    content = {"config": results.config, "settings": settings, "best": results.best}
    write_json(folder / "sweep.json", content)
    with atomic_file(folder / "sweep.md") as path:
        table = markdown_table(_rows(results), _HEADER)
        path.write_text(f"# {results.config}\n\n{table}\n\n{_NOTE}\n")
    with atomic_file(folder / "sweep.png") as path:
        _plot(results).savefig(path, format="png")


def _plot(results: SweepResults) -> Any:
    """Plots the test MRR: a dot per seed, and the mean with its interval."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise InputError("the plot needs matplotlib: pip install matplotlib") from e
    names = list(results.settings)
    inches = 0.34 * len(names) + 1.25
    figure = Figure(figsize=(8, inches), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.3, 0.55 / inches, 0.66, 1 - 1.1 / inches))
    for row, name in enumerate(names):
        values = results.values(name, "test")
        mean, half_width = mean_and_half_width(values)
        colour = "#D55E00" if name == results.best else "#0072B2"
        axes.errorbar(mean, row, xerr=np.nan_to_num(half_width), color=colour, lw=2, capsize=3)
        axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.35, markersize=4)
        axes.plot(mean, row, "o", color=colour, markersize=7, markeredgecolor="white")
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(axis="x", color="#E6E6E6")
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xlabel("macro test MRR; bars: 95 % over seeds", fontsize=9, color="#757575")
    title = f"{Path(results.config.partition(':')[0]).stem}: best on validation in orange"
    figure.text(0.02, 1 - 0.34 / inches, title, fontsize=12, weight="bold")
    return figure
