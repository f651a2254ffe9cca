"""Columns and header fields that change the physics: each is used, said or refused by its name."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cryo_fewshot.particles.stated as stated
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.listings import size_notes
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


@pytest.mark.parametrize("name", [*stated.USED] + [c.name for c in stated.STATED])
def test_a_value_that_cannot_be_one_is_refused(name, tmp_path, files):
    """Whatever spelling a program has for a flag or a number, it is used or named."""
    files.write(tmp_path / "p.mrc")
    star = files.star_of(tmp_path / "p.star", ("rlnImageName", name), [("p.mrc", "true")])
    files.one_line(lambda: open_particles(star), f"{name} of row 1 is true, not ", "1 rows", "correct it")


def test_of_several_wrong_values_the_first_is_named_and_all_are_counted(files):
    blocks = blocks_of(rlnCtfDataArePhaseFlipped=["1", "no", "", "yes", "None"])
    said = "p.star: rlnCtfDataArePhaseFlipped of row 2 is no, not a number"
    files.one_line(lambda: stated.check_values(blocks, "p.star"), said, "2 rows); correct it")


def test_another_box_than_the_stated_one_is_said(tmp_path, files):
    particles = open_particles(particle_star(files, tmp_path, "rlnImageSize", 32))
    assert any("rlnImageSize says 0, 32 voxels, the files have 12" in note for note in particles.notes)
    files.star_of(tmp_path / "p.star", ("rlnImageName", "rlnImageSize"), [("p.mrc", "12.0")])
    assert not any("rlnImageSize" in note for note in open_particles(tmp_path / "p.star").notes)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("NUMBER", (0, -5, 1e9), (np.nan, np.inf)),
        ("LENGTH", (0, 5), (-0.1, np.nan)),
        ("FLAG", (0, 1), (-1, 0.5, 2)),
        ("SHARE", (0, 0.99), (-0.01, 1, np.nan)),
        ("KILOVOLTS", (50, 300, 1500), (49.9, 1501, np.nan)),
        ("MILLIMETRES", (0, 2.7, 20), (-0.1, 20.1)),
    ],
)
def test_values_that_a_column_may_have(kind, right, wrong):
    holds = getattr(stated, kind).holds
    assert holds(np.array(right, float)).all() and not holds(np.array(wrong, float)).any()


def test_defoci_that_are_all_below_100_are_micrometres():
    holds = stated.ANGSTROM.holds
    assert holds(np.array([0.0, 100.0, 3.0, -5e4])).all() and holds(np.zeros(2)).all()
    assert holds(np.array([-100.0, 5.0])).all()
    assert holds(np.array([0.0, 99.0])).tolist() == [True, False]
    assert holds(np.array([np.nan, 2e4])).tolist() == [False, True]


def blocks_of(**columns):
    return {"particles": pd.DataFrame({name: list(map(str, values)) for name, values in columns.items()})}


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("column", stated.STATED, ids=lambda column: column.name)
def test_a_column_counts_from_beyond_its_size_whichever_its_sign(column, sign):
    if sign < 0 and column.name in ("rlnIsFlip", "rlnCtfDataArePhaseFlipped"):
        pytest.skip("a flag")
    kind = "particles" if column.of == "both" else column.of

    def said(*values):
        return stated.column_notes(blocks_of(**{column.name: values}), "particles", "p.star", kind)

    beyond = sign * (column.above + 1)
    assert said(sign * column.above, 0) == ()
    if column.refuses:
        with pytest.raises(UserError, match=f"p.star: {column.name} of 2 rows says {re.escape(column.text)}"):
            said(beyond, 0, beyond)
    else:
        assert said(beyond, 0, beyond) == (f"p.star: {column.name} of 2 rows: {column.text}",)


def test_columns_of_one_kind_are_said_together():
    notes = stated.column_notes(blocks_of(rlnOriginX=[3, 0], rlnOriginY=[5, 5]), "particles", "p.star", "particles")
    assert notes == (
        "p.star: rlnOriginX of 1 rows and rlnOriginY of 2 rows: a shift that is not applied; "
        "extract them again, centred",
    )


def test_voxel_sizes_that_differ_by_more_than_rounding_are_said():
    detector = {"rlnDetectorPixelSize": [5, 5, 5], "rlnMagnification": [50000, 49000, 50000]}
    tilts = {"rlnTomoTiltSeriesPixelSize": [2.5, 2.5, 2], "rlnTomoSubtomogramBinning": [4, 4, 4]}
    assert size_notes(blocks_of(rlnImagePixelSize=[1, 1.009, 1], **detector), "particles", "p") == (
        "p: rlnDetectorPixelSize and rlnMagnification say 0.102 nm, rlnImagePixelSize 0.1009 nm, "
        "and the latter is used (1 rows)",
    )
    assert size_notes(blocks_of(rlnPixelSize=[10, 10, 10], **tilts), "particles", "p") == (
        "p: rlnTomoTiltSeriesPixelSize and rlnTomoSubtomogramBinning say 0.8 nm, rlnPixelSize 1 nm, "
        "and the latter is used (1 rows)",
    )
    assert size_notes(blocks_of(rlnImagePixelSize=[10], rlnPixelSize=[10.05]), "particles", "p") == ()
    assert size_notes(blocks_of(rlnKind=["x"]), "particles", "p") == ()


def test_boxes_that_no_file_has_are_said():
    blocks = blocks_of(rlnImageSize=[12, 32, "nan", 12])
    blocks["particles"].loc[2, "rlnImageSize"] = np.nan
    said = "p: rlnImageSize says 32 voxels, the files have 12, 16"
    assert stated.box_notes(blocks, "particles", "p", (12, None, 16, 12)) == (said,)
    assert stated.box_notes(blocks, "particles", "p", (12, 32)) == ()
    assert stated.box_notes(blocks_of(other=[1]), "particles", "p", (12,)) == ()
