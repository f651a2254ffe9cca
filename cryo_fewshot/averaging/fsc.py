"""Fourier shell correlation (FSC) of two densities, the resolution it tells, and the Wiener filter it makes."""

import math
from collections.abc import Callable

import numpy as np
import torch

from ..fourier import distances
from .alignment import check_particles
from .spectra import soft_mask

TRUSTED = 0.8  # unmasked correlation below which the phases are made random


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


def phase_randomised(density: torch.Tensor, first_shell: int, generator: torch.Generator) -> torch.Tensor:
    """The density with random phases, its amplitudes kept, from a Fourier shell on."""
    spectrum = torch.fft.rfftn(density)
    noise = torch.fft.rfftn(torch.randn(density.shape, generator=generator).to(density.device))
    shell = torch.fft.ifftshift(distances(len(density))).round()[..., : spectrum.shape[-1]].to(density.device)
    changed = spectrum.abs() * noise / noise.abs().clamp(min=1e-20)
    return torch.fft.irfftn(torch.where(shell >= first_shell, changed, spectrum), s=density.shape)


def corrected_correlation(
    a: torch.Tensor,
    b: torch.Tensor,
    voxel_size_nm: float,
    lay: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    seed: int,
    n_draws: int = 3,
) -> np.ndarray:
    """FSC `(box // 2 + 1,)` of two half maps without what their mask and laying one onto the other bring by themselves.

    From the shell on where the maps agree by less than 0.8 without a mask, the phases of both are made random, the
    second is laid onto the first again, and what then correlates, n, is taken off: (f - n) / (1 - n) (Chen et al. 2013,
    who do so for the mask). Next to that shell n is too large, for the mask carries true signal there; so the better
    one counts of this and the same without a mask. The last shell is NaN: it holds nothing but what the mask carries.

    a, b : `(box, box, box)`, b laid onto a; voxel_size_nm : nm
    lay : function that lays its second density onto its first, as b was onto a
    seed : of the random phases; n_draws : of which n is the mean
    """
    curves = _both_curves(a, b, voxel_size_nm)
    masked, unmasked = curves
    first = next((k for k in range(1, len(masked)) if not unmasked[k] >= TRUSTED), len(masked))
    generator, by_chance = torch.Generator().manual_seed(seed), []
    for _ in range(n_draws if first < len(masked) - 1 else 0):
        one, other = (phase_randomised(density, first, generator) for density in (a, b))
        by_chance.append(_both_curves(one, lay(one, other), voxel_size_nm))
    fsc = masked.copy()
    if by_chance:
        n = np.mean(by_chance, axis=0)[:, first:]
        fsc[first:] = ((curves[:, first:] - n) / np.maximum(1 - n, 1e-6)).max(axis=0)
    fsc[-1] = np.nan
    return fsc


def _both_curves(a: torch.Tensor, b: torch.Tensor, voxel_size_nm: float) -> np.ndarray:
    """FSC under the mask and without one, `(2, box // 2 + 1)`."""
    whole = 2 * len(a) * voxel_size_nm  # a mask wider than the box
    return np.stack([shell_correlation(a, b, voxel_size_nm, radius)[1] for radius in (None, whole)])


def resolution(fsc: np.ndarray, frequencies_per_nm: np.ndarray, threshold: float = 0.143) -> float:
    """Resolution in nm where the FSC first falls below the threshold, between shells by linear interpolation.

    inf where it is below from the first shell on; NaN where it never falls below: finer than the box can tell.
    0.143 is the criterion for half maps (Rosenthal and Henderson 2003).
    """
    below = np.flatnonzero(np.asarray(fsc)[1:] < threshold) + 1
    if not len(below):
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
