"""Complexes as density: beads in their pose on a grid, and levels to look at."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from .microscope import Acquisition, Microscope

PROTEIN_NM3_PER_KDA = 1.21
"""Volume of protein, from 1.37 g/cm3."""


def mass_density(
    positions_nm: np.ndarray,
    masses_kda: np.ndarray,
    *,
    box: int,
    voxel_size_nm: float = 0.5,
    blur_nm: float = 0.6,
    quaternion: Sequence[float] = (0, 0, 0, 1),
    shift_nm: Sequence[float] = (0, 0, 0),
) -> np.ndarray:
    """Mass density of a complex without microscope: beads in their pose, blurred, no CTF, no wedge, no noise.

    positions_nm, masses_kda : `(n_beads, 3)` zyx in nm, `(n_beads,)` in kDa
    box : voxels along one edge, even
    voxel_size_nm : at most 1 nm
    blur_nm : standard deviation of the Gaussian that each bead becomes
    quaternion, shift_nm : pose as in `imaging.Acquisition`: xyzw, and zyx in nm

    Returns `(box, box, box)` zyx float32, kDa per nm3.
    """
    if voxel_size_nm > 1:
        raise UserError(f"voxel_size_nm={voxel_size_nm}: a density is drawn with voxels of at most 1 nm")
    microscope = Microscope(box=box, voxel_size_nm=voxel_size_nm, low_pass_nm=2 * voxel_size_nm)
    pose = Acquisition(np.array([quaternion], float), np.array([shift_nm], float), np.zeros(1))
    spectrum = bead_spectra([(positions_nm, masses_kda)], pose, microscope).view(box, box, box // 2 + 1)
    k = torch.fft.fftfreq(box, voxel_size_nm)
    gain = torch.exp(-2 * (np.pi * blur_nm * k) ** 2)
    spectrum = spectrum * gain[:, None, None] * gain[:, None] * gain[: box // 2 + 1]
    return (torch.fft.irfftn(spectrum, s=(box,) * 3) / voxel_size_nm**3).numpy()


def protein_level(density: np.ndarray, mass_kda: float, voxel_size_nm: float) -> float:
    """Level whose isosurface encloses the volume of so much protein (1.21 nm3 per kDa).

    density `(d, h, w)`, any unit; mass_kda in kDa.
    """
    n_voxels = int(mass_kda * PROTEIN_NM3_PER_KDA / voxel_size_nm**3)
    if not 0 < n_voxels < density.size:
        raise UserError(f"{mass_kda} kDa of protein does not fit a box of {density.shape} voxels of {voxel_size_nm} nm")
    return float(np.partition(density.ravel(), -n_voxels)[-n_voxels])


def upright(positions_nm: np.ndarray, masses_kda: np.ndarray, tilt: float = 25.0) -> np.ndarray:
    """A complex turned for looking at it along z: longest axis up, shortest towards the viewer, then tilted about x."""
    centred = positions_nm - np.average(positions_nm, axis=0, weights=masses_kda)
    _, axes = np.linalg.eigh((centred * masses_kda[:, None]).T @ centred)  # columns zyx, shortest extent first
    z, x, y = axes[:, 0], axes[:, 1], axes[:, 2]
    y, x = (axis * np.sign(axis[np.argmax(np.abs(axis))]) for axis in (y, x))
    if np.linalg.det(np.stack([z, y, x])) < 0:
        z = -z  # never the mirror image
    turned = centred @ np.stack([z, y, x], axis=1)
    angle = np.deg2rad(tilt)
    about_x = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return turned @ about_x.T


def bead_spectra(
    beads: Sequence[tuple[np.ndarray, np.ndarray] | None],
    acquisition: Acquisition,
    microscope: Microscope,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Fourier transform of the posed beads, unfiltered: `(n, g, g, g//2 + 1)` flattened to `(n, -1)`, complex64.

    Beads are rotated exactly, then spread onto a grid of at most 1 nm per voxel with a quadratic B-spline, whose
    transform (sinc cubed) is divided out: no interpolation of volumes takes place.
    """
    positions, masses, owner = [], [], []
    rotations = Rotation.from_quat(acquisition.quaternions).as_matrix()
    for i, sample in enumerate(beads):
        if sample is None:
            continue
        zyx, mass = sample
        turned = zyx[:, ::-1] @ rotations[i].T
        positions.append(turned[:, ::-1] + acquisition.shifts_nm[i])
        masses.append(mass)
        owner.append(np.full(len(mass), i))
    none = [np.zeros((0, 3))], [np.zeros(0)], [np.zeros(0, int)]
    positions, masses, owner = map(np.concatenate, (positions, masses, owner) if positions else none)
    masses = torch.from_numpy(masses).to(device, torch.float32)
    positions, owner = (torch.from_numpy(part).to(device) for part in (positions, owner))
    return spectra_of_placed(positions, masses, owner, len(beads), microscope)


def spectra_of_placed(
    positions_nm: torch.Tensor, masses: torch.Tensor, owner: torch.Tensor, n_samples: int, microscope: Microscope
) -> torch.Tensor:
    """Fourier transforms `(n_samples, -1)` complex64 of beads in their places, see `bead_spectra`.

    positions_nm `(m, 3)` zyx from the centre of the box; masses `(m,)` in kDa; owner `(m,)`, the sample of each
    """
    grid = fine_box(microscope)
    volume = torch.zeros(n_samples * grid**3, device=positions_nm.device)
    _spread(volume, positions_nm * (grid / microscope.width_nm) + grid // 2, masses, owner * grid**3, grid)
    volumes = volume.view(n_samples, grid, grid, grid)
    return one_by_one(lambda part: torch.fft.rfftn(part, dim=(1, 2, 3)), volumes).flatten(1)


def _spread(volume: torch.Tensor, index: torch.Tensor, weight: torch.Tensor, base: torch.Tensor, grid: int) -> None:
    nearest = torch.round(index)
    offset = (index - nearest).float()
    # The three weights of a quadratic B-spline at -1, 0, +1 voxel, for each axis: (n_beads, 3 axes, 3 weights).
    splines = torch.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2], dim=-1)
    # Beads beyond the box wrap around; complexes of the library stay inside.
    cells = (nearest.long()[..., None] + torch.arange(-1, 2, device=index.device)) % grid
    flat = base[:, None, None, None] + (
        (cells[:, 0, :, None, None] * grid + cells[:, 1, None, :, None]) * grid + cells[:, 2, None, None, :]
    )
    share = weight[:, None, None, None] * (
        splines[:, 0, :, None, None] * splines[:, 1, None, :, None] * splines[:, 2, None, None, :]
    )
    volume.index_add_(0, flat.flatten(), share.flatten())


def fine_box(microscope: Microscope) -> int:
    """Voxels of the grid that beads are spread on: at most `bead_grid_nm` each, a multiple of the box."""
    return microscope.box * math.ceil(microscope.voxel_size_nm / microscope.bead_grid_nm)


def one_by_one(transform: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """Transform each volume by itself on a CPU, where the last bits may depend on the size of the batch."""
    if batch.is_cuda or not len(batch):
        return transform(batch)
    return torch.cat([transform(volume) for volume in batch.split(1)])
