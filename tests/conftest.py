"""Shared fixtures; the package's shape annotations are executed in every test."""

import os

# Tests compile many small programs once: less optimisation makes the suite several times faster.
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")

from jaxtyping import install_import_hook

install_import_hook("bridge_jax", "beartype.beartype")
