"""Particles read in pieces: in any order, by workers, mirrored, inverted; classes and duplicates."""

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.base import (
    Particles,
    _middle,
    class_indices,
    copies,
    duplicates,
    in_number_order,
    known_labels,
    share_files,
)
from cryo_fewshot.particles.opening import open_particles


def test_a_star_file_is_read_in_any_order_and_piece(project):
    particles = open_particles(project)
    assert len(particles) == 6 and particles.box == 12 and particles.voxel_size_nm == 1.0
    assert particles.names[2] == "Extract/job001/p2.mrc" and particles.labels == ["1", "2"] * 3
    volumes, rejected = particles.read(range(6), box=10, voxel_size_nm=1.0)
    assert volumes.shape == (6, 10, 10, 10) and volumes.dtype == torch.float32 and not rejected
    assert volumes.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert (volumes.var(dim=(1, 2, 3), correction=0) - 1).abs().max() < 1e-5
    again, _ = particles.read([4, 1], box=10, voxel_size_nm=1.0)
    assert torch.equal(again, volumes[[4, 1]])


def test_a_worker_reads_the_same_from_a_small_pickle(project):
    particles = open_particles(project)
    travelled = copy.deepcopy(particles.without_table())
    assert travelled.table is None and len(pickle.dumps(travelled)) < 3000
    assert torch.equal(travelled.read(range(6))[0], particles.read(range(6))[0])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to count open files in")
def test_no_file_stays_open(project):
    before = len(os.listdir("/proc/self/fd"))
    particles = open_particles(project)
    particles.read(range(6))
    assert len(os.listdir("/proc/self/fd")) == before


def test_mirroring_turns_z_about_the_centre(tmp_path, files):
    volume = np.zeros((12,) * 3, np.float32)
    volume[6 + 2, 6 + 1, 6 - 3] = 1
    files.write(tmp_path / "0.mrc", volume)
    (plain,), _ = open_particles(tmp_path).read([0], 12, 1.0)
    (mirrored,), _ = open_particles(tmp_path, mirror=True).read([0], 12, 1.0)
    assert np.unravel_index(int(plain.argmax()), plain.shape) == (8, 7, 3)
    assert np.unravel_index(int(mirrored.argmax()), plain.shape) == (4, 7, 3)


def test_support_needs_two_classes(project, tmp_path, files):
    assert class_indices(open_particles(project)) == {"1": [0, 2, 4], "2": [1, 3, 5]}
    one_class = open_particles(project, label_column="rlnOpticsGroup")
    assert class_indices(one_class, at_least=1) == {"1": [0, 1, 2, 3, 4, 5]}
    files.one_line(lambda: class_indices(one_class, project), "only one class (1")
    files.write(tmp_path / "flat" / "0.mrc")
    files.one_line(lambda: class_indices(open_particles(tmp_path / "flat"), "flat"), "flat", "label_column")


def test_duplicates_are_found_through_links_and_numbers(project, tmp_path, files):
    query = open_particles(project)
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "b").mkdir()
    (tmp_path / "set" / "a" / "p4.mrc").symlink_to(project.parent / "p4.mrc")
    files.write(tmp_path / "set" / "b" / "p1.mrc", seed=1)  # the same content, another file
    assert duplicates(open_particles(tmp_path / "set"), query) == [(0, 4)]
    assert share_files(open_particles(tmp_path / "set"), query)
    (tmp_path / "first" / "x").mkdir(parents=True)
    (tmp_path / "first" / "x" / "p0.mrc").symlink_to(project.parent / "p0.mrc")
    assert share_files(open_particles(tmp_path / "first"), query, 2)
    files.write(tmp_path / "last" / "p9.mrc", seed=9)
    (tmp_path / "last" / "z5.mrc").symlink_to(project.parent / "p5.mrc")
    last = open_particles(tmp_path / "last")
    for looked_at in (2, 6, 256):  # the first and the last are looked at whatever their number
        assert share_files(query, last, looked_at) and share_files(last, query, looked_at)
    assert not share_files(open_particles(tmp_path / "set" / "b"), query)
    files.write(tmp_path / "stack.mrcs", np.stack([files.noise(i) for i in range(4)]))
    rows = [("2@stack.mrcs",), ("0004@stack.mrcs",)]
    star = files.star_of(tmp_path / "s.star", ["rlnImageName"], rows)
    assert duplicates(open_particles(star), open_particles(tmp_path / "stack.mrcs")) == [(0, 1), (1, 3)]


@pytest.mark.parametrize("mark", ["<NA>", "nan", '""', "None", '" "'])
def test_particles_without_a_label_are_in_no_class(project, files, mark):
    rows = [(f"p{i}.mrc", label) for i, label in enumerate(["a", mark, "b", "a", mark, "b"])]
    particles = open_particles(files.star_of(project, ["rlnImageName", "rlnClassName"], rows))
    assert class_indices(particles) == {"a": [0, 3], "b": [2, 5]}
    said = "2 classes in rlnClassName: a (2), b (2); 2 have no label and are left out of a support"
    assert f"{project}: {said}" in particles.notes
    rows = [(f"p{i}.mrc", mark) for i in range(6)]
    none = open_particles(files.star_of(project, ["rlnImageName", "rlnClassName"], rows))
    files.one_line(lambda: class_indices(none), "has no class labels", "rlnClassName")
    rows[0] = ("p0.mrc", "a")
    one = open_particles(files.star_of(project, ["rlnImageName", "rlnClassName"], rows))
    files.one_line(lambda: class_indices(one), "only one class (a, 1 particles)")


def test_a_particle_that_is_listed_again_counts_once_and_two_labels_are_refused(project, files):
    rows = [("p0.mrc", "a"), ("p1.mrc", "b"), ("./p0.mrc", "a"), ("p2.mrc", '""'), ("p2.mrc", "b")]
    particles = open_particles(files.star_of(project, ["rlnImageName", "rlnClassName"], rows))
    assert copies(particles) == {2: 0, 4: 3}
    assert class_indices(particles) == {"a": [0], "b": [1, 4]}
    for name, label, said in (("p1.mrc", "a", "b and a"), ("p0.mrc", "b", "a and b")):
        both = open_particles(files.star_of(project, ["rlnImageName", "rlnClassName"], [*rows, (name, label)]))
        words = f"mine.star: {name} is labelled {said}", "remove both"
        files.one_line(lambda both=both: class_indices(both, "mine.star"), *words)


def test_grey_values_are_those_of_the_box_and_its_middle_12_nm(tmp_path, files):
    volume = files.noise(3) * 5 + 40
    files.write(tmp_path / "0.mrc", volume, 3.0)
    particles = open_particles(tmp_path, dark_protein=True)
    _, grey, rejected = particles.read_with_grey([0], 12, 3.0)
    assert not rejected
    expected = [volume.mean(), volume.std(), volume[4:8, 4:8, 4:8].mean()]
    np.testing.assert_allclose(grey[0], expected, rtol=1e-5)
    inverted = open_particles(tmp_path, dark_protein=False).read_with_grey([0], 12, 3.0)[1]
    np.testing.assert_allclose(inverted[0], [-expected[0], expected[1], -expected[2]], rtol=1e-5)


def test_slices_of_each_class_are_those_of_its_first_particles_that_can_be_read(classes, tmp_path, files):
    files.write(classes / "b ribosome" / "1.mrc", np.zeros((12, 12, 12)))
    particles = open_particles(classes, dark_protein=True)
    slices = particles.central_slices()
    assert list(slices) == ["a protéasome", "b ribosome"]
    assert [part.shape for part in slices.values()] == [(2, 12, 12)] * 2
    whole, _ = particles.read([2, 4], 12, 1.0)
    np.testing.assert_allclose(slices["b ribosome"], whole[:, 6], atol=1e-6)
    assert [len(part) for part in particles.central_slices(n=1).values()] == [1, 1]
    files.write(tmp_path / "large" / "0.mrc", box=40)
    (only,) = open_particles(tmp_path / "large").central_slices().values()
    assert only.shape == (1, 24, 24)
    files.write(tmp_path / "coarse" / "0.mrc", box=36, voxel_size_nm=2.0)
    coarse = open_particles(tmp_path / "coarse", dark_protein=True)  # the whole box of 72 nm in 24 voxels
    np.testing.assert_array_equal(coarse.central_slices()[None], coarse.read([0], 24, 3.0)[0][:, 12])
    assert list(open_particles(tmp_path / "large").central_slices()) == [None]


def test_pieces_of_other_sources_are_compared_whatever_they_are_called():
    class Pieces:
        def __init__(self, *keys):
            self.keys = keys

        def identities(self, indices):
            return ((i, ("file", self.keys[i])) for i in indices)

    def of(*keys, label="a"):
        names = [f"{label}{i}" for i in range(len(keys))]
        return Particles(names=names, source=Pieces(*keys), voxel_size_nm=1.0, box=4, labels=[label] * len(keys))

    assert duplicates(of(1, 2, 2), of(3, 2, 1, label="b")) == [(1, 1), (2, 1), (0, 2)]
    assert copies(of(5, 6, 5, 5, 6)) == {2: 0, 3: 0, 4: 1}


def test_classes_may_be_more_than_are_needed(project):
    particles = open_particles(project, label_column="rlnImageName")
    assert [len(class_indices(particles, at_least=n)) for n in (2, 6)] == [6, 6]
    with pytest.raises(UserError, match="only one class"):
        class_indices(open_particles(project, label_column="rlnOpticsGroup"))


def test_labels_are_texts_and_numbers_of_libraries_whole():
    given = ["a ", b"b", 1.0, "2.00", "01", "1.5", np.nan, "", "e\u0301"]
    assert known_labels(given) == ["a", "b", "1", "2", "01", "1.5", None, None, "\u00e9"]
    assert sorted(["10", "9", "x", "2"], key=in_number_order) == ["2", "9", "10", "x"]


@pytest.mark.parametrize(("n", "nm", "edge"), [(12, 3.0, 4), (12, 20.0, 2), (4, 1.0, 4), (13, 2.0, 6)])
def test_the_middle_of_a_box_is_a_cube_of_12_nm(n, nm, edge):
    volume = np.arange(n**3).reshape((n,) * 3)
    low = max(0, n // 2 - edge // 2)
    np.testing.assert_array_equal(_middle(volume, nm), volume[(slice(low, n // 2 + edge // 2),) * 3])
    assert len(_middle(volume, nm)) == edge
