"""Configs are Python files; this is their schema, and how the command line changes a field."""

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

_MEANT = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list"}
_LACKING = {"sweep": "studies are in configs/ablations", "get_config": "a config starts there"}
_PACKAGE = Path(__file__).resolve().parent
# Holds `configs/`: the repository in a checkout, the package itself when it is installed.
SHIPPED = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent


def default() -> ConfigDict:
    """Every field with its default; a config file starts from this and may add none.

    Returns:
      A locked, typed config. The defaults are the paper's model with in-batch negatives.
    """
    return ConfigDict(
        {
            "dataset": "",  # a dataset directory
            "fraction": 1.0,  # of the training facts, chosen by the seed; a larger one has them too
            "seed": 0,
            "devices": 0,  # how many to use; 0: all
            "model": {
                "arch": "transformer",  # transformer | mlp | linear | projection_only
                "width": 768,
                "layers": 6,
                "heads": 12,
                "mlp_dim": 2048,
                "dropout": 0.1,
                "dtype": "float32",  # of the computation; parameters are float32
                "node_embedding": False,  # a learned vector for each node of the graph
                "node_embedding_dropout": 0.5,  # how often it is left out while training
            },
            "tables": {
                "transform": "standardise",  # none | standardise | whiten, over training nodes
                "dtype": "float32",
                "placement": "auto",  # replicated | sharded | host | auto
                "devices": 0,  # with placement = sharded: over so many of them; 0: all
            },
            "batch": {
                "size": 4096,
                "sampling_alpha": 1.0,  # share of a triple type: pairs ** sampling_alpha
                "shards": 8,  # equal parts of a batch; a run may use any number that divides it
                "grad_cache": False,  # embed a shard at a time and once more for its gradients
            },
            "loss": {
                "type": "softmax",  # softmax | sigmoid: of each pair alone, with a learned bias
                "symmetric": False,  # softmax over the heads too; with negatives = in_batch
                "negatives": "in_batch",  # sampled | in_batch | all
                "num_sampled": 5,  # negatives a row, with negatives = sampled
                "mask": "known",  # known | none
                "implementation": "all_gather",  # all_gather | ring: memory linear in the batch
                "chunk": 1024,  # keys at a time, with implementation = ring
                "temperature": 0.1,
                "learn_temperature": False,
                "prior": 0.0,  # weight of the log-popularity of the tail in the logits
                "learn_prior": False,  # a weight for each triple type, from `prior` on
            },
            "optimizer": {
                "learning_rate": 5e-4,
                "warmup": 0.1,  # share of the steps
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
                "keep": 1,  # of the latest checkpoints
                "best": 1,  # of the best by validation
                "ema": 0.0,  # decay of averaged parameters, which are then evaluated; 0: none
                "patience": 0,  # validations without a new best before the run ends; 0: never
            },
            "evaluate": {
                "bidirectional": False,  # a further row: the bridge asked in both directions
                "knn": False,  # a further row: the bridge mixed with the nearest training heads
                "knn_spaces": ("source",),  # of source, bridged and tails: who votes
                "validation_queries": 2000,  # at most so many a triple type while training
                "block": 256,  # heads scored at a time
                "baselines": ("random", "popularity", "ridge", "head_knn"),
                "evaluators": (),  # further ones at each validation, e.g. ("semantic_similarity",)
            },
        }
    ).lock()


def demo_dataset() -> str:
    """Returns the folder of the demo's dataset, in a checkout or installed with the package."""
    installed = _PACKAGE / "demo"
    return str(installed if installed.is_dir() else _PACKAGE.parent / "data/demo")


def load(spec: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Run a config file and apply overrides.

    Args:
      spec: `configs/primekg.py`, or with arguments for its `get_config`:
        `configs/primekg.py:negatives=in_batch,gpus=8`. Where no such file is found, the one that
        came with the package counts.
      overrides: `--config.model.width=256`, in order.

    Returns:
      The locked config.

    Raises:
      InputError: the file is missing or fails, or a field is unknown or has another type.
    """
    config: ConfigDict = _call(str(spec), "get_config")
    for item in overrides:
        override(config, item)
    return config


def load_sweep(spec: str) -> list[tuple[str, dict[str, Any]]]:
    """The settings of a study: what the config file's `sweep()` yields.

    Args:
      spec: as for `load`; arguments go to `sweep` as well as to `get_config`.

    Returns:
      Each setting's name and its fields, e.g. `("deep", {"model.layers": 4})`.

    Raises:
      InputError: the file has no `sweep()`, it fails, or it names a setting twice.
    """
    found = [(str(name), dict(fields)) for name, fields in _call(spec, "sweep")]
    names = [name for name, _ in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{spec}: sweep() names the setting {twice[0]!r} more than once")
    if not found:
        raise InputError(f"{spec}: sweep() yields no setting")
    return found


def _call(spec: str, function: str) -> Any:
    """What a function of a config file returns; a generator is exhausted."""
    file, _, text = spec.partition(":")
    path = Path(file)
    if not path.is_file() and (SHIPPED / path).is_file():
        path = SHIPPED / path
    if not path.is_file():
        near = [p for p in (path.parent, Path("configs"), SHIPPED / "configs") if p.is_dir()]
        there = [sorted(str(f) for f in p.glob("*.py") if f.stem != "__init__") for p in near]
        hint = next((f"; there are: {', '.join(files)}" for files in there if files), "")
        raise InputError(f"{file}: no such config file{hint}")
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"{file}: a config is a Python file that defines {function}()")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        called = getattr(module, function, None)
        if called is None:
            raise InputError(f"{file}: has no {function}(); {_LACKING.get(function, '')}")
        made = called(**_arguments(spec, text, called))
        return list(made) if isinstance(made, Iterator) else made
    except (AttributeError, TypeError, SyntaxError, KeyError) as e:
        raise InputError(f"{spec}: {e}") from e


def _arguments(spec: str, text: str, called: Callable[..., Any]) -> dict[str, Any]:
    """`seen=true,gpus=8` as what a config's function takes."""
    taken = inspect.signature(called).parameters
    arguments = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in taken:
            raise unknown("argument", name, taken, spec.partition(":")[0])
        arguments[name] = _literal(value)
        if isinstance(taken[name].default, bool) and not isinstance(arguments[name], bool):
            raise InputError(f"{spec}: {name} is true or false; got {value!r}")
    return arguments


def override(config: ConfigDict, item: str) -> None:
    """Apply one `--config.model.width=256`.

    Raises:
      InputError: the field does not exist (the nearest one is named), or the value does not fit.
    """
    name, equals, value = item.removeprefix("--config.").partition("=")
    if not item.startswith("--config.") or not equals:
        raise InputError(f"unknown argument {item!r}; a field is set as --config.<field>=<value>")
    fields = dict(flatten(config))
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
        raise InputError(f"config field {name!r} is {_MEANT[type(old)]}; got {value!r}")
    config.update_from_flattened_dict({name: new})


def flatten(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a config as (dotted name, value)."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def to_json(config: ConfigDict) -> dict[str, Any]:
    """A config as plain JSON values."""
    value: dict[str, Any] = json.loads(config.to_json())
    return value


def from_json(value: dict[str, Any]) -> ConfigDict:
    """Rebuild the config of a run.

    Raises:
      InputError: a field of another version.
    """
    config = default()
    known = dict(flatten(config))
    for name, item in flatten(ConfigDict(value)):
        if name not in known:
            raise InputError(f"the run's config has a field {name!r} that this version lacks")
        fitting = tuple(item) if isinstance(known[name], tuple) else item
        config.update_from_flattened_dict({name: fitting})
    return config


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)
