"""Opening of plain or gzipped input files; see `bridge_jax.data.text_files`."""

from bridge_jax.data.text_files import GIT_LFS_POINTER, first_bytes, open_decompressed

__all__ = ["GIT_LFS_POINTER", "first_bytes", "open_decompressed"]
