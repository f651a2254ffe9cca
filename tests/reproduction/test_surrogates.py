"""The surrogates of the real sets: counts, and the shapes of the classes that no bead model holds."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction import surrogates
from cryo_fewshot.reproduction.surrogates import (
    CORE_CENTRE_NM,
    DOUBLE_CAPPED,
    GUO,
    MEMBRANE,
    NOBLE,
    SINGLE_CAPPED,
    Surrogate,
    core_axes,
    membrane,
    proteasome_26s,
    turned_about_two_fold,
)
from cryo_fewshot.simulation.datasets import simulate_set
from cryo_fewshot.simulation.density import bead_spectra
from cryo_fewshot.simulation.microscope import Acquisition, Microscope
from cryo_fewshot.simulation.structures import class_keys, load_complex


def whole(recipe, chunk=32):
    """All subtomograms of a surrogate."""
    return simulate_set(recipe, {recipe.snr: recipe.n_per_class}, recipe.class_names, chunk=chunk)


SMALL = {"n_per_class": 3, "microscope": Microscope(box=24, binning=2, voxel_size_nm=1.5)}


def density(positions, masses, resolution_nm=4.0):
    """Density `(64, 64, 64)` of beads at 1 nm per voxel and 4 nm resolution."""
    still = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.zeros(1))
    spectrum = bead_spectra([(positions, masses)], still, Microscope(box=64)).view(64, 64, 33)
    k = torch.fft.fftfreq(64)
    radius = (k[:, None, None] ** 2 + k[:, None] ** 2 + torch.fft.rfftfreq(64) ** 2).sqrt()
    return torch.fft.irfftn(spectrum * (radius < 1 / resolution_nm), s=(64,) * 3).numpy()


def correlation(a, b):
    return np.corrcoef(density(*a).ravel(), density(*b).ravel())[0, 1]


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_noble_is_its_seven_classes():
    assert NOBLE.class_names == class_keys("noble")
    assert [NOBLE.count_of(name) for name in NOBLE.class_names] == [100] * 7
    assert (NOBLE.snr, NOBLE.split_sizes, NOBLE.n_way) == (0.5, (4, 0, 3), 3)
    assert (NOBLE.microscope.tilt_min, NOBLE.microscope.tilt_max) == (-60, 60)


def test_guo_is_its_six_classes():
    assert GUO.class_names == (MEMBRANE, DOUBLE_CAPPED, SINGLE_CAPPED, "empty", "4V94", "6QZP")
    assert [GUO.count_of(name) for name in GUO.class_names] == [100] * 5 + [80]
    assert (GUO.snr, GUO.split_sizes, GUO.n_way) == (0.01, (3, 0, 3), 3)
    assert (GUO.microscope.tilt_min, GUO.microscope.tilt_max) == (-50, 70)
    assert (GUO.microscope.final_box, GUO.microscope.final_voxel_size_nm) == (40, 1.368)


@pytest.mark.parametrize("recipe", [NOBLE, GUO])
def test_each_class_says_what_it_stands_for(recipe):
    assert "stand-in" in recipe.class_set
    assert all(words.startswith("stand-in for ") for words in recipe.description.values())


def test_an_unknown_surrogate_is_refused():
    with pytest.raises(UserError, match="'guo' has no surrogate: use one of noble stand-in, guo stand-in"):
        Surrogate(class_set="guo", snr=0.1, split_sizes=(3, 0, 3))


@pytest.mark.parametrize("name", ["noble stand-in", "guo stand-in"])
def test_a_set_has_its_classes_and_is_the_same_twice(name):
    recipe = Surrogate(class_set=name, snr=0.1, split_sizes=(3, 0, 3), **SMALL)
    first, second = whole(recipe), whole(recipe, chunk=2)
    n_classes = len(recipe.class_names)
    assert first.volumes.shape == (3 * n_classes, 12, 12, 12)
    assert first.labels.tolist() == np.repeat(np.arange(n_classes), 3).tolist()
    assert first.class_names == recipe.class_names and set(first.snrs) == {0.1}
    assert torch.equal(first.volumes, second.volumes)
    assert first.volumes.mean(dim=(1, 2, 3)).abs().max() < 1e-5
    assert (first.volumes.var(dim=(1, 2, 3)) - 1).abs().max() < 1e-3


def test_a_class_has_no_more_samples_than_the_real_set(monkeypatch):
    monkeypatch.setitem(surrogates._CLASSES["guo stand-in"], "6QZP", ("stand-in for the ribosome", 2))
    recipe = Surrogate(class_set="guo stand-in", snr=0.1, split_sizes=(3, 0, 3), **SMALL)
    assert np.bincount(whole(recipe).labels).tolist() == [3, 3, 3, 3, 3, 2]


# --- membrane ---------------------------------------------------------------------------------------------------------


def leaflet_distance(density_along_normal, step_nm):
    """Distance of the two highest peaks, each to a fraction of a step by a parabola."""
    d = density_along_normal
    peaks = [i for i in range(1, len(d) - 1) if d[i - 1] < d[i] >= d[i + 1]]
    peaks = sorted(peaks, key=lambda i: -d[i])[:2]
    at = [i + (d[i - 1] - d[i + 1]) / (2 * (d[i - 1] - 2 * d[i] + d[i + 1])) for i in peaks]
    return abs(at[0] - at[1]) * step_nm


@pytest.mark.parametrize("radius", [20, 50, 100])
def test_the_leaflets_are_two_peaks_4_nm_apart(radius):
    positions, masses = membrane(radius, reach_nm=30)
    from_centre = np.linalg.norm(positions - np.array([-radius, 0, 0]), axis=1) - radius
    # Gaussian beads of 1 nm: the profile along the normal, for the same area of each leaflet.
    x = np.arange(-6, 6.05, 0.1)
    profile = (np.exp(-((x[:, None] - from_centre) ** 2) / 2) * masses / (radius + from_centre) ** 2).sum(1)
    assert leaflet_distance(profile, 0.1) == pytest.approx(4, abs=0.5)
    assert profile[len(x) // 2] < 0.5 * profile.max()


def test_the_membrane_fills_the_box_evenly():
    positions, _ = membrane(60, reach_nm=40)
    for sign in (-1, 1):
        leaflet = positions[(np.linalg.norm(positions - np.array([-60, 0, 0]), axis=1) > 60) == (sign > 0)]
        distance = np.linalg.norm(leaflet[:, None] - leaflet[None, :2000], axis=2)
        nearest = np.sort(distance, axis=0)[1]
        assert 0.7 < nearest.min() and nearest.max() < 1.3  # one bead per nm2
        assert np.linalg.norm(leaflet, axis=1).max() == pytest.approx(40, abs=1)


def test_membranes_differ_in_curvature_and_keep_to_their_box():
    seeds = GUO.sample_seeds(MEMBRANE, GUO.snr, count=20)
    beads = GUO.beads_of(MEMBRANE, seeds)
    for (positions, _), (again, _) in zip(beads[5:7], GUO.beads_of(MEMBRANE, seeds[5:7]), strict=True):
        assert np.array_equal(positions, again)  # whatever the batch
    assert len({len(masses) for _, masses in beads}) > 15
    width = GUO.microscope.width_nm
    assert all(np.linalg.norm(positions, axis=1).max() < 3**0.5 * (width / 2 + 4) for positions, _ in beads)
    area = np.array([len(masses) / 2 for _, masses in beads])  # nm2: at least a plane's share of the box
    assert area.min() > 0.8 * (width - 8) ** 2


# --- 26S proteasome ---------------------------------------------------------------------------------------------------


def test_two_caps_map_onto_themselves_under_the_two_fold():
    positions, masses = proteasome_26s(n_caps=2)
    assert correlation((positions, masses), (turned_about_two_fold(positions), masses)) > 0.9
    axis, _ = core_axes()
    assert 45 < np.ptp(positions @ axis) < 50  # nm
    half_turn_about_axis = 2 * (positions @ axis)[:, None] * axis - positions
    assert correlation((positions, masses), (half_turn_about_axis, masses)) < 0.9


def test_masses_are_those_of_cap_and_core():
    part = load_complex("4CR2").masses_kda.sum()  # a cap and half a core
    single, double = (proteasome_26s(n)[1].sum() for n in (1, 2))
    core = 2 * (single - part)
    cap = part - core / 2
    assert double == pytest.approx(2 * cap + core, rel=1e-3)
    assert core == pytest.approx(750, rel=0.2)  # published 700 kDa
    assert double == pytest.approx(2500, rel=0.1)


@pytest.mark.parametrize("key", ["3IPM", "1PMA"])
def test_the_core_is_where_a_symmetric_one_fits(key):
    """The whole core of the model against that of another structure, turned and put on the constants' axes."""
    entry = load_complex(key)
    _, vectors = np.linalg.eigh(np.cov(entry.positions_nm.T, aweights=entry.masses_kda))
    template = entry.positions_nm @ vectors[:, ::-1]  # the seven-fold first
    template = template * [1, 1, np.linalg.det(vectors[:, ::-1])]
    inside = (np.abs(template[:, 0]) < 7.5) & (np.hypot(template[:, 1], template[:, 2]) < 6.5)
    axis, two_fold = core_axes()
    frame = np.stack([axis, two_fold, np.cross(axis, two_fold)])
    core, masses = model_core(axis)
    best = {}
    for shift in (-2, -1, 0, 1, 2):  # nm along the axis: the fit is best where the constants say
        fits = []
        for angle in np.deg2rad(np.arange(0, 360 / 7, 6)):
            c, s = np.cos(angle), np.sin(angle)
            turned = template[inside] @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ frame + shift * axis
            fits.append(correlation((core, masses), (turned.astype(np.float32), entry.masses_kda[inside])))
        best[shift] = max(fits)
    assert best[0] > 0.9
    assert max(best, key=best.get) == 0


def model_core(axis):
    entry = load_complex("4CR2")
    positions = entry.positions_nm - np.array(CORE_CENTRE_NM)
    along = positions @ axis
    radius = np.linalg.norm(positions - along[:, None] * axis, axis=1)
    half = positions[(along > -7.5) & (radius < 6.5)]
    masses = entry.masses_kda[(along > -7.5) & (radius < 6.5)]
    whole = np.concatenate([half, turned_about_two_fold(half)]).astype(np.float32)
    return whole, np.concatenate([masses, masses])


def test_one_cap_is_the_part_of_two_without_the_other():
    axis, _ = core_axes()
    single, double = proteasome_26s(1), proteasome_26s(2)
    for positions, masses in (single, double):
        np.testing.assert_allclose(np.average(positions, axis=0, weights=masses), 0, atol=0.01)
    assert len(load_complex("4CR2").masses_kda) < len(single[1]) < len(double[1])
    assert 30 < np.ptp(single[0] @ axis) < 34  # published 30 nm
