"""Volumes of EM files and of HDF files of EMAN2."""

import numpy as np
import pytest

from cryo_fewshot.particles.mrc import checked_volume, open_mrc
from cryo_fewshot.particles.opening import open_particles

emfile = pytest.importorskip("emfile")


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
    with pytest.importorskip("h5py").File(path, "w") as file:
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
