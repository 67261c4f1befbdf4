"""The commands under attack, with inputs that are small enough for seconds."""

import importlib.util
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .processes import Process

ROOT = Path(__file__).parents[2]
_EXCERPT = ROOT / "tests/fixtures/openbiokg_excerpt/kg.csv"
_SAVED = {signal.SIGTERM: (0,), signal.SIGINT: (130,)}  # a checkpoint is saved
_CONFIG = """
from bridge_jax import config as configs

def get_config():
    config = configs.default()
    config.dataset, config.devices = {dataset!r}, 1
    config.model.update({{"width": 8, "layers": 1, "heads": 2, "mlp_dim": 8}})
    config.loss.negatives = "in_batch"
    config.batch.size = 64
    config.evaluate.update({{"knn": False, "baselines": ("random",)}})
    config.train.update({{"steps": 12, "validate_every": 6, "save_every": 3, "log_every": 1}})
    return config

def sweep():
    yield "small", {{}}
    yield "wide", {{"model.width": 16}}
"""


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
      name: Name in the table.
      module: Module with the function `main`.
      options: Options of two runs with different results.
      output: Name of the folder or file that it writes.
      flag: Option for the output.
      overwrite: Option that replaces an old output.
      replaces: Whether it can replace an old output.
      before: Folder that the output is a copy of before the command; default: none.
      file_by_file: Whether an old output is replaced one file after the other.
      last_one_wins: Whether two at once may both succeed, with the result of the last one.
      stop_codes: Exit codes after a signal, beside 0 and minus the signal.
    """

    name: str
    module: str
    options: tuple[list[str], list[str]]
    output: str = "out"
    flag: str = "--output"
    overwrite: tuple[str, ...] = ("--overwrite",)
    replaces: bool = True
    before: Path | None = None
    file_by_file: bool = False
    last_one_wins: bool = False
    stop_codes: dict[int, tuple[int, ...]] = field(default_factory=lambda: {signal.SIGINT: (130,)})


class Inputs:
    """Inputs of the commands in a scratch folder, made when they are first used."""

    def __init__(self, folder: Path) -> None:
        """Names the folder; writes nothing."""
        self._folder = folder

    def dataset(self) -> Path:
        """A dataset directory of 370 nodes, cut from the demo."""
        keep = ["gene/protein=250", "molecular_function=80", "cellular_component=40"]
        argv = [str(ROOT / "data/demo"), *(f"--keep={k}" for k in keep)]
        return self._made("data", "tools.subset", argv, "--output")

    def config(self) -> Path:
        """A config of twelve steps that has a sweep of two settings."""
        path = self._folder / "config.py"
        path.write_text(_CONFIG.format(dataset=str(self.dataset())))
        return path

    def run(self) -> Path:
        """A trained run."""
        argv = ["--config", str(self.config()), "--no-evaluate"]
        return self._made("run", "bridge_jax.train", argv, "--workdir")

    def embeddings(self) -> Path:
        """Random vectors for the nodes of the excerpt of a knowledge graph."""
        from tests.helpers.excerpt import write_embeddings
        from tools.formats import FORMATS

        folder = self._folder / "embeddings"
        return (
            folder
            if folder.exists()
            else write_embeddings(folder, FORMATS["primekg"](_EXCERPT).nodes)
        )

    def library(self) -> Path:
        """Sixteen shards of random vectors for genes and proteins."""
        from benchmarks.project import write_library
        from bridge_jax.data.manifest import read_manifest

        folder = self._folder / "library"
        if not folder.exists():
            dim = read_manifest(self.dataset()).table("gene/protein").dim
            write_library(folder, "gene/protein", 4000, dim, 250)
        return folder

    def table(self) -> Path:
        """A table of 2,000 texts."""
        path = self._folder / "texts.csv"
        words = ("protein", "binding", "disorder", "membrane", "Apoptosis", "kinase")
        rows = [f"D{i},{words[i % 6]},{words[i % 5]} {i}" for i in range(2000)]
        path.write_text("\n".join(["node_id,node_name,description", *rows]) + "\n")
        return path

    def clone(self) -> Path:
        """A clone of the BioBridge reference repository with a few rows."""
        from tests.helpers.biobridge_clone import make_clone

        folder = self._folder / "BioBridge"
        if not folder.exists():
            with np.load(ROOT / "tests/fixtures/parity_small.npz") as arrays:
                make_clone(folder, dict(arrays))
        return folder

    def packages(self) -> Path:
        """A cache of tiny packages in the layout of those that OpenBioKG is built from."""
        from tests.helpers.openbiokg_packages import write_packages

        folder = self._folder / "cache"
        return folder if folder.exists() else write_packages(folder)

    def _made(self, name: str, module: str, argv: list[str], flag: str) -> Path:
        path = self._folder / name
        if not path.exists():
            outcome = Process(module, [*argv, flag, str(path)], self._folder / f"{name}.log").wait()
            if outcome.code:
                raise RuntimeError(f"{module}: {outcome.stderr}")
        return path


def use_toy_encoders() -> None:
    """Replaces the encoders by one without weights, and downloads by the files of the cache."""
    from bridge_jax.encoders import ENCODERS
    from bridge_jax.encoders.base import Family
    from tests.helpers.encoders import LetterCounter
    from tools import build_openbiokg
    from tools.ingest import id_matching

    for name, reads in (("minilm", "text"), ("chemnet", "smiles"), ("deepblast", "sequence")):
        toy = Family("toy", LetterCounter, reads, "letters", 1000, 64, takes_checkpoint=False)
        ENCODERS[name] = toy  # type: ignore[index]
    build_openbiokg.fetch = lambda package, cache: cache / package.file
    build_openbiokg.FRACTIONS.update(test=0.4, validation=0.0)
    id_matching.MIN_MATCHED = 0.0  # of few diseases, few are left with --redistributable


def _import_graph(inputs: Inputs) -> Command:
    argv = ["--format", "primekg", "--input", str(_EXCERPT), "--embeddings"]
    argv.append(str(inputs.embeddings()))
    return Command("import_graph", "tools.import_graph", (argv, [*argv, "--split", "transductive"]))


def _export_embeddings(inputs: Inputs) -> Command:
    argv = ["--encoder", "minilm", "--type", "disease", "--input", str(inputs.table())]
    argv += ["--shard-records", "100"]
    module = "tools.export_embeddings"
    return Command("export_embeddings", module, (argv, [*argv, "--dtype", "float16"]))


def _import_biobridge(inputs: Inputs) -> Command:
    argv = ["--input", str(inputs.clone())]
    changed = [*argv, "--validation-fraction", "0.2"]
    return Command("import_biobridge", "tools.import_biobridge", (argv, changed))


def _build_openbiokg(inputs: Inputs) -> Command:
    argv = ["--cache", str(inputs.packages())]
    return Command("build_openbiokg", "tools.build_openbiokg", (argv, [*argv, "--redistributable"]))


def _subset(inputs: Inputs) -> Command:
    argv = [str(inputs.dataset()), "--keep", "gene/protein=200", "--keep"]
    options = [*argv, "molecular_function=60"], [*argv, "molecular_function=40"]
    return Command("subset", "tools.subset", options)


def _train(inputs: Inputs) -> Command:
    argv = ["--config", str(inputs.config()), "--no-evaluate"]
    return Command(
        "train", "bridge_jax.train", (argv, [*argv, "--config.seed=1"]), flag="--workdir",
        overwrite=(), replaces=False, stop_codes=_SAVED,
    )  # fmt: skip


def _evaluate(inputs: Inputs) -> Command:
    return Command(
        "evaluate", "bridge_jax.evaluate", (["--baselines", "random"], ["--baselines"]),
        flag="--workdir", overwrite=(), before=inputs.run(), file_by_file=True, last_one_wins=True,
    )  # fmt: skip


def _sweep(inputs: Inputs) -> Command:
    argv = ["--config", str(inputs.config()), "--seeds", "1"]
    return Command(
        "sweep", "bridge_jax.sweep", (argv, [*argv, "--config.seed=1"]), flag="--workdir",
        overwrite=(), replaces=False, stop_codes={signal.SIGTERM: (143, 0), signal.SIGINT: (130,)},
    )  # fmt: skip


def _project(inputs: Inputs) -> Command:
    argv = ["--workdir", str(inputs.run()), "--source", "gene/protein", "--input"]
    argv.append(str(inputs.library()))
    return Command("project", "bridge_jax.project", (argv, [*argv, "--format", "npy"]))


def _retrieve(inputs: Inputs) -> Command:
    argv = ["--workdir", str(inputs.run()), "--source", "gene/protein", "--target"]
    argv += ["molecular_function", "--name", "TP53", "--k"]
    return Command(
        "retrieve", "bridge_jax.retrieve", ([*argv, "5"], [*argv, "7"]), output="out.csv",
        overwrite=(), last_one_wins=True,
    )  # fmt: skip


def _export_model(inputs: Inputs) -> Command:
    argv = ["--workdir", str(inputs.run()), "--title"]
    return Command("export_model", "tools.export_model", ([*argv, "a"], [*argv, "b"]))


def _train_pykeen(inputs: Inputs) -> Command:
    argv = ["--dataset", str(inputs.dataset()), "--epochs", "1", "--dim", "16", "--model"]
    return Command("train_pykeen", "tools.train_pykeen", ([*argv, "TransE"], [*argv, "DistMult"]))


COMMANDS: dict[str, Callable[[Inputs], Command]] = {
    "import_graph": _import_graph,
    "export_embeddings": _export_embeddings,
    "import_biobridge": _import_biobridge,
    "build_openbiokg": _build_openbiokg,
    "subset": _subset,
    "train": _train,
    "evaluate": _evaluate,
    "sweep": _sweep,
    "project": _project,
    "retrieve": _retrieve,
    "export_model": _export_model,
    "train_pykeen": _train_pykeen,
}


def is_installed(name: str) -> bool:
    """Returns whether the optional packages of a command are installed."""
    return name != "train_pykeen" or importlib.util.find_spec("pykeen") is not None
