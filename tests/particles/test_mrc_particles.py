"""Particles in MRC files: where files are looked for, and that a bad particle costs itself alone."""

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import write_star


def test_volumes_of_a_stack(tmp_path, files):
    stack = np.stack([files.noise(i) for i in range(4)])
    files.write(tmp_path / "stack.mrcs", stack)
    for i in range(4):
        files.write(tmp_path / "single" / f"{i}.mrc", stack[i])
    expected, _ = open_particles(tmp_path / "single").read(range(4))
    assert torch.equal(open_particles(tmp_path / "stack.mrcs").read(range(4))[0], expected)
    rows = [("000003@stack.mrcs",), ("1@stack.mrcs",), ("9@stack.mrcs",), ("stack.mrcs",), ("2@single/1.mrc",)]
    volumes, rejected = open_particles(files.star_of(tmp_path / "s.star", ["rlnImageName"], rows)).read(range(5))
    assert torch.equal(volumes[:2], expected[[2, 0]])
    assert "the stack has 4 volumes" in rejected[2] and "name one as 1@stack.mrcs" in rejected[3]
    assert "not a stack" in rejected[4]


def test_optics_groups_of_two_pixel_sizes_come_out_alike(tmp_path, files):
    for i, (box, nm) in enumerate([(28, 1.43), (40, 1.0)]):
        z, y, x = (np.indices((box,) * 3) - box // 2) * nm
        blobs = np.exp(-(x**2 + (y - 3) ** 2 + z**2) / 20) - np.exp(-((x + 5) ** 2 + y**2 + (z - 4) ** 2) / 30)
        files.write(tmp_path / f"{i}.mrc", blobs, nm)
    optics = files.optics_table((1, 14.3, 3), (2, 10.0, 3))
    columns = ("rlnImageName", "rlnOpticsGroup")
    particles = open_particles(files.star_of(tmp_path / "p.star", columns, [("0.mrc", 1), ("1.mrc", 2)], optics))
    volumes, rejected = particles.read([0, 1])
    assert not rejected and "2 kinds of box or voxel size" in " ".join(particles.notes)
    assert (volumes[0] * volumes[1]).mean() > 0.98


def test_a_moved_project_is_found_again(project, tmp_path, files):
    moved = tmp_path / "elsewhere" / "p.star"
    moved.parent.mkdir()
    moved.write_bytes(project.read_bytes())
    files.one_line(lambda: open_particles(moved), "Extract/job001/p", "p.star", "give root")
    root = project.parents[2]
    assert not open_particles(moved, root=root).read(range(6))[1]
    rows = [(f"/old/server/data/Extract/job001/p{i}.mrc",) for i in range(6)]
    absolute = files.star_of(moved, ["rlnImageName"], rows)
    files.one_line(lambda: open_particles(absolute), "/old/server/data/Extract/job001/p", "give root")
    assert not open_particles(absolute, root=root).read(range(6))[1]
    inside = files.star_of(root / "p.star", ["rlnImageName"], rows)
    assert not open_particles(inside).read(range(6))[1]
    files.one_line(lambda: open_particles(moved, root=tmp_path / "absent"), "root=", "no such folder")


def test_the_same_name_in_another_folder_is_not_taken(tmp_path, files):
    files.write(tmp_path / "p0.mrc")
    star = files.star_of(tmp_path / "p.star", ["rlnImageName"], [("/old/TS_01/p0.mrc",)])
    files.one_line(lambda: open_particles(star), "/old/TS_01/p0.mrc", "give root")


def with_value(index, value):
    volume = np.random.default_rng(0).normal(size=(12,) * 3)
    volume[index] = value
    return volume


WHOLE = ("not a whole MRC file", "again")
WRONG_VOLUMES = {
    "complex": (np.ones((12,) * 3, np.complex64), ("mode 4", "mode 2 (float32)")),
    "NaN": (with_value((1, 2, 3), np.nan), ("1 voxels are NaN",)),
    "infinite": (with_value(4, np.inf), ("144 voxels are NaN or infinite",)),
    "constant": (np.full((12,) * 3, 7.0), ("every voxel is 7", "remove")),
    "no cube": (np.ones((11, 12, 12)), ("11 x 12 x 12", "cubic box")),
    "an image": (np.eye(12), ("12 x 12 voxels", "cubic box")),
    "another box": (with_value(0, 0)[:10, :10, :10], ("box of 10 voxels", "have 12", "one box")),
}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path, _: path.write_bytes(path.read_bytes()[:3000]), (*WHOLE, "file size")),
        (lambda path, _: path.write_bytes(b""), WHOLE),
        (lambda path, _: path.write_bytes(b"\x80\x02 pickled" * 500), WHOLE),
        *((lambda path, files, v=v: files.write(path, v), words) for v, words in WRONG_VOLUMES.values()),
        (
            lambda path, files: files.write(path, voxel_size_nm=1.2),
            ("1.2 nm in its header but 1 nm in", "file_voxel_size_nm (--voxel-size-nm)"),
        ),
        (lambda path, _: path.unlink(), ("named in", "particles.star", "correct the name")),
        (lambda path, _: path.unlink() or path.mkdir(), ("cannot be read",)),
    ],
    ids=["cut short", "empty", "bytes", *WRONG_VOLUMES, "voxel size", "absent", "a folder"],
)
def test_a_bad_particle_is_rejected_and_the_rest_is_read(project, spoil, words, files):
    clean, _ = open_particles(project).read(range(6))
    spoil(project.parent / "p3.mrc", files)
    particles = open_particles(project)
    volumes, rejected = particles.read(range(6))
    assert list(rejected) == [3] and not volumes[3].any()
    assert "p3.mrc" in rejected[3] and "\n" not in rejected[3] and all(word in rejected[3] for word in words), rejected
    others = [0, 1, 2, 4, 5]
    assert torch.equal(volumes[others], clean[others])


def test_a_file_of_another_voxel_size_is_told_from_the_headers_of_the_others(classes, files):
    files.write(classes / "b ribosome" / "1.mrc", voxel_size_nm=1.2)
    files.write(classes / "b ribosome" / "2.mrc", voxel_size_nm=0)
    particles = open_particles(classes)
    rejected = particles.read(range(5))[1]
    assert sorted(rejected) == [3, 4]
    assert "1.2 nm but most of" in rejected[3] and "have 1 nm" in rejected[3] and "--voxel-size-nm" in rejected[3]
    assert "no voxel size" in rejected[4] and "--voxel-size-nm" in rejected[4]
    assert not open_particles(classes, file_voxel_size_nm=1.4).read(range(5))[1]
    # Within a thousandth two sizes are one; within a hundredth a header and a STAR file are.
    for nm in (1.0005, 0.9995):
        files.write(classes / "b ribosome" / "1.mrc", voxel_size_nm=nm)
        assert sorted(open_particles(classes).read(range(5))[1]) == [4]


@pytest.mark.parametrize(("nm", "agree"), [(0.992, True), (1.008, True), (0.988, False), (1.012, False)])
def test_a_header_and_a_star_file_agree_within_a_hundredth(project, files, nm, agree):
    files.write(project.parent / "p0.mrc", voxel_size_nm=nm)
    found = open_particles(project).source.agreed_voxel_size
    if agree:
        assert found(0, project, nm, 12) == 1.0
    else:
        files.one_line(lambda: found(0, project, nm, 12), f"voxel size {nm:.4g} nm in its header but 1 nm in the STAR")


def test_a_row_without_a_name_is_rejected(tmp_path, files):
    files.write(tmp_path / "p.mrc")
    star = files.star_of(tmp_path / "p.star", ["rlnImageName", "rlnClassNumber"], [("p.mrc", 1), ('""', 2), ("nan", 2)])
    _, rejected = open_particles(star).read(range(3))
    assert "row 2 names no file" in rejected[1] and 2 in rejected


def test_a_path_may_hold_an_at(tmp_path, files):
    files.write(tmp_path / "me@home" / "p.mrc")
    star = files.star_of(tmp_path / "p.star", ["rlnImageName"], [("me@home/p.mrc",), ("0@me@home/p.mrc",)])
    rejected = open_particles(star).read(range(2))[1]
    assert list(rejected) == [1] and "0@me@home/p.mrc" in rejected[1], "volumes are counted from 1"


def test_a_disk_that_is_mounted_elsewhere_is_the_root(tmp_path, files):
    files.write(tmp_path / "mount" / "old" / "p0.mrc")
    star = files.star_of(tmp_path / "p.star", ["rlnImageName"], [("/old/p0.mrc",)])
    assert not open_particles(star, root=tmp_path / "mount").read([0])[1]


def test_how_headers_were_read_is_told_once_for_all_files(tmp_path, files):
    for i in range(4):
        path = files.write(tmp_path / f"{i}.mrc", np.random.default_rng(i).integers(-128, 128, (12,) * 3).astype("i1"))
        content = bytearray(path.read_bytes())
        content[76:88] = np.array([0, 255, 127.5], "<f4").tobytes()
        path.write_bytes(content)
    (note,) = (note for note in open_particles(tmp_path).notes if "unsigned" in note)
    assert ".mrc: bytes read as unsigned" in note and note.endswith("(4 of 4 files looked at)")


def test_a_voxel_size_that_no_program_knew_is_refused_until_it_is_confirmed(tmp_path, files):
    for i in range(3):
        files.write(tmp_path / f"{i}.mrc", seed=i, voxel_size_nm=0.1)
    words = ("1.000 A, which programs write when they do not know", "12 voxels would be 1.2 nm")
    remedy = ("if that is right give file_voxel_size_nm (--voxel-size-nm) 0.1, else the right one in nm",)
    files.one_line(lambda: open_particles(tmp_path), f"{tmp_path}/", *words, *remedy)
    for nm in (0.1, 1.0):
        given = open_particles(tmp_path, file_voxel_size_nm=nm)
        assert given.voxel_size_nm == nm and not given.read(range(3), 12, nm)[1]
    optics = files.optics_table((1, "1.0", 3))
    star = files.star_of(tmp_path / "p.star", ["rlnImageName", "rlnOpticsGroup"], [("0.mrc", 1)], optics)
    files.one_line(lambda: open_particles(star), *words)


def test_a_voxel_size_that_overrules_those_of_the_files_is_told(project, classes):
    for path, given, n in ((classes, 1.25, 5), (project, 1.5, 6), (classes, 1.001, None)):
        told = [note for note in open_particles(path, file_voxel_size_nm=given).notes if "overridden" in note]
        said = f"voxel size 1 nm, overridden by the {given:g} nm given ({n} of {n} files looked at)"
        assert len(told) == (n is not None) and all(note.endswith(said) for note in told)


def test_whole_names_and_names_that_windows_wrote(project, files):
    whole = f"{project.parent}/p{{}}.mrc"
    for name in (r"D:\data\Extract\job001\p{}.mrc", r"..\job001\p{}.mrc", r"job001\p{}.mrc", whole):
        star = files.star_of(project, ["rlnImageName"], [(name.format(i),) for i in range(3)])
        volumes, rejected = open_particles(star).read(range(3), 12, 1.0)
        assert not rejected
        beside = files.star_of(project, ["rlnImageName"], [(f"p{i}.mrc",) for i in range(3)])
        torch.testing.assert_close(volumes, open_particles(beside).read(range(3), 12, 1.0)[0])


def test_what_is_written_elsewhere_finds_its_files(classes, tmp_path, files):
    """A folder, and a stack, of which another folder's STAR file lists some."""
    stack = np.stack([files.noise(seed) for seed in range(3)])
    files.write(tmp_path / "s" / "all.mrcs", stack)
    for given in (classes, tmp_path / "s" / "all.mrcs"):
        first = open_particles(given, dark_protein=True)
        write_star(tmp_path / "out" / "classes" / "a.star", first, rows=[2, 0])
        again = open_particles(tmp_path / "out" / "classes" / "a.star", dark_protein=True)
        torch.testing.assert_close(again.read([0, 1], 12, 1.0)[0], first.read([2, 0], 12, 1.0)[0])
        write_star(tmp_path / "third.star", again)
        assert not open_particles(tmp_path / "third.star", dark_protein=True).read([0, 1])[1]
