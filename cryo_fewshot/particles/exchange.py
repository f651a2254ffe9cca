"""Coordinates as other programs keep them, read and written: Dynamo, IMOD and PEET; boxes of EMAN2, read alone."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import write_atomically
from .mrc import reading

LABEL_COLUMNS = ("dynamoClass", "imodObject", "emanClass", "peetClass")
CSV_COLUMNS = "x, y, z in voxels from 0, or x_nm, y_nm, z_nm"
FROM_EDGE = np.array([0.5, 0.5, 0])  # IMOD counts x and y from a voxel's edge and z from its middle
FLIPPED = 1 << 16  # flag of a model's header
# A motive list of PEET: score, number of the point in its model, shift of that in voxels, class in the last column.
MOTIVE_LIST = (
    *("CCC", "reserved", "reserved", "pIndex", "wedgeWT", "NA", "NA", "NA", "NA", "NA", "xOffset", "yOffset"),
    *("zOffset", "NA", "NA", "reserved", "EulerZ(1)", "EulerZ(3)", "EulerX(2)", "reserved"),
)


def is_eman(path: Path) -> bool:
    """Whether a json file holds EMAN2's boxes; a copick project does not."""
    try:
        return path.suffix.lower() == ".json" and "boxes_3d" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def exchange_table(path: Path) -> pd.DataFrame:
    """Coordinates and classes of a .tbl, .mod, EMAN2 json or csv as a table of texts, in columns that `coordinates`
    knows; raises UserError."""
    reader = {".tbl": _dynamo, ".mod": _imod, ".json": _eman}.get(path.suffix.lower())
    if reader is None:
        return csv_table(path)
    with reading(path, f"a whole {path.suffix} file", "export it again"):
        table = reader(path)
    if not len(table):
        raise UserError(f"{path}: lists no particles; export it again")
    return table.map(lambda value: value if isinstance(value, str) else repr(float(value)))


def csv_table(path: Path) -> pd.DataFrame:
    """A table of coordinates as texts, without blanks around them: csv of any separator, or a motive list of PEET."""
    with reading(path, "a csv in UTF-8", f"give columns {CSV_COLUMNS}"):
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = next((s for s in ",;\t" if s in header), ",")  # spreadsheets of many countries write semicolons
        options = {"dtype": str, "encoding": "utf-8-sig", "skipinitialspace": True, "keep_default_na": False}
        table = pd.read_csv(path, sep=separator, **options)
    if {"CCC", "pIndex"} <= set(table):
        return _peet(path, table)
    table = table.rename(columns=str.strip).apply(lambda column: column.str.strip())
    names = [name.strip() for name in header.split(separator)]
    if twice := next((name for name in table if names.count(name) > 1), None):
        raise UserError(f"{path}: column {twice} appears twice; remove one of them")
    if not len(table):
        raise UserError(f"{path}: lists no particles; export it again")
    # Countries that do not separate by commas write 12,5.
    return table if separator == "," else table.replace(r"^(-?\d+),(\d+)$", r"\1.\2", regex=True)


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
    """Every point of a model, in voxels of the image that it was drawn on where the model says which; objects are
    classes."""
    from imodmodel import ImodModel

    model, rows = ImodModel.from_file(path), []
    if int(model.header.flags) & FLIPPED:
        raise UserError(f"{path}: its points have y and z exchanged, as 3dmod saved it; run imodtrans -Y on it")
    for number, one in enumerate(model.objects, 1):
        name = one.header.name.split("\0")[0].strip() or f"object {number}"
        rows += [(*point, name) for contour in one.contours for point in contour.points - FROM_EDGE]
    table = pd.DataFrame(rows, columns=[*"xyz", "imodObject"])
    drawn_on_a = model.minx.cscale[0] if model.minx else 1.0  # 1 is what a header without voxel size says
    return table if drawn_on_a in (0.0, 1.0) else table.assign(rlnMicrographPixelSize=drawn_on_a)


def _peet(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Points of a motive list's rows: those of the model of the same name beside it, moved by the list's offsets."""
    model = path.with_suffix(".mod")
    if not model.exists():
        lies = f"a motive list of PEET, whose points are in a model, but {model.name} is not beside it"
        raise UserError(f"{path}: {lies}; put it there by that name, or give the .mod file itself")
    points, columns = exchange_table(model), ("pIndex", "xOffset", "yOffset", "zOffset")
    index, *offsets = (pd.to_numeric(table[column], errors="coerce").to_numpy(float) for column in columns)
    if not np.isin(index, np.arange(1, len(points) + 1)).all() or not np.isfinite(offsets).all():
        raise UserError(f"{path}: pIndex or an offset does not fit the {len(points)} points of {model.name}; correct")
    points = points.iloc[index.astype(int) - 1].reset_index(drop=True)
    moved = {a: (points[a].astype(float) + offset).map(repr) for a, offset in zip("xyz", offsets, strict=True)}
    return points.assign(**moved, peetClass=table.iloc[:, len(MOTIVE_LIST) - 1].fillna("").to_numpy())


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


def write_peet(path: Path, centres: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
    """A model of centres `(n, 3)` zyx in voxels from 0, and as .csv beside it a motive list of scores and classes."""
    from imodmodel import ImodModel

    points = pd.DataFrame(centres[:, ::-1] + FROM_EDGE, columns=list("xyz"))
    with tempfile.TemporaryDirectory() as folder:
        ImodModel.from_dataframe(points).to_file(Path(folder) / "points.mod")
        write_atomically(path, (Path(folder) / "points.mod").read_bytes())
    rows = np.zeros((len(points), len(MOTIVE_LIST)))
    for column, values in ((0, np.nan_to_num(scores)), (3, np.arange(1, len(points) + 1)), (-1, classes)):
        rows[:, column] = values
    lines = [",".join(MOTIVE_LIST), *(",".join(f"{value:.6g}" for value in row) for row in rows)]
    write_atomically(path.with_suffix(".csv"), "\n".join([*lines, ""]).encode())
