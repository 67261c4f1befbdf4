"""Frozen encoders of text, proteins and molecules, and the registry that lists them.

A module's libraries are imported only when its encoder is loaded.
"""

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
