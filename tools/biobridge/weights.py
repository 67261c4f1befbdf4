"""Mapping between the PyTorch state dict of the release and the parameters of `Bridge`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bridge_jax.data.manifest import file_name
from bridge_jax.errors import InputError
from bridge_jax.models.bridge import Bridge

# PyTorch name to the name in this project.
_EMBEDDINGS = {"node_type_embed": "type", "relation_type_embed": "relation"}
_DENSE = {"self_attn.out_proj": "out", "linear1": "linear1", "linear2": "linear2"}
_ATTENTION = ("query", "key", "value")


def to_params(state_dict: Mapping[str, np.ndarray], model: Bridge) -> dict[str, Any]:
    """Converts a released state dict to parameters.

    Args:
      state_dict: float32 arrays by PyTorch name; linear weights are `[out, in]`.
      model: The model to fill; its node types are in the order of the released type codes.

    Returns:
      The parameters of the model.

    Raises:
      InputError: A name is missing or unexpected.
    """
    remaining = dict(state_dict)

    def take(name: str) -> np.ndarray:
        if name not in remaining:
            raise InputError(f"the released weights lack {name!r}: another model config?")
        return np.asarray(remaining.pop(name))

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": take(f"{name}.weight"), "bias": take(f"{name}.bias")}

    params: dict[str, Any] = {}
    for torch_name, name in _EMBEDDINGS.items():
        params[f"{name}_embed"] = {"embedding": take(f"{torch_name}.0.weight")}
        params[f"{name}_norm"] = norm(f"{torch_name}.1")
    for i, (node_type, dim) in enumerate(model.node_types):
        if dim:
            params[f"project_{file_name(node_type)}"] = {"kernel": take(f"proj_layer.{i}.weight").T}
    for i in range(model.layers):
        prefix = f"encoder.layers.{i}"
        weights = np.split(take(f"{prefix}.self_attn.in_proj_weight"), 3)
        biases = np.split(take(f"{prefix}.self_attn.in_proj_bias"), 3)
        layer = {
            name: {"kernel": w.T, "bias": b}
            for name, w, b in zip(_ATTENTION, weights, biases, strict=True)
        }
        for torch_name, name in _DENSE.items():
            weight, bias = (take(f"{prefix}.{torch_name}.{k}") for k in ("weight", "bias"))
            layer[name] = {"kernel": weight.T, "bias": bias}
        params[f"layer{i}"] = layer | {k: norm(f"{prefix}.{k}") for k in ("norm1", "norm2")}
    if remaining:
        names = ", ".join(remaining)
        raise InputError(f"the released weights have names that do not fit: {names}")
    return params


def from_params(params: Mapping[str, Any], model: Bridge) -> dict[str, np.ndarray]:
    """Converts parameters, or their gradients, to a released state dict: inverts `to_params`."""

    def norm(name: str, value: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {f"{name}.weight": value["scale"], f"{name}.bias": value["bias"]}

    state_dict: dict[str, Any] = {}
    for torch_name, name in _EMBEDDINGS.items():
        state_dict[f"{torch_name}.0.weight"] = params[f"{name}_embed"]["embedding"]
        state_dict |= norm(f"{torch_name}.1", params[f"{name}_norm"])
    for i, (node_type, dim) in enumerate(model.node_types):
        if dim:
            kernel = params[f"project_{file_name(node_type)}"]["kernel"]
            state_dict[f"proj_layer.{i}.weight"] = kernel.T
    for i in range(model.layers):
        prefix, layer = f"encoder.layers.{i}", params[f"layer{i}"]
        attention = [layer[name] for name in _ATTENTION]
        state_dict[f"{prefix}.self_attn.in_proj_weight"] = np.concatenate(
            [dense["kernel"].T for dense in attention]
        )
        state_dict[f"{prefix}.self_attn.in_proj_bias"] = np.concatenate(
            [dense["bias"] for dense in attention]
        )
        for torch_name, name in _DENSE.items():
            state_dict[f"{prefix}.{torch_name}.weight"] = layer[name]["kernel"].T
            state_dict[f"{prefix}.{torch_name}.bias"] = layer[name]["bias"]
        for name in ("norm1", "norm2"):
            state_dict |= norm(f"{prefix}.{name}", layer[name])
    return {k: np.asarray(v) for k, v in state_dict.items()}
