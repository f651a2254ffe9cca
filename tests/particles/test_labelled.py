"""Folders and STAR files of the user: what is read, how it is resampled, and the line that each bad input prints."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.labelled import looks_dark, read_folder, read_star, read_volumes
from cryo_fewshot.particles.mrc import read_mrc
from cryo_fewshot.particles.resampling import resampling_matrix
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import load_complex

mrcfile = pytest.importorskip("mrcfile")

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
RIBOSOMES = REAL / "ribosome70S_subtomograms"
TILT_STACKS = REAL / "ribosome70S_relion5_2dstacks"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ribosomes (../shared/real) are absent")


def write(path, volume=None, voxel_size_nm=1.0, box=12, seed=0):
    """An MRC file; noise where no volume is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if volume is None:
        volume = np.random.default_rng(seed).normal(size=(box,) * 3)
    volume = np.asarray(volume)
    volume = volume.astype(np.float32) if volume.dtype == np.float64 else volume
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mrcfile's statistics of NaN voxels
        mrcfile.write(path, volume, voxel_size=10 * voxel_size_nm, overwrite=True)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes, of three and two files."""
    for name, count in {"b ribosome": 3, "a protéasome": 2}.items():
        for i in range(count):
            write(tmp_path / "set" / name / f"{i}.mrc", seed=i + 10 * len(name))
    return tmp_path / "set"


def one_line(call, *words):
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_becomes_a_set(folder):
    (folder / "b ribosome" / "notes.txt").write_text("not a volume")
    (folder / "b ribosome" / "._0.mrc").write_bytes(b"left by macOS")
    (folder / ".hidden").mkdir()
    found = read_folder(folder, box=10)
    assert found.class_names == ("a protéasome", "b ribosome")
    assert found.labels.tolist() == [0, 0, 1, 1, 1] and found.labels.dtype == np.int64
    assert found.volumes.shape == (5, 10, 10, 10) and found.volumes.dtype == torch.float32
    assert found.voxel_size_nm == 1.0 and np.isnan(found.snrs).all()
    assert found.volumes.mean(dim=(1, 2, 3)).abs().max() < 1e-6
    assert (found.volumes.var(dim=(1, 2, 3), correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", ["i1", "i2", "u2", "f2", "f4", ">f4"])
def test_every_real_mode_is_read(tmp_path, dtype):
    volume = np.random.default_rng(0).integers(-100, 100, (8, 8, 8))
    volume = (abs(volume) if dtype == "u2" else volume).astype(dtype)
    data, voxel_size_nm = read_mrc(write(tmp_path / "x.mrc", volume, 1.37))
    assert np.array_equal(data, volume) and voxel_size_nm == pytest.approx(1.37)


def test_the_choice_depends_on_the_seed_and_the_class_alone(tmp_path):
    for name in "ab":
        for i in range(12):
            write(tmp_path / "set" / name / f"{i:02d}.mrc", np.eye(8)[:, :, None] * np.ones(8) + np.eye(8)[i % 8] * i)
    one, two, other = (read_folder(tmp_path / "set", box=8, max_per_class=5, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(one.labels).tolist() == [5, 5]
    assert torch.equal(one.volumes, two.volumes) and not torch.equal(one.volumes, other.volumes)
    for path in (tmp_path / "set" / "a").iterdir():
        path.unlink()
    write(tmp_path / "set" / "a" / "new.mrc", box=8)
    assert torch.equal(read_folder(tmp_path / "set", box=8, max_per_class=5, seed=1).volumes[1:], one.volumes[5:])


def test_only_chosen_files_are_opened(folder):
    for path in (folder / "b ribosome").iterdir():
        path.write_bytes(b"damaged")
    write(folder / "b ribosome" / "0.mrc")
    chosen = [read_or_none(folder, seed) for seed in range(12)]
    assert any(found is not None for found in chosen) and any(found is None for found in chosen)


def read_or_none(folder, seed):
    try:
        return read_folder(folder, max_per_class=1, seed=seed)
    except UserError:
        return None


# --- resampling -------------------------------------------------------------------------------------------------------


def test_two_samplings_of_one_particle_agree(tmp_path):
    entry = load_complex("1PMA")
    beads, seeds = [(entry.positions_nm, entry.masses_kda)] * 3, torch.arange(3)
    coarse, fine = Microscope(box=28, voxel_size_nm=1.43), Microscope(box=40, voxel_size_nm=1.0)
    acquisition = draw_acquisition(seeds, fine)
    read = []
    for microscope in (coarse, fine):
        volumes = simulate(beads, seeds, None, microscope, acquisition=acquisition)
        paths = [
            write(tmp_path / f"{microscope.box}-{i}.mrc", v, microscope.voxel_size_nm) for i, v in enumerate(volumes)
        ]
        read.append(read_volumes(paths)[0])
    for a, b in zip(*read, strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.98


@pytest.mark.parametrize("new_voxel_size_nm", [0.8, 1.0, 1.368, 1.43, 2.0])
def test_a_cosine_keeps_its_wavelength_and_phase(tmp_path, new_voxel_size_nm):
    n, voxel, wavelength = 48, 1.2, 48 * 1.2 / 9  # nine whole waves of 6.4 nm
    x = (np.arange(n) - n // 2) * voxel
    path = write(tmp_path / "x.mrc", np.cos(2 * np.pi * x / wavelength)[:, None, None] * np.ones((n, n, n)), voxel)
    (volume,), size = read_volumes([path], box=20, voxel_size_nm=new_voxel_size_nm)
    assert size == new_voxel_size_nm
    new_x = (np.arange(20) - 10) * new_voxel_size_nm
    expected = np.cos(2 * np.pi * new_x / wavelength)
    expected = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(volume[:, 7, 7], expected, atol=1e-4)


def test_waves_that_the_new_voxels_cannot_hold_are_gone(tmp_path):
    x = np.arange(40)
    wave = np.cos(2 * np.pi * x * 16 / 40) + np.cos(2 * np.pi * x * 4 / 40)  # 2.5 and 10 voxels long
    path = write(tmp_path / "x.mrc", wave[:, None, None] * np.ones((40, 40, 40)))
    (volume,), _ = read_volumes([path], box=20, voxel_size_nm=2.0)
    power = np.abs(np.fft.rfft(volume[:, 0, 0])) ** 2
    assert power.argmax() == 4 and power[4] > 0.999 * power.sum()


@pytest.mark.parametrize("n", [7, 8])
def test_the_same_size_changes_nothing(n):
    np.testing.assert_allclose(resampling_matrix(n, 1.43, n, 1.43), np.eye(n), atol=1e-12)


@pytest.mark.parametrize(("n", "new_n"), [(12, 20), (20, 12), (13, 20), (20, 13)])
def test_centres_stay_and_the_rest_is_the_mean(tmp_path, n, new_n):
    volume = np.zeros((n, n, n))
    volume[n // 2, n // 2, n // 2] = 1
    (found,), _ = read_volumes([write(tmp_path / "x.mrc", volume)], box=new_n)
    assert np.unravel_index(int(found.argmax()), found.shape) == (new_n // 2,) * 3
    if new_n > n:
        outside = found[0, 0, 0]
        assert (found[0] == outside).all() and outside.abs() < 0.05


def test_the_voxel_size_of_the_files_is_kept_on_request(folder):
    assert read_folder(folder, voxel_size_nm=None, file_voxel_size_nm=1.368).voxel_size_nm == 1.368


# --- contrast ---------------------------------------------------------------------------------------------------------


def test_bright_protein_is_inverted_on_request_only(tmp_path):
    entry = load_complex("4V1W")
    beads, seeds = [(entry.positions_nm, entry.masses_kda)] * 12, torch.arange(12)
    microscope = Microscope(box=32, dark_protein=False, max_shift_nm=1.0)
    bright = simulate(beads, seeds, 0.1, microscope)
    assert looks_dark(bright) is False and looks_dark(-bright) is True
    assert looks_dark(torch.randn(12, 32, 32, 32, generator=torch.Generator().manual_seed(0))) is None
    for i, volume in enumerate(bright):
        write(tmp_path / "set" / "a" / f"{i:02d}.mrc", volume)
    with pytest.warns(UserWarning, match="looks bright in these files but dark_protein=True; .*dark_protein=False"):
        kept = read_folder(tmp_path / "set", box=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inverted = read_folder(tmp_path / "set", box=32, dark_protein=False)
    torch.testing.assert_close(kept.volumes, bright, atol=1e-5, rtol=0)
    torch.testing.assert_close(inverted.volumes, -bright, atol=1e-5, rtol=0)


# --- bad folders and files --------------------------------------------------------------------------------------------


def test_bad_folders_are_one_line(folder, tmp_path):
    one_line(lambda: read_folder(tmp_path / "absent"), "absent", "no such file or folder", "folder of .mrc files")
    one_line(lambda: read_folder(folder / "b ribosome"), "b ribosome", "no classes")
    one_line(lambda: read_folder(folder / "b ribosome" / "0.mrc"), "0.mrc", "not a folder", "read_star")
    (folder / "empty").mkdir()
    one_line(lambda: read_folder(folder), "empty", "no .mrc or .mrcs file", "remove the folder")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every folder")
def test_an_unreadable_folder_is_one_line(folder):
    (folder / "b ribosome").chmod(0)
    try:
        one_line(lambda: read_folder(folder), "b ribosome", "Permission denied", "permissions")
    finally:
        (folder / "b ribosome").chmod(0o755)


def nan(path):
    write(path, np.where(np.arange(1728).reshape(12, 12, 12) == 5, np.nan, 1.0))


def truncated(path):
    path.write_bytes(write(path).read_bytes()[:3000])


def unknown_mode(path):
    content = bytearray(write(path).read_bytes())
    content[12:16] = (101).to_bytes(4, "little")
    path.write_bytes(content)


def is_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncated, ("not a whole MRC file", "greater than file size", "write it again")),
        (lambda path: path.write_bytes(b""), ("not a whole MRC file", "write it again")),
        (lambda path: path.write_bytes(b"\x80\x02 pickled" * 500), ("not a whole MRC file", "write it again")),
        (is_a_folder, ("cannot be read",)),
        (unknown_mode, ("mode '101'", "mode 2 (float32)")),
        (lambda path: write(path, np.ones((12, 12, 12), np.complex64)), ("complex", "mode 4", "mode 2 (float32)")),
        (nan, ("1 voxels are NaN", "remove")),
        (lambda path: write(path, np.full((12, 12, 12), 7.0)), ("every voxel is 7", "remove")),
        (lambda path: write(path, np.zeros((12, 10, 12))), ("12 x 10 x 12", "cubic box")),
        (lambda path: write(path, np.eye(12)), ("12 x 12 voxels", "cubic box")),
        (lambda path: write(path, box=14), ("14 voxels", "have 12", "one box")),
        (lambda path: write(path, voxel_size_nm=1.2), ("1.2 nm", "have 1 nm", "file_voxel_size_nm")),
        (lambda path: write(path, voxel_size_nm=0), ("voxel size 0", "file_voxel_size_nm")),
    ],
)
def test_bad_files_are_one_line_that_names_the_file(folder, spoil, words):
    spoil(folder / "b ribosome" / "1.mrc")
    one_line(lambda: read_folder(folder), "1.mrc", *words)


def test_an_override_stands_in_for_wrong_headers(folder):
    write(folder / "b ribosome" / "1.mrc", voxel_size_nm=0)
    write(folder / "b ribosome" / "2.mrc", voxel_size_nm=5.0)
    assert len(read_folder(folder, file_voxel_size_nm=1.4)) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"box": 0}, "box=0"),
        ({"voxel_size_nm": 0}, "voxel_size_nm=0"),
        ({"file_voxel_size_nm": -1}, "file_voxel_size_nm=-1"),
        ({"max_per_class": 0}, "max_per_class=0"),
        ({"voxel_size_nm": 50.0}, "nothing is left"),
    ],
)
def test_impossible_settings_are_one_line(folder, settings, words):
    one_line(lambda: read_folder(folder, **settings), words)


# --- STAR files -------------------------------------------------------------------------------------------------------

OPTICS = {"rlnOpticsGroup": 1, "rlnImagePixelSize": 10.0, "rlnImageDimensionality": 3}


def star_text(columns, rows, optics=OPTICS):
    """A STAR file of RELION 3.1 kind, or of 3.0 where there is no optics table."""
    parts = []
    if optics:
        parts.append("data_optics\n\nloop_\n" + "".join(f"_{key} #{i}\n" for i, key in enumerate(optics, 1)))
        parts.append(" ".join(map(str, optics.values())) + "\n\n")
    parts.append(f"data_{'particles' if optics else ''}\n\nloop_\n")
    parts.append("".join(f"_{key} #{i}\n" for i, key in enumerate(columns, 1)))
    return "".join(parts) + "".join(" ".join(map(str, row)) + "\n" for row in rows) + "\n"


@pytest.fixture
def project(tmp_path):
    """A project with subtomograms under Extract/job001, and a function that writes its STAR file there."""
    root = tmp_path / "projét"
    names = [f"Extract/job001/p{i}.mrc" for i in range(5)]
    for i, name in enumerate(names):
        write(root / name, seed=i)

    def star(columns=("rlnImageName", "rlnClassNumber", "rlnOpticsGroup"), rows=None, newline="\n", **settings):
        rows = [(name, 10 if i < 2 else 9, 1) for i, name in enumerate(names)] if rows is None else rows
        path = root / "Extract" / "job001" / "particules é.star"
        path.write_bytes(star_text(columns, rows, **settings).replace("\n", newline).encode())
        return path

    return star


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_star_file_becomes_a_set(project, newline):
    found = read_star(project(newline=newline), box=12)
    assert found.class_names == ("9", "10")  # in the order of numbers
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    assert found.volumes.shape == (5, 12, 12, 12) and found.voxel_size_nm == 1.0


def test_names_may_be_relative_to_the_star_file_or_whole(project):
    path = project()
    beside = project(rows=[(f"p{i}.mrc", i % 2, 1) for i in range(4)])
    assert len(read_star(beside)) == 4
    whole = project(rows=[(path.parent / "p1.mrc", 1, 1)])
    assert len(read_star(whole)) == 1


def test_the_class_column_is_the_first_that_tells_classes_apart(project):
    columns = ("rlnImageName", "rlnClassNumber", "rlnGroupName", "rlnOpticsGroup", "myClass")
    path = project(columns, [(f"p{i}.mrc", 1, f"g{i % 2}", 1, f"m{i % 3}") for i in range(5)])
    assert read_star(path).class_names == ("g0", "g1")
    assert read_star(path, class_column="myClass").class_names == ("m0", "m1", "m2")
    one_line(lambda: read_star(path, class_column="rlnName"), "rlnName", "class_column", "rlnGroupName")


@pytest.mark.parametrize(
    ("column", "value"), [("rlnImagePixelSize", "15.0"), ("rlnPixelSize", "15.0"), ("rlnDetectorPixelSize", "15.0")]
)
def test_pixel_sizes_of_older_star_files(project, column, value):
    columns = ("rlnImageName", "rlnClassNumber", column, "rlnMagnification")
    path = project(columns, [("p0.mrc", 1, value, 10000)], optics=None)
    one_line(lambda: read_star(path), "p0.mrc", "1 nm in its header but 1.5 nm in the STAR", "file_voxel_size_nm")
    assert read_star(path, file_voxel_size_nm=1.5, voxel_size_nm=None).voxel_size_nm == 1.5
    write(path.parent / "p0.mrc", voxel_size_nm=0)
    assert read_star(path, voxel_size_nm=None).voxel_size_nm == 1.5


def test_a_star_file_without_pixel_size_leaves_it_to_the_headers(project):
    path = project(("rlnImageName", "rlnClassNumber"), [("p0.mrc", 1)], optics=None)
    assert read_star(path, voxel_size_nm=None).voxel_size_nm == pytest.approx(1.0)


def test_bad_star_files_are_one_line(project, tmp_path):
    one_line(lambda: read_star(tmp_path / "absent.star"), "absent.star", "no such file")
    one_line(lambda: read_star(project(rows=[("p9.mrc", 1, 1)])), "p9.mrc", "particules é.star", "correct the name")
    one_line(lambda: read_star(project(rows=[])), "lists no particles")
    one_line(lambda: read_star(project(("rlnTomoName",), [("a",)])), "no column rlnImageName")
    one_line(
        lambda: read_star(project(("rlnImageName",), [("p0.mrc",)])),
        "no column rlnClassName or rlnClassNumber or rlnGroupName",
    )
    stacks = {"rlnOpticsGroup": 1, "rlnImageDimensionality": 2}
    one_line(lambda: read_star(project(optics=stacks)), "2D images without rlnTomoName", "give subtomograms")
    path = project()
    for content in (b"", b"just words\n", b"data_\nloop_\n_rlnImageName #1\n_b #2\nx y z\na\n", b"\xff\xfe\x00data_"):
        path.write_bytes(content)
        one_line(lambda: read_star(path), "particules é.star")
    project()
    assert len(read_star(path)) == 5, "nothing of the bad ones is remembered"


# --- real files -------------------------------------------------------------------------------------------------------


@needs_real
def test_real_ribosomes_are_read_both_ways(tmp_path):
    pytest.importorskip("starfile")
    found = read_star(
        RIBOSOMES / "particles.star", class_column="rlnTomoName", voxel_size_nm=None, box=32, dark_protein=False
    )
    assert found.class_names == ("Unt_050", "Unt_083") and found.labels.tolist() == [0] * 10 + [1] * 10
    assert found.volumes.shape == (20, 32, 32, 32) and found.voxel_size_nm == pytest.approx(1.2)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "ribosome").symlink_to(RIBOSOMES)
    folder = read_folder(tmp_path / "set", voxel_size_nm=None, box=32, dark_protein=False)
    assert torch.equal(folder.volumes, found.volumes)
    resampled = read_folder(tmp_path / "set", dark_protein=False)
    assert resampled.volumes.shape == (20, 40, 40, 40) and resampled.voxel_size_nm == 1.0


@needs_real
def test_real_tilt_stacks_are_read_too(tmp_path):
    pytest.importorskip("torch_fourier_slice")
    found = read_star(
        TILT_STACKS / "particles.star", class_column="rlnTomoName", voxel_size_nm=2.0, box=20, dark_protein=False
    )
    assert found.volumes.shape == (20, 20, 20, 20) and found.labels.tolist() == [0] * 10 + [1] * 10
    one_line(lambda: read_star(TILT_STACKS / "tomograms.star"), "no column rlnImageName")
    one_line(lambda: read_folder(TILT_STACKS), "37 x 32 x 32 voxels, a stack of images")
