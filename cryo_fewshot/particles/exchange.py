"""Coordinates as other programs keep them: tables of Dynamo, models of IMOD, boxes of EMAN2; and a table for Dynamo."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .mrc import first_line

LABEL_COLUMNS = ("dynamoClass", "imodObject", "emanClass")


def is_eman(path: Path) -> bool:
    """Whether a json file holds EMAN2's boxes; a copick project does not."""
    try:
        return path.suffix == ".json" and "boxes_3d" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def exchange_table(path: Path) -> pd.DataFrame | None:
    """Coordinates and classes of a .tbl, .mod or EMAN2 json as a table of texts, in columns that `coordinates` knows;
    None of any other kind of file. Raises UserError."""
    reader = {".tbl": _dynamo, ".mod": _imod, ".json": _eman}.get(path.suffix.lower())
    if reader is None:
        return None
    try:
        table = reader(path)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
    except Exception as error:  # the libraries' parsers have no common class of errors
        raise UserError(f"{path}: not a whole {path.suffix} file ({first_line(error)}); export it again") from error
    if not len(table):
        raise UserError(f"{path}: lists no particles; export it again")
    return table.map(lambda value: value if isinstance(value, str) else repr(float(value)))


def _dynamo(path: Path) -> pd.DataFrame:
    """Voxels counted from 1, as in MATLAB, plus the shift of an alignment; tomograms by the map file of a catalogue."""
    import dynamotable

    table_map = next((p for p in (path.with_suffix(".doc"), path.parent / "indices_column20.doc") if p.exists()), None)
    table = dynamotable.read(path, table_map)
    whole = {name: table[name].astype(int).astype(str) for name in ("class", "tomo")}
    xyz = {axis: table[axis] + table[f"d{axis}"] - 1 for axis in "xyz"}
    found = pd.DataFrame({**xyz, "tomogram": table.get("tomo_file", whole["tomo"]), "dynamoClass": whole["class"]})
    if "apix" in table and (table["apix"] > 0).all():
        found["rlnMicrographPixelSize"] = table["apix"]
    return found


def _imod(path: Path) -> pd.DataFrame:
    """Every point of a model; IMOD counts x and y from a voxel's edge and z from its middle. Objects are classes."""
    from imodmodel import ImodModel

    rows = []
    for number, one in enumerate(ImodModel.from_file(path).objects, 1):
        name = one.header.name.split("\0")[0].strip() or f"object {number}"
        rows += [(*point, name) for contour in one.contours for point in contour.points - np.array([0.5, 0.5, 0])]
    return pd.DataFrame(rows, columns=[*"xyz", "imodObject"])


def _eman(path: Path) -> pd.DataFrame:
    """Boxes of an _info.json, in unbinned pixels from the tomogram's centre."""
    info = json.loads(path.read_text(encoding="utf-8"))
    if not is_eman(path):
        raise UserError(f"{path}: no boxes_3d in it, as EMAN2's info files have; give one with boxes, or STAR or csv")
    if "apix_unbin" not in info:
        raise UserError(f"{path}: states no apix_unbin, so that its boxes have no unit; save it again with EMAN2")
    names = {int(number): one["name"] for number, one in info.get("class_list", {}).items()}
    rows = [(*(float(c) * info["apix_unbin"] for c in box[:3]), int(box[5])) for box in info["boxes_3d"]]
    table = pd.DataFrame(rows, columns=[*(f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"), "emanClass"])
    return table.assign(emanClass=[names.get(number, f"class {number}") for number in table["emanClass"]])


def write_dynamo(path: Path, centres: np.ndarray, tomograms: np.ndarray, classes: np.ndarray) -> None:
    """A .tbl of centres `(n, 3)` zyx in voxels from 0, with numbers of tomograms and classes from 1 `(n,)`."""
    import dynamotable

    xyz = {axis: column + 1 for axis, column in zip("zyx", centres.T, strict=True)}
    dynamotable.write(pd.DataFrame({**xyz, "tomo": tomograms, "class": classes}), str(path))
