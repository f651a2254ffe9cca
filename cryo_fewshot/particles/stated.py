"""Columns of STAR files that change what a particle's file shows or where it lies: each is used, said or refused.

A column that is in neither of these tables leaves a volume at a few nm as it is.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .star import as_numbers, numbers


class Kind(NamedTuple):
    """What the values of a column have to be, in words and as a function of numbers `(n,)`."""

    text: str
    holds: Callable[[np.ndarray], np.ndarray]


NUMBER = Kind("a number", np.isfinite)
LENGTH = Kind("a number of 0 or more", lambda x: x >= 0)
FLAG = Kind("0 or 1", lambda x: (x == 0) | (x == 1))
SHARE = Kind("a fraction from 0 to below 1", lambda x: (x >= 0) & (x < 1))
KILOVOLTS = Kind("kV, from 50 to 1500", lambda x: (x >= 50) & (x <= 1500))
MILLIMETRES = Kind("mm, from 0 to 20", lambda x: (x >= 0) & (x <= 20))
# Some tilts may be in focus; where all are, those are micrometres.
ANGSTROM = Kind("angstrom", lambda x: np.isfinite(x) & ((x == 0) | (np.nan_to_num(np.abs(x)).max() >= 100)))
USED = {
    "rlnImagePixelSize": ("voxel size", LENGTH),
    "rlnPixelSize": ("voxel size", LENGTH),
    "rlnDetectorPixelSize": ("voxel size, with rlnMagnification", LENGTH),
    "rlnMagnification": ("voxel size, with rlnDetectorPixelSize", LENGTH),
    "rlnTomoSubtomogramBinning": ("voxel size, with rlnTomoTiltSeriesPixelSize", LENGTH),
    "rlnMicrographPixelSize": ("what rlnCoordinateX counts", LENGTH),
    "rlnTomoTiltSeriesPixelSize": ("what rlnCoordinateX counts", LENGTH),
    **{f"rlnOrigin{axis}Angst": ("subtracted from coordinates in a tomogram", NUMBER) for axis in "XYZ"},
    "rlnImageDimensionality": ("2 for stacks of tilt images", LENGTH),
    "rlnTomoSubTomosAre2DStacks": ("1 for stacks of tilt images", FLAG),
    "rlnTomoYTilt": ("geometry of a tilt", NUMBER),
    "rlnCtfDataAreCtfPremultiplied": ("divided by the CTF", FLAG),
    "rlnDefocusU": ("the CTF to divide by", ANGSTROM),
    "rlnDefocusV": ("the CTF to divide by", NUMBER),
    "rlnDefocusAngle": ("the CTF to divide by", NUMBER),
    "rlnPhaseShift": ("the CTF to divide by", NUMBER),
    "rlnVoltage": ("the CTF to divide by", KILOVOLTS),
    "rlnSphericalAberration": ("the CTF to divide by", MILLIMETRES),
    "rlnAmplitudeContrast": ("the CTF to divide by", SHARE),
}
"""What is read elsewhere in this folder, and as what; a value that is none of it is refused."""


class Column(NamedTuple):
    """A column, whether it concerns rows of coordinates or of extracted particles or both, from which size on, what
    is then said, and whether that refuses the file."""

    name: str
    of: str
    above: float
    text: str
    refuses: bool = False


STATED = (
    Column("rlnIsFlip", "both", 0, "mirrored particles; extract them without, or give --mirror for those alone", True),
    *(
        Column(f"rlnOrigin{axis}", "coordinates", 0, f"a shift in pixels; write it as rlnOrigin{axis}Angst", True)
        for axis in "XYZ"
    ),
    *(
        Column(f"rlnOrigin{axis}{unit}", "particles", least, "a shift that is not applied; extract them again, centred")
        for axis in "XYZ"
        for unit, least in (("Angst", 20), ("", 2))
    ),
    *(
        Column(f"rlnTomoSubtomogram{angle}", "particles", 1, "rotated boxes, whose missing wedge is not about z")
        for angle in ("Rot", "Tilt", "Psi")
    ),
    Column("rlnCtfDataArePhaseFlipped", "both", 0, "phases were flipped, which changes nothing before the first zero"),
    Column("rlnPhaseShift", "particles", 5, "a phase plate, which no pretrained encoder was trained on"),
)


def column_notes(blocks: dict, name: str, path: object, of: str) -> tuple[str, ...]:
    """A line for each column of STATED that says something; UserError for one that refuses the file.

    of : what the rows are, coordinates or particles
    """
    check_values(blocks, path)
    notes: dict[str, list[str]] = {}
    for column in STATED:
        values = numbers(blocks, name, column.name) if column.of in (of, "both") else None
        with np.errstate(invalid="ignore"):
            rows = 0 if values is None else int((np.abs(values) > column.above).sum())
        if rows and column.refuses:
            raise UserError(f"{path}: {column.name} of {rows} rows says {column.text}")
        if rows:
            notes.setdefault(column.text, []).append(f"{column.name} of {rows} rows")
    return tuple(f"{path}: {' and '.join(columns)}: {text}" for text, columns in notes.items())


def check_values(blocks: dict, path: object) -> None:
    """UserError for a value of a column named here that is not what it has to be; one that is missing may be."""
    kinds = {column.name: (column.text, NUMBER) for column in STATED} | USED
    for block in blocks.values():
        for name in set(kinds) & set(block):
            what, kind = kinds[name]
            texts = np.atleast_1d(np.asarray(block[name], dtype=object))
            given = np.array([isinstance(text, str) and text not in ("", "None") for text in texts])
            bad = np.flatnonzero(given & ~kind.holds(as_numbers(texts))) if given.any() else ()
            if len(bad):
                said = f"{name} of row {bad[0] + 1} is {texts[bad[0]]}, not {kind.text} ({what}; {len(bad)} rows)"
                raise UserError(f"{path}: {said}; correct it")


def box_notes(blocks: dict, name: str, path: object, boxes: tuple[int | None, ...]) -> tuple[str, ...]:
    """A line where rlnImageSize is none of the boxes that the files have."""
    stated = numbers(blocks, name, "rlnImageSize")
    other = {} if stated is None else {f"{size:g}" for size in stated[np.isfinite(stated)]} - {str(b) for b in boxes}
    have = ", ".join(str(box) for box in dict.fromkeys(boxes) if box)
    return (f"{path}: rlnImageSize says {', '.join(sorted(other))} voxels, the files have {have}",) if other else ()
