"""Where background is drawn in a tomogram, and what of an array is read: tomograms that lie in memory alone."""

from pathlib import Path

import numpy as np
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.tomograms import Boxes, Tomogram


def one_far_away(shape, edge):
    """A pick that is near to nothing."""
    return Boxes(["p"], (Tomogram(Path("rec.mrc"), shape, 1.0),), np.zeros(1, int), np.full((1, 3), 1e6), (edge,))


@pytest.mark.parametrize(("count", "tries"), [(3, 1000), (60, 1200)])
def test_background_is_drawn_anew_alike_each_time(count, tries):
    found = one_far_away((70, 80, 300), 13).background(count, seed=5)
    rng = np.random.default_rng(5)
    rng.choice(np.zeros(1, int), tries)
    assert found.centres[0].tolist() == rng.integers(6, (64, 74, 294)).tolist()


@pytest.mark.parametrize("edge", [12, 13])
def test_in_a_tomogram_thinner_than_a_box_background_fills_it(edge):
    found = one_far_away((5, 60, 60), edge).background(20)
    assert set(found.centres[:, 0]) == {6} and found.centres[:, 1:].max() < 60 - edge // 2


class Damaged:
    ndim = 3

    def __getitem__(self, where):
        raise RuntimeError("chunk 3 is not what its codec wrote")


def test_axes_of_one_before_z_do_not_count_and_a_damaged_chunk_is_one_line(monkeypatch):
    array = np.random.default_rng(0).normal(size=(1, 1, 20, 20, 20))
    contents = {"whole": array, "damaged": Damaged()}
    monkeypatch.setattr(Tomogram, "array", lambda tomogram: contents[tomogram.level])
    whole, damaged = (Tomogram(Path("a.zarr"), (20, 20, 20), 1.0, level) for level in contents)
    picks = Boxes(["p", "q"], (whole, damaged), np.array([0, 1]), np.full((2, 3), 9.0), (8, 8))
    np.testing.assert_array_equal(picks.opened()(0)[0], array[0, 0, 5:13, 5:13, 5:13])
    with pytest.raises(UserError, match=r"q: cannot be read \(.*chunk 3 .*\); write a.zarr again"):
        picks.opened()(1)
