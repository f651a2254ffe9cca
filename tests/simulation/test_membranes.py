"""Bilayers as beads: where they lie and what they weigh."""

import numpy as np
import pytest

from cryo_fewshot.simulation.membranes import LEAFLET_KDA_PER_NM2, REACH_NM, Sheets


def sheet(radius_nm, is_tube=False, thickness_nm=4.0):
    """One bilayer whose normal is z, 3 nm above the centre of the box; axes of the frame are y, x, z."""
    frame = np.array([[[0, 0, 1], [1, 0, 0], [0, 1, 0]]], float)
    foot, one = np.array([[3.0, 0, 0]]), np.ones(1)
    return Sheets(np.zeros(1, int), foot, frame, one / radius_nm, np.array([is_tube]), one * thickness_nm, one)


def beads(made):
    positions, masses, _ = made.beads("cpu")
    return positions.numpy()[masses > 0], masses.numpy()[masses > 0]


def test_a_flat_bilayer_is_two_leaflets_a_thickness_apart():
    positions, masses = beads(sheet(1e5))
    np.testing.assert_allclose(np.abs(positions[:, 0] - 3), 2, atol=0.02)
    assert masses.sum() == pytest.approx(2 * LEAFLET_KDA_PER_NM2 * np.pi * REACH_NM**2, rel=1e-3)


@pytest.mark.parametrize("radius", [15.0, -12.0])
def test_a_strongly_bent_one_closes_to_a_vesicle(radius):
    positions, masses = beads(sheet(radius))
    from_centre = np.linalg.norm(positions - [3 + radius, 0, 0], axis=1)
    np.testing.assert_allclose(np.abs(from_centre - abs(radius)), 2, atol=1e-3)
    assert masses.sum() == pytest.approx(2 * LEAFLET_KDA_PER_NM2 * 4 * np.pi * radius**2, rel=0.01)
    assert np.abs(np.average(positions, axis=0, weights=masses) - [3 + radius, 0, 0]).max() < 0.1


def test_a_tube_is_bent_along_one_tangent_only():
    positions, _ = beads(sheet(12.0, is_tube=True))
    from_axis = np.linalg.norm(positions[:, :2] - [15, 0], axis=1)
    np.testing.assert_allclose(np.abs(from_axis - 12), 2, atol=1e-3)
    assert np.ptp(positions[:, 2]) > 80


def test_points_on_a_sheet_come_with_its_normal():
    place, normal = sheet(20.0).points(np.zeros(2, int), np.array([[0.0, 0], [20 * np.pi / 2, 0]]))
    np.testing.assert_allclose(place, [[3, 0, 0], [23, 20, 0]], atol=1e-4)
    np.testing.assert_allclose(normal, [[1, 0, 0], [0, -1, 0]], atol=1e-5)
