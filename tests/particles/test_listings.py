"""Folders and STAR files that list particles: which there are, of which class and voxel size."""

import os

import pytest
import torch

from cryo_fewshot.particles.opening import open_particles

pytest.importorskip("mrcfile")
pytest.importorskip("starfile")


def test_folders_flat_or_with_classes(tmp_path, files):
    for i in range(3):
        files.write(tmp_path / "flat" / f"{i}.mrc", seed=i)
        files.write(tmp_path / "set" / "ab"[i % 2] / f"{i}.mrc", seed=i)
    flat, classes = open_particles(tmp_path / "flat"), open_particles(tmp_path / "set")
    assert flat.labels is None and flat.names == ["0.mrc", "1.mrc", "2.mrc"] and flat.table is None
    assert classes.labels == ["a", "a", "b"] and classes.names[2] == "b/1.mrc"
    assert torch.equal(flat.read([2])[0], classes.read([1])[0])
    files.write(tmp_path / "set" / "loose.mrc")
    files.one_line(lambda: open_particles(tmp_path / "set"), "loose.mrc", "folders of classes", "move it")


def test_what_does_not_belong_is_passed_over(classes):
    (classes / "b ribosome" / "notes.txt").write_text("not a volume")
    (classes / "b ribosome" / "._0.mrc").write_bytes(b"left by macOS")
    (classes / ".hidden").mkdir()
    assert open_particles(classes).labels == ["a protéasome"] * 2 + ["b ribosome"] * 3


def test_bad_folders_are_one_line(classes, tmp_path, files):
    (tmp_path / "none").mkdir()
    files.one_line(lambda: open_particles(tmp_path / "none"), "none", "no .mrc or .mrcs file in it", "sub-folder")
    (classes / "empty").mkdir()
    files.one_line(lambda: open_particles(classes), "empty", "no .mrc or .mrcs file", "remove the folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_one_line(classes, files):
    (classes / "b ribosome").chmod(0)
    try:
        files.one_line(lambda: open_particles(classes), "b ribosome", "Permission denied", "permissions")
    finally:
        (classes / "b ribosome").chmod(0o755)


CLASS_COLUMNS = ("rlnImageName", "rlnClassNumber", "rlnGroupName", "rlnOpticsGroup", "myClass")


def test_names_may_be_relative_to_the_star_file_or_whole(project, files):
    beside = files.star_of(project, ["rlnImageName"], [(f"p{i}.mrc",) for i in range(4)])
    assert not open_particles(beside).read(range(4))[1]
    whole = files.star_of(project, ["rlnImageName"], [(project.parent / "p1.mrc",)])
    assert not open_particles(whole).read([0])[1]


def test_the_label_column_is_the_first_that_tells_classes_apart(project, files):
    rows = [(f"p{i}.mrc", 1, f"g{i % 2}", 1, f"m{i % 3}") for i in range(5)]
    path = files.star_of(project, CLASS_COLUMNS, rows)
    assert open_particles(path).labels == ["g0", "g1", "g0", "g1", "g0"]
    assert open_particles(path, label_column="myClass").labels == ["m0", "m1", "m2", "m0", "m1"]
    words = ("no column rlnName", "label_column (--label-column)", "rlnGroupName")
    files.one_line(lambda: open_particles(path, label_column="rlnName"), *words)
    assert open_particles(files.star_of(project, CLASS_COLUMNS[:2], [("p0.mrc", 7)])).labels == ["7"]
    assert open_particles(files.star_of(project, CLASS_COLUMNS[:1], [("p0.mrc",)])).labels is None


@pytest.mark.parametrize("column", ["rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize"])
def test_pixel_sizes_of_older_star_files(project, column, files):
    columns = ("rlnImageName", column, "rlnMagnification")
    path = files.star_of(project, columns, [("p0.mrc", "15.0", 10000)])
    words = ("p0.mrc", "1 nm in its header but 1.5 nm in the STAR", "file_voxel_size_nm (--voxel-size-nm)")
    files.one_line(lambda: open_particles(path), *words)
    assert open_particles(path, file_voxel_size_nm=1.5).voxel_size_nm == 1.5
    files.write(path.parent / "p0.mrc", voxel_size_nm=0)
    assert open_particles(path).voxel_size_nm == 1.5


def test_a_star_file_without_pixel_size_leaves_it_to_the_headers(project, files):
    path = files.star_of(project, ["rlnImageName", "rlnDetectorPixelSize"], [("p0.mrc", 15)])
    assert open_particles(path).voxel_size_nm == pytest.approx(1.0)


def test_bad_star_files_are_one_line(project, files):
    def attempt(columns, rows, *words, optics=""):
        files.one_line(lambda: open_particles(files.star_of(project, columns, rows, optics)), *words)

    whole = project.read_bytes()
    attempt(["rlnImageName"], [("p9.mrc",)], "p9.mrc", "particles.star", "give root (--root)", "correct the name")
    attempt(["rlnImageName"], [], "lists no particles")
    attempt(["rlnTomoName"], [("a",)], "no column rlnImageName")
    flat = files.optics_table((1, 10.0, 2))
    attempt(["rlnImageName"], [("p0.mrc",)], "2D images without rlnTomoName", "give subtomograms", optics=flat)
    for content in (b"", b"just words\n", b"data_\nloop_\n_rlnImageName #1\n_b #2\nx y z\na\n", b"\xff\xfe\x00data_"):
        project.write_bytes(content)
        files.one_line(lambda: open_particles(project), "particles.star")
    project.write_bytes(whole)
    assert len(open_particles(project)) == 6, "nothing of the bad ones is remembered"


def test_optics_groups_are_numbers_and_all_in_the_table(project, files):
    columns = ("rlnImageName", "rlnOpticsGroup")
    for name in ("p0.mrc", "p1.mrc"):
        files.write(project.parent / name, voxel_size_nm=0)
    optics = files.optics_table((1, 15.0, 3), ("2.0", 20.0, 3))
    rows = [("p0.mrc", "1.000000"), ("p1.mrc", 2)]
    particles = open_particles(files.star_of(project, columns, rows, optics))
    assert particles.source.voxel_sizes_nm == (1.5, 2.0)
    path = files.star_of(project, columns, [*rows, ("p1.mrc", 3), ("p1.mrc", 3)], optics)
    files.one_line(lambda: open_particles(path), "group 3, of 2 rows", "not in the table of optics (1, 2)", "correct")
    path = files.star_of(project, columns, rows, files.optics_table((1, 15.0, 3), ("1.0", 20.0, 3), (2, 20.0, 3)))
    files.one_line(lambda: open_particles(path), "group 1 is there twice")
    path = files.star_of(project, columns, rows, files.optics_table((1, 15.0, "2.0"), (2, 15.0, 2)))
    files.one_line(lambda: open_particles(path), "2D images")
