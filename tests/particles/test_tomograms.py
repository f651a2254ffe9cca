"""Tomograms and the boxes that are cut from them."""

import copy
import gzip
import tracemalloc

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.opening import open_particles

mrcfile = pytest.importorskip("mrcfile")


def test_edges_are_filled_on_request(tomogram, tmp_path, array, files):
    particles = open_particles(files.csv_of(tmp_path / "a.csv"), tomogram=tomogram, box_nm=12, pad_edges=True)
    (volume,), rejected = particles.read([2], 12, 1.0)
    assert not rejected and volume[:4].abs().max() < 1e-5
    inside = torch.from_numpy(array[:8, 14:26, 19:31])
    assert np.corrcoef(volume[4:].flatten(), inside.flatten())[0, 1] > 0.9999


@pytest.mark.parametrize("name", ["TS_1.mrc.gz", "TS_1.map", "TS_1.rec", "TS_1.rec.gz"])
def test_tomograms_of_every_name(tomogram, tmp_path, array, files, name):
    content = tomogram.read_bytes()
    path = tmp_path / "all" / name
    path.parent.mkdir()
    path.write_bytes(gzip.compress(content, 1) if name.endswith(".gz") else content)
    particles = open_particles(files.csv_of(tmp_path / "a.csv"), tomogram=path, box_nm=12)
    files.assert_cut(copy.deepcopy(particles), array)
    rows = [["TS_1", *row] for row in files.CENTRES[:, ::-1]]
    listed = files.star_of(tmp_path / "a.star", ["rlnTomoName", *(f"rlnCoordinate{c}" for c in "XYZ")], rows)
    files.assert_cut(open_particles(listed, tomogram=path.parent, box_nm=12), array)
    tilts = path.with_name("tilts.st")
    tilts.write_bytes(content)
    files.one_line(lambda: open_particles(tmp_path / "a.csv", tomogram=tilts), "tilts.st: not a tomogram")


def test_a_tomogram_of_a_voxel_size_that_no_program_knew_is_refused(tmp_path, array, files):
    path = files.write(tmp_path / "a.mrc", array, voxel_size_nm=0.1)
    coordinates = files.csv_of(tmp_path / "a.csv")
    files.one_line(lambda: open_particles(coordinates, tomogram=path), "a.mrc", "1.000 A", "52 voxels would be 5.2 nm")
    given = open_particles(coordinates, tomogram=path, file_voxel_size_nm=1.0, box_nm=12)
    files.assert_cut(given, array)
    assert f"{path}: voxel size 1.000 A, a program's default, replaced by the 1 nm given" in given.notes


def test_only_the_boxes_are_read(tmp_path, files):
    """A tomogram of 4 GB that is a hole on disk: opened and read within a few MB."""
    path = tmp_path / "large.mrc"
    files.write(path, np.zeros((2, 1024, 1024), np.float32))
    content = bytearray(path.read_bytes()[:1024])
    content[8:12] = content[36:40] = (1000).to_bytes(4, "little")  # nz and mz
    content[48:52] = np.float32(10000).tobytes()  # and the length of z in angstrom
    noise = np.random.default_rng(0).normal(size=(8, 1024, 1024)).astype(np.float32)
    with open(path, "wb") as file:
        file.write(content)
        file.seek(1024 + 496 * 4 * 1024**2)
        file.write(noise.tobytes())
        file.truncate(1024 + 1000 * 4 * 1024**2)
    coordinates = files.csv_of(tmp_path / "a.csv", rows=[[500, 500, 500]], labels="a")
    tracemalloc.start()
    (volume,), rejected = open_particles(coordinates, tomogram=path, box_nm=8).read([0], 8, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not rejected and peak < 20e6
    torch.testing.assert_close(volume, files.standardised(noise, (4, 500, 500), 8), atol=1e-4, rtol=0)


def test_boxes_that_all_reach_out_are_rejected_one_by_one(tomogram, tmp_path, files):
    path = files.csv_of(tmp_path / "a.csv", rows=[[1, 1, 1], [2, 2, 2], [50, 42, 28]])
    particles = open_particles(path, tomogram=tomogram, box_nm=12)
    assert sorted(particles.read(range(3), 12, 1.0)[1]) == [0, 1, 2]
    assert "contrast cannot be determined" in particles.notes[-1]
