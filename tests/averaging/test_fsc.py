"""Fourier shell correlation, the resolution that it tells, and the filter made of it."""

import math

import numpy as np
import pytest
import torch

from cryo_fewshot.averaging.fsc import resolution, shell_correlation, wiener_filtered


def test_noise_does_not_correlate_with_noise():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 40, 40, 40, generator=generator)
    assert np.abs(shell_correlation(a, b, 1.0)[1][4:]).max() < 0.2
    assert shell_correlation(a, a, 1.0)[1] == pytest.approx(1)


def test_resolution_is_read_between_shells():
    frequencies = np.array([0.0, 0.1, 0.2, 0.3])
    fsc = np.array([1.0, 0.9, 0.6, 0.1])
    assert resolution(fsc, frequencies, 0.5) == pytest.approx(1 / 0.22)
    assert math.isnan(resolution(fsc, frequencies, 0.05))
    assert resolution(np.array([1.0, 0.1, 0.9, 0.1]), frequencies, 0.5) == math.inf


def test_the_axis_is_in_shells_of_the_box():
    a = torch.randn(12, 12, 12, generator=torch.Generator().manual_seed(0))
    frequencies, fsc = shell_correlation(a, a, 2.0)
    np.testing.assert_allclose(frequencies, np.arange(7) / 24)
    assert fsc.shape == (7,)


def test_what_two_densities_share_up_to_a_frequency_is_their_resolution():
    """Equal below shell 6 of a box of 32 nm, independent above: 32 / 6.5 nm or so, whatever the voxel size."""
    generator = torch.Generator().manual_seed(0)
    box, k = 32, torch.fft.fftfreq(32) * 32
    low = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt() <= 6
    shared, *noises = (torch.fft.fftn(torch.randn(box, box, box, generator=generator)) for _ in range(3))
    a, b = (torch.fft.ifftn(torch.where(low, shared, noise)).real for noise in noises)
    for voxel_size_nm in (1.0, 2.0):
        frequencies, fsc = shell_correlation(a, b, voxel_size_nm, mask_radius_nm=100.0)
        assert 32 / 7 <= resolution(fsc, frequencies) / voxel_size_nm <= 32 / 6


def test_the_mask_radius_counts_in_nm():
    """Densities that agree near the centre only: a mask of that radius sees agreement, a wider one does not."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 24, 24, 24, generator=generator)
    line = torch.arange(24) - 12.0
    near = (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).sqrt() <= 5
    b = torch.where(near, a, b)
    tight, wide = (shell_correlation(a, b, 2.0, mask_radius_nm=radius)[1][2:10].mean() for radius in (5.0, 20.0))
    assert tight > 0.9 and wide < 0.5


def test_each_shell_is_weighted_by_its_correlation():
    density = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))
    shells = np.array([1.0, 0.8, 0.3, -0.2, 0.5])
    k = torch.fft.fftfreq(8) * 8
    shell = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round().long()
    weights = torch.tensor([1.0, 0.8, 0.3, 0.05, 0.5, 0.5, 0.5, 0.5])[shell]  # at least 0.05; beyond, as the last
    expected = torch.fft.ifftn(torch.fft.fftn(density) * weights).real
    torch.testing.assert_close(wiener_filtered(density, shells), expected)
