"""What the machine can do at best: the denominator of every share that is printed."""

import time
from collections.abc import Callable
from typing import Any


def jax_peak(dtype: str = "float32") -> float:
    """Floating-point operations a second of JAX's matrix product on the first device."""
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    return _rate(lambda: product(x).block_until_ready(), size)


def torch_peak(size: int = 2048) -> float:
    """The same of PyTorch, float32."""
    import torch

    x = torch.ones(size, size)
    return _rate(lambda: x @ x, size)


def _rate(multiply: Callable[[], Any], size: int) -> float:
    multiply()
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
