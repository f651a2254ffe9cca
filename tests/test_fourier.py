"""Where tilt images meet a frequency, against sums by hand."""

import numpy as np
import pytest
import torch

from cryo_fewshot import fourier


def test_a_slice_is_one_fourier_voxel_thick():
    kz, kx = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.0]), torch.full((5,), 3.0)
    flat, _ = fourier.slice_weights(kz, kx, np.array([0.0]))
    assert flat.tolist() == [1, 0.75, 0.5, 0, 0]
    total, squares = fourier.slice_weights(kz, kx, np.array([0.0, 0.0, 90.0]))
    assert total.tolist() == [2, 1.5, 1, 0, 0] and squares.tolist() == [2, 1.125, 0.5, 0, 0]
    # A slice at +30 degrees runs along kz = kx tan 30.
    tilted, _ = fourier.slice_weights(torch.tensor([3**-0.5, -(3**-0.5)]), torch.ones(2), np.array([30.0]))
    assert tilted.tolist() == pytest.approx([1, 0], abs=1e-6)
