"""Default config, config-file loading and command-line overrides.

A config is a Python file with a function `get_config()` that starts from `default()`. Any field can
be set on the command line with `--config.<field>=<value>`.
"""

import ast
import difflib
import importlib.util
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bridge_jax.errors import InputError, unknown

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list"}
_MISSING = {
    "sweep": "sweeps are in configs/ablations",
    "get_config": "every config file defines one",
}
# Fields by their name before version 0.2.0.
RENAMED = {
    "model.form": "model.arch",
    "model.feedforward": "model.mlp_dim",
    "model.residual": "model.node_embedding",
    "model.residual_dropout": "model.node_embedding_dropout",
    "batch.exponent": "batch.sampling_alpha",
    "batch.cached": "batch.grad_cache",
    "loss.kind": "loss.type",
    "loss.form": "loss.implementation",
    "loss.paired": "loss.num_sampled",
    "evaluate.both_ways": "evaluate.bidirectional",
    "evaluate.memory": "evaluate.knn",
    "evaluate.memory_spaces": "evaluate.knn_spaces",
}
_PACKAGE = Path(__file__).resolve().parent
# Folder that holds `configs/`: the package if it is installed, else the repository.
SHIPPED = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent


def default() -> ConfigDict:
    """Returns every field with its default; a config file changes values and adds no fields.

    Returns:
      Locked, typed config: the model of the paper with in-batch negatives.
    """
    return ConfigDict(
        {
            "dataset": "",  # folder of the dataset
            "fraction": 1.0,  # of the training facts; a larger fraction includes a smaller one
            "seed": 0,
            "devices": 0,  # number of devices to use; 0: all
            "model": {
                "arch": "transformer",  # transformer | mlp | linear | projection_only
                "width": 768,
                "layers": 6,
                "heads": 12,
                "mlp_dim": 2048,
                "dropout": 0.1,
                "dtype": "float32",  # of the computation; parameters are float32
                "node_embedding": False,  # learn a vector for each node of the graph
                "node_embedding_dropout": 0.5,  # fraction of them dropped in training
            },
            "tables": {
                "transform": "standardise",  # none | standardise | whiten, fitted in training
                "dtype": "float32",
                "placement": "auto",  # replicated | sharded | host | auto
                "devices": 0,  # devices that share a sharded table; 0: all
            },
            "batch": {
                "size": 4096,
                "sampling_alpha": 1.0,  # share of a triple type: pairs ** sampling_alpha
                "shards": 8,  # equal parts of a batch; the number of devices must divide it
                "grad_cache": False,  # embed one shard at a time, once more for its gradients
            },
            "loss": {
                "type": "softmax",  # softmax | sigmoid: each pair by itself, with a learned bias
                "symmetric": False,  # softmax over the heads too; with negatives = in_batch
                "negatives": "in_batch",  # sampled | in_batch | all
                "num_sampled": 5,  # negatives per row, with negatives = sampled
                "mask": "known",  # known | none
                "implementation": "all_gather",  # all_gather | ring: memory linear in the batch
                "chunk": 1024,  # keys at a time, with implementation = ring
                "temperature": 0.1,
                "learn_temperature": False,
                "prior": 0.0,  # weight of the tail's log-popularity in the logits
                "learn_prior": False,  # one weight per triple type, starting from `prior`
            },
            "optimizer": {
                "learning_rate": 5e-4,
                "warmup": 0.1,  # fraction of the steps
                "schedule": "linear",  # linear | cosine
                "weight_decay": 1e-4,
                "clip": 1.0,  # global gradient norm
            },
            "train": {
                "steps": 0,  # 0: `epochs` decides
                "epochs": 10.0,
                "log_every": 10,
                "validate_every": 500,  # also saves a checkpoint
                "save_every": 0,  # further checkpoints without a validation; 0: none
                "keep": 1,  # number of latest checkpoints to keep
                "best": 1,  # number of best checkpoints by validation to keep
                "ema": 0.0,  # decay of averaged parameters, which are then evaluated; 0: none
                "patience": 0,  # validations without a new best before training ends; 0: never
            },
            "evaluate": {
                "bidirectional": False,  # row: the bridge in both directions
                "knn": True,  # row fusion, which answers: the bridge mixed with nearest neighbours
                "knn_spaces": ("source",),  # neighbours in source, bridged or tails
                "validation_queries": 2000,  # at most so many per triple type in training
                "block": 256,  # heads scored at a time
                "baselines": ("random", "popularity", "ridge", "head_knn"),
                "evaluators": (),  # further ones at each validation, e.g. ("ppi",)
            },
        }
    ).lock()


def demo_dataset() -> str:
    """Returns the folder of the demo dataset, in a checkout or installed with the package."""
    installed = _PACKAGE / "demo"
    return str(installed if installed.is_dir() else _PACKAGE.parent / "data/demo")


def load(spec: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Runs a config file and applies overrides.

    Args:
      spec: Config file, e.g. `configs/primekg.py`, or with arguments for its `get_config`:
        `configs/primekg.py:negatives=in_batch,gpus=8`. If there is no such file, the one that is
        shipped with the package is used.
      overrides: `--config.<field>=<value>`, applied in order.

    Returns:
      Locked config.

    Raises:
      InputError: The file is missing or fails, a field is unknown, or a value has another type.

    Example:
      >>> config = load("configs/demo.py", ["--config.model.width=256"])
    """
    config: ConfigDict = _call(str(spec), "get_config")
    for item in overrides:
        override(config, item)
    return config


def load_sweep(spec: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns the settings of a sweep: what the config file's `sweep()` yields.

    Args:
      spec: Config file as for `load`; arguments go to both `sweep` and `get_config`.

    Returns:
      Name and fields of each setting, e.g. `("deep", {"model.layers": 4})`.

    Raises:
      InputError: The file has no `sweep()`, it fails, or it yields a name twice or nothing.
    """
    settings = [(str(name), dict(fields)) for name, fields in _call(spec, "sweep")]
    names = [name for name, _ in settings]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{spec}: sweep() names the setting {repeated[0]!r} more than once")
    if not settings:
        raise InputError(f"{spec}: sweep() yields no setting")
    return settings


def _call(spec: str, function: str) -> Any:
    """Calls a function of a config file; a generator is exhausted."""
    file, _, text = spec.partition(":")
    path = Path(file)
    if not path.is_file() and (SHIPPED / path).is_file():
        path = SHIPPED / path
    if not path.is_file():
        folders = (path.parent, Path("configs"), SHIPPED / "configs")
        files_of = [sorted(map(str, folder.glob("*.py"))) for folder in folders if folder.is_dir()]
        hint = next((f"; there are: {', '.join(files)}" for files in files_of if files), "")
        raise InputError(f"{file}: no such config file{hint}")
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{file}: a config is a Python file that defines {function}()")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        called = getattr(module, function, None)
        if called is None:
            raise InputError(f"{file}: has no {function}(); {_MISSING.get(function, '')}")
        value = called(**_arguments(spec, text, called))
        return list(value) if isinstance(value, Iterator) else value
    except (AttributeError, TypeError, SyntaxError, KeyError) as e:
        raise InputError(f"{spec}: {e}") from e


def _arguments(spec: str, text: str, called: Callable[..., Any]) -> dict[str, Any]:
    """Parses `seen=true,gpus=8` into the arguments of a config's function."""
    parameters = inspect.signature(called).parameters
    arguments = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in parameters:
            raise unknown("argument", name, parameters, spec.partition(":")[0])
        arguments[name] = _literal(value)
        if isinstance(parameters[name].default, bool) and not isinstance(arguments[name], bool):
            raise InputError(f"{spec}: {name} is true or false; got {value!r}")
    return arguments


def override(config: ConfigDict, item: str) -> None:
    """Applies one override.

    Args:
      config: Config to change.
      item: `--config.<field>=<value>`, e.g. `--config.model.width=256`.

    Raises:
      InputError: There is no such field (the nearest one is named), or the value has another type.
    """
    name, equals, value = item.removeprefix("--config.").partition("=")
    if not item.startswith("--config.") or not equals:
        raise InputError(f"unknown argument {item!r}; a field is set as --config.<field>=<value>")
    fields = dict(flatten(config))
    if name in RENAMED:
        raise InputError(f"config field {name!r} is now called {RENAMED[name]!r}")
    if name not in fields:
        near = difflib.get_close_matches(name, fields, n=1, cutoff=0.3)
        guess = f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(fields)}"
        raise InputError(f"config has no field {name!r}{guess}")
    old = fields[name]
    new: Any = value if isinstance(old, str) else _literal(value)
    if isinstance(old, float) and isinstance(new, int) and not isinstance(new, bool):
        new = float(new)
    if isinstance(old, tuple) and isinstance(new, list):
        new = tuple(new)
    if type(new) is not type(old):
        raise InputError(f"config field {name!r} is {_TYPE_NAMES[type(old)]}; got {value!r}")
    config.update_from_flattened_dict({name: new})


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the fields of a config as (dotted name, value)."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Converts a config to plain JSON values."""
    value: dict[str, Any] = json.loads(config.to_json())
    return value


def from_json(value: dict[str, Any]) -> ConfigDict:
    """Rebuilds the config of a run from its JSON values.

    Raises:
      InputError: A field has the name of an earlier version, or is unknown to this one.
    """
    config = default()
    known = dict(flatten(config))
    for name, item in flatten(ConfigDict(value)):
        if name in RENAMED:
            raise InputError(
                f"the run's config has the field {name!r}, which is now called {RENAMED[name]!r}; "
                "train the run again with this version, or open it with the version that made it"
            )
        if name not in known:
            raise InputError(f"the run's config has a field {name!r} that this version lacks")
        converted = tuple(item) if isinstance(known[name], tuple) else item
        config.update_from_flattened_dict({name: converted})
    return config


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)
