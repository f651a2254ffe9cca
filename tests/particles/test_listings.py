"""Folders and STAR files that list particles: which there are, of which class and voxel size."""

import gzip
import os

import pytest
import torch

from cryo_fewshot.particles.base import class_indices
from cryo_fewshot.particles.opening import open_particles


def test_folders_flat_or_with_classes(tmp_path, files):
    for i in range(3):
        files.write(tmp_path / "flat" / f"{i}.mrc", seed=i)
        files.write(tmp_path / "set" / "ab"[i % 2] / f"{i}.mrc", seed=i)
    flat, classes = open_particles(tmp_path / "flat"), open_particles(tmp_path / "set")
    assert flat.labels is None and flat.names == ["0.mrc", "1.mrc", "2.mrc"] and flat.table is None
    assert classes.labels == ["a", "a", "b"] and classes.names[2] == "b/1.mrc"
    assert torch.equal(flat.read([2])[0], classes.read([1])[0])
    files.write(tmp_path / "set" / "loose.mrc")
    files.one_line(lambda: open_particles(tmp_path / "set"), "loose.mrc", "class folders", "move it")


def test_what_does_not_belong_is_passed_over(classes):
    (classes / "b ribosome" / "notes.txt").write_text("not a volume")
    (classes / "b ribosome" / "._0.mrc").write_bytes(b"left by macOS")
    (classes / ".hidden").mkdir()
    (classes / "b ribosome" / "tilts.st").write_bytes(b"")
    particles = open_particles(classes)
    assert particles.labels == ["a protéasome"] * 2 + ["b ribosome"] * 3
    assert f"{classes}: 2 files of other kinds are left out, for example notes.txt" in particles.notes


NO_PARTICLES = ("1_ctf.mrc", "TS_1_0000001_ctf_10.00A.mrc", "1_CTF2.mrc", "p_CTF3D.mrc", "1_weights.mrc", "mask.mrc")
NO_PARTICLES += ("run_half1_unfil.mrc", "run-half_2.mrc")
PARTICLES = (
    "1_data.mrc",
    "1_ctf_corrected.mrc",
    "p_ctfcorr.mrc",
    "actf_1.mrc",
    "masked.mrc",
    "wedged.mrc",
    "half1.mrc",
)
PARTICLES += ("weighted_1.mrc", "half1_1.mrc", "TS_1_0000001_10.00A.mrc")


def test_ctf_weight_mask_and_half_volumes_are_neither_particles_nor_a_class(tmp_path, files):
    for i, name in enumerate([*NO_PARTICLES, *PARTICLES]):
        files.write(tmp_path / "flat" / name, seed=i)
    flat = open_particles(tmp_path / "flat")
    assert sorted(flat.names) == sorted(PARTICLES)
    said = (
        f"{len(NO_PARTICLES)} CTF, weight, mask or half-map volumes by their names are left out, for example 1_CTF2.mrc"
    )
    assert f"{tmp_path / 'flat'}: {said}" in flat.notes
    for i, name in enumerate(("a/1.mrc", "b/2.mrc", "b/2_mask.mrc", "masks/soft_mask.mrc", "ctf/1.mrc")):
        files.write(tmp_path / "set" / name, seed=i)
    classes = open_particles(tmp_path / "set")
    assert classes.labels == ["a", "b"] and any("3 CTF, weight, mask" in note for note in classes.notes)
    files.write(tmp_path / "only" / "1_weights.mrc")
    files.one_line(lambda: open_particles(tmp_path / "only"), "no MRC file", "1 CTF, weight, mask", "1_weights.mrc")


def test_files_of_every_name_are_read_packed_or_not(tmp_path, files):
    for i in range(4):
        files.write(tmp_path / "plain" / f"{i}.mrc", seed=i)
    for i, suffix in enumerate((".mrc.gz", ".map", ".MAP.GZ", ".rec")):
        content = (tmp_path / "plain" / f"{i}.mrc").read_bytes()
        path = tmp_path / "mixed" / f"{i}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content) if suffix.lower().endswith(".gz") else content)
    expected, _ = open_particles(tmp_path / "plain").read(range(4))
    mixed = open_particles(tmp_path / "mixed")
    assert len(mixed) == 4 and torch.equal(mixed.read(range(4))[0], expected)
    assert torch.equal(open_particles(tmp_path / "mixed" / "0.mrc.gz").read([0])[0], expected[:1])
    (tmp_path / "plain" / "0.mrc.gz").write_bytes(b"")
    plain = open_particles(tmp_path / "plain")
    assert len(plain) == 4
    said = "1 packed copies of files beside them are left out, for example 0.mrc.gz"
    assert f"{tmp_path / 'plain'}: {said}" in plain.notes
    listed = files.star_of(tmp_path / "mixed" / "p.star", ["rlnImageName"], [("0.mrc.gz",), ("1.map",)])
    assert torch.equal(open_particles(listed).read(range(2))[0], expected[:2])


def test_bad_folders_are_one_line(classes, tmp_path, files):
    (tmp_path / "none").mkdir()
    files.one_line(lambda: open_particles(tmp_path / "none"), "none", "no MRC file (.mrc, .mrcs", "sub-folder")
    (classes / "empty").mkdir()
    files.one_line(lambda: open_particles(classes), "empty", "no MRC file (.mrc, .mrcs", "remove the folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_one_line(classes, files):
    (classes / "b ribosome").chmod(0)
    try:
        files.one_line(lambda: open_particles(classes), "b ribosome", "Permission denied", "permissions")
    finally:
        (classes / "b ribosome").chmod(0o755)


CLASS_COLUMNS = ("rlnImageName", "rlnClassNumber", "rlnGroupName", "rlnOpticsGroup", "myClass")


def test_the_label_column_is_the_first_that_tells_classes_apart(project, files):
    rows = [(f"p{i}.mrc", i % 2, f"g{i % 2}", 1, f"m{i % 3}") for i in range(5)]
    path = files.star_of(project, CLASS_COLUMNS, rows)
    particles = open_particles(path)
    assert particles.labels == list("01010")
    assert f"{path}: 2 classes in rlnClassNumber: 0 (3), 1 (2)" in particles.notes
    assert open_particles(path, label_column="myClass").labels == ["m0", "m1", "m2", "m0", "m1"]
    words = ("no column rlnName", "label_column (--label-column)", "rlnGroupName")
    files.one_line(lambda: open_particles(path, label_column="rlnName"), *words)


def test_groups_of_intensity_are_no_classes(project, files):
    """After a refinement every particle is of class 1; rlnGroupName tells micrographs apart."""
    rows = [(f"p{i}.mrc", 1, f"group_{i % 2}", 1, f"m{i % 3}") for i in range(5)]
    particles = open_particles(files.star_of(project, CLASS_COLUMNS, rows))
    words = ("only one class (1, 5 particles) in rlnClassNumber", "label_column (--label-column), one of", "myClass")
    files.one_line(lambda: class_indices(particles, project), *words)
    particles = open_particles(files.star_of(project, ("rlnImageName", "rlnGroupName"), [row[:3:2] for row in rows]))
    files.one_line(lambda: class_indices(particles, project), "no class labels", "--label-column")


@pytest.mark.parametrize("column", ["rlnImagePixelSize", "rlnPixelSize", "rlnDetectorPixelSize"])
def test_pixel_sizes_of_older_star_files(project, column, files):
    columns = ("rlnImageName", column, "rlnMagnification")
    path = files.star_of(project, columns, [("p0.mrc", "15.0", 10000)])
    words = ("p0.mrc", "1 nm in its header but 1.5 nm in the STAR", "file_voxel_size_nm (--voxel-size-nm)")
    files.one_line(lambda: open_particles(path), *words)
    assert open_particles(path, file_voxel_size_nm=1.5).voxel_size_nm == 1.5
    files.write(path.parent / "p0.mrc", voxel_size_nm=0)
    assert open_particles(path).voxel_size_nm == 1.5


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
    path = files.star_of(project, columns, rows, files.optics_table((1, 15.0, "2.0"), (2, 15.0, 2)))
    files.one_line(lambda: open_particles(path), "2D images")


def test_the_largest_group_tells_the_box(tmp_path, files):
    """Box and voxel size are those of the group with most particles, not of the first or the one with most files."""
    for i in range(5):
        files.write(tmp_path / f"{i}.mrc", box=12 if i < 2 else 16, voxel_size_nm=1.0 if i < 2 else 1.5, seed=i)
    optics = files.optics_table((1, 10.0, 3), (2, 15.0, 3), (3, 20.0, 3))
    rows = [(f"{i}.mrc", 1 if i < 2 else 2) for i in range(5)] + [("absent.mrc", 3)] * 6
    particles = open_particles(files.star_of(tmp_path / "p.star", ["rlnImageName", "rlnOpticsGroup"], rows, optics))
    assert particles.box == 16 and particles.voxel_size_nm == 1.5
    assert "2 kinds of box or voxel size" in " ".join(particles.notes)
