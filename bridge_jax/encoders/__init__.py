"""Frozen encoders: one file each, one table that names them; libraries are imported on loading."""

from bridge_jax.encoders import (
    chemberta,
    chemnet,
    deepblast,
    esm2,
    hf,
    minilm,
    molt5,
    prott5,
    unimol,
    unirep,
)
from bridge_jax.encoders.base import Family

ENCODERS: dict[str, Family] = {
    "minilm": minilm.FAMILY,
    "hf": hf.FAMILY,
    "esm2": esm2.FAMILY,
    "prott5": prott5.FAMILY,
    "deepblast": deepblast.FAMILY,
    "unirep": unirep.FAMILY,
    "chemnet": chemnet.FAMILY,
    "chemberta": chemberta.FAMILY,
    "molt5": molt5.FAMILY,
    "unimol": unimol.FAMILY,
}
