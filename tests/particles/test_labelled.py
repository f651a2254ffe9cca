"""Labelled sets read whole: which particles are drawn, what they become, and the data of an experiment made of them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.labelled import measured_data
from cryo_fewshot.particles.opening import open_particles

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
RIBOSOMES = REAL / "ribosome70S_subtomograms"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ribosomes (../shared/real) are absent")


def read_labelled(path, **settings):
    return measured_data(path, name="own", snr=0.1, split_sizes=(1, 0, 0), **settings).whole


def test_a_folder_becomes_a_set(classes):
    found = read_labelled(classes, box=10)
    assert found.class_names == ("a protéasome", "b ribosome")
    assert found.labels.tolist() == [0, 0, 1, 1, 1] and found.labels.dtype == np.int64
    assert found.volumes.shape == (5, 10, 10, 10) and found.volumes.dtype == torch.float32
    assert found.voxel_size_nm == 1.0 and (found.snrs == 0.1).all()
    assert found.volumes.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert (found.volumes.var(dim=(1, 2, 3), correction=0) - 1).abs().max() < 1e-5
    assert read_labelled(classes, voxel_size_nm=1.5, file_voxel_size_nm=1.368).voxel_size_nm == 1.5


def test_a_star_file_becomes_a_set_in_the_order_of_numbers(project, files):
    rows = [(f"p{i}.mrc", 10 if i < 2 else 9) for i in range(5)]
    particles = open_particles(project)
    found = read_labelled(files.star_of(project, ["rlnImageName", "rlnClassNumber"], rows), box=12)
    assert found.class_names == ("9", "10") and found.labels.tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(found.volumes, particles.read([2, 3, 4, 0, 1], 12, 1.0)[0])
    single = files.star_of(project, ["rlnImageName", "rlnClassNumber"], rows[:1])
    assert read_labelled(single).class_names == ("10",), "one class is a set too"


def test_the_choice_depends_on_the_seed_and_the_class_alone(tmp_path, files):
    for name in "ab":
        for i in range(12):
            files.write(
                tmp_path / "set" / name / f"{i:02d}.mrc", np.eye(8)[:, :, None] * np.ones(8) + np.eye(8)[i % 8] * i
            )
    one, two, other = (read_labelled(tmp_path / "set", box=8, max_per_class=5, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(one.labels).tolist() == [5, 5]
    assert torch.equal(one.volumes, two.volumes) and not torch.equal(one.volumes, other.volumes)
    for path in (tmp_path / "set" / "a").iterdir():
        path.unlink()
    files.write(tmp_path / "set" / "a" / "new.mrc", box=8)
    assert torch.equal(read_labelled(tmp_path / "set", box=8, max_per_class=5, seed=1).volumes[1:], one.volumes[5:])


def test_only_chosen_files_are_opened(classes, files):
    for path in (classes / "b ribosome").iterdir():
        path.write_bytes(b"damaged")
    files.write(classes / "b ribosome" / "0.mrc")
    read = []
    for seed in range(12):
        try:
            read.append(len(read_labelled(classes, max_per_class=1, seed=seed).labels))
        except UserError:
            read.append(0)
    assert set(read) == {0, 2}


def test_bright_protein_is_inverted_on_request_only(tmp_path, files):
    for i in range(12):
        files.write(tmp_path / "set" / "a" / f"{i:02d}.mrc", files.bright(i))
    with pytest.warns(UserWarning, match="looks bright in these files but dark_protein=True; .*dark_protein=False"):
        kept = read_labelled(tmp_path / "set", box=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inverted = read_labelled(tmp_path / "set", box=12, dark_protein=False)
    assert (kept.volumes[:, 6, 6, 6] > 3).all() and torch.equal(inverted.volumes, -kept.volumes)


def test_the_first_bad_particle_stops_the_reading(classes, files):
    (classes / "b ribosome" / "1.mrc").write_bytes(b"damaged")
    files.one_line(lambda: read_labelled(classes), "1.mrc", "not a whole MRC file", "write it again")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"box": 0}, "box=0"),
        ({"voxel_size_nm": 0}, "voxel_size_nm=0"),
        ({"file_voxel_size_nm": -1}, "file_voxel_size_nm=-1 (--voxel-size-nm)"),
        ({"max_per_class": 0}, "max_per_class=0"),
    ],
)
def test_impossible_settings_are_one_line(classes, settings, words, files):
    files.one_line(lambda: read_labelled(classes, **settings), words)


def test_particles_without_classes_are_one_line(classes, files):
    files.one_line(lambda: read_labelled(classes / "b ribosome"), "b ribosome", "one sub-folder per class")


def test_measured_data_is_what_the_files_hold(classes, files):
    data = measured_data(classes, name="own", snr=0.1, split_sizes=(1, 0, 1), box=10)
    whole = read_labelled(classes, box=10)
    assert data.class_names == whole.class_names and data.counts == (2, 3) and data.n_per_class == 3
    assert (data.class_set, data.snr, data.box, data.voxel_size_nm, data.n_way) == ("own", 0.1, 10, 1.0, 3)
    assert [data.count_of(name, 2) for name in data.class_names] == [2, 2]
    assert [data.count_of(name, 9) for name in data.class_names] == [2, 3]
    part = data.subtomograms({0.1: 2}, ["b ribosome", "a protéasome"], "cpu")
    assert torch.equal(part.volumes, whole.volumes[[2, 3, 0, 1]]) and part.labels.tolist() == [0, 0, 1, 1]
    assert part.snrs.tolist() == [0.1] * 4 and part.class_names == ("b ribosome", "a protéasome")
    same = measured_data(classes, name="own", snr=0.1, split_sizes=(1, 0, 1), box=10)
    assert same == data
    files.write(classes / "b ribosome" / "1.mrc", seed=99)
    other = measured_data(classes, name="own", snr=0.1, split_sizes=(1, 0, 1), box=10)
    assert other.digest != data.digest and other != data
    few = lambda: measured_data(classes, name="own", snr=0.1, split_sizes=(1, 1, 1))  # noqa: E731
    files.one_line(few, "2 classes", "needs 3", "add classes")


@needs_real
def test_real_ribosomes_are_read_both_ways(tmp_path):
    settings = {"voxel_size_nm": 1.2, "box": 32, "dark_protein": False}
    found = read_labelled(RIBOSOMES / "particles.star", label_column="rlnTomoName", **settings)
    assert found.class_names == ("Unt_050", "Unt_083") and found.labels.tolist() == [0] * 10 + [1] * 10
    assert found.volumes.shape == (20, 32, 32, 32) and found.voxel_size_nm == pytest.approx(1.2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "ribosome").symlink_to(RIBOSOMES)
    folder = read_labelled(tmp_path / "set", **settings)
    assert torch.equal(folder.volumes, found.volumes)
    resampled = read_labelled(tmp_path / "set", dark_protein=False)
    assert resampled.volumes.shape == (20, 40, 40, 40) and resampled.voxel_size_nm == 1.0
