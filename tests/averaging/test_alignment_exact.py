"""What alignment computes, against formulas; and what it must not depend on."""

import math

import numpy as np
import pytest
import torch

from cryo_fewshot.averaging.alignment import ParticleSpectra, Search, TiltSeries, align, rotation_grid
from cryo_fewshot.errors import UserError

SERIES = TiltSeries(np.arange(-60.0, 61.0, 10.0), 24.0)
QUICK = Search(grid_degrees=60.0, finest_degrees=20.0, max_shift_nm=1.0)


@pytest.fixture
def noise():
    return torch.randn(3, 12, 12, 12, generator=torch.Generator().manual_seed(0))


def test_the_grid_is_a_super_fibonacci_spiral():
    """Two spirals of radius sqrt(s / n) and the rest to 1, by 2 pi / sqrt 2 and 2 pi / psi a step, psi^4 = psi + 4."""
    grid = rotation_grid(40.0)
    s, psi = np.arange(len(grid)) + 0.5, max(np.roots([1, 0, 0, -1, -4]).real)
    for first, radius, step in ((0, s / len(s), math.sqrt(2)), (2, 1 - s / len(s), psi)):
        x, y = grid[:, first], grid[:, first + 1]
        np.testing.assert_allclose(x**2 + y**2, radius)
        turned = np.exp(2j * np.pi * s / step)
        np.testing.assert_allclose(y + 1j * x, np.sqrt(radius) * turned, atol=1e-9)


@pytest.mark.parametrize(("particles", "reference"), [(1e-4, 1.0), (1e3, 1e-4), (1.0, 1e4)])
def test_poses_and_scores_do_not_depend_on_the_grey_scale(noise, particles, reference):
    plain, scaled = align(noise, noise[0], SERIES, QUICK), align(particles * noise, reference * noise[0], SERIES, QUICK)
    np.testing.assert_allclose(scaled.scores, plain.scores, rtol=1e-4)
    np.testing.assert_allclose(scaled.quaternions, plain.quaternions)
    np.testing.assert_array_equal(scaled.shifts_nm, plain.shifts_nm)


def test_an_empty_particle_or_reference_scores_zero(noise):
    nothing = torch.zeros_like(noise)
    with_empty = torch.cat([noise, nothing[:1]])
    assert align(with_empty, noise[0], SERIES, QUICK).scores[3] == 0
    assert not align(nothing, noise[0], SERIES, QUICK).scores.any()
    assert not align(noise, nothing[0], SERIES, QUICK).scores.any()


@pytest.mark.parametrize("whiten", [True, False])
def test_spectra_are_divided_by_the_noise_of_their_shell_and_direction(noise, whiten):
    """sum w^2 / sum w^2, no higher than 1 slice tells, times the mean power of the shell after the same division."""
    from cryo_fewshot.fourier import slice_weights

    found = ParticleSpectra(noise, SERIES, QUICK, whiten=whiten)
    k = found.k.long()
    spectra = torch.fft.fftn(torch.fft.ifftshift(noise, dim=(1, 2, 3)), dim=(1, 2, 3))[:, k[:, 0], k[:, 1], k[:, 2]]
    total, squares = slice_weights(found.k[:, 0], found.k[:, 2], SERIES.tilt_angles)
    of_direction = squares / total.clamp(min=1).square()
    shell = found.k.square().sum(1).sqrt().round()
    expected = torch.ones_like(shell)
    if whiten:
        flat = spectra.abs().square().mean(0) / of_direction
        expected = torch.stack([of_direction[i] * flat[shell == shell[i]].mean() for i in range(len(shell))])
    torch.testing.assert_close(found.whitening, expected**-0.5)
    torch.testing.assert_close(found.spectra, spectra * expected**-0.5)


@pytest.mark.parametrize("shift_nm", [(2.0, 0.0, 0.0), (0.5, -1.0, 3.0)])
def test_phases_undo_a_shift(noise, shift_nm):
    """Of whole voxels of 2 nm, and of the wave's own definition between them."""
    spectra = ParticleSpectra(noise, SERIES, QUICK, whiten=False)
    n, shift = len(spectra.k) - 3, torch.tensor(shift_nm)
    found = spectra.phases(shift, n)
    np.testing.assert_allclose(found, np.exp(2j * np.pi * (spectra.k[:n] @ shift).numpy() / 24.0), atol=1e-5)
    if shift_nm == (2.0, 0.0, 0.0):
        moved = ParticleSpectra(noise.roll(1, 1), SERIES, QUICK, whiten=False)
        torch.testing.assert_close(moved.spectra[:, :n] * found, spectra.spectra[:, :n], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["low_pass_nm", "coarse_low_pass_nm", "grid_degrees", "finest_degrees", "n_candidates"]
)
def test_settings_are_above_zero(name):
    for value in (0, -1):
        with pytest.raises(UserError, match=f"{name}={value}: give a positive number"):
            Search(**{name: value})
    least = {"low_pass_nm": 0.5, "coarse_low_pass_nm": 0.5}
    assert getattr(Search(**least | {name: 0.5}), name) == 0.5


def test_no_more_candidates_are_kept_than_the_grid_has(noise):
    few = Search(grid_degrees=120.0, finest_degrees=120.0, n_candidates=1000)
    poses = align(noise, noise[0], SERIES, few)
    assert len(rotation_grid(120.0)) == 9 and poses.quaternions.shape == (3, 4)
    assert np.abs(poses.quaternions @ rotation_grid(120.0).T).max(1) == pytest.approx(1)
