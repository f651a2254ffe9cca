"""What coordinates count, which lie inside, which are neighbours, and which columns contradict."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.coordinates import overlapping, read_coordinates
from cryo_fewshot.particles.opening import open_particles

XYZ = [f"rlnCoordinate{axis}" for axis in "XYZ"]
TILT, MICROGRAPH, IMAGE = "rlnTomoTiltSeriesPixelSize", "rlnMicrographPixelSize", "rlnImagePixelSize"


def star(files, path, factor, optics, columns=XYZ, name="TS_1"):
    """CENTRES in other voxels, and an optics table of those sizes in angstrom."""
    rows = [[name, 1, *row] for row in files.CENTRES[:, ::-1] * factor]
    stated = files.optics_table((1, *optics.values()), columns=("rlnOpticsGroup", *optics)) if optics else ""
    return files.star_of(path, ["rlnTomoName", "rlnOpticsGroup", *columns], rows, stated)


@pytest.mark.parametrize(
    ("factor", "optics", "name", "said"),
    [
        (2, {TILT: 5.0}, "TS_1", f"pixels of 0.5 nm ({TILT}), scaled to voxels of 1 nm"),
        (2, {TILT: 5.0}, "TS_1.tomostar", f"pixels of 0.5 nm ({TILT})"),
        (2, {MICROGRAPH: 5.0, TILT: 2.5}, "TS_1", f"pixels of 0.5 nm ({MICROGRAPH})"),
        (2, {TILT: 5.0, IMAGE: 10.0}, "TS_1", f"pixels of 0.5 nm ({TILT})"),  # RELION 4, unbinned
        (0.5, {TILT: 2.5, IMAGE: 20.0}, "TS_1.tomostar", "pixels of 2 nm (the particles' pixel size)"),  # WarpTools
        (1, {MICROGRAPH: "nan"}, "TS_1", f"voxels of the tomogram, which are {MICROGRAPH}"),
        (1, {IMAGE: 10.0}, "TS_1", "voxels of the tomogram, which are the particles' pixel size"),
        (1, {}, "TS_1", "voxels of the tomogram, as nothing else is stated"),
    ],
)
def test_what_the_file_states_is_scaled_and_said(tmp_path, tomogram, array, files, factor, optics, name, said):
    particles = open_particles(
        star(files, tmp_path / "a.star", factor, optics, name=name), tomogram=tomogram, box_nm=12
    )
    files.assert_cut(particles, array)
    assert any(said in note for note in particles.notes), particles.notes


def test_a_given_unit_wins_and_two_readings_are_refused(tmp_path, tomogram, array, files):
    both = star(files, tmp_path / "a.star", 2, {IMAGE: 5.0})
    words = ("0.5 nm but the tomogram's voxel 1 nm", "--coordinate-voxel-size-nm")
    files.one_line(lambda: open_particles(both, tomogram=tomogram), *words)
    files.assert_cut(open_particles(both, tomogram=tomogram, box_nm=12, coordinate_voxel_size_nm=0.5), array)
    wrong = star(files, tmp_path / "b.star", 1, {TILT: 50.0})
    files.one_line(lambda: open_particles(wrong, tomogram=tomogram), "3 of 3 coordinates lie outside", TILT)


def test_the_unit_that_tomograms_star_states_counts_where_the_coordinates_state_none(tmp_path, tomogram, array, files):
    listed = tmp_path / "tomograms.star"
    columns = ["rlnTomoName", "rlnTomoReconstructedTomogram", TILT]
    listed.write_text(files.table("global", columns, [["TS_1", tomogram.name, 2.5]]))
    unbinned, binned = (star(files, tmp_path / f"{factor}.star", factor, {}) for factor in (4, 1))
    for given in (listed, tmp_path):
        particles = open_particles(unbinned, tomogram=given, box_nm=12)
        files.assert_cut(particles, array)
        assert any(f"pixels of 0.25 nm ({TILT}), scaled" in note for note in particles.notes)
    files.assert_cut(open_particles(binned, tomogram=listed, box_nm=12, coordinate_voxel_size_nm=1.0), array)
    csv = files.csv_of(tmp_path / "a.csv")
    files.assert_cut(open_particles(csv, tomogram=tomogram, box_nm=12), array)


def test_coordinates_of_m(tmp_path, tomogram, array, files):
    path = star(files, tmp_path / "m.star", 10, {}, [f"wrpCoordinate{axis}1" for axis in "XYZ"])
    path.write_text(path.read_text().replace("_rlnTomoName", "_wrpSourceName"))
    files.assert_cut(open_particles(path, tomogram=tomogram, box_nm=12), array)
    files.assert_cut(open_particles(path, tomogram=tomogram.parent, box_nm=12), array)


def test_particles_that_overlap_are_one_group_however_they_are_listed(tmp_path, tomogram, files):
    """Rows 1 and 2 are 5.4 nm apart, row 3 far from both; of another tomogram none is near."""
    xyz = np.array([[25, 20, 14], [20, 22, 14], [40, 30, 14]])
    names = ["rlnTomoName", *XYZ]
    rows = [["TS_1", *row] for row in xyz]
    in_tomogram = open_particles(files.star_of(tmp_path / "a.star", names, rows), tomogram=tomogram, box_nm=12)
    for i in range(3):
        files.write(tmp_path / f"{i}.mrc", seed=i)
    rows = [[*row, f"{i}.mrc"] for i, row in enumerate(rows)]
    extracted = open_particles(files.star_of(tmp_path / "b.star", [*names, "rlnImageName"], rows))
    for particles in (in_tomogram, extracted):
        first, second, third = overlapping(particles, [0, 1, 2], 6.0)
        assert first == second != third
        assert len(set(overlapping(particles, [0, 1, 2], 5.0))) == 3
        assert len(set(overlapping(particles, [2, 0], 6.0))) == 2
    rows[1][:2] = "TS_2", "far"
    apart = open_particles(files.star_of(tmp_path / "b.star", [*names, "rlnImageName"], rows))
    assert len(set(overlapping(apart, [0, 1, 2], 6.0))) == 3
    unplaced = open_particles(files.star_of(tmp_path / "c.star", ["rlnImageName"], [[row[-1]] for row in rows]))
    assert overlapping(unplaced, [0, 1, 2], 6.0).tolist() == [0, 1, 2]


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


@pytest.mark.parametrize(
    ("shifts", "turns", "rows"), [((0, 5, 5), (0, 90, 90), 2), ((5, 5, 0), (0, 0, 90), 0), ((5,) * 3, None, 0)]
)
def test_shifts_of_turned_boxes_are_refused(shifts, turns, rows, tmp_path, tomogram, files):
    columns = [*XYZ, "rlnOriginZAngst", *(["rlnTomoSubtomogramTilt"] if turns else [])]
    values = zip(shifts, turns, strict=True) if turns else ((shift,) for shift in shifts)
    places = [[*row, *more] for row, more in zip(files.CENTRES[:, ::-1].tolist(), values, strict=True)]
    path = files.star_of(tmp_path / "a.star", columns, places)
    if rows:
        files.one_line(
            lambda: open_particles(path, tomogram=tomogram), f"{rows} rows with rlnOriginXAngst, Y or Z have"
        )
    else:
        assert len(open_particles(path, tomogram=tomogram)) == 3


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
