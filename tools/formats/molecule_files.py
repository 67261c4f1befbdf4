"""Readers of SMILES files and SDF; see `bridge_jax.encoders.entities.molecule_files`."""

from bridge_jax.encoders.entities.molecule_files import read_sdf, read_smi

__all__ = ["read_sdf", "read_smi"]
