"""Settings that are refused."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.settings import Settings


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"n_averaged": 3}, {"average_voxel_nm": 0.0}, {"rotations": 3}):
        with pytest.raises(UserError):
            Settings(**settings)
