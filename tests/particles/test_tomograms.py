"""Tomograms: which file is that of a name, and the boxes that are cut from it."""

import copy
import gzip
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tomograms import Boxes, Tomogram, name_of_tomogram, tomogram_at


@pytest.mark.parametrize(
    "name", ["TS_1", "TS_1.tomostar", "TS_1.mrc", "TS_1.MRC.gz", "TS_1.ome.zarr", "TS_1.rec", "TS_1.st", "TS_1.mrc.mrc"]
)
def test_what_says_the_kind_of_file_is_no_part_of_a_name(name):
    assert name_of_tomogram(name) == "TS_1"
    assert name_of_tomogram("a.b") == "a.b" and name_of_tomogram("t.1_rec") == "t.1_rec"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("TS_1_10.00Apx.mrc", "TS_1_10_10.00Apx.mrc"),
        ("TS_1.mrc", "TS_1_10.mrc"),
        ("TS_1_rec.mrc", "TS_1_10.rec"),
        ("TS_1_bin4_full_rec.mrc", "rec_TS_1_10.mrc"),
    ],
)
def test_names_that_begin_alike_are_told_apart(tmp_path, files, short, long):
    first, second = files.tomograms_of(tmp_path / "both", short, long)
    (tmp_path / "both" / f"{short}.gz").write_bytes(b"a packed copy is not opened")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1.tomostar", "TS_1_10", "TS_1.tomostar"])
    particles = open_particles(star_file, tomogram=tmp_path / "both", box_nm=12)
    files.assert_boxes(particles, [first, second, first])
    assert any(f"TS_1 is {short}, TS_1_10 is {long}" in note for note in particles.notes)
    for there, absent in ((short, "TS_1_10"), (long, "TS_1")):
        folder = tmp_path / f"no {absent}"
        files.tomograms_of(folder, there, "TS_1_2.mrc", "TS_11.mrc", "ts_1.mrc", f"{absent}_half1.mrc")
        lost = files.of_names(tmp_path / "b.star", [absent])
        files.one_line(lambda f=folder, s=lost: open_particles(s, tomogram=f), f"no such tomogram as {absent}, which")


def test_a_name_that_fits_several_files_or_a_file_two_names_is_refused(tmp_path, files):
    files.tomograms_of(tmp_path / "t", "TS_1_rec.mrc", "TS_1_denoised.mrc")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.one_line(lambda: open_particles(star_file, tomogram=tmp_path / "t"), "2 files for tomogram TS_1", "one file")
    star_file = files.of_names(tmp_path / "b.star", ["a/TS_1_rec.mrc", "b/TS_1_rec.mrc"], "rlnMicrographName")
    files.one_line(lambda: open_particles(star_file, tomogram=tmp_path / "t"), "both a/TS_1_rec.mrc and b/TS_1_rec.mrc")


def test_tomograms_of_relion_5(tmp_path, files):
    job = tmp_path / "Tomograms" / "job006"
    names = ["rec_TS_1.mrc", "rec_TS_1_half1.mrc", "rec_TS_1_half2.mrc", "odd.mrc"]
    first, _, _, second = files.tomograms_of(job / "tomograms", *names)
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.assert_boxes(open_particles(star_file, tomogram=job / "tomograms", box_nm=12), [first])
    # tomograms.star knows better than a name, and is found beside the folder or in it, or given itself
    rows = [
        [name, f"Tomograms/job006/tomograms/{file}"] for name, file in {"TS_1": "odd.mrc", "TS_2": names[0]}.items()
    ]
    listed = job / "tomograms.star"
    listed.write_text(files.table("global", ["rlnTomoName", "rlnTomoReconstructedTomogram"], rows))
    star_file = files.of_names(tmp_path / "a.star", ["TS_1", "TS_2"])
    for given in (job / "tomograms", job, listed):
        files.assert_boxes(open_particles(star_file, tomogram=given, box_nm=12), [second, first])
    lost = files.of_names(tmp_path / "lost.star", ["TS_3"])
    files.one_line(lambda: open_particles(lost, tomogram=listed), "no such tomogram as TS_3", "that names it")
    # but not for another folder than the one given
    (other,) = files.tomograms_of(job / "denoised", "rec_TS_1.mrc")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.assert_boxes(open_particles(star_file, tomogram=job / "denoised", box_nm=12), [other])
    # a denoised one is named beside the plain one: the folder given says which is meant, else the plain one counts
    both = ["TS_1", "Tomograms/job006/tomograms/odd.mrc", "Tomograms/job006/denoised/rec_TS_1.mrc"]
    columns = ["rlnTomoName", "rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised"]
    listed.write_text(files.table("global", columns, [both]))
    for given, expected in {job / "denoised": other, job / "tomograms": second, listed: second}.items():
        files.assert_boxes(open_particles(star_file, tomogram=given, box_nm=12), [expected])
    listed.write_text(files.table("global", columns[::2], [both[::2]]))
    files.assert_boxes(open_particles(star_file, tomogram=listed, box_nm=12), [other])
    listed.write_text(files.table("global", ["rlnTomoName"], [["TS_1"]]))
    words = ("no column rlnTomoReconstructedTomogram", "folder")
    files.one_line(lambda: open_particles(star_file, tomogram=listed), *words)


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
    noise = np.random.default_rng(0).normal(size=(8, 1024, 1024)).astype(np.float32)
    with mrcfile.new_mmap(tmp_path / "large.mrc", (1000, 1024, 1024), mrc_mode=2) as file:
        file.voxel_size = 10.0
        file.data[496:504] = noise
    coordinates = files.csv_of(tmp_path / "a.csv", rows=[[500, 500, 500]], labels="a")
    tracemalloc.start()
    (volume,), rejected = open_particles(coordinates, tomogram=tmp_path / "large.mrc", box_nm=8).read([0], 8, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not rejected and peak < 20e6
    torch.testing.assert_close(volume, files.standardised(noise, (4, 500, 500), 8), atol=1e-4, rtol=0)


def test_boxes_that_all_reach_out_are_rejected_one_by_one(tomogram, tmp_path, files):
    path = files.csv_of(tmp_path / "a.csv", rows=[[1, 1, 1], [2, 2, 2], [50, 42, 28]])
    particles = open_particles(path, tomogram=tomogram, box_nm=12)
    assert sorted(particles.read(range(3), 12, 1.0)[1]) == [0, 1, 2]
    assert "contrast cannot be determined" in particles.notes[-1]


def boxes(centres, *shapes, which=None, edge=12, nm=1.0, **settings):
    tomograms = tuple(Tomogram(Path(f"rec_{i}.mrc"), shape, nm * (i + 1)) for i, shape in enumerate(shapes))
    centres = np.array(centres, float).reshape(-1, 3)
    which = np.zeros(len(centres), int) if which is None else np.array(which)
    return Boxes([f"p{i}" for i in range(len(centres))], tomograms, which, centres, (edge,) * len(shapes), **settings)


def test_background_lies_where_a_whole_box_has_room_beside_the_picks():
    found = boxes([(6, 6, 6)], (25, 13, 13)).background(5)
    assert found.centres.tolist() == [[18, 6, 6]], "the only place, once"
    assert found.which.tolist() == [0] and found.names == ["background 1 in rec_0.mrc"]
    assert not boxes([(6, 6, 6)], (24, 13, 13)).background(5).names


def test_background_shares_no_voxel_with_picks_or_itself_in_its_tomogram():
    picks = boxes([(20, 20, 20), (20, 60, 60), (20, 20, 20)], (40, 80, 80), (40, 90, 80), which=[0, 0, 1])
    found = picks.background(12, seed=3)
    assert len(found.names) == 12 and set(found.which.tolist()) == {0, 1}
    for k, tomogram in enumerate(picks.tomograms):
        own = found.centres[found.which == k]
        assert (own >= 6).all() and (own + 6 <= tomogram.shape).all()
        every = np.concatenate([own, picks.centres[picks.which == k]])
        apart = np.abs(own[:, None] - every).max(-1) + 99 * np.eye(len(own), len(every))
        assert apart.min() >= 12
    again, other = (picks.background(12, seed=seed).centres.tolist() for seed in (3, 4))
    assert again == found.centres.tolist() != other


def test_a_box_is_the_same_piece_by_the_voxel_at_its_centre():
    found = boxes([(14.5, 20.4, 0.0), (np.nan, 1, 1), (1, 2, 3)], (30, 44, 52), (9, 9, 9), which=[0, 0, 1])
    keys = dict(found.identities(range(3)))
    assert sorted(keys) == [0, 2] and keys[0][1:] == (None, 15, 20, 0) and keys[2][2:] == (1, 2, 3)
    assert keys[0][0] == str(Path("rec_0.mrc").resolve())


def test_columns_of_relion_are_in_voxels_and_from_the_centre_in_angstrom():
    found = boxes([(14, 20, 25.5), (3, 4, 5)], (30, 44, 52), (9, 9, 9), which=[0, 1])
    table = found.relion_columns(pd.DataFrame({"rlnOriginZAngst": ["30", "-20"]}))
    assert table["rlnTomoName"].tolist() == ["rec_0", "rec_1"]
    numbers = table.drop(columns="rlnTomoName").astype(float)
    assert numbers["rlnMicrographPixelSize"].tolist() == [10, 20]
    xyz = numbers[[f"rlnCoordinate{axis}" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(xyz, [[25.5, 20, 14 + 3], [5, 4, 3 - 1]])
    centred = numbers[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy()
    np.testing.assert_allclose(centred, [[-5, -20, 20], [20, 0, -40]])


@pytest.mark.parametrize(
    ("centre", "first", "said"),
    [
        ((6, 6, 6), 0, ""),
        ((5.5, 6.49, 6), 0, ""),
        ((12, 12.5, 13.49), None, ""),
        ((5.4, 6, 6), None, "extends beyond"),
        ((14, 14, 14.5), None, "extends beyond"),
        ((-0.4, 6, 6), None, "extends beyond"),
        ((-0.6, 6, 6), None, "lie outside rec.mrc of 20 x 20 x 20"),
        ((6, 6, 19.4), None, "extends beyond"),
        ((6, 6, 19.6), None, "lie outside"),
        ((np.nan, 6, 6), None, "not a number"),
    ],
)
def test_a_box_is_cut_where_all_of_it_lies_inside(centre, first, said, tmp_path, files):
    array = np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32)
    one = tomogram_at(files.write(tmp_path / "rec.mrc", array), None)
    volume_of = Boxes(["p"], (one,), np.zeros(1, int), np.array([centre], float), (12,)).opened()
    if said:
        with pytest.raises(UserError, match=said):
            volume_of(0)
        return
    z, y, x = np.floor(np.array(centre) + 0.5).astype(int) - 6
    volume, nm = volume_of(0)
    np.testing.assert_array_equal(volume, array[z : z + 12, y : y + 12, x : x + 12])
    assert nm == 1.0 and (first is None or (z, y, x) == (0, 0, 0))


def test_grey_values_are_those_of_random_boxes(tmp_path, files):
    small, large = (np.random.default_rng(1).normal(3, 2, size=shape) for shape in ((10, 16, 14), (16, 17, 40)))
    one = tomogram_at(files.write(tmp_path / "small.mrc", small), None)
    assert one.grey_values() == pytest.approx((small.mean(), small.std()), rel=1e-5)
    one = tomogram_at(files.write(tmp_path / "large.mrc", large), None)
    low = np.random.default_rng(0).integers(0, (1, 2, 25), size=(64, 3))
    values = np.stack([large[z : z + 16, y : y + 16, x : x + 16] for z, y, x in low])
    assert one.grey_values() == pytest.approx((values.mean(), values.std()), rel=1e-5)
    flat = tomogram_at(files.write(tmp_path / "flat.mrc", np.full((16,) * 3, 5.0)), None)
    assert flat.grey_values() == (5.0, 1e-9)
