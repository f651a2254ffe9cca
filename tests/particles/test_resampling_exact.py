"""What resampling must not depend on, and which lengths may be long."""

import pytest
import torch

from cryo_fewshot.particles.resampling import checked_sizes, resample


@pytest.mark.parametrize("grey", [1e-6, 1e6])
def test_the_grey_scale_does_not_count(grey, files):
    volume = files.noise().astype(float)
    torch.testing.assert_close(resample(grey * volume, 1.0, 8, 1.3, "x"), resample(volume, 1.0, 8, 1.3, "x"))


@pytest.mark.parametrize("name", ["coordinate_voxel_size_nm", "voxel_size_nm", "box_nm"])
def test_other_lengths_than_a_files_voxel_may_be_long(name):
    checked_sizes(4, **{name: 12.0})
