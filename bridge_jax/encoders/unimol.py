"""Uni-Mol (512 dimensions): a transformer over the atoms of one conformer, run by unimol_tools.

The conformer is computed here with RDKit: with hydrogens, seed 42, MMFF where it has parameters.
Where RDKit fails, unimol_tools would go on with flat or all-zero coordinates, and it drops atoms at
random from molecules above its limit. Here such molecules are reported as failed instead.

The weights come with no package; unimol_tools downloads them. This module has been run with
unimol_tools 0.1.6 and random weights, and its tests replace unimol_tools by a stand-in. Vectors of
the published weights have not been compared with a reference.

References:
  Zhou et al., "Uni-Mol: A Universal 3D Molecular Representation Learning Framework", 2023.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge_jax.encoders.base import (
    Chunk,
    EncodingError,
    Family,
    PreparedInput,
    Settings,
    hash_arrays,
    import_optional,
    prepare_each,
    split_long_input,
    state_dict_arrays,
    torch_device,
)
from bridge_jax.encoders.smiles import parse_smiles

SEED = 42


class UniMol:
    """Frozen Uni-Mol, loaded by unimol_tools."""

    requires_equal_lengths = False

    def __init__(self, settings: Settings) -> None:
        self.max_length = settings.resolve_max_length(FAMILY.max_length, None)
        tools = import_optional("unimol_tools", "pip install unimol_tools")
        logging.getLogger("Uni-Mol Tools").setLevel(logging.WARNING)  # it logs every batch
        # The digest includes a head that is unused and initialised at random.
        import_optional("torch").manual_seed(SEED)
        self.model = tools.UniMolRepr(
            data_type="molecule",
            batch_size=1 << 20,  # our batches are not split again
            remove_hs=False,
            model_name=settings.checkpoint,
            use_cuda=torch_device(settings.device) == "cuda",
            max_atoms=self.max_length,
        )
        self.name = f"unimol:{settings.checkpoint}"
        self.digest = hash_arrays(state_dict_arrays(self.model.model.state_dict()))
        self.length_policy = settings.length_policy

    def prepare(self, texts: Sequence[str]) -> list[PreparedInput | str]:
        """Computes atoms and coordinates of one conformer per SMILES."""
        return prepare_each(texts, self._prepare)

    def _prepare(self, smiles: str) -> PreparedInput:
        molecule = import_optional("rdkit.Chem.AllChem").AddHs(parse_smiles(smiles))
        atoms = [atom.GetSymbol() for atom in molecule.GetAtoms()]
        # Checked first, because the conformer of a large molecule takes minutes.
        split_long_input(atoms, self.max_length, self.length_policy, "atoms")
        chunk = Chunk((atoms, compute_conformer(molecule)), len(atoms), len(atoms))
        return PreparedInput((chunk,), len(atoms))

    def forward(self, chunks: Sequence[Chunk]) -> Any:
        """Returns the states of the [CLS] token, a float32 array `[chunks, 512]`."""
        atoms, coordinates = zip(*(c.tokens for c in chunks), strict=True)
        with contextlib.redirect_stderr(io.StringIO()):  # unimol_tools prints progress bars
            out = self.model.get_repr({"atoms": list(atoms), "coordinates": list(coordinates)})
        return np.stack(out["cls_repr"] if isinstance(out, dict) else out).astype(np.float32)


def compute_conformer(molecule: Any) -> np.ndarray:
    """Computes the 3D coordinates of a molecule.

    Args:
      molecule: RDKit molecule with explicit hydrogens.

    Returns:
      Coordinates `[atoms, 3]` in ångström, float32.

    Raises:
      EncodingError: RDKit finds no conformer.
    """
    chem = import_optional("rdkit.Chem.AllChem")
    if chem.EmbedMolecule(molecule, randomSeed=SEED) != 0:
        raise EncodingError("no conformer found")
    if chem.MMFFHasAllMoleculeParams(molecule):
        chem.MMFFOptimizeMolecule(molecule)
    return np.asarray(molecule.GetConformer().GetPositions(), np.float32)


FAMILY = Family(
    summary="Uni-Mol through unimol_tools, 512, [CLS] of one conformer; pip install unimol_tools",
    load=UniMol,
    modality="smiles",
    unit="atoms",
    max_length=256,
    batch_tokens=2048,
    checkpoint="unimolv1",
    poolings=("cls",),
    length_policies=("fail",),
)
