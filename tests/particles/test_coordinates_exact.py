"""Boundaries of places: which coordinates lie inside, which particles are neighbours, which columns contradict."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.coordinates import overlapping, read_coordinates
from cryo_fewshot.particles.opening import open_particles

pytest.importorskip("mrcfile")
INSIDE, FIRST, LAST = [25, 20, 14], [0, 0, 0], [51, 43, 29]  # xyz of a tomogram of 52 x 44 x 30
BEHIND, BEFORE = [[52, 20, 14], [25, 44, 14], [25, 20, 30]], [[-1, 20, 14], [25, -1, 14], [25, 20, -1]]


@pytest.mark.parametrize(
    ("rows", "outside", "example"),
    [
        ([FIRST], 0, None),
        ([LAST], 0, None),
        ([INSIDE, BEHIND[0]], 1, None),
        ([INSIDE, BEHIND[0], BEFORE[1]], 2, "row 2, zyx 14.0, 20.0, 52.0 of 30 x 44 x 52"),
        ([["far", 0, 0], INSIDE, BEHIND[2], BEFORE[2]], 3, "row 3, zyx 30.0, 20.0, 25.0"),
        ([["far", 0, 0], INSIDE], 1, None),
        ([["far", 0, 0]] * 2, 2, "row 1, zyx 0.0, 0.0, nan"),
        *(([row], 1, "row 1") for row in (*BEHIND, *BEFORE)),
    ],
)
def test_most_coordinates_have_to_lie_inside_from_the_first_voxel_to_the_last(
    rows, outside, example, tmp_path, tomogram, files
):
    path = files.csv_of(tmp_path / "a.csv", rows=rows, labels="a" * len(rows))
    if example is None:
        assert len(open_particles(path, tomogram=tomogram, box_nm=12)) == len(rows)
    else:
        said = f"{outside} of {len(rows)} coordinates lie outside their tomogram, for example {example}"
        files.one_line(lambda: open_particles(path, tomogram=tomogram, box_nm=12), said)


def centres_of(moved=0.0, **columns):
    """Of two rows in tomograms of 2 nm, which RELION's two kinds of columns place alike but for so many voxels."""
    shapes = np.array([[30, 44, 52], [20, 20, 20]])
    table = pd.DataFrame(
        {f"rlnCenteredCoordinate{axis}Angst": ["0", "20"] for axis in "XYZ"}
        | {
            f"rlnCoordinate{axis}": [str(shapes[0, k] // 2 + moved), "11"]
            for axis, k in zip("ZYX", range(3), strict=True)
        }
        | columns
    )
    return read_coordinates({"particles": table}, "particles", np.array([2.0, 2.0]), shapes)


@pytest.mark.parametrize(("moved", "said"), [(1.0, False), (-1.0, False), (1.01, True), (-1.01, True)])
def test_columns_contradict_from_beyond_a_voxel_on(moved, said):
    centres, text = centres_of(moved)
    np.testing.assert_allclose(centres, [[15, 22, 26], [11, 11, 11]])
    assert text.startswith("rlnCenteredCoordinateXAngst in angstrom from the centre")
    assert ("rlnCoordinateX of 1 rows gives another position" in text) == said


def test_shifts_are_subtracted_in_voxels_of_each_tomogram_and_those_of_zero_are_not_named():
    centres, text = centres_of(rlnOriginXAngst=["20", "0"], rlnOriginYAngst=["0", "-10"], rlnOriginZAngst=["0", "0"])
    np.testing.assert_allclose(centres, [[15, 22, 25], [11, 11.5, 11]])
    assert "rlnOriginXAngst is subtracted; " not in text and text.count("is subtracted") == 2 and "OriginZ" not in text


def lying_at(*nm, tomograms=None):
    """Extracted particles whose table says where they lay, in nm along x."""
    names = tomograms or ["TS_1"] * len(nm)
    rows = {"tomogram": names, "x_nm": list(map(str, nm)), "y_nm": ["0"] * len(nm), "z_nm": ["0"] * len(nm)}

    class Extracted(SimpleNamespace):
        def __len__(self):
            return len(nm)

    return Extracted(source=None, table=pd.DataFrame(rows), blocks={}, block_name="particles", voxel_size_nm=0.5)


@pytest.mark.parametrize(
    ("places", "within", "groups"),
    [
        ((0, 5), 5.0, [0, 0]),
        ((0, 5.01), 5.0, [0, 1]),
        ((0, 20, 4, 8, 24.5), 4.5, [0, 1, 0, 0, 1]),  # in chains
        (("nan", "nan", 3), 9.0, [0, 1, 2]),
        ((7,), 9.0, [0]),
        ((), 9.0, []),
    ],
)
def test_neighbours_are_one_group_and_chains_of_them(places, within, groups):
    assert overlapping(lying_at(*places), range(len(places)), within).tolist() == groups


def test_of_some_particles_or_several_tomograms_the_neighbours_are_those_among_them():
    one = lying_at(0, 4, 8, 1)
    assert overlapping(one, [0, 2, 3], 4.5).tolist() == [0, 1, 0] and overlapping(one, [2, 0], 4.5).tolist() == [0, 1]
    several = lying_at(0, 1, 0, 1, tomograms=["a", "a", "b", None])
    assert overlapping(several, range(4), 4.5).tolist() == [0, 0, 1, 2]


def test_later_columns_of_an_unclear_unit_are_left_out_and_first_ones_refused():
    """The particles' pixel of 5 A is not the tomogram's of 2 nm, and nothing else says what rlnCoordinateX counts."""
    centres, text = centres_of(50.0, rlnImagePixelSize=["5", "5"], rlnPixelSize=["5", "5"])
    np.testing.assert_allclose(centres, [[15, 22, 26], [11, 11, 11]])
    assert text == "rlnCenteredCoordinateXAngst in angstrom from the centre"


@pytest.mark.parametrize(("n", "more"), [(5, ""), (6, ", ...")])
def test_five_tomograms_are_named(n, more, tmp_path, tomogram, files):
    names = [f"TS_{i}" for i in range(n)]
    star = files.of_names(tmp_path / "a.star", names)
    counts = ", ".join(f"1 of {name}" for name in names[:5])
    files.one_line(lambda: open_particles(star, tomogram=tomogram), f"{n} tomograms in rlnTomoName ({counts}{more})")
    files.tomograms_of(tmp_path / "all", *(f"{name}.mrc" for name in names))
    (note,) = (note for note in open_particles(star, tomogram=tmp_path / "all").notes if "names the tomograms" in note)
    assert note.endswith(", ".join(f"{name} is {name}.mrc" for name in names[:5]) + more)


def test_whether_the_voxel_size_was_given_or_is_the_tomograms(tmp_path, tomogram, files):
    path = files.csv_of(tmp_path / "a.csv")
    for given, known in ((None, "header"), (1.0, "given")):
        assert open_particles(path, tomogram=tomogram, file_voxel_size_nm=given).voxel_size_from == known


def test_of_several_tomograms_an_unclear_unit_is_refused_with_the_first_ones_sizes():
    axes = {f"rlnCoordinate{axis}": ["5", "6"] for axis in "XYZ"}
    blocks = {"particles": pd.DataFrame(axes | {"rlnImagePixelSize": ["5", "7"]})}
    said = "the particles' pixel size is 0.5 nm but the tomogram's voxel 2 nm"
    with pytest.raises(UserError, match=said):
        read_coordinates(blocks, "particles", np.array([2.0, 3.0]), np.full((2, 3), 20))
