"""Fourier shell correlation (FSC) of two densities, the resolution it tells, and the Wiener filter it makes."""

import math

import numpy as np
import torch

from ..fourier import distances, soft_mask
from .alignment import check_particles


def shell_correlation(
    a: torch.Tensor, b: torch.Tensor, voxel_size_nm: float, mask_radius_nm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies per nm and Fourier shell correlation `(box // 2 + 1,)` of two densities under a soft sphere.

    The correlation is that of torch-fourier-shell-correlation; shell 0 is 1 by definition. `mask_radius_nm` None for
    0.4 of the box.
    """
    from torch_fourier_shell_correlation import fourier_shell_correlation

    check_particles(a[None], b)
    box = len(a)
    mask = soft_mask(a, box * voxel_size_nm, mask_radius_nm)
    fsc = fourier_shell_correlation(a * mask, b * mask)
    return np.arange(len(fsc)) / (box * voxel_size_nm), fsc.double().cpu().numpy()


def resolution(fsc: np.ndarray, frequencies_per_nm: np.ndarray, threshold: float = 0.143) -> float:
    """Resolution in nm where the FSC first falls below the threshold, between shells by linear interpolation.

    inf where it is below from the first shell on; NaN where it never falls below: finer than the box can tell.
    0.143 is the criterion for half maps (Rosenthal and Henderson 2003).
    """
    below = np.flatnonzero(np.asarray(fsc)[1:] < threshold) + 1
    if len(below) == 0:
        return math.nan
    i = below[0]
    if i == 1:
        return math.inf
    share = (fsc[i - 1] - threshold) / (fsc[i - 1] - fsc[i])
    return float(1 / (frequencies_per_nm[i - 1] + share * (frequencies_per_nm[i] - frequencies_per_nm[i - 1])))


def wiener_filtered(density: torch.Tensor, shells: np.ndarray) -> torch.Tensor:
    """The density with each Fourier shell times the FSC there (its Wiener filter), at least 0.05."""
    weights = torch.as_tensor(shells.clip(0.05, 1), dtype=torch.float32, device=density.device)
    shell = torch.fft.ifftshift(distances(len(density))).round().long().clamp(max=len(shells) - 1).to(density.device)
    return torch.fft.ifftn(torch.fft.fftn(density) * weights[shell]).real
