"""A run: its data and model set up from a config, and a trained one opened again."""

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from bridge_jax import config as configs
from bridge_jax.data.dataset import SPLITS, Manifest, read_manifest
from bridge_jax.data.embedding_tables import Table, load_tables
from bridge_jax.data.graph import (
    Graph,
    Known,
    Pairs,
    TripleType,
    known_positives,
    load_graph,
    thinned,
)
from bridge_jax.data.tfrecord import write_json
from bridge_jax.distributed.mesh import device_count, here, make_mesh, replicated
from bridge_jax.distributed.placement import choose, place
from bridge_jax.errors import InputError
from bridge_jax.experiment.checkpoint import Checkpoints, abstract
from bridge_jax.models.bridge import Bridge, Params, init_params, make_model
from bridge_jax.models.logits import init_logits
from bridge_jax.models.node_embedding import init_residuals
from bridge_jax.models.pretrained import is_exported
from bridge_jax.models.scorer import BridgeScorer
from bridge_jax.training.objective import DeviceData, device_data, popularities

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


@dataclass(frozen=True)
class Setup:
    """What training and evaluation share.

    Attributes:
      config: the run's config.
      manifest: of the dataset.
      graph: facts by split.
      tables: frozen embeddings by node type.
      model: the bridge, without parameters.
      placement: of the tables while training, settled.
      mesh: the devices.
    """

    config: ConfigDict
    manifest: Manifest
    graph: Graph
    tables: dict[str, Table]
    model: Bridge
    placement: str
    mesh: Mesh

    @cached_property
    def data(self) -> DeviceData:
        """What every training step reads, on the devices."""
        placed = place(self.tables, self.placement, self.mesh, self.config.tables.dtype)
        rest = device_data(self.graph, {}, self.config.batch.shards)
        return jax.device_put(rest, replicated(self.mesh))._replace(tables=placed)

    @cached_property
    def prior(self) -> dict[str, jax.Array]:
        """Log-popularity of each tail among the training facts, by triple type."""
        return popularities(self.graph, known_positives(self.graph, ["train"]))

    @cached_property
    def known(self) -> dict[TripleType, Known]:
        """Known positives of all splits, for the filtered ranks of the test."""
        return known_positives(self.graph, self.graph.facts)

    @cached_property
    def known_before_test(self) -> dict[TripleType, Known]:
        """Known positives without the test's, for choices made on the validation split."""
        return known_positives(self.graph, [s for s in self.graph.facts if s != "test"])

    @cached_property
    def queries(self) -> dict[str, dict[TripleType, Pairs]]:
        """`graph.queries` of the validation and of the test."""
        return {split: self.graph.queries(split) for split in SPLITS[1:]}

    def init_params(self, key: jax.Array) -> dict[str, Any]:
        """Every trained number: `{"model": …}` and what `logits` and `residual` learn."""
        counts = {name: len(table.ids) for name, table in self.tables.items()}
        return {
            "model": init_params(self.model, key),
            **init_logits(self.config.loss, self.graph.triple_types),
            **init_residuals(self.config.model, counts),
        }

    def abstract_params(self) -> Any:
        """Shapes, dtypes and placement of `init_params`."""
        shapes = jax.eval_shape(self.init_params, jax.random.key(0))
        everywhere = replicated(self.mesh)
        return jax.tree.map(lambda a: abstract(a.shape, a.dtype, everywhere), shapes)

    def scorer(self, params: Params) -> BridgeScorer:
        """The bridge with some parameters, as a scorer on this process's first device."""
        return BridgeScorer(
            self.model,
            here(params),
            self.tables,
            self.prior,
            self.graph.triple_types,
            self.config.loss,
            self.config.tables.dtype,
        )


def set_up(config: ConfigDict) -> Setup:
    """Open the dataset that a config names and build its model.

    Raises:
      InputError: the dataset is missing or damaged, or the config does not fit.
    """
    if not config.dataset:
        raise InputError("the config names no dataset; pass --config.dataset=FOLDER")
    manifest = read_manifest(config.dataset)
    graph = thinned(load_graph(config.dataset, manifest), config.fraction, config.seed)
    tables = load_tables(config.dataset, manifest, graph, config.tables.transform)
    dims = [(t.name, t.dim) for t in manifest.node_types]
    model = make_model(config.model, dims, manifest.relations)
    width = jnp.dtype(config.tables.dtype).itemsize
    needed = sum(t.stored.size for t in tables.values()) * width
    devices = device_count(config.devices)
    placement = choose(config.tables.placement, needed, config.loss.negatives, devices)
    spread = (config.tables.devices or devices) if placement == "sharded" else 1
    mesh = make_mesh(config.batch.shards, devices, spread)
    return Setup(config, manifest, graph, tables, model, placement, mesh)


@dataclass(frozen=True)
class Run:
    """A trained run: its setup, and the parameters of one checkpoint."""

    workdir: Path
    setup: Setup
    params: Params
    step: int

    @cached_property
    def scorer(self) -> BridgeScorer:
        """The trained bridge as a scorer."""
        return self.setup.scorer(self.params)


def open_run(
    workdir: str | Path,
    dataset: str | None = None,
    step: int | None = None,
    changes: Sequence[str] = (),
) -> Run:
    """Open a trained run at its best checkpoint.

    Args:
      workdir: where `train` wrote.
      dataset: another place of the same dataset; by default the config's.
      step: a checkpoint's step; by default the best by validation.
      changes: `--config.evaluate.<field>=<value>`, for this time alone.

    Raises:
      InputError: another field is to change; not a run, or no checkpoint yet; or the dataset is
        not the one it was trained on.
    """
    folder = Path(workdir)
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{workdir}: not a run (no config.json); train one with --workdir {workdir}"
        )
    if is_exported(folder):
        raise InputError(
            f"{workdir} is an exported bridge, which retrieves and projects; here the run is "
            "needed that it was exported from"
        )
    config = configs.from_json(json.loads(path.read_text()))
    for item in changes:
        configs.override(config, item)
        if not item.startswith("--config.evaluate."):
            raise InputError(f"{item}: a trained run takes other fields of config.evaluate alone")
    if dataset:
        config.dataset = dataset
    checkpoints = Checkpoints(folder, read_only=True)
    chosen = checkpoints.best() if step is None else step
    if chosen is None:
        raise InputError(f"{workdir}: no checkpoint yet; run the training command again to go on")
    if chosen not in (there := checkpoints.steps()):
        raise InputError(
            f"{workdir}: no checkpoint of step {chosen}; there are: {', '.join(map(str, there))}"
        )
    setup = set_up(config)
    check_dataset(folder, checkpoints.data(chosen)["manifest"], setup.manifest, config.dataset)
    part = "ema" if config.train.ema else "params"
    params = checkpoints.restore(chosen, {part: setup.abstract_params()}, partial=True)[part]
    checkpoints.close()
    return Run(folder, setup, params, chosen)


def check_dataset(workdir: Path, trained_on: str, manifest: Manifest, dataset: str) -> None:
    """Refuse a dataset that differs from the one a run was trained on.

    Raises:
      InputError: the manifests' hashes differ.
    """
    if trained_on != manifest.hash():
        raise InputError(
            f"{workdir} belongs to another dataset (manifest {trained_on[:12]}; {dataset} has "
            f"{manifest.hash()[:12]}); choose another --workdir or restore the dataset"
        )


def claim(workdir: Path, setup: Setup) -> None:
    """Make a workdir this run's: write `config.json` and `run.json`, or check that they agree.

    How it is evaluated, and where the dataset lies, may change; `config.json` follows.

    Raises:
      InputError: the folder holds a run of another config or dataset; nothing is changed.
    """
    path, about = workdir / "config.json", workdir / "run.json"
    ours = configs.to_json(setup.config)
    if path.is_file():
        theirs = configs.from_json(json.loads(path.read_text()))
        check_dataset(
            workdir,
            json.loads(about.read_text())["manifest_sha256"],
            setup.manifest,
            setup.config.dataset,
        )
        both = zip(configs.flatten(setup.config), configs.flatten(theirs), strict=True)
        others = [
            f"{name} = {old!r}, not {new!r}"
            for (name, new), (_, old) in both
            if new != old and not name.startswith("evaluate.") and name != "dataset"
        ]
        if others:
            raise InputError(
                f"{workdir} holds a run with {'; '.join(others)}; choose another --workdir, or "
                "remove this one to start over"
            )
        if ours != configs.to_json(theirs):
            write_json(path, ours)
        return
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(
        about,
        {
            "dataset": setup.manifest.name,
            "manifest_sha256": setup.manifest.hash(),
            **provenance(),
        },
    )
    write_json(path, ours)


def provenance() -> dict[str, Any]:
    """Versions, commit, machine and command, to stand beside every figure."""
    from bridge_jax import __version__

    return {
        "command": _command(),
        "versions": {
            "bridge_jax": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "git_commit": _git_commit(),
        "machine": platform.machine(),
        "devices": [str(d.device_kind) for d in jax.devices()],
    }


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    started = ["-m", spec.name] if spec else [Path(sys.argv[0]).name]
    return " ".join(["python", *started, *sys.argv[1:]])


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
