"""Where boxes lie in tomograms of which nothing but the shape is known, and what random boxes say of one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.tomograms import Boxes, Tomogram, tomogram_at


def boxes(centres, *shapes, which=None, edge=12, nm=1.0, **settings):
    tomograms = tuple(Tomogram(Path(f"rec_{i}.mrc"), shape, nm * (i + 1)) for i, shape in enumerate(shapes))
    centres = np.array(centres, float).reshape(-1, 3)
    which = np.zeros(len(centres), int) if which is None else np.array(which)
    return Boxes([f"p{i}" for i in range(len(centres))], tomograms, which, centres, (edge,) * len(shapes), **settings)


def test_background_lies_where_a_whole_box_has_room_beside_the_picks():
    found = boxes([(6, 6, 6)], (25, 13, 13)).background(5)
    assert found.centres.tolist() == [[18, 6, 6]], "the only place, once"
    assert found.which.tolist() == [0] and found.names == ["background 1 in rec_0.mrc"]
    assert not boxes([(6, 6, 6)], (24, 13, 13)).background(5).names


def test_background_shares_no_voxel_with_picks_or_itself_in_its_tomogram():
    picks = boxes([(20, 20, 20), (20, 60, 60), (20, 20, 20)], (40, 80, 80), (40, 90, 80), which=[0, 0, 1])
    found = picks.background(12, seed=3)
    assert len(found.names) == 12 and set(found.which.tolist()) == {0, 1}
    for k, tomogram in enumerate(picks.tomograms):
        own = found.centres[found.which == k]
        assert (own >= 6).all() and (own + 6 <= tomogram.shape).all()
        every = np.concatenate([own, picks.centres[picks.which == k]])
        apart = np.abs(own[:, None] - every).max(-1) + 99 * np.eye(len(own), len(every))
        assert apart.min() >= 12
    again, other = (picks.background(12, seed=seed).centres.tolist() for seed in (3, 4))
    assert again == found.centres.tolist() != other


def test_a_box_is_the_same_piece_by_the_voxel_at_its_centre():
    found = boxes([(14.5, 20.4, 0.0), (np.nan, 1, 1), (1, 2, 3)], (30, 44, 52), (9, 9, 9), which=[0, 0, 1])
    keys = dict(found.identities(range(3)))
    assert sorted(keys) == [0, 2] and keys[0][1:] == (None, 15, 20, 0) and keys[2][2:] == (1, 2, 3)
    assert keys[0][0] == str(Path("rec_0.mrc").resolve())


def test_columns_of_relion_are_in_voxels_and_from_the_centre_in_angstrom():
    found = boxes([(14, 20, 25.5), (3, 4, 5)], (30, 44, 52), (9, 9, 9), which=[0, 1])
    table = found.relion_columns(pd.DataFrame({"rlnOriginZAngst": ["30", "-20"]}))
    assert table["rlnTomoName"].tolist() == ["rec_0", "rec_1"]
    numbers = table.drop(columns="rlnTomoName").astype(float)
    assert numbers["rlnMicrographPixelSize"].tolist() == [10, 20]
    xyz = numbers[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(xyz, [[25.5, 20, 14 + 3], [5, 4, 3 - 1]])
    centred = numbers[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(centred, [[-5, -20, 20], [20, 0, -40]])


@pytest.mark.parametrize(
    ("centre", "first", "said"),
    [
        ((6, 6, 6), 0, ""),
        ((5.5, 6.49, 6), 0, ""),
        ((12, 12.5, 13.49), None, ""),
        ((5.4, 6, 6), None, "extends beyond"),
        ((14, 14, 14.5), None, "extends beyond"),
        ((-0.4, 6, 6), None, "extends beyond"),
        ((-0.6, 6, 6), None, "lie outside rec.mrc of 20 x 20 x 20"),
        ((6, 6, 19.4), None, "extends beyond"),
        ((6, 6, 19.6), None, "lie outside"),
        ((np.nan, 6, 6), None, "not a number"),
    ],
)
def test_a_box_is_cut_where_all_of_it_lies_inside(centre, first, said, tmp_path, files):
    array = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    one = tomogram_at(files.write(tmp_path / "rec.mrc", array), None)
    volume_of = Boxes(["p"], (one,), np.zeros(1, int), np.array([centre], float), (12,)).opened()
    if said:
        with pytest.raises(UserError, match=said):
            volume_of(0)
        return
    z, y, x = np.floor(np.array(centre) + 0.5).astype(int) - 6
    volume, nm = volume_of(0)
    np.testing.assert_array_equal(volume, array[z : z + 12, y : y + 12, x : x + 12])
    assert nm == 1.0 and (first is None or (z, y, x) == (0, 0, 0))


def test_grey_values_are_those_of_random_boxes(tmp_path, files):
    small, large = (np.random.default_rng(1).normal(3, 2, size=shape) for shape in ((10, 16, 14), (16, 17, 40)))
    one = tomogram_at(files.write(tmp_path / "small.mrc", small), None)
    assert one.grey_values() == pytest.approx((small.mean(), small.std()), rel=1e-5)
    one = tomogram_at(files.write(tmp_path / "large.mrc", large), None)
    low = np.random.default_rng(0).integers(0, (1, 2, 25), size=(64, 3))
    values = np.stack([large[z : z + 16, y : y + 16, x : x + 16] for z, y, x in low])
    assert one.grey_values() == pytest.approx((values.mean(), values.std()), rel=1e-5)
    flat = tomogram_at(files.write(tmp_path / "flat.mrc", np.full((16,) * 3, 5.0)), None)
    assert flat.grey_values() == (5.0, 1e-9)
