"""One MRC file: every real mode, and one line for each bad file."""

import numpy as np
import pytest

from cryo_fewshot.particles.mrc import checked_volume, open_mrc, write_mrc

pytest.importorskip("mrcfile")


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


def test_sections_of_an_image_stack_have_no_thickness(tmp_path, files):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(tmp_path / "x.mrc", np.zeros((7, 8, 8), np.float32)) as file:
        file.set_image_stack()
        file.voxel_size = (15.0, 15.0, 0.0)
    file = open_mrc(tmp_path / "x.mrc")
    assert file.is_images and file.voxel_size_nm == pytest.approx(1.5)
    files.one_line(lambda: checked_volume(file.data, "x.mrc", True), "x.mrc", "a stack of images", "cubic box")


def test_a_written_map_is_read_back(tmp_path, files):
    write_mrc(tmp_path / "out" / "map.mrc", files.noise().astype(float), 1.368)
    file = open_mrc(tmp_path / "out" / "map.mrc")
    assert np.array_equal(file.data, files.noise()) and file.voxel_size_nm == pytest.approx(1.368)


def test_a_volume_that_is_no_cube_is_not_called_a_stack(files):
    files.one_line(lambda: checked_volume(files.noise()[1:], "x.mrc"), "x.mrc: 11 x 12 x 12 voxels, not a cube")
