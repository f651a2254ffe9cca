"""Volumes of other boxes and voxel sizes, and rotations that keep the missing wedge."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from cryo_fewshot.fourier import slice_weights
from cryo_fewshot.particles import resampling
from cryo_fewshot.particles.resampling import (
    band_limited,
    checked_sizes,
    looks_dark,
    one_sidedness,
    resample,
    resampling_matrix,
    wedge_rotations,
)
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import load_complex


def ribosomes_like(n, microscope, snr=None, **settings):
    entry = load_complex("1PMA")
    beads = [(entry.positions_nm, entry.masses_kda)] * n
    return simulate(beads, torch.arange(n), snr, microscope, **settings)


def test_two_samplings_of_one_particle_agree():
    coarse, fine = Microscope(box=28, voxel_size_nm=1.43), Microscope(box=40, voxel_size_nm=1.0)
    acquisition = draw_acquisition(torch.arange(3), fine)
    read = [
        [
            resample(v.double().numpy(), m.voxel_size_nm, 40, 1.0, "x")
            for v in ribosomes_like(3, m, acquisition=acquisition)
        ]
        for m in (coarse, fine)
    ]
    for a, b in zip(*read, strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.98


@pytest.mark.parametrize("new_voxel_size_nm", [0.8, 1.0, 1.368, 1.43, 2.0])
def test_a_cosine_keeps_its_wavelength_and_phase(new_voxel_size_nm):
    n, voxel, wavelength = 48, 1.2, 48 * 1.2 / 9  # nine whole waves of 6.4 nm
    x = (np.arange(n) - n // 2) * voxel
    wave = np.cos(2 * np.pi * x / wavelength)[:, None, None] * np.ones((n, n, n))
    volume = resample(wave, voxel, 20, new_voxel_size_nm, "x")
    new_x = (np.arange(20) - 10) * new_voxel_size_nm
    expected = np.cos(2 * np.pi * new_x / wavelength)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(volume[:, 7, 7], expected, atol=1e-4)


def test_waves_that_the_new_voxels_cannot_hold_are_gone():
    x = np.arange(40)
    wave = np.cos(2 * np.pi * x * 16 / 40) + np.cos(2 * np.pi * x * 4 / 40)  # 2.5 and 10 voxels long
    volume = resample(wave[:, None, None] * np.ones((40, 40, 40)), 1.0, 20, 2.0, "x")
    power = np.abs(np.fft.rfft(volume[:, 0, 0])) ** 2
    assert power.argmax() == 4 and power[4] > 0.999 * power.sum()


def test_a_voxel_size_that_leaves_nothing_is_one_line(files):
    files.one_line(lambda: resample(files.noise().astype(float), 1.0, 12, 50.0, "p.mrc"), "p.mrc", "nothing is left")


@pytest.mark.parametrize("n", [7, 8])
def test_the_same_size_changes_nothing(n):
    np.testing.assert_allclose(resampling_matrix(n, 1.43, n, 1.43), np.eye(n), atol=1e-12)


@pytest.mark.parametrize(("n", "new_n"), [(12, 20), (20, 12), (13, 20), (20, 13)])
def test_centres_stay_and_the_rest_is_the_mean(n, new_n):
    volume = np.zeros((n, n, n))
    volume[n // 2, n // 2, n // 2] = 1
    found = resample(volume, 1.0, new_n, 1.0, "x")
    assert np.unravel_index(int(found.argmax()), found.shape) == (new_n // 2,) * 3
    if new_n > n:
        outside = found[0, 0, 0]
        assert (found[0] == outside).all() and outside.abs() < 0.05


def test_what_the_old_box_shows_is_all_kept_and_nothing_beyond_it():
    """Without a change of voxel size a larger box holds the old one as it was, in place, and zeros about it."""
    for n, new_n in ((6, 10), (7, 12)):
        matrix = resampling_matrix(n, 1.0, new_n, 1.0)
        start = new_n // 2 - n // 2
        np.testing.assert_allclose(matrix[start : start + n], np.eye(n), atol=1e-12)
        assert not matrix[:start].any() and not matrix[start + n :].any()


def test_mirrored_axes_are_reversed_about_the_centre():
    plain, mirrored = (resampling_matrix(8, 1.0, 8, 1.0, mirror) for mirror in (False, True))
    np.testing.assert_allclose(mirrored[1:], plain[1:].flip(0), atol=1e-12)


def test_what_an_encoder_is_given_is_what_the_microscope_makes():
    """Files of 40^3 at 1 nm, read for an encoder of 20^3 at 2 nm, equal the simulated volumes it was trained on."""
    binned, whole = (
        simulate_set(SimulatedData(microscope=Microscope(binning=binning)), {0.1: 3}, ["1OEL"]).volumes
        for binning in (2, 1)
    )
    read = torch.stack([resample(volume.double().numpy(), 1.0, 20, 2.0, "volume") for volume in whole])
    torch.testing.assert_close(band_limited(read), binned, atol=2e-4, rtol=0)
    assert (band_limited(torch.zeros(1, 20, 20, 20)) == 0).all()


def test_band_limited_volumes_hold_nothing_at_or_beyond_the_sphere_of_nyquist():
    (volume,) = band_limited(torch.randn(1, 9, 9, 9, generator=torch.Generator().manual_seed(0)) * 5 + 3)
    power = torch.fft.fftn(volume).abs().square()
    k = torch.fft.fftfreq(9) * 9
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt()
    assert (power[(radius == 0) | (radius > 3.999)] < 1e-6).all()
    assert (power[(radius > 0) & (radius < 3.99)] > 1e-3).all()
    assert volume.std(correction=0) == pytest.approx(1, abs=1e-5)


def test_contrast_is_told_from_three_particles_on():
    bright = ribosomes_like(6, Microscope(box=32, dark_protein=False), 0.5)
    assert looks_dark(bright) is False and looks_dark(-bright) is True
    assert looks_dark(bright[:3]) is False and looks_dark(bright[:2]) is None
    assert looks_dark(torch.randn(12, 32, 32, 32, generator=torch.Generator().manual_seed(0))) is None


@pytest.mark.parametrize("box", [8, 9])
def test_wedge_rotations_are_rotations_about_the_centre(box):
    volumes = torch.randn(6, box, box, box, generator=torch.Generator().manual_seed(0))
    numbers = torch.tensor([2, 0, 3, 1, 1, 2])  # in no order, and two of a kind: every volume gets its own
    rotated = wedge_rotations(volumes, numbers)
    signs = {0: (1, 1, 1), 1: (-1, 1, -1), 2: (1, -1, -1), 3: (-1, -1, 1)}
    offsets = torch.cartesian_prod(*[torch.arange(1 - (box + 1) // 2 + 1, (box + 1) // 2 - 1)] * 3)
    for volume, result, number in zip(volumes, rotated, numbers.tolist(), strict=True):
        sign = torch.tensor(signs[number])
        assert sign.prod() == 1, "a rotation, no mirror"
        here, there = (offsets + box // 2).unbind(1), (offsets * sign + box // 2).unbind(1)
        assert torch.equal(result[there], volume[here])
    assert torch.equal(wedge_rotations(rotated, numbers), volumes)


def test_wedge_rotations_keep_the_wedge():
    k = torch.arange(-6, 7, dtype=torch.float64)
    kz, _, kx = torch.meshgrid(k, k, k, indexing="ij")
    for tilts, kept in ((np.arange(-60, 61, 3.0), (1, 2, 3)), (np.arange(-40, 71, 3.0), (1,))):
        coverage = slice_weights(kz, kx, tilts)[0]
        for number in (1, 2, 3):
            same = torch.allclose(wedge_rotations(coverage[None], torch.tensor([number]))[0], coverage)
            assert same == (number in kept)


def test_a_peak_is_one_sided_and_a_dip_the_other_way():
    (bright,) = ribosomes_like(1, Microscope(box=32, dark_protein=False), None)
    found = one_sidedness(torch.stack([bright, -bright, torch.zeros(32, 32, 32)]))
    assert found[0] > 0.5 and found[1] == -found[0] and found[2] == 0
    noise = torch.randn(20, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    assert one_sidedness(noise).mean().abs() < 0.15 and 0.1 < one_sidedness(noise).std() < 0.3


@pytest.mark.parametrize("box", [16, 21])
def test_extremes_are_those_of_the_smoothed_middle(box):
    """Smoothed by a Gaussian of 0.075 of the box, within a quarter of the box of its centre."""
    volumes = torch.randn(3, box, box, box, generator=torch.Generator().manual_seed(0))
    line = np.arange(box) - box // 2
    near = np.sqrt(line[:, None, None] ** 2 + line[:, None] ** 2 + line**2) < 0.25 * box
    smooth = [gaussian_filter(v.double().numpy(), 0.075 * box, mode="wrap", truncate=8)[near] for v in volumes]
    high, low = resampling._extremes(volumes)
    np.testing.assert_allclose(high, [values.max() for values in smooth], rtol=0.02)
    np.testing.assert_allclose(low, [values.min() for values in smooth], rtol=0.02)
    np.testing.assert_allclose(one_sidedness(volumes), (high + low) / (high - low), rtol=1e-5)


@pytest.mark.parametrize(("mean", "seen"), [(2.9, None), (3.1, False), (-3.1, True), (-2.9, None)])
def test_contrast_is_seen_from_three_standard_errors_on(monkeypatch, mean, seen):
    balance = torch.tensor([-1.0, 1.0, -1.0, 1.0])
    error = float(balance.std()) / 2
    monkeypatch.setattr(resampling, "_extremes", lambda volumes: (balance + mean * error + 1, -torch.ones(4)))
    assert looks_dark(torch.zeros(4, 1, 1, 1)) is seen


@pytest.mark.parametrize(
    ("box", "sizes", "said"),
    [
        (4, {"box_nm": 1e-9, "file_voxel_size_nm": 0.1, "coordinate_voxel_size_nm": None}, ""),
        (3, {}, "box=3: give at least 4 voxels"),
        (4, {"box_nm": 0}, "box_nm=0: give a positive length in nm"),
        (4, {"box_nm": float("inf")}, "box_nm=inf: give"),
        (4, {"box_nm": float("nan")}, "box_nm=nan: give"),
        (4, {"file_voxel_size_nm": -1.0}, "file_voxel_size_nm=-1.0 (--voxel-size-nm): give a positive"),
        (4, {"file_voxel_size_nm": 12.0}, "not between 0.1 and 10 nm; did you mean nm or A? 12 A are 1.2 nm"),
        (4, {"coordinate_voxel_size_nm": 12.0}, ""),
    ],
)
def test_lengths_of_no_use_are_refused(box, sizes, said, files):
    if said:
        files.one_line(lambda: checked_sizes(box, **sizes), said)
    else:
        checked_sizes(box, **sizes)


@pytest.mark.parametrize("n", [7, 8])
def test_finer_voxels_pass_through_the_old_ones(n):
    matrix = resampling_matrix(n, 1.0, 2 * n, 0.5)
    np.testing.assert_allclose(matrix[[n + 2 * (i - n // 2) for i in range(n)]], np.eye(n), atol=1e-12)


@pytest.mark.parametrize(("n", "new_n", "step"), [(6, 40, 0.25), (7, 30, 0.5), (6, 31, 0.4), (5, 9, 1.3)])
def test_the_old_box_ends_half_a_voxel_beyond_its_last_and_before_its_first(n, new_n, step):
    """Within it a constant stays one, at its faces too; beyond there is nothing."""
    position = n // 2 + step * (np.arange(new_n) - new_n // 2)
    inside = (position >= -0.5 - 1e-6) & (position <= n - 0.5 + 1e-6)
    matrix = resampling_matrix(n, 2.0, new_n, 2.0 * step)
    np.testing.assert_allclose(matrix.sum(1), inside, atol=1e-12)
    assert not matrix[~inside].any()
    mirrored = resampling_matrix(n, 2.0, new_n, 2.0 * step, True)
    position = n // 2 - step * (np.arange(new_n) - new_n // 2)
    np.testing.assert_allclose(mirrored.sum(1), (position >= -0.5 - 1e-6) & (position <= n - 0.5 + 1e-6), atol=1e-12)
