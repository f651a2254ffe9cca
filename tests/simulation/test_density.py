"""Beads on a grid, against direct sums; levels and views of a density."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation.density import bead_spectra, mass_density, protein_level, upright
from cryo_fewshot.simulation.microscope import Acquisition, Microscope


def moments(density, voxel_size_nm):
    """Mass, centre zyx in nm from voxel n // 2, and variance along each axis, nm2."""
    line = (np.arange(len(density)) - len(density) // 2) * voxel_size_nm
    mass = density.sum(dtype=float)
    marginals = [density.sum(axis=tuple({0, 1, 2} - {axis}), dtype=float) / mass for axis in range(3)]
    centre = np.array([m @ line for m in marginals])
    return mass * voxel_size_nm**3, centre, np.array([m @ line**2 for m in marginals]) - centre**2


def test_a_density_has_the_mass_place_and_width_of_its_beads():
    positions, masses = np.array([[1.0, -2.0, 3.0]], np.float32), np.array([5.0], np.float32)
    for box, voxel in ((40, 0.5), (24, 1.0)):
        density = mass_density(positions, masses, box=box, voxel_size_nm=voxel, blur_nm=1.2, shift_nm=(0.5, 0, -1))
        mass, centre, variance = moments(density, voxel)
        assert mass == pytest.approx(5, rel=1e-3)
        np.testing.assert_allclose(centre, [1.5, -2, 2], atol=0.01)
        # The spline that a bead is spread with adds a quarter of a squared voxel.
        np.testing.assert_allclose(variance, 1.2**2 + voxel**2 / 4, rtol=0.01)


def test_a_pose_turns_xyz_coordinates_actively():
    quaternion = Rotation.from_euler("z", 90, degrees=True).as_quat()  # x goes to y
    beads = np.array([[0.0, 0.0, 4.0]], np.float32), np.ones(1, np.float32)
    _, centre, _ = moments(mass_density(*beads, box=40, quaternion=quaternion), 0.5)
    np.testing.assert_allclose(centre, [0, 4, 0], atol=0.01)


def test_coarse_voxels_are_refused():
    with pytest.raises(UserError, match=r"voxel_size_nm=1.5"):
        mass_density(np.zeros((1, 3)), np.ones(1), box=8, voxel_size_nm=1.5)
    mass_density(np.zeros((1, 3)), np.ones(1), box=8, voxel_size_nm=1.0)


@pytest.mark.parametrize("settings", [{"box": 16}, {"box": 16, "voxel_size_nm": 1.5}])
def test_spectra_are_the_transforms_of_the_beads(beads, settings):
    microscope = Microscope(**settings)
    positions, masses = beads[0] * 0.5, beads[1]
    acquisition = Acquisition(
        np.stack([Rotation.from_euler("zyx", [30, 40, 50], degrees=True).as_quat()] * 2),
        np.array([[0.0, 1, -1], [2, 0, 0.5]]),
        np.zeros(2),
    )
    grid = 16 if microscope.voxel_size_nm == 1 else 32
    spectra = bead_spectra([(positions, masses), None], acquisition, microscope).view(2, grid, grid, grid // 2 + 1)
    assert not spectra[1].any()
    rotation = Rotation.from_quat(acquisition.quaternions[0])
    turned = rotation.apply(positions[:, ::-1])[:, ::-1] + acquisition.shifts_nm[0]
    for k in ((0, 0, 0), (1, 2, 1), (-2, 1, 3), (0, -3, 2)):
        # The grid's voxel 0 is the origin of its transform; that of the beads lies at grid // 2.
        wave = np.exp(-2j * np.pi * (turned @ k) / microscope.width_nm) * (-1) ** sum(k)
        sinc = np.prod([np.sinc(n / grid) for n in k]) ** 3
        assert abs(complex(spectra[0][k]) - complex(wave @ masses) * sinc) < 0.003 * masses.sum()


def test_the_level_encloses_the_volume_of_the_protein():
    density = np.random.default_rng(0).random((20, 20, 20))
    level = protein_level(density, mass_kda=100, voxel_size_nm=0.5)
    assert (density >= level).sum() == int(100 * 1.21 / 0.5**3)
    for mass in (0.01, 1e6):
        with pytest.raises(UserError, match="does not fit"):
            protein_level(density, mass, 0.5)


def test_an_upright_complex_shows_its_longest_axis_and_keeps_its_hand():
    rng = np.random.default_rng(0)
    masses = rng.uniform(0.5, 1, 500)
    positions = rng.normal(size=(500, 3)) * [1.0, 3.0, 7.0]
    positions = Rotation.from_euler("zyx", [30, 40, 50], degrees=True).apply(positions)
    turned = upright(positions, masses, tilt=0.0)
    np.testing.assert_allclose(np.average(turned, axis=0, weights=masses), 0, atol=1e-9)
    spread = np.sqrt(np.average(turned**2, axis=0, weights=masses))
    assert spread[1] > spread[2] > spread[0]  # up, across, towards the viewer
    covariance = (turned * masses[:, None]).T @ turned
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-6 * covariance.max()
    before = positions - np.average(positions, axis=0, weights=masses)
    assert np.linalg.det(before[:3]) == pytest.approx(np.linalg.det(turned[:3]))
    tilted = upright(positions, masses, tilt=25.0)
    about_x = Rotation.from_euler("x", 25, degrees=True)
    np.testing.assert_allclose(tilted, about_x.apply(turned[:, ::-1])[:, ::-1], atol=1e-9)
