"""Settings that are refused."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.settings import Settings


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"n_averaged": 3}, {"average_voxel_nm": 0.0}, {"rotations": 3}):
        with pytest.raises(UserError):
            Settings(**settings)


def test_a_share_lies_between_0_and_1():
    assert Settings(fdr=0.05).fdr == 0.05 and Settings(n_averaged=8).n_averaged == 8
    for share in (0.0, 1.0, 5.0, -0.1):
        with pytest.raises(UserError, match="--fdr"):
            Settings(fdr=share)


def test_an_average_has_at_least_eight_particles_or_is_left_out():
    assert [Settings(n_averaged=n).n_averaged for n in (0, 8, 9)] == [0, 8, 9]
    for n in (-1, 1, 7):
        with pytest.raises(UserError, match=f"n_averaged={n} "):
            Settings(n_averaged=n)


def test_what_a_run_does_where_nothing_is_said():
    assert Settings() == Settings(
        false_accept_rate=0.05,
        fdr=None,
        junk=(),
        adapt=True,
        n_background=200,
        transductive=False,
        rotations=1,
        n_averaged=100,
        tilt_min=-60.0,
        tilt_max=60.0,
        tilt_increment=3.0,
        average_voxel_nm=1.0,
        seed=0,
    )
