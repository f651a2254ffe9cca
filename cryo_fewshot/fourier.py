"""What several rooms ask of a box and its Fourier transform: distances, and where tilt images meet a frequency."""

import numpy as np
import torch


def distances(box: int) -> torch.Tensor:
    """Distance in voxels from the centre `box // 2`, `(box, box, box)`."""
    line = torch.arange(box) - box // 2
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij")).float().norm(dim=0)


def slice_weights(kz: torch.Tensor, kx: torch.Tensor, tilt_angles: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of weights, and of squared weights, with which the tilt images' central slices meet each frequency.

    A slice is one Fourier voxel thick: its weight falls linearly to zero at a distance of one voxel. kz and kx in
    Fourier voxels, floating, any shape; angles in degrees about y. Where no slice comes near lies the missing wedge.
    """
    total, squares = torch.zeros_like(kz), torch.zeros_like(kz)
    for angle in np.deg2rad(tilt_angles):
        weight = (1 - (kz * np.cos(angle) - kx * np.sin(angle)).abs()).clamp(min=0)
        total += weight
        squares += weight**2
    return total, squares
