"""Coordinate files turned into beads: about one point mass per cubic nanometre.

Used to build the bundled library and to read the entries that are fetched on demand; training needs none of it.
"""

from functools import cache
from pathlib import Path

import gemmi
import numpy as np

from ..errors import UserError

WATER_DA = 18.015  # lost when a residue joins its chain; gemmi tabulates free monomers
UNKNOWN_RESIDUE_DA = 110.0  # the mean amino acid residue; for UNK gemmi counts little more than the backbone
MODELLING_NAMES = {"HSD": "HIS", "HSE": "HIS", "HSP": "HIS", "ADE": "A", "CYT": "C", "GUA": "G", "URA": "U"}  # CHARMM


def read_atoms(path: str | Path, assembly: str = "1") -> tuple[np.ndarray, np.ndarray]:
    """Read the heavy atoms of a PDB or mmCIF file (plain or gzipped), each with its share of its residue's mass.

    The mass of a residue, hydrogens included, is spread over the atoms that are present. A C-alpha trace and a complete
    model of one complex therefore weigh the same. Waters and second conformations are left out.

    assembly : name of the biological assembly to expand, "as-is" where the file holds the assembly already

    Returns positions `(n_atoms, 3)` zyx in nm and masses `(n_atoms,)` in kDa, float64, of the first model. Raises
    UserError for a file that is missing or unreadable, holds no such assembly, or no atoms.
    """
    structure = _read_structure(path)
    if assembly != "as-is":
        known = [entry.name for entry in structure.assemblies]
        if assembly not in known:
            listed = ", ".join(known) or "none"
            raise UserError(f"{path}: no biological assembly {assembly!r} (it lists: {listed}); read it with 'as-is'")
        structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.Short)
    positions, masses = [], []
    for chain in structure[0]:
        for residue in chain:
            atoms = [atom for atom in residue if not atom.is_hydrogen()]
            weights = np.array([atom.element.weight for atom in atoms])
            if weights.sum() == 0:
                continue  # hydrogens only
            mass_da = _residue_mass_da(residue.name) or weights.sum()
            positions += [atom.pos.tolist() for atom in atoms]
            masses.append(weights / weights.sum() * mass_da / 1000)
    if not masses:
        raise UserError(f"{path}: holds no atoms; give a PDB or mmCIF file with coordinates")
    return np.array(positions)[:, ::-1] / 10, np.concatenate(masses)


def _read_structure(path):
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give a PDB or mmCIF file")
    try:
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{path}: not a readable PDB or mmCIF file ({said}); get it again") from error
    if len(structure) == 0:
        raise UserError(f"{path}: holds no atoms; give a PDB or mmCIF file with coordinates")
    structure.setup_entities()
    structure.remove_waters()
    structure.remove_alternative_conformations()
    return structure


@cache
def _residue_mass_da(name: str) -> float | None:
    """Mass of a residue within its chain, of a ligand as it is; None where gemmi has no entry for the name."""
    if name == "UNK":
        return UNKNOWN_RESIDUE_DA
    residue = gemmi.find_tabulated_residue(MODELLING_NAMES.get(name, name))
    if not residue.found() or residue.weight == 0:
        return None
    is_linked = residue.is_amino_acid() or residue.is_nucleic_acid()
    return residue.weight - (WATER_DA if is_linked else 0)


def to_beads(positions_nm: np.ndarray, masses_kda: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather point masses into beads: one per occupied cell of 1 nm, at the centre of mass of what the cell holds.

    positions_nm, masses_kda : `(n, 3)` zyx in nm and `(n,)` in kDa

    Returns positions `(n_beads, 3)` from the centre of mass of the whole, and masses `(n_beads,)`, float32.
    """
    cells = np.floor(positions_nm - positions_nm.min(axis=0)).astype(np.int64)
    _, bead = np.unique(cells, axis=0, return_inverse=True)
    masses = np.bincount(bead, weights=masses_kda)
    moments = [np.bincount(bead, weights=masses_kda * axis) for axis in np.transpose(positions_nm)]
    positions = np.stack(moments, axis=1) / masses[:, None]
    positions -= np.average(positions, axis=0, weights=masses)
    return positions.astype(np.float32), masses.astype(np.float32)
