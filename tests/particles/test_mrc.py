"""One MRC, EM or HDF file: every real mode, and one line for each bad file."""

from pathlib import Path

import emfile
import h5py
import mrcfile
import numpy as np
import pytest

from cryo_fewshot.particles.mrc import (
    checked_volume,
    checked_voxel_size,
    first_line,
    is_mrc,
    open_mrc,
    overruled_remark,
    remark_lines,
    within_range,
    write_mrc,
)
from cryo_fewshot.particles.opening import open_particles


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4", ">f4"])
def test_every_real_mode_is_read(tmp_path, dtype, files):
    volume = np.random.default_rng(0).integers(-100, 100, (8, 8, 8))
    volume = (abs(volume) if dtype == "u2" else volume).astype(dtype)
    file = open_mrc(files.write(tmp_path / "x.mrc", volume, 1.37))
    read = checked_volume(file.data, "x")
    assert np.array_equal(read, volume) and read.dtype == np.float64
    assert file.voxel_size_nm == pytest.approx(1.37) and not file.is_images


def test_a_header_without_voxel_size_states_none(tmp_path, files):
    assert open_mrc(files.write(tmp_path / "x.mrc", voxel_size_nm=0)).voxel_size_nm is None


def header(path, **words):
    """Overwrite 4-byte words of an MRC header by their number, w11=... for the eleventh from 0."""
    content = bytearray(path.read_bytes())
    for word, value in words.items():
        at = 4 * int(word[1:])
        content[at : at + 4] = value.tobytes()
    path.write_bytes(content)
    return path


def test_voxels_must_be_cubes_within_a_thousandth(tmp_path, files):
    path = files.write(tmp_path / "x.mrc", voxel_size_nm=1.0)
    # Words 10, 11 and 12 are the edges of the box in angstrom.
    files.one_line(lambda: open_mrc(header(path, w11=np.float32(121))), "1 x 1.008 x 1 nm", "cubic voxels")
    assert open_mrc(header(path, w11=np.float32(120.06))).voxel_size_nm == pytest.approx(1.0)


@pytest.mark.parametrize(("order", "sizes"), [((1, 2, 3), (15.0, 15.0, 0.0)), ((3, 2, 1), (0.0, 15.0, 15.0))])
def test_sections_of_an_image_stack_have_no_thickness_whichever_their_axis(tmp_path, files, order, sizes):
    images = np.random.default_rng(0).normal(size=(7, 8, 8)).astype(np.float32)
    with mrcfile.new(tmp_path / "x.mrc", images) as file:
        file.set_image_stack()
        file.voxel_size = sizes
        file.header.mapc, file.header.mapr, file.header.maps = order
    file = open_mrc(tmp_path / "x.mrc")
    assert file.is_images and file.voxel_size_nm == pytest.approx(1.5)
    assert np.array_equal(file.data, images.transpose([3 - axis for axis in order[::-1]]))
    files.one_line(lambda: checked_volume(file.data, "x.mrc", True), "x.mrc", "a stack of images", "cubic box")


@pytest.mark.parametrize("extended", [0, 80])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_file_of_old_is_read_where_its_size_fits(order, extended, tmp_path, files):
    path = files.write(tmp_path / "a.mrc", files.noise().astype(f"{order}f4"))
    header(path, w52=np.int32(0), w53=np.int32(0), w23=np.array(extended, f"{order}i4"))  # map ID, stamp, nsymbt
    content = path.read_bytes()
    path.write_bytes(content[:1024] + bytes(extended) + content[1024:])
    assert np.array_equal(open_mrc(path).data, files.noise())
    path.write_bytes(path.read_bytes() + b"x")
    files.one_line(lambda: open_mrc(path), "not a whole MRC file (Map ID")


def test_a_written_map_is_read_back(tmp_path, files):
    write_mrc(tmp_path / "out" / "map.mrc", files.noise().astype(float), 1.368)
    file = open_mrc(tmp_path / "out" / "map.mrc")
    assert np.array_equal(file.data, files.noise()) and file.voxel_size_nm == pytest.approx(1.368)


def test_a_volume_that_is_no_cube_need_not_be_a_stack(files):
    files.one_line(lambda: checked_volume(files.noise()[1:], "x"), "x: 11 x 12 x 12 voxels, not a cube, perhaps a")
    files.one_line(lambda: checked_volume(files.noise()[:, 1:], "x"), "x: 12 x 11 x 12 voxels, not a cube; cut")


@pytest.mark.parametrize(("dtype", "highest", "said"), [("u1", 255, "read as unsigned"), ("i1", 127, "")])
def test_bytes_are_signed_or_not_as_the_header_says(tmp_path, files, dtype, highest, said):
    volume = np.random.default_rng(0).integers(0, highest, (8, 8, 8)).astype(dtype)
    path = header(files.write(tmp_path / "x.mrc", volume.view("i1")), w19=np.float32(0), w20=np.float32(highest))
    file = open_mrc(path)
    assert np.array_equal(checked_volume(file.data, "x"), volume)
    assert said in " ".join(file.remarks) and bool(file.remarks) == bool(said)


@pytest.mark.parametrize("order", [(3, 2, 1), (2, 3, 1)])
def test_axes_are_turned_to_zyx_and_the_voxel_size_with_them(tmp_path, files, order):
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)  # zyx
    cell = dict(zip(("w7", "w8", "w9"), map(np.int32, (6, 5, 4)), strict=True))
    cell |= dict(zip(("w10", "w11", "w12"), map(np.float32, (60, 50, 40)), strict=True))
    axes = [3 - axis for axis in order]  # of the array, fastest first
    path = files.write(tmp_path / "x.mrc", np.ascontiguousarray(volume.transpose(axes[::-1])))
    file = open_mrc(header(path, **cell, **dict(zip(("w16", "w17", "w18"), map(np.int32, order), strict=True))))
    assert np.array_equal(file.data, volume) and file.voxel_size_nm == pytest.approx(1.0)
    assert "axes turned to the order x, y, z" in file.remarks[0]


def test_a_true_angstrom_is_known_by_its_width(files):
    assert checked_voxel_size(0.1, 300, "x.mrc") == 0.1
    files.one_line(lambda: checked_voxel_size(0.1, 299, "x.mrc"), "x.mrc", "29.9 nm", "programs write")
    assert checked_voxel_size(0.1001, 40, "x.mrc") == 0.1001
    assert checked_voxel_size(0.1 + 9e-6, 300, "x.mrc") == 0.1 + 9e-6
    files.one_line(lambda: checked_voxel_size(0.1 + 9e-6, 299, "x.mrc"), "voxel size 1.000 A")
    assert checked_voxel_size(0.1, 200, "x.mrc", 20.0) == 0.1
    files.one_line(lambda: checked_voxel_size(0.0998, 400, "x.mrc"), "0.0998 nm (0.998 A), not between 0.1 and 10 nm")


def test_a_voxel_size_lies_from_one_angstrom_to_below_10_nm():
    nm = (0.0998, 0.09995, 0.1, 9.999, 10.0, 15.0)
    assert [within_range(size) for size in nm] == [False, True, True, True, False, False]


def test_another_voxel_size_than_that_of_the_files_is_said():
    for given, known in ((None, 1.0), (1.0, None), (1.009, 1.0), (0.991, 1.0)):
        assert overruled_remark(given, known) == ()
    assert overruled_remark(1.02, 1.0) == ("voxel size 1 nm, overridden by the 1.02 nm given",)
    assert overruled_remark(0.5, 1.0) == ("voxel size 1 nm, overridden by the 0.5 nm given",)
    default = "voxel size 1.000 A, a program's default, replaced by the 1.5 nm given"
    assert overruled_remark(1.5, 0.1) == overruled_remark(1.5, 0.1 + 9e-6) == (default,)
    assert overruled_remark(1.5, 0.1002) == ("voxel size 0.1002 nm, overridden by the 1.5 nm given",)


def test_a_remark_is_said_once_with_its_first_file_and_how_many_share_it():
    a, b, c = map(Path, "abc")
    assert remark_lines({a: ("x",)}) == ("a: x",)
    assert remark_lines({a: (), b: ("x", "y"), c: ("x",)}) == (
        "b: x (2 of 3 files looked at)",
        "b: y (1 of 3 files looked at)",
    )
    assert remark_lines({}) == ()


def test_names_of_mrc_files():
    names = {"a.mrc": True, "a.MRCS": True, "a.map.gz": True, "a.em": True, "a.st": False, "a.gz": False}
    names |= {"._a.mrc": False, "mrc": False}
    assert {name: is_mrc(Path("folder") / name) for name in names} == names


def test_the_first_line_of_an_error_is_its_name_where_it_says_nothing():
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(KeyError()) == "KeyError"


def test_a_single_section_and_an_empty_file_are_no_error_of_numpy(tmp_path, files):
    path = files.write(tmp_path / "x.mrc")
    path.write_bytes(path.read_bytes() + bytes(12 * 12 * 4 - 1))
    assert not open_mrc(path).remarks  # less than a section
    path.write_bytes(path.read_bytes() + b"x")
    assert "1 more sections than its header counts (nz)" in open_mrc(path).remarks[0]
    one = files.write(tmp_path / "one.mrc", np.zeros((1, 12, 12)))
    assert open_mrc(one).data.shape == (1, 12, 12) and not open_mrc(one).remarks
    one.write_bytes(one.read_bytes() + bytes(2 * 12 * 12 * 4))
    assert "2 more sections" in open_mrc(one).remarks[0]


def test_a_packed_file_is_read_like_a_plain_one(tmp_path, files):
    import gzip

    path = files.write(tmp_path / "x.mrc", voxel_size_nm=1.4)
    (tmp_path / "x.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    packed = open_mrc(tmp_path / "x.mrc.gz")
    assert np.array_equal(packed.data, files.noise()) and packed.voxel_size_nm == pytest.approx(1.4)
    assert not packed.remarks
    (tmp_path / "y.mrc.gz").write_bytes(gzip.compress(path.read_bytes()[:3000]))
    files.one_line(lambda: open_mrc(tmp_path / "y.mrc.gz"), "y.mrc.gz: not a whole MRC file")


def test_volumes_of_em_files(tmp_path, files):
    (tmp_path / "set").mkdir()
    for i in range(3):
        emfile.write(tmp_path / "set" / f"particle_{i}.em", files.noise(i))
        files.write(tmp_path / "same" / f"particle_{i}.mrc", seed=i)
    files.one_line(lambda: open_particles(tmp_path / "set"), "states no voxel size", "--voxel-size-nm")
    found = open_particles(tmp_path / "set", file_voxel_size_nm=1.0).read(range(3), 12, 1.0)[0]
    assert bool((found == open_particles(tmp_path / "same").read(range(3), 12, 1.0)[0]).all())


def test_an_em_file_holds_real_numbers_of_a_pc(tmp_path, files):
    emfile.write(tmp_path / "a.em", files.noise())
    content = bytearray((tmp_path / "a.em").read_bytes())
    assert content[0] == 6 and open_mrc(tmp_path / "a.em").voxel_size_nm is None
    assert not open_mrc(tmp_path / "a.em").is_images
    content[0] = 5
    (tmp_path / "a.em").write_bytes(content)
    files.one_line(lambda: open_mrc(tmp_path / "a.em"), "a.em: machine code 5", "real numbers of a PC (6)")
    files.one_line(lambda: open_mrc(tmp_path / "absent.em"), "absent.em: cannot be read")


@pytest.mark.parametrize("name", ["a.em", "a.hdf", "A.EM"])
def test_a_damaged_file_is_one_line(name, tmp_path, files):
    (tmp_path / name).write_bytes(b"boxes_3d 1 2 3\n4 x")
    files.one_line(lambda: open_mrc(tmp_path / name), f"{name}: not a whole {name[2:].upper()} file")


def hdf(path, *volumes, size_a=10.0, **attributes):
    """As EMAN2 lays it out; attributes without their EMAN. of the last volume."""
    with h5py.File(path, "w") as file:
        for i, volume in enumerate(volumes):
            group = file.create_group(f"MDF/images/{i}")
            group.create_dataset("image", data=volume, compression="gzip")
            group.attrs["EMAN.apix_x"] = size_a
        group.attrs.update({f"EMAN.{name}": value for name, value in attributes.items()})
    return path


def test_volumes_of_hdf_files(tmp_path, tomogram, array, files):
    stack = [files.noise(i) for i in range(11)]
    particles = open_particles(hdf(tmp_path / "stack.hdf", *stack))
    for i, volume in enumerate(stack):
        files.write(tmp_path / "same" / f"{i:02d}.mrc", volume)
    expected = open_particles(tmp_path / "same").read(range(11), 12, 1.0)[0]
    assert particles.voxel_size_nm == 1.0 and bool((particles.read(range(11), 12, 1.0)[0] == expected).all())
    single = open_particles(hdf(tmp_path / "one.hdf", stack[3]))
    assert bool((single.read([0], 12, 1.0)[0] == expected[3]).all())
    csv = files.csv_of(tmp_path / "a.csv")
    files.assert_cut(open_particles(hdf(tmp_path / "TS_1.hdf", array), coordinates=csv, box_nm=12), array)
    files.one_line(lambda: open_particles(hdf(tmp_path / "images.hdf", stack[0][0])), "images of {2} axes")
    files.one_line(lambda: open_particles(hdf(tmp_path / "no.hdf", stack[0], size_a=0.0)), "states no voxel size")


def test_voxels_of_an_hdf_file_are_cubic_and_of_one_size(tmp_path, files):
    two = [files.noise(i) for i in range(2)]
    assert open_mrc(hdf(tmp_path / "a.hdf", *two, apix_y=10.005)).voxel_size_nm == pytest.approx(1.0, rel=1e-3)
    for changed in ({"apix_y": 10.02}, {"apix_x": 12.0, "apix_y": 12.0, "apix_z": 12.0}):
        path = hdf(tmp_path / f"b{len(changed)}.hdf", *two, **changed)
        files.one_line(lambda path=path: open_mrc(path), ": voxels of 1 x 1", "cubic voxels of one size")
    path = hdf(tmp_path / "c.hdf", *two, is_complex=1)
    files.one_line(lambda: open_mrc(path), "c.hdf: Fourier transforms")
    stack = open_mrc(hdf(tmp_path / "d.hdf", *two)).data
    assert len(stack) == 2 and stack.ndim == 4
    assert all(np.array_equal(checked_volume(stack[i], "x"), two[i]) for i in range(2))
    assert open_mrc(hdf(tmp_path / "e.hdf", two[0], size_a=np.inf)).voxel_size_nm is None
    assert open_mrc(hdf(tmp_path / "f.hdf", two[0], size_a=0.9)).voxel_size_nm == pytest.approx(0.09)
