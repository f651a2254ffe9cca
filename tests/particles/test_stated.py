"""Columns and header fields that change the physics: each is used, said or refused by its name."""

from pathlib import Path

import pytest

import cryo_fewshot.particles.stated as stated
from cryo_fewshot.particles.opening import open_particles

mrcfile = pytest.importorskip("mrcfile")


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
