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


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"box": 7}, "even number"),
        ({"tilt_min": 60, "tilt_max": -60}, "tilt range"),
        ({"tilt_increment": 0}, "increment"),
        ({"voxel_size_nm": 3.0}, "low_pass_nm"),
        ({"binning": 3}, "binning=3"),
        ({"noise_before_ctf": 2}, "share"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings, words):
    with pytest.raises(UserError, match=words) as error:
        Microscope(**settings)
    assert "\n" not in str(error.value)
