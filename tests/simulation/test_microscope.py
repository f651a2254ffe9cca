"""Settings that are possible, and what is drawn for each sample."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition


def test_poses_are_uniform_and_shifts_fill_their_range():
    acquisition = draw_acquisition(torch.arange(4000), Microscope())
    rotated = Rotation.from_quat(acquisition.quaternions).apply([0.0, 0.0, 1.0])
    assert np.abs(rotated.mean(axis=0)).max() < 0.05
    assert np.allclose(np.cov(rotated.T), np.eye(3) / 3, atol=0.03)  # a uniform direction
    assert np.abs(acquisition.shifts_nm).max() == pytest.approx(4.0, rel=0.01)
    assert acquisition.defocus_um.min() >= 2 and acquisition.defocus_um.max() <= 6


def test_defaults_and_derived_sizes():
    microscope = Microscope(box=80, voxel_size_nm=0.5, binning=4)
    assert (microscope.final_box, microscope.final_voxel_size_nm, microscope.width_nm) == (20, 2.0, 40.0)
    assert len(Microscope().tilt_angles) == 41 and Microscope().tilt_angles[[0, -1]].tolist() == [-60, 60]
    assert Microscope(tilt_max=59).tilt_angles[-1] == 57


@pytest.mark.parametrize(
    "settings",
    [
        {"box": 8},
        {"box": 40, "binning": 4},
        {"tilt_min": -90, "tilt_max": 90},
        {"voxel_size_nm": 2.0},
        {"noise_before_ctf": 0},
        {"noise_before_ctf": 1},
        {"defocus_min_um": 3.0, "defocus_max_um": 3.0},
    ],
)
def test_settings_at_the_edge_are_possible(settings):
    Microscope(**settings)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"box": 6}, "at least 8"),
        ({"box": 41}, "even number"),
        ({"binning": 0}, "binning=0"),
        ({"binning": 3}, "binning=3"),
        ({"binning": 40}, "even multiple"),
        ({"tilt_min": -91}, "tilt range"),
        ({"tilt_max": 91}, "tilt range"),
        ({"tilt_min": 60}, "tilt range"),
        ({"tilt_increment": 0}, "increment"),
        ({"voxel_size_nm": 0}, "low_pass_nm"),
        ({"voxel_size_nm": 2.01}, "low_pass_nm"),
        ({"noise_before_ctf": -0.1}, "share"),
        ({"noise_before_ctf": 2}, "share"),
        ({"defocus_min_um": 6.1}, "smaller one first"),
    ],
)
def test_settings_beyond_the_edge_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words) as error:
        Microscope(**settings)
    assert "\n" not in str(error.value)


def test_each_number_is_drawn_uniformly_between_its_ends_and_from_its_own_counter():
    microscope = Microscope(max_shift_nm=2.0, defocus_min_um=3.0, defocus_max_um=5.0)
    drawn = draw_acquisition(torch.arange(4000), microscope)
    np.testing.assert_allclose(np.linalg.norm(drawn.quaternions, axis=1), 1)
    numbers = np.column_stack([drawn.shifts_nm / 2, drawn.defocus_um - 4])  # each in -1..1
    np.testing.assert_allclose(numbers.min(axis=0), -1, atol=0.01)
    np.testing.assert_allclose(numbers.max(axis=0), 1, atol=0.01)
    np.testing.assert_allclose(np.cov(numbers.T), np.eye(4) / 3, atol=0.03)
    correlations = np.corrcoef(np.column_stack([drawn.quaternions, numbers]).T)
    assert np.abs(correlations - np.eye(8)).max() < 0.06


def test_a_seed_draws_what_it_always_drew():
    """The volumes of stored results hang on it."""
    drawn = draw_acquisition(torch.tensor([7]), Microscope())
    found = [*drawn.quaternions[0], *drawn.shifts_nm[0], *drawn.defocus_um]
    np.testing.assert_allclose(
        found, [-0.863811, 0.276925, -0.282705, -0.311802, -3.453934, 2.723327, 0.948995, 5.65782], atol=2e-6
    )


def test_the_optics_are_those_that_the_book_states():
    microscope = Microscope()
    optics = (microscope.voltage_kv, microscope.spherical_aberration_mm, microscope.amplitude_contrast)
    assert optics == (300.0, 2.7, 0.07)
    assert (microscope.defocus_min_um, microscope.defocus_max_um, microscope.low_pass_nm) == (2.0, 6.0, 4.0)
    widths = (microscope.envelope_sigma_per_nm, microscope.mtf_sigma_per_nm)
    assert (*widths, microscope.noise_before_ctf) == (0.2, 0.4, 0.5)
    assert (microscope.box, microscope.voxel_size_nm, microscope.max_shift_nm) == (40, 1, 4)
    assert microscope.dark_protein and microscope.tilt_increment == 3
