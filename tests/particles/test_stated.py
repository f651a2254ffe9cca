"""Columns and header fields that change the physics: each is used, said or refused by its name."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cryo_fewshot.particles.stated as stated
from cryo_fewshot.particles.opening import open_particles

mrcfile = pytest.importorskip("mrcfile")
OPTICS = ("rlnOpticsGroup", "rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")


def particle_star(files, folder, column, value):
    files.write(folder / "p.mrc")
    return files.star_of(folder / "p.star", ("rlnImageName", column), [("p.mrc", 0), ("p.mrc", value)])


def coordinate_star(files, folder, column, value):
    rows = [[*row, other] for row, other in zip(files.CENTRES[:, ::-1], (0, value, 0), strict=True)]
    return files.star_of(folder / "c.star", [*(f"rlnCoordinate{axis}" for axis in "XYZ"), column], rows)


@pytest.mark.parametrize(
    ("column", "kind"),
    [(c, kind) for c in stated.STATED for kind in ("particles", "coordinates") if c.of in (kind, "both")],
    ids=lambda part: getattr(part, "name", part),
)
def test_each_column_is_said_or_refused(column, kind, tmp_path, tomogram, files):
    def opened(value):
        if kind == "particles":
            return open_particles(particle_star(files, tmp_path, column.name, value))
        return open_particles(coordinate_star(files, tmp_path, column.name, value), tomogram=tomogram, box_nm=12)

    assert not any(column.text in note for note in opened(0).notes)
    if column.refuses:
        files.one_line(lambda: opened(2 * column.above + 1), f"{column.name} of 1 rows", column.text)
    else:
        (note,) = (note for note in opened(2 * column.above + 1).notes if column.text in note)
        assert f"{column.name} of 1 rows" in note


def test_what_is_said_to_be_used_stands_in_the_code_that_reads():
    folder = Path(stated.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "stated.py")
    families = {f"rlnOrigin{axis}Angst": "rlnOrigin{axis}Angst" for axis in "XYZ"}
    assert not [name for name in stated.USED if families.get(name, name) not in code]


@pytest.mark.parametrize(
    "name", [name for name, (_, kind) in stated.USED.items() if kind] + [c.name for c in stated.STATED]
)
def test_a_value_that_cannot_be_one_is_refused(name, tmp_path, files):
    """Whatever spelling a program has for a flag or a number, it is used or named."""
    files.write(tmp_path / "p.mrc")
    star = files.star_of(tmp_path / "p.star", ("rlnImageName", name), [("p.mrc", "true")])
    files.one_line(lambda: open_particles(star), f"{name} of row 1 is true, not ", "1 rows", "correct it")


def test_another_box_than_the_stated_one_is_said(tmp_path, files):
    particles = open_particles(particle_star(files, tmp_path, "rlnImageSize", 32))
    assert any("rlnImageSize says 0, 32 voxels, the files have 12" in note for note in particles.notes)
    files.star_of(tmp_path / "p.star", ("rlnImageName", "rlnImageSize"), [("p.mrc", "12.0")])
    assert not any("rlnImageSize" in note for note in open_particles(tmp_path / "p.star").notes)


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
