"""Reader of FASTA files; see `bridge_jax.encoders.entities.sequence_files`."""

from bridge_jax.encoders.entities.sequence_files import read_fasta

__all__ = ["read_fasta"]
