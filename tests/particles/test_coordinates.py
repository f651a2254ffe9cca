"""Coordinates of every convention: where the boxes about them lie."""

import copy

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.base import duplicates, share_files
from cryo_fewshot.particles.coordinates import near
from cryo_fewshot.particles.opening import open_particles


def star(files, path, columns, rows, tomogram="TS_1"):
    return files.star_of(path, ["rlnTomoName", *columns], [[tomogram, *row] for row in rows])


def test_a_csv_in_voxels_or_nm(tomogram, tmp_path, array, files):
    particles = open_particles(files.csv_of(tmp_path / "é.csv"), tomogram=tomogram, box_nm=12, label_column="kind")
    files.assert_cut(particles, array)
    assert particles.labels == list("aab") and particles.box == 12 and particles.voxel_size_nm == 1.0
    other_way = open_particles(tomogram, coordinates=tmp_path / "é.csv", box_nm=12)
    files.assert_cut(copy.deepcopy(other_way.without_table()), array)
    nm = files.csv_of(tmp_path / "nm.csv", "x_nm,y_nm,z_nm")
    files.assert_cut(open_particles(nm, tomogram=tomogram, box_nm=12), array)
    assert duplicates(particles, other_way) == [(i, i) for i in range(3)]
    other_order = files.csv_of(tmp_path / "b.csv", rows=files.CENTRES[[2, 0], ::-1], labels="ab")
    shuffled = open_particles(other_order, tomogram=tomogram)
    assert duplicates(particles, shuffled) == [(2, 0), (0, 1)] and share_files(particles, shuffled)


@pytest.mark.parametrize("name", ["class", "label"])
def test_a_csv_that_says_class_or_label_needs_no_option(tomogram, tmp_path, files, name):
    path = files.csv_of(tmp_path / "a.csv")
    path.write_text(path.read_text(encoding="utf-8").replace("kind", name), encoding="utf-8")
    particles = open_particles(path, tomogram=tomogram, box_nm=12)
    assert particles.labels == list("aab")
    assert any(f"2 classes in {name}" in note for note in particles.notes)


def test_star_files_of_every_convention(tomogram, tmp_path, array, files):
    xyz = files.CENTRES[:, ::-1]
    plain = star(files, tmp_path / "a.star", [f"rlnCoordinate{c}" for c in "XYZ"], xyz)
    files.assert_cut(open_particles(plain, tomogram=tomogram, box_nm=12), array)
    unbinned = star(files, tmp_path / "b.star", [f"rlnCoordinate{c}" for c in "XYZ"], xyz * 8)
    words = ("3 of 3 coordinates lie outside", "--coordinate-voxel-size-nm")
    files.one_line(lambda: open_particles(unbinned, tomogram=tomogram), *words)
    files.assert_cut(open_particles(unbinned, tomogram=tomogram, box_nm=12, coordinate_voxel_size_nm=0.125), array)
    centred = (xyz - np.array(files.SHAPE)[::-1] // 2) * 10.0
    relion5 = star(files, tmp_path / "c.star", [f"rlnCenteredCoordinate{c}Angst" for c in "XYZ"], centred)
    files.assert_cut(open_particles(relion5, tomogram=tomogram, box_nm=12), array)
    columns = [f"rlnCoordinate{c}" for c in "XYZ"] + [f"rlnOrigin{c}Angst" for c in "XYZ"]
    origins = np.hstack([xyz + np.array([1, -2, 3]), np.full((3, 3), [10.0, -20.0, 30.0])])
    shifted = star(files, tmp_path / "d.star", columns, origins)
    files.assert_cut(open_particles(shifted, tomogram=tomogram, box_nm=12), array)


def test_a_centre_is_rounded_to_the_nearest_voxel(tomogram, tmp_path, array, files):
    for shift in (-0.4, 0.4):
        path = files.csv_of(tmp_path / "a.csv", rows=files.CENTRES[:, ::-1] + shift)
        files.assert_cut(open_particles(path, tomogram=tomogram, box_nm=12), array)
    for box_nm, edge in ((12, 12), (11.1, 12), (12.1, 14), (1, 4)):
        particles = open_particles(tmp_path / "a.csv", tomogram=tomogram, box_nm=box_nm)
        assert particles.box == edge, "even, at least as wide as asked"


def test_coordinates_in_a_coarser_tomogram(tmp_path, array, files):
    """The same nm and angstrom are other voxels where the tomogram has other voxels."""
    tomogram = files.write(tmp_path / "coarse.mrc", array, voxel_size_nm=2.0)
    nm = files.csv_of(tmp_path / "nm.csv", "x_nm,y_nm,z_nm", rows=files.CENTRES[:, ::-1] * 2.0)
    centred = (files.CENTRES - np.array(files.SHAPE) // 2)[:, ::-1] * 20.0
    columns = [f"rlnCenteredCoordinate{c}Angst" for c in "XYZ"] + [f"rlnOrigin{c}Angst" for c in "XYZ"]
    rows = np.hstack([centred + np.array([20, 40, -20]), np.full((3, 3), [20.0, 40.0, -20.0])])
    for path in (nm, star(files, tmp_path / "a.star", columns, rows)):
        particles = open_particles(path, tomogram=tomogram, box_nm=24)
        volumes, _ = particles.read(range(2), 12, 2.0)
        assert particles.box == 12 and particles.voxel_size_nm == 2.0
        torch.testing.assert_close(volumes[1], files.standardised(array, files.CENTRES[1]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("column", ["rlnTomoName", "rlnMicrographName"])
def test_rows_of_several_tomograms_are_not_cut_from_one(tmp_path, files, column):
    expected = files.tomograms_of(tmp_path / "t", "TS_01_10.00Apx.mrc", "TS_02_10.00Apx.mrc")
    star_file = files.of_names(tmp_path / "a.star", ["TS_01.mrc", "TS_02.mrc", "TS_02.mrc"], column)
    one = tmp_path / "t" / "TS_01_10.00Apx.mrc"
    words = (f"2 tomograms in {column} (2 of TS_02, 1 of TS_01)", "TS_01_10.00Apx.mrc is one", "a folder")
    files.one_line(lambda: open_particles(star_file, tomogram=one), *words)
    particles = open_particles(star_file, tomogram=tmp_path / "t", box_nm=12)
    files.assert_boxes(particles, [expected[0], expected[1], expected[1]])
    assert any(f"{column} names the tomograms" in note for note in particles.notes)
    star_file = files.of_names(tmp_path / "a.star", ["TS_01.mrc", "TS_01"], column)
    particles = open_particles(star_file, tomogram=one, box_nm=12)
    files.assert_boxes(particles, [expected[0]] * 2)
    assert any("every row is cut from TS_01_10.00Apx.mrc" in note for note in particles.notes)


def test_bad_tomograms_and_coordinates_are_one_line(tomogram, tmp_path, array, files):
    good = files.csv_of(tmp_path / "a.csv")
    no_size = files.write(tmp_path / "no_size.mrc", array, voxel_size_nm=0)
    other_columns = files.csv_of(tmp_path / "b.csv", "a,b,c")
    (tmp_path / "c.csv").write_text("x,y,z\n")
    (tmp_path / "d.csv").write_bytes(b"\xff\xfe\x00x,y\n1")
    (tmp_path / "p.json").write_text("{}")
    for coordinates, of, words in (
        (good, tmp_path / "absent.mrc", ("absent.mrc", "no such tomogram")),
        (good, tmp_path / "TS_2", ("TS_2", "no such tomogram")),
        (tmp_path / "absent.csv", tomogram, ("no such file",)),
        (good, good, ("a.csv", "not a tomogram")),
        (good, no_size, ("no voxel size", "file_voxel_size_nm")),
        (other_columns, tomogram, ("x, y, z in voxels",)),
        (tmp_path / "c.csv", tomogram, ("c.csv", "lists no particles")),
        (tmp_path / "d.csv", tomogram, ("d.csv", "not a csv in UTF-8")),
        (tmp_path / "p.json", "wbp", ("p", "copick")),
    ):
        files.one_line(lambda c=coordinates, t=of: open_particles(c, tomogram=t), *words)
    absent = tmp_path / "absent.csv"
    files.one_line(lambda: open_particles(tomogram, coordinates=absent), "absent.csv", "cannot be read")
    files.assert_cut(open_particles(good, tomogram=no_size, file_voxel_size_nm=1.0, box_nm=12), array)


def test_bad_boxes_are_rejected_one_by_one(tomogram, tmp_path, array, files):
    rows = [[25, 20, 14], ["far", 20, 14], [25, 900, 14]]
    path = files.csv_of(tmp_path / "d.csv", rows=rows)
    _, rejected = open_particles(path, tomogram=tomogram, box_nm=12).read(range(3))
    assert sorted(rejected) == [1, 2]
    assert "d.csv:2" in rejected[1] and "not a number" in rejected[1] and "lie outside TS_1" in rejected[2]
    constant = array.copy()
    constant[:, :, :40] = 3
    files.write(tomogram, constant)
    _, rejected = open_particles(path, tomogram=tomogram, box_nm=12).read([0])
    assert "every voxel is 3" in rejected[0]


def test_a_voxel_more_or_less_is_the_same_place_of_two_inputs(tmp_path, tomogram, array, files):
    """Of two programs, or two units: near by in one tomogram, not in another."""
    one = open_particles(tomogram, coordinates=files.csv_of(tmp_path / "a.csv"), box_nm=12)
    rows = files.CENTRES[[1, 0, 2], ::-1] + np.array([[0.7, 0, 0], [0, 3, 0], [0, 0, -0.7]])
    other = open_particles(tomogram, coordinates=files.csv_of(tmp_path / "b.csv", rows=rows), box_nm=12)
    assert near(one, other, 1.0) == [(1, 0), (2, 2)]
    lost = files.csv_of(tmp_path / "c.csv", rows=[["far", 20, 14], *rows], labels="aaab")
    assert near(one, open_particles(tomogram, coordinates=lost, box_nm=12), 1.0) == [(1, 1), (2, 3)]
    elsewhere = files.write(tmp_path / "TS_2.mrc", array)
    assert not near(one, open_particles(elsewhere, coordinates=tmp_path / "a.csv", box_nm=12), 1.0)


@pytest.mark.parametrize(("separator", "comma"), [(";", ","), ("\t", ","), (";", "."), (",", ".")])
def test_tables_of_spreadsheets_of_any_country(tmp_path, tomogram, array, files, separator, comma):
    words = ('"1,5 MDa"', "NA ", " 007")  # stay the words they are, without the blanks around them
    rows = [[f"{c:.2f}".replace(".", comma) for c in row] for row in files.CENTRES[:, ::-1]]
    lines = [[" x ", "y", " z", "kind"], *([*row, word] for row, word in zip(rows, words, strict=True))]
    text = "\ufeff" + "\r\n".join(separator.join(line) for line in lines)
    (tmp_path / "a.csv").write_bytes(text.encode())
    particles = open_particles(tomogram, coordinates=tmp_path / "a.csv", box_nm=12, label_column="kind")
    files.assert_cut(particles, array)
    assert particles.labels == ["1,5 MDa", "NA", "007"]


def test_a_column_that_is_there_twice_is_refused(tmp_path, tomogram, files):
    path = files.csv_of(tmp_path / "a.csv", "x,y, z,x", rows=files.CENTRES[:, [2, 1, 0, 0]])
    files.one_line(lambda: open_particles(tomogram, coordinates=path), "a.csv: column x appears twice")
