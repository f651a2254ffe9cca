"""Alignment, averages and their resolution, on particles whose poses are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.averaging.alignment import Poses, Search, align, rotation_grid
from cryo_fewshot.averaging.averages import average, laid_onto, refine, resolution, shell_correlation
from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation.density import bead_spectra
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import load_complex

BINNED = Microscope(binning=2)
UPRIGHT = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([4.0]))


def without_wedge(microscope):
    return replace(microscope, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0)


@pytest.fixture(scope="module")
def ribosome():
    """A complex without symmetry."""
    entry = load_complex("5OOM")
    return entry.positions_nm, entry.masses_kda


def particles(beads, n, snr, microscope=BINNED, start=0):
    seeds = torch.arange(n) + start
    return simulate([beads] * n, seeds, snr, microscope), draw_acquisition(seeds, microscope)


def angles(quaternions, others):
    return np.degrees((Rotation.from_quat(quaternions) * Rotation.from_quat(others).inv()).magnitude())


def beam_moments(quaternions):
    """Second moments of the beam direction as the reference sees it: one third of the identity if it is uniform."""
    beams = Rotation.from_quat(quaternions).inv().apply([0.0, 0.0, 1.0])
    return beams.T @ beams / len(beams)


def test_every_rotation_is_near_one_of_the_grid():
    grid = rotation_grid(15.0)
    assert np.allclose(np.linalg.norm(grid, axis=1), 1)
    some = Rotation.random(2000, rng=np.random.default_rng(0)).as_quat()
    nearest = np.degrees(2 * np.arccos(np.abs(some @ grid.T).max(1).clip(max=1)))
    assert nearest.max() < 15 and np.median(nearest) < 9


def test_particles_without_noise_average_to_the_density(ribosome):
    microscope = Microscope(dark_protein=False)
    volumes, drawn = particles(ribosome, 16, None, microscope)
    result = average(volumes, Poses(drawn.quaternions, drawn.shifts_nm), microscope)
    density = torch.fft.irfftn(bead_spectra([ribosome], UPRIGHT, microscope).view(40, 40, 21), s=(40, 40, 40))
    frequencies, fsc = shell_correlation(result.density, density, 1.0)
    assert fsc[frequencies <= 1 / 4].min() > 0.9
    assert resolution(fsc, frequencies, 0.5) < 4


def test_poses_are_found_against_the_density(ribosome):
    volumes, drawn = particles(ribosome, 16, 0.1)
    density = simulate([ribosome], torch.tensor([0]), None, without_wedge(BINNED), acquisition=UPRIGHT)[0]
    poses = align(volumes, density, BINNED)
    assert np.median(angles(poses.quaternions, drawn.quaternions)) < 3
    assert np.median(np.linalg.norm(poses.shifts_nm - drawn.shifts_nm, axis=1)) < 0.5
    assert (poses.scores > 0.3).all() and (poses.scores < 1).all()


def test_refinement_from_nothing_finds_poses_up_to_one_frame(ribosome):
    volumes, drawn = particles(ribosome, 24, 0.1)
    result = refine(volumes, BINNED, seed=1, n_iterations=2)
    true, found = Rotation.from_quat(drawn.quaternions), Rotation.from_quat(result.poses.quaternions)
    frame = (true.inv() * found).mean()
    assert np.median(np.degrees((true * frame * found.inv()).magnitude())) <= 6
    offsets = true.inv().apply((result.poses.shifts_nm - drawn.shifts_nm)[:, ::-1])
    misses = np.linalg.norm(offsets - np.median(offsets, axis=0), axis=1)
    assert np.median(misses) <= 1.0  # half a binned voxel
    # Where the beams lie is what was drawn, so no direction of the average is better covered than it should be.
    drawn_moments = beam_moments((true * frame).as_quat())
    assert np.abs(beam_moments(result.poses.quaternions) - drawn_moments).max() < 0.05
    assert sorted(np.bincount(result.halves)) == [12, 12]
    assert result.fsc[1:6].min() > 0.5


def test_the_same_seed_gives_the_same_bits(ribosome):
    volumes, _ = particles(ribosome, 8, 0.1)
    quick = {"search": Search(grid_degrees=40.0, finest_degrees=10.0), "n_iterations": 1, "n_starts": 1}
    one, two, other = (refine(volumes, BINNED, seed=seed, **quick) for seed in (3, 3, 4))
    assert torch.equal(one.average.density, two.average.density)
    assert np.array_equal(one.poses.quaternions, two.poses.quaternions)
    assert not np.array_equal(one.halves, other.halves)


def test_the_missing_wedge_does_not_attract_noise():
    """Noise aligned to an average with the same wedge: turned any way alike, but not if the wedge is ignored."""
    noise = simulate([None] * 100, torch.arange(100) + 10_000, 0.1, BINNED)
    unturned = Poses(np.tile([0.0, 0.0, 0.0, 1.0], (20, 1)), np.zeros((20, 3)))
    moments = {}
    for name, microscope in {"aware": BINNED, "ignored": without_wedge(BINNED)}.items():
        reference = average(noise[:20], unturned, microscope).density
        moments[name] = np.diag(beam_moments(align(noise[20:], reference, microscope).quaternions))
    assert np.abs(moments["aware"] - 1 / 3).max() < 0.1, "three standard errors"
    # Ignoring it, the beam avoids the direction (x) in which the two wedges overlap least.
    assert moments["ignored"][0] < 0.27 < moments["aware"][0]


def test_particles_align_to_one_particle_across_its_missing_wedge(ribosome):
    volumes, drawn = particles(ribosome, 40, 0.1)
    one = average(volumes[:1], Poses(drawn.quaternions[:1], drawn.shifts_nm[:1]), BINNED).density
    found = align(volumes[1:], one, BINNED)
    assert np.median(angles(found.quaternions, drawn.quaternions[1:])) <= 6


def test_a_turned_density_is_laid_back(ribosome):
    complete, seed = without_wedge(BINNED), torch.tensor([0])
    density = simulate([ribosome], seed, None, complete, acquisition=UPRIGHT)[0]
    drawn = draw_acquisition(seed, BINNED)
    turned = simulate([ribosome], seed, None, complete, acquisition=replace(drawn, defocus_um=UPRIGHT.defocus_um))[0]
    laid, pose = laid_onto(density, turned, BINNED)
    assert angles(pose.quaternions, drawn.quaternions) < 2
    assert shell_correlation(density, turned, 2.0)[1][1:6].mean() < 0.5
    assert shell_correlation(density, laid, 2.0)[1][1:6].min() > 0.95


def test_coverage_is_the_wedge_of_an_unturned_particle():
    noise = simulate([None], torch.tensor([5]), 0.1, BINNED)
    coverage = average(noise, Poses(UPRIGHT.quaternions, UPRIGHT.shifts_nm), BINNED).coverage
    assert coverage.shape == (20, 20, 20)
    assert coverage[16, 10, 10] == 0 and coverage[10, 10, 16] > 0.9  # along the beam, and across it


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


@pytest.mark.parametrize(
    "volumes, words",
    [
        (torch.zeros(7, 20, 20, 20), "7 particles"),
        (torch.zeros(9, 20, 20, 18), "shape"),
        (torch.zeros(20, 20, 20), "shape"),
        (torch.full((9, 20, 20, 20), math.nan), "NaN"),
    ],
)
def test_unfit_particles_are_refused_in_one_line(volumes, words):
    with pytest.raises(UserError, match=words) as error:
        refine(volumes, BINNED, seed=0)
    assert "\n" not in str(error.value)


def test_unfit_settings_are_refused():
    with pytest.raises(UserError, match="finer"):
        Search(low_pass_nm=6.0, coarse_low_pass_nm=4.0)
    with pytest.raises(UserError, match="grid_degrees=0"):
        Search(grid_degrees=0)
    with pytest.raises(UserError, match="reference of shape"):
        align(torch.zeros(2, 20, 20, 20), torch.zeros(22, 22, 22), BINNED)
