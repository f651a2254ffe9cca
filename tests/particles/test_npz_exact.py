"""Shapes and sizes of archives, and how often one is unpacked."""

import io
import zipfile

import numpy as np
import pytest

from cryo_fewshot.particles.npz import open_npz


@pytest.mark.parametrize("shape", [(2, 8, 8, 8, 8), (2, 6, 8, 8), (2, 8, 8, 6), (8, 8, 8), (0, 8, 8, 8), (8,)])
def test_volumes_are_cubes_in_a_row(shape, tmp_path, files):
    np.savez(tmp_path / "a.npz", volumes=np.ones(shape, np.float32), voxel_size_nm=1.0)
    files.one_line(lambda: open_npz(tmp_path / "a.npz", None), f"volumes of shape {shape}; write it with numpy.savez")


@pytest.mark.parametrize("lacking", [0, 1, 8**3 * 4])
def test_an_array_that_ends_before_its_last_byte_is_refused(lacking, tmp_path, files):
    content = io.BytesIO()
    np.save(content, np.random.default_rng(0).normal(size=(3, 8, 8, 8)).astype(np.float32))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("volumes.npy", content.getvalue()[: len(content.getvalue()) - lacking])
    if lacking:
        said = f"{len(content.getvalue())} bytes of volumes expected, the file ends before"
        files.one_line(lambda: open_npz(tmp_path / "a.npz", 1.0), "not a whole npz", said)
    else:
        assert len(open_npz(tmp_path / "a.npz", 1.0)) == 3


def test_a_compressed_archive_is_unpacked_once(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", volumes=np.random.default_rng(0).normal(size=(3, 8, 8, 8)))
    source, opened, load = open_npz(tmp_path / "a.npz", 1.0).source, [], np.load

    def counted(*given, **named):
        opened.append(given)
        return load(*given, **named)

    monkeypatch.setattr(np, "load", counted)
    assert [source.opened()(i)[0].shape for i in (0, 2, 1)] == [(8, 8, 8)] * 3 and len(opened) == 1


@pytest.mark.parametrize("nm", [-0.5, -2.0, 0.0, np.inf])
def test_a_length_is_positive(nm, tmp_path, files):
    np.savez(tmp_path / "a.npz", volumes=np.zeros((2, 8, 8, 8)), voxel_size_nm=nm)
    said = f"voxel_size_nm {nm}; store one positive length in nm"
    files.one_line(lambda: open_npz(tmp_path / "a.npz", None), said)
