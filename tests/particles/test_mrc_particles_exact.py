"""Groups of particles by stated size and optics, and numbers before an @."""

import numpy as np
import pytest

from cryo_fewshot.particles.mrc_particles import ParticleFiles, file_groups

pytest.importorskip("mrcfile")


@pytest.mark.parametrize(
    ("nm", "optics", "groups", "sizes"),
    [
        (None, None, [0, 0, 0, 0], (None,)),
        ([1.5, 1.5, 2.0, 1.5], None, [0, 0, 1, 0], (1.5, 2.0)),
        ([1.5, -1.0, 0.0, np.nan], None, [0, 1, 1, 1], (1.5, None)),
        ([2.0, 2.0, 1.0, 2.0], ["1", "2", "1", None], [2, 3, 0, 1], (1.0, 2.0, 2.0, 2.0)),
        (None, ["b", "a", "b", "a"], [1, 0, 1, 0], (None, None)),
    ],
)
def test_a_size_that_is_none_is_not_stated(nm, optics, groups, sizes):
    found, of_groups = file_groups(4, None if nm is None else np.array(nm), optics)
    assert found.tolist() == groups and of_groups == sizes


def test_the_first_of_a_single_volume_is_itself(tmp_path, files):
    files.write(tmp_path / "p.mrc")
    names = ["1@p.mrc", "p.mrc", "2@p.mrc"]
    volume_of = ParticleFiles(names, tmp_path / "p.star", np.zeros(3, int)).surveyed().opened()
    assert np.array_equal(volume_of(0)[0], files.noise()) and np.array_equal(volume_of(1)[0], files.noise())
    files.one_line(lambda: volume_of(2), "2@", "p.mrc: not a stack of volumes")
