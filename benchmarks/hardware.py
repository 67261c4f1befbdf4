"""Peak rate of matrix products on this machine, the denominator of all utilisations printed."""

import time
from collections.abc import Callable
from typing import Any


def jax_peak_flops(dtype: str = "float32") -> float:
    """Measures the FLOP/s of JAX's matrix product on the first device."""
    import jax
    import jax.numpy as jnp

    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a: a @ a)
    return _measure(lambda: product(x).block_until_ready(), size)


def torch_peak_flops(size: int = 2048) -> float:
    """Measures the FLOP/s of PyTorch's matrix product in float32."""
    import torch

    x = torch.ones(size, size)
    return _measure(lambda: x @ x, size)


def _measure(multiply: Callable[[], Any], size: int) -> float:
    multiply()  # compiles
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
