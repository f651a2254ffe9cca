"""Columns and header fields that change the physics: each is used, said or refused by its name."""

import re
from pathlib import Path

import numpy as np
import pytest

import cryo_fewshot.particles.stated as stated
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles


def test_what_is_said_to_be_used_stands_in_the_code_that_reads():
    folder = Path(stated.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py") if path.name != "stated.py")
    families = {f"rlnOrigin{axis}Angst": "rlnOrigin{axis}Angst" for axis in "XYZ"}
    assert not [name for name in stated.USED if families.get(name, name) not in code]


# Volts, angstrom, per cent, micrometres: divided by such a CTF a particle is another.
OTHER_UNITS = {"rlnVoltage": 3e5, "rlnSphericalAberration": 2.7e7, "rlnAmplitudeContrast": 10, "rlnDefocusU": 3.05}


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, "true") for name in (*stated.USED, *(c.name for c in stated.STATED))), *OTHER_UNITS.items()],
)
def test_a_value_that_cannot_be_one_is_refused(name, value, tmp_path, files):
    """Whatever spelling a program has for a flag or a number, it is used or named."""
    files.write(tmp_path / "p.mrc")
    star = files.star_of(tmp_path / "p.star", ("rlnImageName", name), [("p.mrc", value)])
    files.one_line(lambda: open_particles(star), f"{name} of row 1 is {value}, not ", "1 rows", "correct it")


def test_of_several_wrong_values_the_first_is_named_and_all_are_counted(files):
    blocks = files.blocks_of(rlnCtfDataArePhaseFlipped=["1", "no", "", "yes", "None"])
    said = "p.star: rlnCtfDataArePhaseFlipped of row 2 is no, not a number"
    files.one_line(lambda: stated.check_values(blocks, "p.star"), said, "2 rows); correct it")


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


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("column", "kind"),
    [(c, kind) for c in stated.STATED for kind in ("particles", "coordinates") if c.of in (kind, "both")],
    ids=lambda part: getattr(part, "name", part),
)
def test_a_column_counts_from_beyond_its_size_whichever_its_sign(column, kind, sign, files):
    if sign < 0 and column.name in ("rlnIsFlip", "rlnCtfDataArePhaseFlipped"):
        pytest.skip("a flag")

    def said(*values):
        return stated.column_notes(files.blocks_of(**{column.name: values}), "particles", "p.star", kind)

    beyond = sign * (column.above + 1)
    assert said(sign * column.above, 0) == ()
    if column.refuses:
        with pytest.raises(UserError, match=f"p.star: {column.name} of 2 rows says {re.escape(column.text)}"):
            said(beyond, 0, beyond)
    else:
        assert said(beyond, 0, beyond) == (f"p.star: {column.name} of 2 rows: {column.text}",)


def test_columns_of_one_kind_are_said_together(files):
    blocks = files.blocks_of(rlnOriginX=[3, 0], rlnOriginY=[5, 5])
    notes = stated.column_notes(blocks, "particles", "p.star", "particles")
    assert notes == (
        "p.star: rlnOriginX of 1 rows and rlnOriginY of 2 rows: a shift that is not applied; "
        "extract them again, centred",
    )


def test_boxes_that_no_file_has_are_said(files):
    blocks = files.blocks_of(rlnImageSize=[12, 32, "nan", 12])
    blocks["particles"].loc[2, "rlnImageSize"] = np.nan
    said = "p: rlnImageSize says 32 voxels, the files have 12, 16"
    assert stated.box_notes(blocks, "particles", "p", (12, None, 16, 12)) == (said,)
    assert stated.box_notes(blocks, "particles", "p", (12, 32)) == ()
    assert stated.box_notes(files.blocks_of(other=[1]), "particles", "p", (12,)) == ()
