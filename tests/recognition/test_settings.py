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
