"""What the size and the shape of an MRC file say: sections beyond those counted, files of old, images."""

import gzip

import numpy as np
import pytest

from cryo_fewshot.particles.mrc import checked_volume, open_mrc

mrcfile = pytest.importorskip("mrcfile")


def test_sections_of_a_stack_of_volumes_are_counted_one_by_one(tmp_path, files):
    path = files.write(tmp_path / "a.mrcs", np.stack([files.noise(i) for i in range(3)]))
    assert not open_mrc(path).remarks
    path.write_bytes(path.read_bytes() + bytes(2 * 12 * 12 * 4))
    assert open_mrc(path).remarks == ("2 more sections than its header counts (nz), which are not read",)


@pytest.mark.parametrize("symbols", [0, 160])
def test_a_file_of_old_is_one_whose_size_is_what_its_header_says(symbols, tmp_path, files):
    path = files.write(tmp_path / "a.mrc", files.noise())
    content = bytearray(path.read_bytes())
    content[92:96] = np.int32(symbols).tobytes()  # nsymbt, bytes between header and voxels
    content[208:216] = bytes(8)  # map ID and machine stamp
    content[1024:1024] = bytes(symbols)
    path.write_bytes(content)
    assert np.array_equal(open_mrc(path).data, files.noise())
    packed = tmp_path / "a.mrc.gz"
    packed.write_bytes(gzip.compress(content))
    files.one_line(lambda: open_mrc(packed), "not a whole MRC file")
    for other in (content[:-1], content + b"x"):
        path.write_bytes(other)
        files.one_line(lambda: open_mrc(path), "not a whole MRC file")


@pytest.mark.parametrize(
    ("shape", "stack"), [((5, 8, 8), True), ((8, 8, 5), False), ((5, 6, 7), False), ((8, 5, 8), False), ((5, 8), False)]
)
def test_square_sections_are_perhaps_a_stack_of_images(shape, stack, files):
    said = f"x: {' x '.join(map(str, shape))} voxels, not a cube" + ", perhaps a stack of images" * stack + "; cut"
    files.one_line(lambda: checked_volume(np.zeros(shape), "x"), said)
