"""The released checkpoint's PyTorch names and shapes, to and from this project's parameters."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge_jax.data.dataset import file_name
from bridge_jax.errors import InputError
from bridge_jax.models.bridge import Bridge

_EMBEDDINGS = {"node_type_embed": "type", "relation_type_embed": "relation"}
_DENSE = {"self_attn.out_proj": "out", "linear1": "linear1", "linear2": "linear2"}


def to_params(state: Mapping[str, np.ndarray], model: Bridge) -> dict[str, Any]:
    """Convert a released state dict.

    Args:
      state: PyTorch names to arrays, float32. Linear weights are `[out, in]` there.
      model: the model to fill; its node types stand in the order of the released type ids.

    Returns:
      The parameter dict.

    Raises:
      InputError: a name is missing or left over.
    """
    left = dict(state)

    def take(name: str) -> np.ndarray:
        if name not in left:
            raise InputError(f"the released weights lack {name!r}: another model config?")
        return np.asarray(left.pop(name))

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": take(f"{name}.weight"), "bias": take(f"{name}.bias")}

    params: dict[str, Any] = {}
    for theirs, ours in _EMBEDDINGS.items():
        params[f"{ours}_embed"] = {"embedding": take(f"{theirs}.0.weight")}
        params[f"{ours}_norm"] = norm(f"{theirs}.1")
    for i, (name, dim) in enumerate(model.node_types):
        if dim:
            params[f"project_{file_name(name)}"] = {"kernel": take(f"proj_layer.{i}.weight").T}
    for i in range(model.layers):
        prefix = f"encoder.layers.{i}"
        weight = np.split(take(f"{prefix}.self_attn.in_proj_weight"), 3)
        bias = np.split(take(f"{prefix}.self_attn.in_proj_bias"), 3)
        layer = {
            part: {"kernel": w.T, "bias": b}
            for part, w, b in zip(("query", "key", "value"), weight, bias, strict=True)
        }
        for theirs, ours in _DENSE.items():
            kernel, b = (take(f"{prefix}.{theirs}.{k}") for k in ("weight", "bias"))
            layer[ours] = {"kernel": kernel.T, "bias": b}
        params[f"layer{i}"] = layer | {k: norm(f"{prefix}.{k}") for k in ("norm1", "norm2")}
    if left:
        raise InputError(f"the released weights have names that do not fit: {', '.join(left)}")
    return params


def from_params(params: Mapping[str, Any], model: Bridge) -> dict[str, np.ndarray]:
    """The inverse of `to_params`; works on gradients as well."""

    def norm(name: str, value: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {f"{name}.weight": value["scale"], f"{name}.bias": value["bias"]}

    state: dict[str, Any] = {}
    for theirs, ours in _EMBEDDINGS.items():
        state[f"{theirs}.0.weight"] = params[f"{ours}_embed"]["embedding"]
        state |= norm(f"{theirs}.1", params[f"{ours}_norm"])
    for i, (name, dim) in enumerate(model.node_types):
        if dim:
            state[f"proj_layer.{i}.weight"] = params[f"project_{file_name(name)}"]["kernel"].T
    for i in range(model.layers):
        prefix, layer = f"encoder.layers.{i}", params[f"layer{i}"]
        parts = [layer[part] for part in ("query", "key", "value")]
        state[f"{prefix}.self_attn.in_proj_weight"] = np.concatenate([p["kernel"].T for p in parts])
        state[f"{prefix}.self_attn.in_proj_bias"] = np.concatenate([p["bias"] for p in parts])
        for theirs, ours in _DENSE.items():
            state[f"{prefix}.{theirs}.weight"] = layer[ours]["kernel"].T
            state[f"{prefix}.{theirs}.bias"] = layer[ours]["bias"]
        for part in ("norm1", "norm2"):
            state |= norm(f"{prefix}.{part}", layer[part])
    return {k: np.asarray(v) for k, v in state.items()}
