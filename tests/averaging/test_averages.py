"""Averages of particles, and their refinement from nothing, where the true poses are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.averaging import averages
from cryo_fewshot.averaging.alignment import Poses, Search, TiltSeries
from cryo_fewshot.averaging.averages import (
    Average,
    Refined,
    _compared,
    _composed,
    _halves,
    _merged,
    average,
    laid_onto,
    refine,
)
from cryo_fewshot.averaging.fsc import resolution, shell_correlation
from cryo_fewshot.errors import UserError
from cryo_fewshot.fourier import distances, slice_weights
from cryo_fewshot.simulation.density import bead_spectra
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition

RNG = np.random.default_rng(0)


def test_particles_without_noise_average_to_the_density(ribosome, known):
    microscope = Microscope(dark_protein=False)
    volumes, drawn = known.particles(ribosome, 16, None, microscope)
    result = average(volumes, Poses(drawn.quaternions, drawn.shifts_nm), microscope)
    density = torch.fft.irfftn(bead_spectra([ribosome], known.UPRIGHT, microscope).view(40, 40, 21), s=(40, 40, 40))
    frequencies, fsc = shell_correlation(result.density, density, 1.0)
    assert fsc[frequencies <= 1 / 4].min() > 0.9
    assert resolution(fsc, frequencies, 0.5) < 4


def test_refinement_from_nothing_finds_poses_up_to_one_frame(ribosome, known):
    volumes, drawn = known.particles(ribosome, 24, 0.1)
    result = refine(volumes, known.BINNED, seed=1, n_iterations=2)
    true, found = Rotation.from_quat(drawn.quaternions), Rotation.from_quat(result.poses.quaternions)
    frame = (true.inv() * found).mean()
    assert np.median(np.degrees((true * frame * found.inv()).magnitude())) <= 6
    offsets = true.inv().apply((result.poses.shifts_nm - drawn.shifts_nm)[:, ::-1])
    misses = np.linalg.norm(offsets - np.median(offsets, axis=0), axis=1)
    assert np.median(misses) <= 1.0  # half a binned voxel
    # Where the beams lie is what was drawn, so no direction of the average is better covered than it should be.
    drawn_moments = known.beam_moments((true * frame).as_quat())
    assert np.abs(known.beam_moments(result.poses.quaternions) - drawn_moments).max() < 0.05
    assert sorted(np.bincount(result.halves)) == [12, 12]
    assert result.fsc[1:6].min() > 0.5
    # The axis is that of the box of 40 nm, so that half maps which agree to 6 shells tell of 40 / 6 nm.
    np.testing.assert_allclose(result.frequencies_per_nm, np.arange(11) / 40)
    fsc = shell_correlation(*(half.density for half in result.half_maps), 2.0)[1]
    np.testing.assert_array_equal(result.fsc, fsc)
    assert [r["iteration"] for r in result.history] == [1, 2] and all(0.3 < r["score"] < 1 for r in result.history)


def test_resolution_of_noisy_particles_lies_between_nyquist_and_the_box(ribosome, known):
    volumes, _ = known.particles(ribosome, 8, 0.01)
    quick = Search(grid_degrees=40.0, finest_degrees=10.0)
    result = refine(volumes, known.BINNED, seed=3, search=quick, n_iterations=1, n_starts=1)
    for threshold, found in result.resolutions_nm.items():
        assert found == resolution(result.corrected_fsc, np.arange(11) / 40, threshold)
    assert 4 < result.resolutions_nm[0.143] < result.resolutions_nm[0.5] < 40
    # Of the references, which lack the frequencies that no wedge holds, it is about the same.
    assert 4 < result.history[-1]["resolution_nm"] < 20


def test_the_same_seed_gives_the_same_bits():
    volumes = torch.randn(8, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    quick = {"search": Search(grid_degrees=60.0, finest_degrees=20.0), "n_iterations": 1, "n_starts": 1}
    series = TiltSeries(np.arange(-60.0, 61.0, 10.0), 24.0)
    one, two, other = (refine(volumes, series, seed=seed, **quick) for seed in (3, 3, 4))
    assert torch.equal(one.average.density, two.average.density)
    assert np.array_equal(one.poses.quaternions, two.poses.quaternions)
    assert not np.array_equal(one.halves, other.halves)


def test_a_rotated_density_is_laid_back(ribosome, known):
    complete, seed = known.without_wedge(known.BINNED), torch.tensor([0])
    density = simulate([ribosome], seed, None, complete, acquisition=known.UPRIGHT)[0]
    drawn = draw_acquisition(seed, known.BINNED)
    rotated = simulate(
        [ribosome], seed, None, complete, acquisition=replace(drawn, defocus_um=known.UPRIGHT.defocus_um)
    )[0]
    laid, pose = laid_onto(density, rotated, known.BINNED)
    assert known.angles(pose.quaternions, drawn.quaternions) < 2
    assert shell_correlation(density, rotated, 2.0)[1][1:6].mean() < 0.5
    assert shell_correlation(density, laid, 2.0)[1][1:6].min() > 0.95


def test_coverage_is_the_wedge_of_an_unrotated_particle(known):
    noise = simulate([None], torch.tensor([5]), 0.1, known.BINNED)
    coverage = average(noise, Poses(known.UPRIGHT.quaternions, known.UPRIGHT.shifts_nm), known.BINNED).coverage
    assert coverage.shape == (20, 20, 20)
    assert coverage[16, 10, 10] == 0 and coverage[10, 10, 16] > 0.9  # along the beam, and across it
    torch.testing.assert_close(coverage[1:, 1:, 1:], coverage[1:, 1:, 1:].flip(0, 1, 2))


@pytest.mark.parametrize(
    "volumes, words",
    [
        (torch.zeros(7, 20, 20, 20), "7 particles"),
        (torch.zeros(9, 20, 20, 18), "shape"),
        (torch.zeros(20, 20, 20), "shape"),
        (torch.full((9, 20, 20, 20), math.nan), "NaN"),
    ],
)
def test_unfit_particles_are_refused_in_one_line(volumes, words, known):
    with pytest.raises(UserError, match=words) as error:
        refine(volumes, known.BINNED, seed=0)
    assert "\n" not in str(error.value)


def test_unfit_numbers_of_rounds_are_refused(known):
    volumes = torch.randn(8, 20, 20, 20, generator=torch.Generator().manual_seed(0))
    for settings in ({"n_iterations": 0}, {"n_starts": 0}):
        with pytest.raises(UserError, match=f"{next(iter(settings))}=0"):
            refine(volumes, known.BINNED, seed=0, **settings)


def test_references_are_compared_on_the_axis_of_their_box():
    """Of references that were cropped in Fourier space too: fewer voxels, the same width, the same frequencies."""
    density = torch.randn(12, 12, 12, generator=torch.Generator().manual_seed(0))
    quick = Search(grid_degrees=60.0, finest_degrees=60.0, max_shift_nm=1.0)
    (frequencies, _), _ = _compared([density, density], TiltSeries(np.arange(-60, 61, 3.0), 40.0), quick)
    np.testing.assert_allclose(frequencies, np.arange(7) / 40)


def test_poses_of_both_halves_come_back_in_their_order():
    halves = np.array([1, 0, 0, 1, 0])
    every = [np.arange(5)[:, None] * np.ones((5, width)) for width in (4, 3)]
    parts = [Poses(*(part[halves == side] for part in every), np.arange(5)[halves == side]) for side in (0, 1)]
    merged = _merged(parts, halves)
    assert (
        merged.quaternions[:, 0].tolist()
        == merged.shifts_nm[:, 0].tolist()
        == merged.scores.tolist()
        == [0, 1, 2, 3, 4]
    )


def test_poses_in_the_frame_of_another_reference_move_particles_alike():
    """x = R_i (R y + t) + t_i: what the reference's pose does first, the particle's does then."""
    rng = np.random.default_rng(0)
    rotations, reference = Rotation.random(3, rng=rng), Rotation.random(1, rng=rng)
    shifts, shift = rng.normal(size=(3, 3)), rng.normal(size=(1, 3))  # zyx
    composed = _composed(Poses(rotations.as_quat(), shifts, None), Poses(reference.as_quat(), shift))
    point = np.array([1.0, -2.0, 3.0])  # xyz
    for i in range(3):
        there = rotations[i].apply(reference.apply(point)[0] + shift[0, ::-1]) + shifts[i, ::-1]
        here = Rotation.from_quat(composed.quaternions[i]).apply(point) + composed.shifts_nm[i, ::-1]
        np.testing.assert_allclose(here, there)


def test_each_frequency_is_weighted_by_how_well_the_tilt_series_sampled_it():
    """Of one particle, w P / (w^2 + 0.1); a complete series has w = 1 everywhere."""
    volume = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    pose = Poses(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)))
    complete, sparse = (TiltSeries(np.arange(-90.0, 91.0, step), 12.0) for step in (1.0, 30.0))
    spectra = [torch.fft.fftn(average(volume, pose, series).density) for series in (complete, sparse)]
    k = torch.fft.fftfreq(12, 1 / 12)
    z, y, x = torch.meshgrid(k, k, k, indexing="ij")
    weight = slice_weights(z.flatten(), x.flatten(), sparse.tilt_angles)[0].clamp(max=1).view(12, 12, 12)
    inside = (z**2 + y**2 + x**2 <= 25) & (spectra[0].abs() > 1e-3)
    ratio, expected = (spectra[1] / spectra[0])[inside], (1.1 * weight / (weight.square() + 0.1))[inside]
    assert float(weight[inside].min()) < 0.5 < float(weight[inside].max())
    torch.testing.assert_close(ratio.real, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ratio.imag, torch.zeros_like(expected), rtol=0, atol=1e-3)
    blob = torch.exp(-distances(12).square() / 4)
    density = average(blob[None], pose, complete).density
    assert float((density * blob).sum() / blob.square().sum()) == pytest.approx(1 / 1.1, rel=0.03)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_alone_has_no_resolution(known, seed):
    noise = simulate([None] * 12, torch.arange(12) + 100 * seed, 0.1, known.BINNED)
    quick = {"search": Search(grid_degrees=30.0, finest_degrees=10.0), "n_iterations": 2, "n_starts": 1}
    result = refine(noise, known.BINNED, seed=seed, **quick)
    assert result.resolution_text == "no resolution: the half maps do not agree"


def refined_with(fsc):
    halves = (Average(torch.zeros(20, 20, 20), torch.zeros(20, 20, 20)),) * 2
    frequencies = np.arange(11) / 40
    return Refined(halves[0], halves, None, np.zeros(8), frequencies, np.ones(11), np.array(fsc), ())


def test_the_words_for_a_resolution():
    falling = [1, 1, 1, 1, 0.9, 0.8, 0.143, 0, 0, 0, math.nan]
    assert refined_with(falling).resolution_text == "6.7 nm at FSC 0.143"
    assert refined_with([1.0] * 10 + [math.nan]).resolution_text == "finer than 4.4 nm, all that its voxels show"
    for by_chance in ([1, 0.1], [1, 0.9, 0.4]):
        fsc = [*by_chance, *[0.0] * (10 - len(by_chance)), math.nan]
        assert refined_with(fsc).resolution_text == "no resolution: the half maps do not agree"


def test_particles_that_share_voxels_come_into_one_half():
    groups = np.array([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8])
    for seed in range(5):
        halves = _halves(12, groups, np.random.default_rng(seed))
        assert abs(int(halves.sum()) - 6) <= 1
        assert all(len(set(halves[groups == group])) == 1 for group in groups)
    with pytest.raises(UserError, match="10 of 12 particles overlap in a chain"):
        _halves(12, np.array([0] * 10 + [1, 2]), np.random.default_rng(0))


def test_copies_of_noise_agree_unless_they_come_into_one_half(known):
    """Every particle twice, no structure: in both halves the same noise correlates to the finest shell."""
    noise = simulate([None] * 8, torch.arange(8), 0.1, known.BINNED).repeat(2, 1, 1, 1)
    quick = {"search": Search(grid_degrees=40.0, finest_degrees=20.0), "n_iterations": 1, "n_starts": 1}
    apart, together = (
        refine(noise, known.BINNED, seed=0, groups=groups, **quick).fsc[5:9].mean()
        for groups in (None, np.arange(16) % 8)
    )
    assert together < apart


def test_neither_half_sees_the_other(known, monkeypatch):
    """Other particles in one half leave the other's average as it is, bit for bit, but for the filter by their FSC."""
    monkeypatch.setattr(averages, "wiener_filtered", lambda density, shells: density)
    noise = simulate([None] * 24, torch.arange(24), 0.1, known.BINNED)
    quick = {"search": Search(grid_degrees=60.0, finest_degrees=30.0), "n_iterations": 1, "n_starts": 1}
    first = refine(noise[:16], known.BINNED, seed=0, **quick)
    changed = noise[:16].clone()
    changed[torch.from_numpy(first.halves == 1)] = noise[16:]
    second = refine(changed, known.BINNED, seed=0, **quick)
    assert torch.equal(first.half_maps[0].density, second.half_maps[0].density)
    assert not torch.equal(first.half_maps[1].density, second.half_maps[1].density)


def test_all_curves_count_in_the_width_of_the_box(ribosome, known, monkeypatch):
    """Boxes of 33 nm in 20 voxels, 1.65 nm each."""
    sizes = []

    def curve(one, other, voxel_size_nm, lay, seed):
        sizes.append(voxel_size_nm)
        return np.ones(11)

    monkeypatch.setattr(averages, "corrected_correlation", curve)
    volumes, _ = known.particles(ribosome, 8, 0.1)
    quick = {"search": Search(grid_degrees=40.0, finest_degrees=10.0), "n_iterations": 1, "n_starts": 1}
    result = refine(volumes, TiltSeries(np.arange(-60, 61, 3.0), 33.0), seed=3, **quick)
    assert sizes == [1.65]
    np.testing.assert_allclose(result.frequencies_per_nm, np.arange(11) / 33)


def test_the_best_of_three_starts_counts(known, monkeypatch):
    """Starts are compared by their scores; by default there are three, and four rounds follow."""
    noise = simulate([None] * 8, torch.arange(8), 0.1, known.BINNED)
    scores = iter([0.1, 0.9, 0.5])
    averaged, asked = [], []

    def align_particles(particles, reference, search, grid, local=True):
        n, asked_now = len(particles.spectra), len(grid) > 1
        asked.append((len(grid), local))
        assert len(grid) > 1 or grid.tolist() == [[0, 0, 0, 1]], "only the exhaustive search turns particles"
        score = next(scores) if asked_now and sum(k > 1 for k, _ in asked) % 2 == 0 else 0.0
        return Poses(np.tile([0.0, 0.0, 0.0, 1.0], (n, 1)), np.zeros((n, 3)), np.full(n, score))

    def density(volumes, poses, tilt_series):
        averaged.append(torch.full((20, 20, 20), float(len(averaged))))
        return Average(averaged[-1], averaged[-1])

    monkeypatch.setattr(averages, "align_particles", align_particles)
    monkeypatch.setattr(averages, "average", density)
    search = Search(grid_degrees=15.0)
    start = averages._start(noise, averages.ParticleSpectra(noise, known.BINNED, search), known.BINNED, search, 3, RNG)
    # Two averages to centre, then for each start that of one particle and of two rounds: the second start's last.
    assert start[0, 0, 0] == 2 + 3 + 3 - 1
    assert asked[:2] == [(1, False)] * 2 and set(asked[2:]) == {(len(averages.rotation_grid(20.0)), False)}
    assert len(asked) == 2 + 3 * 2


def test_how_often_is_tried_where_nothing_is_said(known, monkeypatch):
    starts = []

    def start(side, particles, tilt_series, search, n_starts, rng):
        starts.append(n_starts)
        return side.mean(0)

    monkeypatch.setattr(averages, "_start", start)
    noise = simulate([None] * 8, torch.arange(8), 0.1, known.BINNED)
    result = refine(noise, known.BINNED, seed=0, search=Search(grid_degrees=90.0, finest_degrees=90.0))
    assert starts == [3, 3] and len(result.history) == 4
