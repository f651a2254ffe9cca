"""Archives: what is mapped, what is unpacked, and the line that each bad one prints."""

import os
import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from cryo_fewshot.particles import npz
from cryo_fewshot.particles.base import duplicates
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import write_star


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_archives(tmp_path, save, order, files):
    volumes = np.stack([files.noise(i) for i in range(5)])
    volumes[3, 0, 0, 0] = np.nan
    path = tmp_path / "vólumes.npz"
    save(path, labels=np.array(list("aabbb")), volumes=np.asarray(volumes, order=order), voxel_size_nm=1.5)
    particles = open_particles(path)
    assert particles.labels == list("aabbb") and particles.voxel_size_nm == 1.5
    assert particles.names[1] == f"{path.name}[1]"
    read, rejected = particles.read([4, 3, 0], 12, 1.5)
    assert list(rejected) == [3] and "[3]: 1 voxels are NaN" in rejected[3]
    expected = (volumes[4] - volumes[4].mean()) / volumes[4].std()
    np.testing.assert_allclose(read[0], expected, atol=1e-5)
    assert len(pickle.dumps(particles.without_table())) < 2000


def test_bad_archives_are_one_line(tmp_path, files):
    path, good = tmp_path / "x.npz", np.stack([files.noise(0), files.noise(1)])

    def attempt(*words, **arrays):
        np.savez(path, **arrays)
        files.one_line(lambda: open_particles(path), "x.npz", *words)

    attempt("not a whole npz", "volumes.npy", a=good)
    attempt("volumes of shape (12, 12, 12)", volumes=good[0], voxel_size_nm=1.0)
    attempt("not real numbers", volumes=good.astype(complex), voxel_size_nm=1.0)
    attempt("states no voxel_size_nm", "file_voxel_size_nm", volumes=good)
    for wrong in (-1.0, 0.0, np.inf, np.nan, True, [1.0, 1.0]):
        attempt(f"voxel_size_nm {np.array(wrong)!s}", "one positive length in nm", volumes=good, voxel_size_nm=wrong)
    attempt("labels of shape (1,) for 2", volumes=good, voxel_size_nm=1.0, labels=np.array(["a"]))
    attempt("unpickled", volumes=np.array([[[[{}]]]], dtype=object), voxel_size_nm=1.0)
    attempt("not a whole npz", volumes=good, voxel_size_nm=1.0, labels=np.array(["a", {}], dtype=object))
    np.savez(path, volumes=good, voxel_size_nm=1.0)
    path.write_bytes(path.read_bytes()[:5000])
    files.one_line(lambda: open_particles(path), "x.npz", "not a whole npz", "numpy.savez")


def test_what_savez_wrote_is_mapped_and_stays_on_disk(tmp_path):
    """48 MB, of which two particles are read within a few MB."""
    volume = np.random.default_rng(0).normal(size=(20,) * 3).astype(np.float32)
    volumes = np.zeros((1_500, 20, 20, 20), np.float32)
    volumes[::100] = volume
    np.savez(tmp_path / "large.npz", volumes=volumes, voxel_size_nm=1.0)
    tracemalloc.start()
    read, rejected = open_particles(tmp_path / "large.npz").read([1_400, 7], 20, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert list(rejected) == [7] and peak < 20e6
    np.testing.assert_allclose(read[0], (volume - volume.mean()) / volume.std(), atol=1e-5)


def test_what_savez_compressed_wrote_is_refused_above_a_size(tmp_path, files, monkeypatch):
    path, volumes = tmp_path / "x.npz", np.stack([files.noise(0), files.noise(1)])
    monkeypatch.setattr(npz, "LARGEST_COMPRESSED", volumes.nbytes - 1)
    np.savez_compressed(path, volumes=volumes, voxel_size_nm=1.0)
    files.one_line(lambda: open_particles(path), "x.npz", "0.0 GB compressed", "write it with numpy.savez")
    monkeypatch.setattr(npz, "LARGEST_COMPRESSED", volumes.nbytes)
    assert len(open_particles(path)) == 2
    monkeypatch.setattr(npz, "LARGEST_COMPRESSED", 0)
    np.savez(path, volumes=volumes, voxel_size_nm=1.0)
    assert len(open_particles(path)) == 2, "only what has to be unpacked"


def test_an_archive_that_was_written_again_is_read_again(tmp_path, files):
    path = tmp_path / "x.npz"
    for seed in (0, 5):
        np.savez_compressed(path, volumes=np.stack([files.noise(seed), files.noise(seed + 1)]), voxel_size_nm=1.0)
        os.utime(path, ns=(seed, seed))
        particles = open_particles(path, dark_protein=True)
        (read,), _ = particles.read([1], 12, 1.0)
        volume = files.noise(seed + 1)
        np.testing.assert_allclose(read, (volume - volume.mean()) / volume.std(), atol=1e-5)
    assert list(particles.source.identities([1])) == [(1, (str(path.resolve()), 1))]
    path.unlink()
    files.one_line(lambda: particles.read([0]), "x.npz", "cannot be read")


def test_an_unlikely_voxel_size_is_refused_until_it_is_given(tmp_path, files):
    path = tmp_path / "x.npz"
    for nm, words in {10.0: ("10 nm (100 A)", "between"), 0.1: ("1.000 A", "1.2 nm")}.items():
        np.savez(path, volumes=np.stack([files.noise()] * 2), voxel_size_nm=nm)
        files.one_line(lambda words=words: open_particles(path), "x.npz", *words, "--voxel-size-nm")
        assert open_particles(path, file_voxel_size_nm=1.0).voxel_size_nm == 1.0


def test_what_is_written_of_an_archive_is_read_again(tmp_path, files):
    volumes = np.stack([files.noise(i) for i in range(4)])
    np.savez(tmp_path / "all.npz", volumes=volumes, voxel_size_nm=1.5)
    first = open_particles(tmp_path / "all.npz")
    write_star(tmp_path / "out" / "a.star", first, rows=[3, 1])
    again = open_particles(tmp_path / "out" / "a.star")
    assert torch.equal(again.read([0, 1], 12, 1.5)[0], first.read([3, 1], 12, 1.5)[0]) and again.voxel_size_nm == 1.5
    assert duplicates(again, first) == [(1, 1), (0, 3)]
    write_star(tmp_path / "third.star", again)
    assert len(open_particles(tmp_path / "third.star")) == 2
    text = (tmp_path / "third.star").read_text()
    for beyond in (4, 5, 7):
        (tmp_path / "third.star").write_text(text.replace("[3]", f"[{beyond}]"))
        files.one_line(lambda: open_particles(tmp_path / "third.star"), f"names volume {beyond} of", "which has 4")
