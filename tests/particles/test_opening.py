"""Particles read in pieces: STAR files, folders, stacks and archives; what is rejected, and what is written back."""

import copy
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.base import class_indices, duplicates
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.particles.star import read_star_blocks, write_star
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.structures import load_complex

mrcfile = pytest.importorskip("mrcfile")
starfile = pytest.importorskip("starfile")

BOX = 12


def noise(seed=0, box=BOX):
    return np.random.default_rng(seed).normal(size=(box,) * 3).astype(np.float32)


def write(path, volume=None, voxel_size_nm=1.0, seed=0, box=BOX):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile's statistics of NaN voxels
        mrcfile.write(
            path, noise(seed, box) if volume is None else volume, overwrite=True, voxel_size=10 * voxel_size_nm
        )
    return path


def star_of(path, columns, rows, optics="", general=""):
    header = "".join(f"_{name} #{i}\n" for i, name in enumerate(columns, 1))
    body = "".join(" ".join(map(str, row)) + "\n" for row in rows)
    path.write_text(f"{general}{optics}data_particles\n\nloop_\n{header}{body}\n", encoding="utf-8")
    return path


def optics_table(*rows, columns=("rlnOpticsGroup", "rlnImagePixelSize", "rlnImageDimensionality")):
    header = "".join(f"_{name} #{i}\n" for i, name in enumerate(columns, 1))
    return f"data_optics\n\nloop_\n{header}" + "".join(" ".join(map(str, row)) + "\n" for row in rows) + "\n\n"


def one_line(call, *words):
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


@pytest.fixture
def project(tmp_path):
    """Six subtomograms in a project folder with a name that is not ASCII, and their STAR file."""
    root = tmp_path / "projét"
    names = [f"Extract/job001/p{i}.mrc" for i in range(6)]
    for i, name in enumerate(names):
        write(root / name, seed=i)
    rows = [(f"00{i % 2}", name, 1, f"{1 + i % 2}", "1.50", f'"a b {i}"') for i, name in enumerate(names)]
    columns = ("rlnTomoName", "rlnImageName", "rlnOpticsGroup", "rlnClassNumber", "rlnCoordinateX", "myNote")
    general = "# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks   0\n\n"
    return star_of(root / "Extract" / "job001" / "particles.star", columns, rows, optics_table((1, "10.0", 3)), general)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_star_file_is_read_in_any_order_and_piece(project):
    particles = open_particles(project)
    assert len(particles) == 6 and particles.box == BOX and particles.voxel_size_nm == 1.0
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


def test_folders_flat_or_with_classes(tmp_path):
    for i in range(3):
        write(tmp_path / "flat" / f"{i}.mrc", seed=i)
        write(tmp_path / "set" / "ab"[i % 2] / f"{i}.mrc", seed=i)
    flat, classes = open_particles(tmp_path / "flat"), open_particles(tmp_path / "set")
    assert flat.labels is None and flat.names == ["0.mrc", "1.mrc", "2.mrc"] and flat.table is None
    assert classes.labels == ["a", "a", "b"] and classes.names[2] == "b/1.mrc"
    assert torch.equal(flat.read([2])[0], classes.read([1])[0])
    write(tmp_path / "set" / "loose.mrc")
    one_line(lambda: open_particles(tmp_path / "set"), "loose.mrc", "folders of classes", "move it")


def test_volumes_of_a_stack(tmp_path):
    stack = np.stack([noise(i) for i in range(4)])
    write(tmp_path / "stack.mrcs", stack)
    for i in range(4):
        write(tmp_path / "single" / f"{i}.mrc", stack[i])
    expected, _ = open_particles(tmp_path / "single").read(range(4))
    assert torch.equal(open_particles(tmp_path / "stack.mrcs").read(range(4))[0], expected)
    rows = [("000003@stack.mrcs",), ("1@stack.mrcs",), ("9@stack.mrcs",), ("stack.mrcs",), ("2@single/1.mrc",)]
    volumes, rejected = open_particles(star_of(tmp_path / "s.star", ["rlnImageName"], rows)).read(range(5))
    assert torch.equal(volumes[:2], expected[[2, 0]])
    assert "the stack has 4 volumes" in rejected[2] and "name one as 1@stack.mrcs" in rejected[3]
    assert "not a stack" in rejected[4]


def test_optics_groups_of_two_pixel_sizes_come_out_alike(tmp_path):
    entry = load_complex("1PMA")
    beads, seeds = [(entry.positions_nm, entry.masses_kda)], torch.arange(1)
    for i, (box, nm) in enumerate([(28, 1.43), (40, 1.0)]):
        write(tmp_path / f"{i}.mrc", simulate(beads, seeds, None, Microscope(box=box, voxel_size_nm=nm))[0].numpy(), nm)
    optics = optics_table((1, 14.3, 3), (2, 10.0, 3))
    columns = ("rlnImageName", "rlnOpticsGroup")
    particles = open_particles(star_of(tmp_path / "p.star", columns, [("0.mrc", 1), ("1.mrc", 2)], optics))
    volumes, rejected = particles.read([0, 1])
    assert not rejected and "2 kinds of box or voxel size" in " ".join(particles.notes)
    assert (volumes[0] * volumes[1]).mean() > 0.98


def test_mirroring_turns_z_about_the_centre(tmp_path):
    volume = np.zeros((BOX,) * 3, np.float32)
    volume[6 + 2, 6 + 1, 6 - 3] = 1
    write(tmp_path / "0.mrc", volume)
    (plain,), _ = open_particles(tmp_path).read([0], BOX, 1.0)
    (mirrored,), _ = open_particles(tmp_path, mirror=True).read([0], BOX, 1.0)
    assert np.unravel_index(int(plain.argmax()), plain.shape) == (8, 7, 3)
    assert np.unravel_index(int(mirrored.argmax()), plain.shape) == (4, 7, 3)


def test_contrast_is_detected_stated_and_overridden(tmp_path):
    entry = load_complex("4V1W")
    beads = [(entry.positions_nm, entry.masses_kda)] * 12
    bright = simulate(beads, torch.arange(12), 0.1, Microscope(box=32, dark_protein=False, max_shift_nm=1.0))
    for i, volume in enumerate(bright):
        write(tmp_path / f"{i:02d}.mrc", volume.numpy())
    detected = open_particles(tmp_path)
    assert detected.dark_protein is False and "looks bright in 12 particles" in detected.notes[-1]
    assert "give dark_protein=True (--contrast dark)" in detected.notes[-1]
    torch.testing.assert_close(detected.read(range(12), 32, 1.0)[0], -bright, atol=1e-5, rtol=0)
    given = open_particles(tmp_path, dark_protein=True)
    assert "looks bright" in given.notes[-1] and "dark_protein=True was given and is used" in given.notes[-1]
    torch.testing.assert_close(given.read(range(12), 32, 1.0)[0], bright, atol=1e-5, rtol=0)
    torch.testing.assert_close(given.read([0], 32, 1.0, dark_protein=False)[0], -bright[:1], atol=1e-5, rtol=0)
    (tmp_path / "noise").mkdir()
    for i in range(12):
        write(tmp_path / "noise" / f"{i}.mrc", seed=i, box=20)
    unclear = open_particles(tmp_path / "noise")
    assert unclear.dark_protein is None and "contrast cannot be told" in unclear.notes[-1]
    assert "give dark_protein=False (--contrast bright)" in unclear.notes[-1]


# --- where files are looked for ---------------------------------------------------------------------------------------


def test_a_moved_project_is_found_again(project, tmp_path):
    moved = tmp_path / "elsewhere" / "p.star"
    moved.parent.mkdir()
    moved.write_bytes(project.read_bytes())
    one_line(lambda: open_particles(moved), "Extract/job001/p", "p.star", "give root")
    root = project.parents[2]
    assert not open_particles(moved, root=root).read(range(6))[1]
    rows = [(f"/old/server/data/Extract/job001/p{i}.mrc",) for i in range(6)]
    absolute = star_of(moved, ["rlnImageName"], rows)
    one_line(lambda: open_particles(absolute), "/old/server/data/Extract/job001/p", "give root")
    assert not open_particles(absolute, root=root).read(range(6))[1]
    inside = star_of(root / "p.star", ["rlnImageName"], rows)
    assert not open_particles(inside).read(range(6))[1]
    one_line(lambda: open_particles(moved, root=tmp_path / "absent"), "root=", "no such folder")


def test_the_same_name_in_another_folder_is_not_taken(tmp_path):
    write(tmp_path / "p0.mrc")
    star = star_of(tmp_path / "p.star", ["rlnImageName"], [("/old/TS_01/p0.mrc",)])
    one_line(lambda: open_particles(star), "/old/TS_01/p0.mrc", "give root")


# --- bad particles cost themselves ------------------------------------------------------------------------------------


def spoilt(volume, index, value):
    volume = volume.copy()
    volume[index] = value
    return volume


def unknown_mode(path):
    content = bytearray(write(path).read_bytes())
    content[12:16] = (101).to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), ("not a whole MRC file", "write it again")),
        (lambda path: path.write_bytes(b""), ("not a whole MRC file",)),
        (unknown_mode, ("mode '101'", "mode 2 (float32)")),
        (lambda path: write(path, noise().astype(np.complex64)), ("mode 4", "mode 2 (float32)")),
        (lambda path: write(path, spoilt(noise(), (1, 2, 3), np.nan)), ("1 voxels are NaN", "remove")),
        (lambda path: write(path, spoilt(noise(), 4, np.inf)), ("144 voxels are NaN or infinite",)),
        (lambda path: write(path, np.full((BOX,) * 3, 7, np.float32)), ("every voxel is 7", "remove")),
        (lambda path: write(path, noise()[1:]), ("11 x 12 x 12", "cubic box")),
        (lambda path: write(path, box=14), ("box of 14 voxels", "have 12", "one box")),
        (
            lambda path: write(path, voxel_size_nm=1.2),
            ("1.2 nm in its header but 1 nm in", "file_voxel_size_nm"),
        ),
        (lambda path: path.unlink(), ("named in", "particles.star", "correct the name")),
        (lambda path: path.unlink() or path.mkdir(), ("cannot be read",)),
    ],
)
def test_a_bad_particle_is_rejected_and_the_rest_is_read(project, spoil, words):
    clean, _ = open_particles(project).read(range(6))
    spoil(project.parent / "p3.mrc")
    particles = open_particles(project)
    volumes, rejected = particles.read(range(6))
    assert list(rejected) == [3] and not volumes[3].any()
    assert "p3.mrc" in rejected[3] and "\n" not in rejected[3] and all(word in rejected[3] for word in words), rejected
    others = [0, 1, 2, 4, 5]
    assert torch.equal(volumes[others], clean[others])


def test_a_row_without_a_name_is_rejected(tmp_path):
    write(tmp_path / "p.mrc")
    star = star_of(tmp_path / "p.star", ["rlnImageName", "rlnClassNumber"], [("p.mrc", 1), ('""', 2), ("nan", 2)])
    _, rejected = open_particles(star).read(range(3))
    assert "row 2 names no file" in rejected[1] and 2 in rejected


def test_what_concerns_the_whole_input_is_one_line(project, tmp_path):
    one_line(lambda: open_particles(tmp_path / "absent.star"), "absent.star", "no such file or folder")
    (tmp_path / "x.txt").write_text("words")
    one_line(lambda: open_particles(tmp_path / "x.txt"), "x.txt", "not a kind of particles")
    (tmp_path / "empty").mkdir()
    one_line(lambda: open_particles(tmp_path / "empty"), "empty", "no .mrc or .mrcs file")
    one_line(lambda: open_particles(project, label_column="rlnName"), "no column rlnName", "label_column", "myNote")
    one_line(lambda: open_particles(project, file_voxel_size_nm=-1), "file_voxel_size_nm=-1", "positive")
    one_line(lambda: open_particles(project).read([0], box=2), "box=2")
    one_line(lambda: open_particles(project).read([0], voxel_size_nm=0), "voxel_size_nm=0")
    twice = star_of(tmp_path / "twice.star", ["rlnImageName", "rlnImageName"], [("a", "b")])
    one_line(lambda: open_particles(twice), "rlnImageName is there twice")


def test_contradictory_voxel_sizes_of_all_files_stop_at_once(project):
    project.write_text(project.read_text().replace(" 10.0 ", " 15.0 "))
    one_line(lambda: open_particles(project), "1 nm in its header but 1.5 nm in the STAR", "file_voxel_size_nm")
    assert open_particles(project, file_voxel_size_nm=1.5).voxel_size_nm == 1.5


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_and_byte_order_marks(project, ending, mark):
    project.write_bytes(mark + project.read_bytes().replace(b"\n", ending))
    particles = open_particles(project)
    assert particles.labels == ["1", "2"] * 3 and not particles.read(range(6))[1]


def test_support_needs_two_classes(project, tmp_path):
    assert class_indices(open_particles(project)) == {"1": [0, 2, 4], "2": [1, 3, 5]}
    one_line(
        lambda: class_indices(open_particles(project, label_column="rlnOpticsGroup"), project), "one class only (1"
    )
    write(tmp_path / "flat" / "0.mrc")
    one_line(lambda: class_indices(open_particles(tmp_path / "flat"), "flat"), "flat", "label_column")


def test_duplicates_are_found_through_links_and_numbers(project, tmp_path):
    query = open_particles(project)
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "b").mkdir()
    (tmp_path / "set" / "a" / "p4.mrc").symlink_to(project.parent / "p4.mrc")
    write(tmp_path / "set" / "b" / "p1.mrc", seed=1)  # the same content, another file
    assert duplicates(open_particles(tmp_path / "set"), query) == [(0, 4)]
    write(tmp_path / "stack.mrcs", np.stack([noise(i) for i in range(4)]))
    rows = [("2@stack.mrcs",), ("0004@stack.mrcs",)]
    star = star_of(tmp_path / "s.star", ["rlnImageName"], rows)
    assert duplicates(open_particles(star), open_particles(tmp_path / "stack.mrcs")) == [(0, 1), (1, 3)]


# --- archives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_archives(tmp_path, save, order):
    volumes = np.stack([noise(i) for i in range(5)])
    volumes[3, 0, 0, 0] = np.nan
    path = tmp_path / "vólumes.npz"
    save(path, labels=np.array(list("aabbb")), volumes=np.asarray(volumes, order=order), voxel_size_nm=1.5)
    particles = open_particles(path)
    assert (
        particles.labels == list("aabbb") and particles.voxel_size_nm == 1.5 and particles.names[1] == f"{path.name}[1]"
    )
    read, rejected = particles.read([4, 3, 0], BOX, 1.5)
    assert list(rejected) == [3] and "[3]: 1 voxels are NaN" in rejected[3]
    expected = (volumes[4] - volumes[4].mean()) / volumes[4].std()
    np.testing.assert_allclose(read[0], expected, atol=1e-5)
    assert len(pickle.dumps(particles.without_table())) < 2000


def test_bad_archives_are_one_line(tmp_path):
    path, good = tmp_path / "x.npz", np.stack([noise(0), noise(1)])

    def attempt(*words, **arrays):
        np.savez(path, **arrays)
        one_line(lambda: open_particles(path), "x.npz", *words)

    attempt("no array volumes", a=good)
    attempt("volumes of shape (12, 12, 12)", volumes=good[0], voxel_size_nm=1.0)
    attempt("not real numbers", volumes=good.astype(complex), voxel_size_nm=1.0)
    attempt("states no voxel_size_nm", "file_voxel_size_nm", volumes=good)
    attempt("voxel_size_nm -1", volumes=good, voxel_size_nm=-1.0)
    attempt("labels of shape (1,) for 2", volumes=good, voxel_size_nm=1.0, labels=np.array(["a"]))
    attempt("unpickled", volumes=np.array([[[[{}]]]], dtype=object), voxel_size_nm=1.0)
    attempt("not a whole npz", volumes=good, voxel_size_nm=1.0, labels=np.array(["a", {}], dtype=object))
    np.savez(path, volumes=good, voxel_size_nm=1.0)
    path.write_bytes(path.read_bytes()[:5000])
    one_line(lambda: open_particles(path), "x.npz", "not a whole npz", "numpy.savez")


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_star_file_is_written_with_every_column_and_block(project, tmp_path):
    particles = open_particles(project)
    share = np.random.default_rng(0).random(6)
    columns = pd.DataFrame({"fewshotClass": ["70S ribosome", "", "x", "y", "z", "005"], "fewshotShare": share})
    out = tmp_path / "out" / "résultat.star"
    write_star(out, particles, columns)
    before = starfile.read(project, always_dict=True)
    after = starfile.read(out, always_dict=True)
    assert list(after) == ["general", "optics", "particles"]
    assert after["general"] == before["general"] and after["optics"].equals(before["optics"])
    assert after["particles"][list(before["particles"])].equals(before["particles"])
    assert list(after["particles"])[-2:] == ["fewshotClass", "fewshotShare"]
    np.testing.assert_array_equal(after["particles"]["fewshotShare"], share)
    texts = read_star_blocks(out)["particles"]
    assert texts["rlnTomoName"].tolist() == ["000", "001"] * 3 and set(texts["rlnCoordinateX"]) == {"1.50"}
    assert texts["fewshotClass"].tolist() == columns["fewshotClass"].tolist()
    # Written again over its own result, in part: columns are replaced, not doubled.
    part = tmp_path / "out" / "part.star"
    again = open_particles(out, root=project.parents[2])
    write_star(part, again, pd.DataFrame({"fewshotClass": ["new", "newer"]}), rows=[4, 1])
    table = read_star_blocks(part)["particles"]
    assert table["fewshotClass"].tolist() == ["new", "newer"] and table["myNote"].tolist() == ["a b 4", "a b 1"]
    assert list(table) == list(texts)


def test_particles_without_a_table_get_one_that_is_read_back(tmp_path):
    for i in range(3):
        write(tmp_path / f"p {i}.mrc", seed=i, voxel_size_nm=1.37)
    particles = open_particles(tmp_path)
    write_star(tmp_path / "out.star", particles, pd.DataFrame({"share": [0.1, np.nan, 1e-9]}))
    back = open_particles(tmp_path / "out.star")
    assert back.voxel_size_nm == pytest.approx(1.37)
    torch.testing.assert_close(back.read(range(3))[0], particles.read(range(3))[0], atol=1e-4, rtol=0)
    share = starfile.read(tmp_path / "out.star")["particles"]["share"]
    np.testing.assert_array_equal(share, [0.1, np.nan, 1e-9])


def test_a_star_file_that_cannot_be_written_leaves_the_old_one(project, tmp_path):
    particles = open_particles(project)
    one_line(lambda: write_star(tmp_path / "x.star", particles, pd.DataFrame({"a": [1]})), "1 values of a for 6")
    (tmp_path / "blocked").write_text("a file")
    one_line(lambda: write_star(tmp_path / "blocked" / "x.star", particles), "x.star", "cannot be written")


def test_what_an_encoder_is_given_is_what_the_microscope_makes():
    """Files of 40^3 at 1 nm, read for an encoder of 20^3 at 2 nm, equal the simulated volumes it was trained on."""
    binned, whole = (
        simulate_set(SimulatedData(microscope=Microscope(binning=binning)), {0.1: 3}, ["1OEL"]).volumes
        for binning in (2, 1)
    )
    read = torch.stack([resample(volume.double().numpy(), 1.0, 20, 2.0, "volume") for volume in whole])
    torch.testing.assert_close(band_limited(read), binned, atol=2e-4, rtol=0)
    assert (band_limited(torch.zeros(1, 20, 20, 20)) == 0).all()
