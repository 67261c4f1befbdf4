"""Shared fixtures; the package's shape annotations are executed in every test."""

from jaxtyping import install_import_hook

install_import_hook("bridge_jax", "beartype.beartype")
