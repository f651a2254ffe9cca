"""Volumes that were multiplied by their CTF are divided by it, or it is said why not."""

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.opening import open_particles

mrcfile = pytest.importorskip("mrcfile")
OPTICS = ("rlnOpticsGroup", "rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")


def premultiplied(files, folder, volumes, defocus_columns=True, flag="1"):
    """Volumes times the CTF of 3 um, and the STAR file that says so."""
    full, half = np.fft.fftfreq(16), np.fft.rfftfreq(16)
    squared = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2) / 10.0**2  # voxels of 10 angstrom
    wave = 0.0196875  # angstrom, of 300 kV
    chi = np.pi * wave * 30000 * squared - np.pi / 2 * 2.7e7 * wave**3 * squared**2 + np.arcsin(0.1)
    for i, volume in enumerate(volumes):
        files.write(folder / f"{i}.mrc", np.fft.irfftn(np.fft.rfftn(volume) * np.sin(chi), s=(16,) * 3, axes=(0, 1, 2)))
    optics = files.optics_table((1, 10.0, 300, 2.7, 0.1, flag), columns=(*OPTICS, "rlnCtfDataAreCtfPremultiplied"))
    columns = ["rlnTomoName", "rlnImageName", "rlnOpticsGroup"]
    row = ["30500", "29500"] if defocus_columns else []
    columns += ["rlnDefocusU", "rlnDefocusV"] if defocus_columns else []
    rows = [["TS_1", f"{i}.mrc", 1, *row] for i in range(len(volumes))]
    return files.star_of(folder / "p.star", columns, rows, optics)


def correlation(particles, volumes):
    read, rejected = particles.read(range(len(volumes)), 16, 1.0)
    assert not rejected
    return torch.corrcoef(torch.stack([read.flatten(), torch.from_numpy(volumes).flatten()]))[0, 1].item()


def test_volumes_multiplied_by_their_ctf_are_divided_by_it(tmp_path, files):
    g = np.arange(16) - 8
    blob = np.exp(-(((g[:, None, None] - 2) ** 2 + g[:, None] ** 2 + (g + 1) ** 2) / 8.0)).astype(np.float32)
    volumes = -np.stack([blob, blob[::-1], blob.T]) * 10
    volumes = (volumes - volumes.mean((1, 2, 3), keepdims=True)) / volumes.std((1, 2, 3), keepdims=True)
    star = premultiplied(files, tmp_path, volumes)
    particles = open_particles(star, dark_protein=True)
    assert any("3 of 3 volumes were multiplied by their CTF, which is undone" in note for note in particles.notes)
    assert correlation(particles, volumes) > 0.99
    left = open_particles(premultiplied(files, tmp_path, volumes, flag="0"), dark_protein=True)
    assert correlation(left, volumes) < 0.95 and any("not multiplied by their CTF" in note for note in left.notes)
    # the defocus of the tilt series, where a row has none
    star = premultiplied(files, tmp_path, volumes, defocus_columns=False)
    particles = open_particles(star, dark_protein=True)
    assert any("not undone for lack of rlnDefocusU" in note for note in particles.notes)
    series = files.table("TS_1", ("rlnDefocusU", "rlnDefocusV"), [(29000, 29000), (31000, 31000)])
    (tmp_path / "tomograms.star").write_text(series)
    assert correlation(open_particles(star, dark_protein=True), volumes) > 0.99
    bad = premultiplied(files, tmp_path, volumes)
    bad.write_text(bad.read_text().replace("30500", "none", 1))
    files.one_line(lambda: open_particles(bad), "rlnDefocusU of row 1 is none, not angstrom", "1 rows")
    bad.write_text(bad.read_text().replace("none", "nan", 1))
    files.one_line(lambda: open_particles(bad), "1 rows lack a defocus", "each row")


@pytest.mark.parametrize(
    ("column", "value"),
    [("rlnVoltage", 300000), ("rlnSphericalAberration", 2.7e7), ("rlnAmplitudeContrast", 10), ("rlnDefocusU", 3.05)],
)
def test_values_of_the_ctf_in_another_unit_are_refused(column, value, tmp_path, files):
    """Volts, angstrom, per cent, micrometres: divided by such a CTF a particle is another."""
    star = premultiplied(files, tmp_path, np.stack([files.noise(i, 16) for i in range(3)]))
    text = {"rlnVoltage": " 300 ", "rlnSphericalAberration": " 2.7 ", "rlnAmplitudeContrast": " 0.1 "}
    star.write_text(star.read_text().replace(text.get(column, " 30500 "), f" {value} "))
    files.one_line(lambda: open_particles(star), f"{column} of row 1 is {value}, not ", "the CTF to divide by")
