"""The contrast transfer function (CTF) that tilt images were multiplied by, and their division by it.

RELION 5 and WarpTools write images that they have multiplied by their CTF, fit for averaging with a Wiener filter. A
particle's low frequencies, most of what there is to see at a few nm, are then all but gone, and nothing that reads
unprocessed particles would know it again. The defocus is in tomograms.star, so the product is undone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch_ctf import calculate_total_phase_shift

from ..errors import UserError

DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle")
PHASE_SHIFT = "rlnPhaseShift"
OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
LEAST_CTF = 0.05
"""A CTF nearer to zero counts as this: what it was multiplied to zero by does not come back, only rounding errors."""


@dataclass(frozen=True)
class Ctf:
    """Contrast transfer functions of one tilt series; plain data.

    defocus : `(n_tilts, 3)` rlnDefocusU and V in angstrom, rlnDefocusAngle in degrees; optics : kV, mm, and a share;
    phase_shift : `(n_tilts,)` rlnPhaseShift of a phase plate in degrees, None where there was none
    """

    defocus: np.ndarray
    optics: tuple[float, float, float]
    phase_shift: np.ndarray | None = None

    def of_tilts(self, tilts: np.ndarray) -> "Ctf":
        """Those of some tilts, by index."""
        phase_shift = None if self.phase_shift is None else self.phase_shift[tilts]
        return Ctf(self.defocus[tilts], self.optics, phase_shift)


def read_ctf(block, where: str, optics: list, remedy: str) -> Ctf:
    """CTFs from the table of a tilt series and the three OPTICS values; raises UserError for what cannot be one."""
    try:
        defocus = np.stack([block[column].astype(float) for column in DEFOCUS], axis=1)
        phase_shift = block[PHASE_SHIFT].to_numpy(float) if PHASE_SHIFT in block else None
        kilovolts, aberration_mm, contrast = map(float, optics)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: a defocus or an optics value that is not a number ({error}); {remedy}") from error
    if not (np.isfinite(defocus).all() and kilovolts > 0 and 0 <= contrast < 1):
        raise UserError(f"{where}: a defocus, voltage or amplitude contrast out of range; {remedy}")
    if phase_shift is not None and not np.isfinite(phase_shift).all():
        raise UserError(f"{where}: a {PHASE_SHIFT} that is not a number; {remedy}")
    return Ctf(defocus, (kilovolts, aberration_mm, contrast), phase_shift)


def ctf_values(
    squared_per_a2: torch.Tensor, defocus_um, optics: tuple[float, float, float], phase_shift_degrees=0.0
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


def divided_by_ctf(images: np.ndarray, pixel_size_nm: float, ctf: Ctf) -> np.ndarray:
    """Tilt images `(n, b, b)` as they were before each was multiplied by its CTF, positive at low frequency.

    Exposure weights stay. The defocus is that of the tomogram's centre: a particle 100 nm above it is 0.1 um off.
    """
    b = images.shape[-1]
    ky, kx = torch.meshgrid(torch.fft.fftfreq(b), torch.fft.rfftfreq(b), indexing="ij")
    u, v, degrees = (torch.from_numpy(column)[:, None, None] for column in ctf.defocus.T)
    from_u = torch.atan2(ky, kx) - torch.deg2rad(degrees)  # rlnDefocusAngle is from x to the axis of rlnDefocusU
    defocus_um = ((u + v) / 2 + (u - v) / 2 * torch.cos(2 * from_u)) / 1e4
    shift = 0.0 if ctf.phase_shift is None else torch.from_numpy(ctf.phase_shift)[:, None, None]
    values = _not_near_zero(ctf_values((ky**2 + kx**2) / (10 * pixel_size_nm) ** 2, defocus_um, ctf.optics, shift))
    return torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(images)) / values, s=(b, b)).numpy()


def volume_divided_by_ctf(volume: np.ndarray, voxel_size_nm: float, ctf: np.ndarray) -> np.ndarray:
    """A volume `(b, b, b)` as it was before it was multiplied by its CTF, which depends on the frequency's length.

    ctf : `(5,)` defocus in um, kV, mm of spherical aberration, amplitude contrast, phase shift in degrees
    """
    defocus_um, *optics, phase_shift = map(float, ctf)
    full, half = torch.fft.fftfreq(len(volume)), torch.fft.rfftfreq(len(volume))
    squared = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2) / (10 * voxel_size_nm) ** 2
    values = _not_near_zero(ctf_values(squared.double(), defocus_um, tuple(optics), phase_shift))
    return torch.fft.irfftn(torch.fft.rfftn(torch.from_numpy(volume)) / values, s=volume.shape).numpy()


def _not_near_zero(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values < 0, -1.0, 1.0) * values.abs().clamp(min=LEAST_CTF)
