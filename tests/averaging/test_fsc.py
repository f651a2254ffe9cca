"""Fourier shell correlation, the resolution that it tells, and the filter made of it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_fewshot.averaging.fsc import (
    _both_curves,
    corrected_correlation,
    phase_randomised,
    resolution,
    shell_correlation,
    wiener_filtered,
)
from cryo_fewshot.fourier import distances


def test_noise_does_not_correlate_with_noise():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 40, 40, 40, generator=generator)
    assert np.abs(shell_correlation(a, b, 1.0)[1][4:]).max() < 0.2
    assert shell_correlation(a, a, 1.0)[1] == pytest.approx(1)


def test_resolution_is_read_between_shells():
    frequencies = np.array([0.0, 0.1, 0.2, 0.3])
    fsc = np.array([1.0, 0.9, 0.6, 0.1])
    assert resolution(fsc, frequencies, 0.5) == pytest.approx(1 / 0.22)
    assert resolution(fsc, frequencies) == pytest.approx(1 / (0.2 + 0.1 * 0.457 / 0.5))  # at 0.143
    assert math.isnan(resolution(fsc, frequencies, 0.05))
    assert resolution(np.array([1.0, 0.1, 0.9, 0.1]), frequencies, 0.5) == math.inf


@settings(max_examples=40)
@given(st.lists(st.floats(-0.5, 0.99), min_size=2, max_size=8), st.floats(0.05, 0.9), st.floats(0.01, 0.5))
def test_at_its_resolution_the_curve_crosses_the_threshold_for_the_first_time(falling, threshold, step):
    fsc, frequencies = np.array([1.0, 0.95, *falling]), step * np.arange(len(falling) + 2)
    below = fsc < threshold
    found = resolution(fsc, frequencies, threshold)
    if not below.any():
        assert math.isnan(found)
        return
    first = int(below.argmax())
    assert frequencies[first - 1] * (1 - 1e-9) <= 1 / found <= frequencies[first] * (1 + 1e-9)
    assert np.interp(1 / found, frequencies, fsc) == pytest.approx(threshold, abs=1e-6)


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


def halves_that_share(last_shell, noise_level, box=32):
    """Two densities, equal up to a shell and there far stronger than the noise of each beyond it."""
    generator = torch.Generator().manual_seed(0)
    shell = torch.fft.ifftshift(distances(box))
    shared, *noises = (torch.fft.fftn(torch.randn(box, box, box, generator=generator)) for _ in range(3))
    inside = shell < box / 2 - 0.5  # an average has nothing in the last shell
    parts = [torch.where(shell <= last_shell, shared, 0 * shared) + noise_level * noise * inside for noise in noises]
    return [torch.fft.ifftn(part).real for part in parts]


def test_what_the_mask_carries_to_finer_shells_is_taken_off():
    """The known answer lies between shells 6 and 7; the masked curve stays up and rises again towards Nyquist."""
    halves = halves_that_share(6, 1e-3)
    frequencies, masked = shell_correlation(*halves, 1.0)
    assert masked[1:].min() > 0.9 and masked[-1] > masked[-2] + 0.005
    corrected = corrected_correlation(*halves, 1.0, lambda one, other: other, seed=0)
    assert 32 / 7.5 <= resolution(corrected, frequencies) <= 32 / 6
    np.testing.assert_allclose(corrected[:6], masked[:6])


def test_of_what_remains_by_chance_a_share_is_taken_off():
    """(f - n) / (1 - n), the better of with and without the mask, from the first shell that is not trusted on."""
    one, other = halves_that_share(3, 0.05, box=16)
    corrected = corrected_correlation(one, other, 2.0, lambda a, b: -0.5 * a + b, seed=4, n_draws=2)
    curves, generator = _both_curves(one, other, 2.0), torch.Generator().manual_seed(4)
    first = int(np.flatnonzero(curves[1, 1:] < 0.8)[0]) + 1
    by_chance = []
    for _ in range(2):
        a, b = (phase_randomised(half, first, generator) for half in (one, other))
        by_chance.append(_both_curves(a, -0.5 * a + b, 2.0))
    n = np.mean(by_chance, axis=0)[:, first:-1]
    assert first == 4 and np.abs(n).max() > 0.2
    np.testing.assert_allclose(corrected[:first], curves[0, :first])
    np.testing.assert_allclose(corrected[first:-1], ((curves[:, first:-1] - n) / (1 - n)).max(axis=0), atol=1e-6)
    np.testing.assert_allclose(curves[0], shell_correlation(one, other, 2.0)[1])
    np.testing.assert_allclose(curves[1], shell_correlation(one, other, 2.0, 1e6)[1])


def test_where_laying_alone_makes_all_agree_nothing_is_left():
    one, other = halves_that_share(3, 0.05, box=16)
    curves = _both_curves(one, other, 2.0)
    corrected = corrected_correlation(one, other, 2.0, lambda a, b: a, seed=4, n_draws=1)
    np.testing.assert_allclose(corrected[4:-1], ((curves[:, 4:-1] - 1) / 1e-6).max(axis=0), rtol=1e-3)


def test_random_phases_keep_amplitudes_and_what_lies_before_their_first_shell():
    density = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = phase_randomised(density, 3, torch.Generator().manual_seed(1))
    before, after = (torch.fft.fftn(part) for part in (density, changed))
    k = torch.fft.fftfreq(8) * 8
    shell = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round()
    torch.testing.assert_close(after[shell < 3], before[shell < 3], atol=1e-4, rtol=0)
    inner = (shell >= 3) & (shell < 4)
    assert not torch.allclose(after[inner], before[inner], atol=0.1)
    torch.testing.assert_close(after.abs(), before.abs(), atol=1e-3, rtol=1e-3)
    cold = phase_randomised(1e-4 * density, 3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(cold, 1e-4 * changed, atol=1e-8, rtol=1e-4)
    assert not phase_randomised(0 * density, 0, torch.Generator()).any()


def test_halves_that_agree_to_the_end_are_finer_than_the_box_can_tell():
    halves = halves_that_share(15.4, 0.1)
    corrected = corrected_correlation(*halves, 1.0, lambda one, other: pytest.fail("nothing to lay"), seed=0)
    assert corrected[:-1].min() > 0.9 and math.isnan(corrected[-1])
    assert math.isnan(resolution(corrected, np.arange(17) / 32))


def test_what_laying_one_half_onto_the_other_brings_is_taken_off():
    """Of noise, rolled and turned to the best of 24 places: it agrees by that alone."""
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 12, 12, 12, generator=generator)

    def lay(a, b):
        places = [b.rot90(k, axes).roll(s, 0) for axes in ((0, 1), (1, 2)) for k in range(4) for s in (-1, 0, 1)]
        return max(places, key=lambda place: float(shell_correlation(a, place, 1.0)[1][1:6].mean()))

    laid = lay(one, other)
    masked = shell_correlation(one, laid, 1.0)[1][1:6].mean()
    corrected = corrected_correlation(one, laid, 1.0, lay, seed=0, n_draws=8)[1:6].mean()
    assert masked > 0.1 and abs(corrected) < 0.6 * masked
