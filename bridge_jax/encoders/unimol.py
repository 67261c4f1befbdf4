"""Uni-Mol (512): a transformer over the atoms of one conformer, through unimol_tools.

The conformer is made here with RDKit (hydrogens kept, seed 42, MMFF where it applies), because
unimol_tools goes on with flat or all-zero coordinates where that fails: here the id fails. It
also drops atoms at random from molecules larger than its limit: here they are refused.

The weights are in no package: unimol_tools fetches them from its hub. This file has been run with
unimol_tools 0.1.6 around random weights, and its tests use a stand-in for unimol_tools; the
vectors of the published weights have not been compared with anything.
Source: Zhou et al., "Uni-Mol", 2023.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Encoder,
    Family,
    Piece,
    Prepared,
    Settings,
    Unusable,
    cut,
    digest,
    each,
    molecule,
    need,
    torch_arrays,
    torch_device,
)

SEED = 42


class UniMol:
    """The frozen network behind unimol_tools."""

    equal_widths = False

    def __init__(self, settings: Settings) -> None:
        self.max_length = settings.limit(FAMILY.max_length, None)
        tools = need("unimol_tools", "pip install unimol_tools")
        logging.getLogger("Uni-Mol Tools").setLevel(logging.WARNING)  # it reports every batch
        need("torch").manual_seed(SEED)  # of the unused head, which is part of the digest
        self.model = tools.UniMolRepr(
            data_type="molecule",
            batch_size=1 << 20,  # this project's batches are not split again
            remove_hs=False,
            model_name=settings.checkpoint,
            use_cuda=torch_device(settings.device) == "cuda",
            max_atoms=self.max_length,
        )
        self.name = f"unimol:{settings.checkpoint}"
        self.digest = digest(torch_arrays(self.model.model.state_dict()))
        self.long = settings.long

    def prepare(self, texts: Sequence[str]) -> list[Prepared | str]:
        """Atoms and coordinates of one conformer each."""
        return each(texts, self._prepare)

    def _prepare(self, smiles: str) -> Prepared:
        mol = need("rdkit.Chem.AllChem").AddHs(molecule(smiles))
        atoms = [atom.GetSymbol() for atom in mol.GetAtoms()]
        cut(atoms, self.max_length, self.long, "atoms")  # first, as large molecules take minutes
        return Prepared((Piece((atoms, conformer(mol)), len(atoms), len(atoms)),), len(atoms))

    def forward(self, pieces: Sequence[Piece]) -> Any:
        """The vector of the [CLS] token, float32 `[pieces, 512]`."""
        atoms, coordinates = zip(*(p.tokens for p in pieces), strict=True)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            out = self.model.get_repr({"atoms": list(atoms), "coordinates": list(coordinates)})
        return np.stack(out["cls_repr"] if isinstance(out, dict) else out).astype(np.float32)


def conformer(mol: Any) -> np.ndarray:
    """Embed a molecule in space.

    Args:
      mol: an RDKit molecule with its hydrogens.

    Returns:
      Coordinates `[atoms, 3]` in ångström, float32.

    Raises:
      Unusable: no conformer is found.
    """
    chem = need("rdkit.Chem.AllChem")
    if chem.EmbedMolecule(mol, randomSeed=SEED) != 0:
        raise Unusable("no conformer found")
    if chem.MMFFHasAllMoleculeParams(mol):
        chem.MMFFOptimizeMolecule(mol)
    return np.asarray(mol.GetConformer().GetPositions(), np.float32)


def _load(settings: Settings) -> Encoder:
    return UniMol(settings)


FAMILY = Family(
    summary="Uni-Mol through unimol_tools, 512, [CLS] of one conformer; pip install unimol_tools",
    load=_load,
    reads="smiles",
    unit="atoms",
    max_length=256,
    batch_tokens=2048,
    checkpoint="unimolv1",
    poolings=("cls",),
    long=("fail",),
)
