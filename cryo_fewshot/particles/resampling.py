"""Volumes of any box and voxel size brought to those asked for, and a guess of their contrast."""

from functools import lru_cache

import numpy as np
import torch

from ..errors import UserError
from ..fourier import distances
from .mrc import LARGEST_NM, SAME_VOXEL, SMALLEST_NM, within_range


@lru_cache(maxsize=64)
def resampling_matrix(
    n: int, voxel_size_nm: float, new_n: int, new_voxel_size_nm: float, mirror: bool = False
) -> torch.Tensor:
    """Matrix `(new_n, n)` float64 that resamples one axis; both centres are at index n // 2.

    A Fourier crop or padding to the new voxel size, then a crop or padding about the centre, in one step: the
    trigonometric interpolation of the samples (Whittaker and Shannon on a periodic axis) without the frequencies
    that the new voxels cannot hold, read at the new positions, and zero beyond the old box. So the ratio of the voxel
    sizes need not be one of whole numbers. `mirror` reverses the axis about the centre. The tensor is shared: copy it
    before changing it.
    """
    step = new_voxel_size_nm / voxel_size_nm
    step = 1.0 if abs(step - 1) < SAME_VOXEL else step
    offset = (torch.arange(new_n, dtype=torch.float64) - new_n // 2) * step
    position = n // 2 + (-offset if mirror else offset)
    frequency = torch.arange(-((n - 1) // 2), n // 2 + 1, dtype=torch.float64) / n  # of the old voxels, Nyquist once
    frequency = frequency[frequency.abs() * step <= 0.5]
    distance = position[:, None] - torch.arange(n)
    matrix = torch.cos(2 * torch.pi * distance[..., None] * frequency).sum(-1) / n
    inside = (position > -0.5 - 1e-9) & (position < n - 0.5 + 1e-9)
    return matrix * inside[:, None]


def resample(
    volume: np.ndarray, voxel_size_nm: float, box: int, new_voxel_size_nm: float, name: object, mirror: bool = False
) -> torch.Tensor:
    """One volume `(n, n, n)` as `(box, box, box)` float32 of another voxel size, with mean 0 and variance 1.

    Where the old box shows less than the new, the rest is its mean. `mirror` reverses z, which changes handedness.
    Raises UserError, with `name` in front, where nothing of the volume is left.
    """
    matrix = resampling_matrix(len(volume), voxel_size_nm, box, new_voxel_size_nm)
    first = resampling_matrix(len(volume), voxel_size_nm, box, new_voxel_size_nm, True) if mirror else matrix
    resampled = torch.from_numpy(volume - volume.mean())
    for axis_matrix in (first, matrix, matrix):  # the first axis goes last each time: the order is as before in the end
        resampled = torch.tensordot(resampled, axis_matrix, dims=([0], [1]))
    spread = resampled.std(correction=0)
    if not spread > 1e-6 * volume.std():
        raise UserError(f"{name}: nothing is left of it at {new_voxel_size_nm:.4g} nm; use a smaller voxel size")
    return ((resampled - resampled.mean()) / spread).float()


def band_limited(volumes: torch.Tensor) -> torch.Tensor:
    """Volumes `(n, b, b, b)` without what lies at or beyond Nyquist's sphere, each with mean 0 and variance 1.

    A box holds twice as many frequencies as that sphere, and in its corners there is only noise; `imaging` makes none
    there, so no encoder was trained on it. A volume of zeros stays so.
    """
    box = volumes.shape[-1]
    axis, half = torch.fft.fftfreq(box) * box, torch.fft.rfftfreq(box) * box
    squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + half**2
    inside = ((squared > 0) & (squared < (box // 2) ** 2)).to(volumes.device)
    volumes = torch.fft.irfftn(torch.fft.rfftn(volumes, dim=(1, 2, 3)) * inside, s=(box,) * 3, dim=(1, 2, 3))
    return volumes / volumes.flatten(1).std(dim=1, correction=0).clamp(min=1e-12)[:, None, None, None]


def wedge_rotations(volumes: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    """Rotate volumes `(n, b, b, b)` by 180 degrees about axes that keep the missing wedge; rotations `(n,)` 0 to 3.

    0 leaves a volume as it is; 1 rotates about y, the tilt axis, which keeps every wedge; 2 about z, the beam, and 3
    about x keep the wedge of a symmetric tilt range. No rotation changes handedness, as a mirror would.
    """
    rotated = volumes.clone()
    for number, axes in {1: (1, 3), 2: (2, 3), 3: (1, 2)}.items():
        chosen = rotations == number
        # The centre, index b // 2, stays; in an even box the plane at index 0 has no other side and stays as well.
        shift = [1 - volumes.shape[-1] % 2] * 2
        rotated[chosen] = volumes[chosen].flip(axes).roll(shift, axes)
    return rotated


def checked_sizes(box: int, **sizes_nm: float | None) -> None:
    """UserError for a box of no use or a length that is not one."""
    if box < 4:
        raise UserError(f"box={box}: give at least 4 voxels")
    for name, value in sizes_nm.items():
        if value is not None and not 0 < value < float("inf"):
            option = " (--voxel-size-nm)" if name == "file_voxel_size_nm" else ""
            raise UserError(f"{name}={value}{option}: give a positive length in nm")
        if name == "file_voxel_size_nm" and value is not None and not within_range(value):
            said = f"not between {SMALLEST_NM:g} and {LARGEST_NM:g} nm; did you mean nm or A"
            raise UserError(f"{name}={value:g} (--voxel-size-nm): {said}? {value:g} A are {value / 10:g} nm")


def looks_dark(volumes: torch.Tensor) -> bool | None:
    """Whether protein looks dark in most of the standardised volumes `(n, b, b, b)`.

    A particle need not be centred, nor its mean density survive the CTF. None where the difference of peaks and dips is
    within three standard errors, or where there are fewer than three volumes.
    """
    if len(volumes) < 3:
        return None
    balance = sum(_extremes(volumes))
    error = balance.std() / len(balance) ** 0.5
    return None if balance.mean().abs() < 3 * error else bool(balance.mean() < 0)


def one_sidedness(volumes: torch.Tensor) -> torch.Tensor:
    """How far the highest peak of each volume `(n, b, b, b)` outdoes its deepest dip, `(n,)`: 1 bright, -1 dark.

    Of white noise it is 0, with a standard deviation of 0.2.
    """
    high, low = _extremes(volumes)
    return (high + low) / (high - low).clamp(min=1e-12)


def _extremes(volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Highest peak and deepest dip near the centre of each volume, smoothed to a few nm; noise has both alike."""
    box = volumes.shape[-1]
    near = distances(box) < 0.25 * box
    full, half = torch.fft.fftfreq(box), torch.fft.rfftfreq(box)
    squared = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    spectrum = torch.fft.rfftn(volumes, dim=(1, 2, 3)) * torch.exp(-2 * (torch.pi * 0.075 * box) ** 2 * squared)
    smooth = torch.fft.irfftn(spectrum, s=(box,) * 3, dim=(1, 2, 3))[:, near]
    return smooth.amax(1), smooth.amin(1)
