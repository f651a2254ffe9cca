"""Which reader opens a file, what it says about contrast, and what concerns the whole input."""

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.structures import load_complex

pytest.importorskip("mrcfile")
pytest.importorskip("starfile")


def test_contrast_is_detected_stated_and_overridden(tmp_path, files):
    entry = load_complex("4V1W")
    beads = [(entry.positions_nm, entry.masses_kda)] * 12
    bright = simulate(beads, torch.arange(12), 0.1, Microscope(box=32, dark_protein=False, max_shift_nm=1.0))
    for i, volume in enumerate(bright):
        files.write(tmp_path / f"{i:02d}.mrc", volume.numpy())
    detected = open_particles(tmp_path)
    assert detected.dark_protein is False and "looks bright in 12 particles" in detected.notes[-1]
    assert "give dark_protein=True (--contrast dark)" in detected.notes[-1]
    torch.testing.assert_close(detected.read(range(12), 32, 1.0)[0], -bright, atol=1e-5, rtol=0)
    given = open_particles(tmp_path, dark_protein=True)
    assert "looks bright" in given.notes[-1] and "dark was given (--contrast) and is used" in given.notes[-1]
    torch.testing.assert_close(given.read(range(12), 32, 1.0)[0], bright, atol=1e-5, rtol=0)
    (tmp_path / "noise").mkdir()
    for i in range(12):
        files.write(tmp_path / "noise" / f"{i}.mrc", seed=i, box=20)
    unclear = open_particles(tmp_path / "noise")
    assert unclear.dark_protein is None and "contrast cannot be determined" in unclear.notes[-1]
    assert "give dark_protein=False (--contrast bright)" in unclear.notes[-1]


def test_what_concerns_the_whole_input_is_one_line(project, tmp_path, files):
    files.one_line(lambda: open_particles(tmp_path / "absent.star"), "absent.star", "no such file or folder")
    (tmp_path / "x.txt").write_text("words")
    files.one_line(lambda: open_particles(tmp_path / "x.txt"), "x.txt", "not an input that is recognised")
    words = ("file_voxel_size_nm=13.5 (--voxel-size-nm)", "did you mean nm or A? 13.5 A are 1.35 nm")
    files.one_line(lambda: open_particles(project, file_voxel_size_nm=13.5), *words)
    files.one_line(lambda: open_particles(project, coordinate_voxel_size_nm=-1), "coordinate_voxel_size_nm=-1")
    files.one_line(lambda: open_particles(project, box_nm=0), "box_nm=0")
    files.one_line(lambda: open_particles(project).read([0], box=2), "box=2")
    files.one_line(lambda: open_particles(project).read([0], voxel_size_nm=0), "voxel_size_nm=0")
    twice = files.star_of(tmp_path / "twice.star", ["rlnImageName", "rlnImageName"], [("a", "b")])
    files.one_line(lambda: open_particles(twice), "rlnImageName appears twice")


def test_the_wing_itself_offers_its_door():
    import cryo_fewshot.particles as particles

    assert particles.open_particles is open_particles
    with pytest.raises(AttributeError, match="it has Particles, open_particles"):
        particles.open_everything  # noqa: B018


def test_two_contrasts_in_one_input_are_refused_by_class_or_group_unlike_no_signal(tmp_path, files):
    """Blobs of both signs; an input of noise alone has no clear sign, and is not called mixed."""
    g = np.arange(12) - 6
    blob = 8 * np.exp(-(g[:, None, None] ** 2 + g[:, None] ** 2 + g**2) / 8.0)
    for i in range(12):
        files.write(tmp_path / "set" / "ab"[i % 2] / f"{i}.mrc", files.noise(i) + (-1) ** i * blob)
        files.write(tmp_path / "noise" / f"{i}.mrc", files.noise(i))
    words = ("bright in 6 and dark in 6 of 12", "bright in class a", "--contrast dark or bright")
    files.one_line(lambda: open_particles(tmp_path / "set"), *words)
    rows = [(f"{'ab'[i % 2]}/{i}.mrc", 1 + i % 2) for i in range(12)]
    optics = files.optics_table((1, 10.0, 3), (2, 10.0, 3))
    star = files.star_of(tmp_path / "set" / "p.star", ("rlnImageName", "rlnOpticsGroup"), rows, optics)
    files.one_line(lambda: open_particles(star), "bright in optics group 1")
    star = files.star_of(tmp_path / "set" / "p.star", ("rlnImageName",), [row[:1] for row in rows])
    files.one_line(lambda: open_particles(star), "dark in 6 of 12 particles examined;")
    assert "contrast cannot be determined" in open_particles(tmp_path / "noise").notes[-1]
