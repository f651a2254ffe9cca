"""Poses of particles against a reference, where the true ones are known."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.averaging import alignment
from cryo_fewshot.averaging.alignment import (
    ParticleSpectra,
    Poses,
    Search,
    TiltSeries,
    align,
    matrices_zyx,
    rotation_grid,
)
from cryo_fewshot.averaging.averages import average
from cryo_fewshot.errors import UserError
from cryo_fewshot.fourier import slice_weights
from cryo_fewshot.simulation.imaging import simulate


def test_every_rotation_is_near_one_of_the_grid():
    grid = rotation_grid(15.0)
    assert np.allclose(np.linalg.norm(grid, axis=1), 1)
    assert len(grid) == math.ceil(8 * math.pi**2 / math.radians(15) ** 3) == 4401
    some = Rotation.random(2000, rng=np.random.default_rng(0)).as_quat()
    nearest = np.degrees(2 * np.arccos(np.abs(some @ grid.T).max(1).clip(max=1)))
    assert nearest.max() < 15 and np.median(nearest) < 9


def test_poses_are_found_against_the_density(ribosome, known):
    volumes, drawn = known.particles(ribosome, 16, 0.1)
    density = simulate(
        [ribosome], torch.tensor([0]), None, known.without_wedge(known.BINNED), acquisition=known.UPRIGHT
    )[0]
    poses = align(volumes, density, known.BINNED)
    assert np.median(known.angles(poses.quaternions, drawn.quaternions)) < 3
    assert np.median(np.linalg.norm(poses.shifts_nm - drawn.shifts_nm, axis=1)) < 0.5
    assert (poses.scores > 0.3).all() and (poses.scores < 1).all()


def test_the_missing_wedge_does_not_attract_noise(known):
    """Noise aligned to an average with the same wedge: turned any way alike, but not if the wedge is ignored."""
    noise = simulate([None] * 100, torch.arange(100) + 10_000, 0.1, known.BINNED)
    unturned = Poses(np.tile([0.0, 0.0, 0.0, 1.0], (20, 1)), np.zeros((20, 3)))
    moments = {}
    for name, microscope in {"aware": known.BINNED, "ignored": known.without_wedge(known.BINNED)}.items():
        reference = average(noise[:20], unturned, microscope).density
        moments[name] = np.diag(known.beam_moments(align(noise[20:], reference, microscope).quaternions))
    assert np.abs(moments["aware"] - 1 / 3).max() < 0.1, "three standard errors"
    # Ignoring it, the beam avoids the direction (x) in which the two wedges overlap least.
    assert moments["ignored"][0] < 0.27 < moments["aware"][0]


def test_particles_align_to_one_particle_across_its_missing_wedge(ribosome, known):
    volumes, drawn = known.particles(ribosome, 40, 0.1)
    one = average(volumes[:1], Poses(drawn.quaternions[:1], drawn.shifts_nm[:1]), known.BINNED).density
    found = align(volumes[1:], one, known.BINNED)
    assert np.median(known.angles(found.quaternions, drawn.quaternions[1:])) <= 6


def test_unfit_settings_are_refused(known):
    with pytest.raises(UserError, match="finer"):
        Search(low_pass_nm=6.0, coarse_low_pass_nm=4.0)
    with pytest.raises(UserError, match="low_pass_nm=-1"):
        Search(low_pass_nm=-1.0)
    with pytest.raises(UserError, match="grid_degrees=0"):
        Search(grid_degrees=0)
    with pytest.raises(UserError, match="reference of shape"):
        align(torch.zeros(2, 20, 20, 20), torch.zeros(22, 22, 22), known.BINNED)


def test_noise_is_white_in_every_direction_once_whitened(known):
    """Near the tilt axis many slices meet and noise is lower, at the rim few do: in the end each has variance 1."""
    noise = simulate([None] * 200, torch.arange(200) + 10_000, 0.1, known.BINNED)
    spectra = ParticleSpectra(noise, known.BINNED, Search())
    total, _ = slice_weights(spectra.k[:, 0], spectra.k[:, 2], known.BINNED.tilt_angles)
    power = spectra.spectra.abs().square().mean(0)
    for few, many in ((0.5, 1.0), (1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 99.0)):
        some = (total > few) & (total <= many)
        assert some.sum() > 30 and power[some].mean() == pytest.approx(1, abs=0.15), (few, many)
    assert (spectra.k.norm(dim=1) <= 40 / 4).all() and (total > 0.1).all()
    coarse = spectra.k.norm(dim=1) <= 40 / 6
    assert coarse[: spectra.n_coarse].all() and not coarse[spectra.n_coarse :].any()


def test_a_reference_seen_through_its_wedge_scores_one(known):
    """A particle that is the rotated and shifted reference times the tilt series' weights, nothing else."""
    line = torch.arange(20) - 10.0
    zyx = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), dim=-1)
    points = torch.tensor([[2.0, 1.0, -3.0], [-1.0, 3.0, 2.0], [0.0, -3.0, 0.0]])

    def blobs(where):
        return sum(torch.exp(-(zyx - p).square().sum(-1) / 4) for p in where)

    quaternion = Rotation.from_euler("zyx", [30, 40, 50], degrees=True).as_quat()[None]
    k = torch.fft.fftfreq(20) * 20
    weight = slice_weights(*torch.meshgrid(k, k, indexing="ij"), known.BINNED.tilt_angles)[0].clamp(max=1)[:, None]
    moved = blobs(points @ matrices_zyx(quaternion)[0].T + torch.tensor([0.35, 0.1, -0.8]))  # voxels of 2 nm
    particle = torch.fft.ifftn(torch.fft.fftn(moved) * weight).real
    poses = align(particle[None], blobs(points), known.BINNED, Search(grid_degrees=20.0))
    assert known.angles(poses.quaternions, quaternion) < 0.75
    np.testing.assert_allclose(poses.shifts_nm[0], [0.7, 0.2, -1.6], atol=0.15)
    assert poses.scores[0] > 0.99


@pytest.fixture
def noise():
    return torch.randn(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))


def test_the_search_halves_its_steps_and_its_candidates(noise, monkeypatch):
    steps, tried = [], []
    around, phases = alignment._search_around, ParticleSpectra.phases

    def search_around(particles, template, candidates, shifts, angle, step_nm):
        steps.append((candidates.shape[1], angle, step_nm))
        return around(particles, template, candidates, shifts, angle, step_nm)

    def of_shifts(self, shifts_nm, n):
        tried.append(shifts_nm)
        return phases(self, shifts_nm, n)

    monkeypatch.setattr(alignment, "_search_around", search_around)
    monkeypatch.setattr(ParticleSpectra, "phases", of_shifts)
    search = Search(grid_degrees=60.0, finest_degrees=9.0, max_shift_nm=3.0)
    poses = align(noise, noise[0], TiltSeries(np.arange(-60.0, 61.0, 10.0), 24.0), search)
    assert steps == [(4, 30.0, 1.0), (2, 15.0, 0.5), (1, 7.5, 0.25)]
    assert tried[0].unique().tolist() == [-3.0, -1.5, 0.0, 1.5, 3.0] and len(tried[0]) == 125
    assert tried[1].unique().tolist() == [-1.0, 0.0, 1.0] and len(tried[1]) == 27
    assert poses.quaternions.shape == (2, 4) and poses.shifts_nm.shape == (2, 3)


def test_frequencies_end_before_nyquist_and_where_no_slice_comes_near(noise):
    series, search = TiltSeries(np.arange(-60.0, 61.0, 10.0), 24.0), Search(low_pass_nm=0.1, coarse_low_pass_nm=8.0)
    spectra = ParticleSpectra(noise, series, search)
    assert spectra.k.norm(dim=1).max() == 5 and (spectra.k.norm(dim=1).diff() >= 0).all()
    assert spectra.n_coarse == int((spectra.k.norm(dim=1) <= 3).sum())
    assert (spectra.weight <= 1).all() and (spectra.weight > 0.1).all() and (spectra.weight == 1).any()
    plain = ParticleSpectra(noise, series, search, whiten=False)
    assert (plain.whitening == 1).all()
    whole = torch.fft.fftn(torch.fft.ifftshift(noise, dim=(1, 2, 3)), dim=(1, 2, 3))
    z, y, x = plain.k.long().T
    torch.testing.assert_close(plain.spectra, whole[:, z, y, x])
    torch.testing.assert_close(plain.norms, plain.spectra.abs().square().sum(1).sqrt())


def test_what_is_searched_where_nothing_is_said():
    assert Search() == Search(
        low_pass_nm=4.0,
        coarse_low_pass_nm=6.0,
        grid_degrees=15.0,
        finest_degrees=1.0,
        n_candidates=4,
        max_shift_nm=4.0,
        mask_radius_nm=None,
    )


@pytest.mark.parametrize(
    ("shape", "refused"),
    [((1, 4, 4, 4), False), ((0, 4, 4, 4), True), ((1, 5, 5, 5), True), ((1, 4, 4, 6), True), ((4, 4, 4), True)],
)
def test_particles_are_cubes_of_an_even_box(shape, refused):
    if refused:
        with pytest.raises(UserError, match="b even"):
            alignment.check_particles(torch.zeros(shape))
    else:
        alignment.check_particles(torch.zeros(shape), torch.zeros(shape[1:]))
