"""Volumes and their Fourier transforms in a centred frame: lists of frequencies, soft masks, rotated reads.

Frequencies are integers, zyx, in Fourier voxels of width 1 / (box edge); the centre of a volume is voxel n // 2.
"""

import math

import torch

from ..fourier import distances

AXES = (1, 2, 3)
MASK_SHARE = 0.4  # of the box, radius of the soft sphere around a particle
_PAD = 2  # references are transformed in a box this many times larger, then read with trilinear interpolation


def half_space(radius: float) -> torch.Tensor:
    """Integer frequencies zyx `(f, 3)` of one half of Fourier space, zero left out, in order of their distance."""
    line = torch.arange(-math.floor(radius), math.floor(radius) + 1)
    k = torch.cartesian_prod(line, line, line)
    z, y, x = k.unbind(1)
    half = (x > 0) | ((x == 0) & (y > 0)) | ((x == 0) & (y == 0) & (z > 0))
    squared = k.square().sum(1)
    k, squared = k[half & (squared <= radius**2)], squared[half & (squared <= radius**2)]
    return k[torch.argsort(squared, stable=True)].float()


def places(k: torch.Tensor, box: int) -> torch.Tensor:
    """Index `(f,)` of integer frequencies zyx `(f, 3)` in the flattened transform of a box."""
    z, y, x = (k.long() % box).unbind(1)
    return (z * box + y) * box + x


def soft_sphere(box: int, radius: float) -> torch.Tensor:
    """`(box, box, box)` mask: 1 inside `radius` voxels of the centre, falling to 0 as a cosine over the next tenth."""
    edge = max(1.0, 0.1 * box)
    return 0.5 * (1 + torch.cos(math.pi * ((distances(box) - radius) / edge).clamp(0, 1)))


def soft_mask(like: torch.Tensor, width_nm: float, radius_nm: float | None = None) -> torch.Tensor:
    """Soft sphere in the box of `like`, of a radius in nm; None for 0.4 of the box."""
    box = like.shape[-1]
    return soft_sphere(box, (radius_nm or MASK_SHARE * width_nm) * box / width_nm).to(like.device)


def cropped(volumes: torch.Tensor, box: int) -> torch.Tensor:
    """Fourier crop to `box` voxels, the same width; the volumes where they are no larger."""
    old = volumes.shape[-1]
    if old <= box:
        return volumes
    k = torch.fft.fftfreq(box, 1 / box).long() % old
    spectra = torch.fft.fftn(torch.fft.ifftshift(volumes, dim=AXES), dim=AXES)
    spectra = spectra[:, k[:, None, None], k[:, None], k]
    return torch.fft.fftshift(torch.fft.ifftn(spectra, dim=AXES).real, dim=AXES) * (box / old) ** 3


def padded_spectrum(volume: torch.Tensor) -> torch.Tensor:
    """Transform `(1, 2, m, m, m)`, real and imaginary, frequency zero at m // 2, of a zero-padded volume `(b, b, b)`.

    Divided beforehand by the transform of the trilinear kernel that it will be read with.
    """
    box = len(volume)
    line = torch.sinc((torch.arange(box, device=volume.device) - box // 2) / (_PAD * box)).square()
    volume = volume / (line[:, None, None] * line[:, None] * line)
    before = (_PAD * box) // 2 - box // 2
    padded = torch.nn.functional.pad(volume, (before, _PAD * box - box - before) * 3)
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(padded)))
    return torch.view_as_real(spectrum).movedim(-1, 0)[None].contiguous()


def read_spectrum(grid: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Trilinear values `(c, r, f)` of a grid `(1, c, m, m, m)` at frequencies zyx `(r, f, 3)` of the unpadded box."""
    m = grid.shape[-1]
    place = (k.flip(-1) * _PAD + m // 2) * (2 / (m - 1)) - 1
    return torch.nn.functional.grid_sample(grid, place[None, :, :, None], align_corners=True)[0, ..., 0]
