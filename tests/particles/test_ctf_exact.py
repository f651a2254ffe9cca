"""A volume's CTF in voxels of any size."""

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.ctf import LEAST_CTF, ctf_values, volume_divided_by_ctf


@pytest.mark.parametrize("voxel_size_nm", [1.0, 0.75, 1.37])
def test_a_volume_is_divided_by_the_ctf_of_its_voxels(voxel_size_nm):
    volume = np.random.default_rng(0).normal(size=(12, 12, 12))
    found = volume_divided_by_ctf(volume, voxel_size_nm, np.array([31000.0, 29000.0, 0.0, 300.0, 2.7, 0.07, 20.0]))
    k = np.fft.fftfreq(12, 10 * voxel_size_nm)
    squared = torch.from_numpy(np.add.outer(np.add.outer(k**2, k**2), k**2))
    values = ctf_values(squared, 3.0, (300.0, 2.7, 0.07), 20.0).numpy()
    strong = np.abs(values) > LEAST_CTF
    strong[6] = strong[:, 6] = strong[:, :, 6] = False  # half a frequency, at Nyquist, has no sign of its own
    np.testing.assert_allclose((np.fft.fftn(found) * values)[strong], np.fft.fftn(volume)[strong], rtol=1e-3, atol=1e-3)
