"""Sizes, boundaries and counts of averaging, without a search."""

import math

import numpy as np
import pytest
import torch

from cryo_fewshot.averaging import averages
from cryo_fewshot.averaging.alignment import Poses, Search, TiltSeries, rotation_grid
from cryo_fewshot.averaging.averages import Average, Refined, _halves, laid_onto, refine
from cryo_fewshot.errors import UserError

SERIES = TiltSeries(np.arange(-60.0, 61.0, 10.0), 40.0)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("low_pass_nm", "box", "cropped_to"), [(4.0, 40, 26), (5.0, 40, 22), (4.0, 24, 24), (2.0, 40, 40), (2.6, 44, 40)]
)
def test_references_are_made_in_boxes_that_hold_the_low_pass_and_a_third_more(
    low_pass_nm, box, cropped_to, monkeypatch
):
    seen = []

    def spectra(volumes, tilt_series, search):
        seen.append(tuple(volumes.shape))
        if len(seen) == 2:
            raise Stop

    monkeypatch.setattr(averages, "ParticleSpectra", spectra)
    with pytest.raises(Stop):
        refine(torch.randn(9, box, box, box), SERIES, seed=0, search=Search(low_pass_nm=low_pass_nm))
    assert seen == [(n, *(cropped_to,) * 3) for n in (4, 5)]


@pytest.mark.parametrize("n", [8, 9, 30, 31])
def test_halves_differ_by_one_particle_at_most(n):
    halves = _halves(n, None, np.random.default_rng(0))
    assert np.bincount(halves).tolist() == [n // 2, n - n // 2]
    assert halves.tolist() != _halves(n, None, np.random.default_rng(1)).tolist()


@pytest.mark.parametrize(
    ("sizes", "in_halves"),
    [
        ((4, 4), [4, 4]),
        ((5, 3, 1), [4, 5]),
        ((6, 3, 1), [4, 6]),
        ((4, 3, 3, 2), [6, 6]),
        ((5, 3), None),
        ((9, 1, 1), None),
    ],
)
def test_the_largest_groups_come_first_and_each_half_has_four(sizes, in_halves):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    if in_halves is None:
        with pytest.raises(UserError, match=f"{max(sizes)} of {len(groups)} particles overlap"):
            _halves(len(groups), groups, np.random.default_rng(0))
    else:
        assert sorted(np.bincount(_halves(len(groups), groups, np.random.default_rng(0)))) == in_halves


@pytest.mark.parametrize(
    ("fsc", "said"),
    [
        ([1, 1, 1, 0.143, 0, 0, 0], "13.3 nm at FSC 0.143"),  # three shells of a box of 40 nm
        ([1, 1, 1, 0.142, 0, 0, 0], "no resolution: the half maps do not agree"),
        ([1, 1, 1, 1, 1, 0.143, 0], "8.0 nm at FSC 0.143"),
        ([1, 1, 1, 1, 1, 0.9, math.nan], "finer than 8.0 nm, all that its voxels show"),
    ],
)
def test_three_shells_have_to_agree(fsc, said):
    half = Average(torch.zeros(12, 12, 12), torch.zeros(12, 12, 12))
    refined = Refined(half, (half, half), None, np.zeros(8), np.arange(7) / 40, np.ones(7), np.array(fsc, float), ())
    assert refined.resolution_text == said


def test_a_density_is_laid_onto_another_over_the_whole_sphere_unwhitened_and_masked(monkeypatch):
    seen = {}

    def spectra(volumes, tilt_series, search, whiten=True):
        seen.update(volumes=volumes, angles=tilt_series.tilt_angles, width=tilt_series.width_nm, whiten=whiten)
        return "spectra"

    def align_particles(particles, reference, search, grid, local=True):
        seen.update(grid=len(grid), local=local, reference=reference)
        return Poses(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.ones(1))

    monkeypatch.setattr(averages, "ParticleSpectra", spectra)
    monkeypatch.setattr(averages, "align_particles", align_particles)
    monkeypatch.setattr(averages, "average", lambda volumes, poses, series: Average(volumes[0], series.tilt_angles))
    density, reference = torch.ones(12, 12, 12), torch.zeros(12, 12, 12)
    laid, pose = laid_onto(reference, density, SERIES, Search(mask_radius_nm=10.0, grid_degrees=45.0))
    assert laid is not density and torch.equal(laid, density) and len(pose.scores) == 1
    assert torch.equal(seen["volumes"][0], averages.soft_mask(density, 40.0, 10.0)) and seen["reference"] is reference
    assert seen["angles"].tolist() == list(range(-90, 91)) and seen["width"] == 40.0
    assert (seen["whiten"], seen["grid"], seen["local"]) == (False, len(rotation_grid(45.0)), True)
