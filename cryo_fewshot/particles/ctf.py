"""The contrast transfer function (CTF) that tilt images were multiplied by, and their division by it.

RELION 5 and WarpTools write images that they have multiplied by their CTF, fit for averaging with a Wiener filter. A
particle's low frequencies, most of what there is to see at a few nm, are then all but gone, and nothing that reads
unprocessed particles would know it again. The defocus is in tomograms.star, so the product is undone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch_ctf import calculate_total_phase_shift

from ..errors import UserError
from .star import as_numbers

DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
PHASE_SHIFT = "rlnPhaseShift"
LEAST_CTF = 0.05
"""A CTF nearer to zero counts as this: what it was multiplied to zero by does not come back, only rounding errors."""


def read_ctf(block, where: str, optics: list, remedy: str) -> np.ndarray:
    """CTFs `(n_tilts, 7)` of a tilt series: DEFOCUS, OPTICS and PHASE_SHIFT, in angstrom, degrees, kV, mm, degrees.

    block : the table of the tilt series, whose values `stated.check_values` has checked; optics : the three OPTICS
    """
    phase_shift = as_numbers(block[PHASE_SHIFT]) if PHASE_SHIFT in block else 0.0
    columns = (*(as_numbers(block[column]) for column in DEFOCUS), *as_numbers(optics), phase_shift)
    ctfs = np.stack(np.broadcast_arrays(*columns), axis=1)
    if not np.isfinite(ctfs).all():
        raise UserError(f"{where}: a defocus, an optics value or a {PHASE_SHIFT} is missing; {remedy}")
    return ctfs


def ctf_values(
    squared_per_a2: torch.Tensor, defocus_um, optics: Sequence[float], phase_shift_degrees=0.0
) -> torch.Tensor:
    """CTF at squared frequencies of any shape, positive at low frequency; defocus may differ between frequencies.

    optics : kV, mm of spherical aberration, and the share of amplitude contrast; phase_shift_degrees : of a phase plate

    torch_ctf's function of whole images is not used: it works in float32, off by 3e-4 at 6 um of defocus, and is NaN
    where rlnDefocusV is larger than rlnDefocusU. Its angle has the same zero.
    """
    kilovolts, aberration_mm, contrast = map(torch.tensor, optics)
    phase = calculate_total_phase_shift(
        defocus_um=torch.as_tensor(defocus_um),
        voltage_kv=kilovolts,
        spherical_aberration_mm=aberration_mm,
        phase_shift_degrees=torch.as_tensor(phase_shift_degrees),
        amplitude_contrast_fraction=contrast,
        fftfreq_grid_angstrom_squared=squared_per_a2,
    )
    return -torch.sin(phase)


def divided_by_ctf(images: np.ndarray, pixel_size_nm: float, ctfs: np.ndarray) -> np.ndarray:
    """Tilt images `(n, b, b)` as they were before each was multiplied by its CTF, positive at low frequency.

    ctfs : `(n, 7)` as from `read_ctf`. Exposure weights stay. The defocus is that of the tomogram's centre: a particle
    100 nm above it is 0.1 um off.
    """
    b = images.shape[-1]
    ky, kx = torch.meshgrid(torch.fft.fftfreq(b), torch.fft.rfftfreq(b), indexing="ij")
    u, v, degrees, *_, shift = (torch.from_numpy(column)[:, None, None] for column in ctfs.T)
    optics = ctfs[0, 3:6].tolist()  # of one tilt series
    from_u = torch.atan2(ky, kx) - torch.deg2rad(degrees)  # rlnDefocusAngle is from x to the axis of rlnDefocusU
    defocus_um = ((u + v) / 2 + (u - v) / 2 * torch.cos(2 * from_u)) / 1e4
    values = _not_near_zero(ctf_values((ky**2 + kx**2) / (10 * pixel_size_nm) ** 2, defocus_um, optics, shift))
    return torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(images)) / values, s=(b, b)).numpy()


def volume_divided_by_ctf(volume: np.ndarray, voxel_size_nm: float, ctf: np.ndarray) -> np.ndarray:
    """A volume `(b, b, b)` as it was before it was multiplied by its CTF, which depends on the frequency's length.

    ctf : `(7,)` as from `read_ctf`; of both defoci the mean counts
    """
    u, v, _, *optics, phase_shift = map(float, ctf)
    full, half = torch.fft.fftfreq(len(volume)), torch.fft.rfftfreq(len(volume))
    squared = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2) / (10 * voxel_size_nm) ** 2
    values = _not_near_zero(ctf_values(squared.double(), (u + v) / 2e4, optics, phase_shift))
    return torch.fft.irfftn(torch.fft.rfftn(torch.from_numpy(volume)) / values, s=volume.shape).numpy()


def _not_near_zero(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values < 0, -1.0, 1.0) * values.abs().clamp(min=LEAST_CTF)
