"""Structures of molecules as pictures."""

from functools import lru_cache
from typing import Any

from bridge_jax.errors import InputError


@lru_cache(maxsize=4096)
def drawing(smiles: str, width: int = 160, height: int = 90) -> str:
    """A molecule as an SVG element; empty where RDKit cannot read the SMILES.

    Raises:
      InputError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError as e:
        raise InputError("drawing molecules needs RDKit: pip install 'bridge_jax[serve]'") from e
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or not molecule.GetNumAtoms():
        return ""
    canvas = rdMolDraw2D.MolDraw2DSVG(width, height)
    options: Any = canvas.drawOptions()  # as RDKit annotates it, nothing may be set
    options.clearBackground = False
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    svg: str = canvas.GetDrawingText()
    return svg[svg.index("<svg") :]
