"""Coordinates in tomograms as particles: a STAR file, a csv table or a copick project, and the tomogram of each row."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .base import Particles
from .copick_projects import copick_table
from .listings import column_labels
from .mrc import first_line, remark_lines
from .picks_folders import is_picks_folder, picks_table
from .star import numbers, read_star_blocks, table_with
from .tomograms import Boxes, Tomogram, find_tomograms, name_of_tomogram, tomogram_at

CSV_COLUMNS = "x, y, z in voxels from 0, or x_nm, y_nm, z_nm"
TOMOGRAM_COLUMNS = ("rlnTomoName", "tomogram", "rlnMicrographName")  # RELION 3 and Warp use the last


def open_coordinates(
    path: Path,
    *,
    tomogram: str | Path | None,
    coordinates: str | Path | None,
    label_column: str | None,
    file_voxel_size_nm: float | None,
    box_nm: float,
    coordinate_voxel_size_nm: float | None,
    pad_edges: bool,
) -> Particles:
    """Particles of coordinates and their tomograms, see `opening.open_particles`; either of the two is `path`."""
    if path.suffix == ".json" or is_picks_folder(path):
        read_picks = copick_table if path.suffix == ".json" else picks_table
        table, tomograms = read_picks(path, tomogram, file_voxel_size_nm)
        named = ()
        listed_in, blocks, block_name = path, {}, "particles"
        label_column = label_column or "copickObject"
    else:
        if coordinates is not None and tomogram is not None:
            raise UserError(f"{path}: given with coordinates and tomogram; give two of the three")
        listed_in, tomogram_path = (path, Path(tomogram)) if tomogram is not None else (Path(coordinates), path)
        blocks, block_name = _coordinate_blocks(listed_in)
        table = blocks[block_name]
        tomograms, named = _tomograms_of(table, tomogram_path, listed_in, file_voxel_size_nm)
    which, tomograms = pd.factorize(pd.Series(tomograms, dtype=object))
    centres = np.full((len(table), 3), np.nan)
    for k, one in enumerate(tomograms):
        rows = which == k
        centres[rows] = read_coordinates({**blocks, block_name: table}, block_name, one, coordinate_voxel_size_nm)[rows]
    if not _any_inside(centres, which, tomograms):
        extent = " x ".join(map(str, tomograms[0].shape))
        first = ", ".join(f"{c:.1f}" for c in centres[0])
        remedy = "give coordinate_voxel_size_nm, the unit of the coordinates, or the right tomogram"
        raise UserError(f"{listed_in}: no coordinate lies in a tomogram, zyx {first} and {extent} voxels; {remedy}")
    edges = tuple(_even(box_nm / one.voxel_size_nm) for one in tomograms)
    stems = [one.path.name for one in tomograms]
    names = [f"{listed_in.name}:{i + 1} in {stems[k]}" for i, k in enumerate(which)]
    main = int(np.bincount(which).argmax())
    unit = (
        "voxels of the tomogram, or the unit their columns name"
        if coordinate_voxel_size_nm is None
        else f"voxels of {coordinate_voxel_size_nm:.4g} nm"
    )
    edge_note = "filled with their mean" if pad_edges else "rejected"
    header_notes = remark_lines({one.path: one.remarks for one in tomograms})
    return Particles(
        names=names,
        source=Boxes(names, tuple(tomograms), which, centres, edges, pad_edges),
        voxel_size_nm=tomograms[main].voxel_size_nm,
        box=edges[main],
        labels=column_labels(table, listed_in, label_column),
        table=table,
        blocks=blocks,
        block_name=block_name,
        notes=(
            *named,
            f"{listed_in}: coordinates in {unit}; boxes that reach out of a tomogram are {edge_note}",
            *header_notes,
        ),
    )


def read_coordinates(blocks: dict, name: str, tomogram: Tomogram, unit_nm: float | None = None) -> np.ndarray:
    """Centres `(n, 3)` in zyx voxels of the tomogram, from 0, NaN where a value is not a number.

    Columns, the first that are there: rlnCenteredCoordinateXAngst (angstrom from the tomogram's centre, RELION 5);
    rlnCoordinateX, x or X (voxels of unit_nm, by default the tomogram's); x_nm (nm from the first voxel). RELION
    counts rlnCoordinateX in unbinned pixels, WarpTools in those of its export: where the STAR file and the tomogram
    differ, say which with unit_nm. rlnOriginXAngst, the shift found in a refinement, is subtracted.
    """
    nm = tomogram.voxel_size_nm
    ways = [
        ("rlnCenteredCoordinate{}Angst", 0.1 / nm, True),
        ("rlnCoordinate{}", (unit_nm or nm) / nm, False),
        ("x_nm", 1 / nm, False),
        ("x", (unit_nm or nm) / nm, False),
        ("X", (unit_nm or nm) / nm, False),
    ]
    for pattern, scale, from_centre in ways:
        columns = [pattern.format(c) if "{}" in pattern else c + pattern[1:] for c in ("ZYX", "zyx")["x" in pattern]]
        found = [numbers(blocks, name, column) for column in columns]
        if all(values is not None for values in found):
            centres = np.stack(found, axis=1) * scale
            if from_centre:
                centres += np.array(tomogram.shape) // 2
            shifts = [numbers(blocks, name, f"rlnOrigin{c}Angst") for c in "ZYX"]
            if all(shift is not None for shift in shifts):
                centres -= np.stack(shifts, axis=1) * 0.1 / nm
            return centres
    there = ", ".join(blocks[name])
    raise UserError(f"coordinates: no columns {CSV_COLUMNS}, or rlnCoordinateX, Y, Z among {there}; rename them")


def _coordinate_blocks(path: Path) -> tuple[dict, str]:
    if path.suffix.lower() == ".star":
        blocks = read_star_blocks(path)
        columns = ["rlnCenteredCoordinateXAngst", "rlnCoordinateX"]
        return blocks, table_with(blocks, path, columns, "give the STAR file of the coordinates")
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", skipinitialspace=True, keep_default_na=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
    except Exception as error:  # pandas' parser errors and those of the encoding
        raise UserError(f"{path}: not a csv in UTF-8 ({first_line(error)}); give columns {CSV_COLUMNS}") from error
    if not len(table):
        raise UserError(f"{path}: lists no particles; export it again")
    return {"particles": table}, "particles"


def _tomograms_of(
    table, path: Path, listed_in: Path, file_voxel_size_nm: float | None
) -> tuple[list[Tomogram], tuple[str, ...]]:
    """The tomogram of each row, the one file for all or that which the row names, and a note that says which."""
    column = next((c for c in TOMOGRAM_COLUMNS if c in table), None)
    names = None if column is None else table[column].fillna("").astype(str).tolist()
    is_zarr = (path / ".zattrs").exists() or (path / "zarr.json").exists()
    if is_zarr or (path.is_file() and path.suffix.lower() != ".star"):
        rows = Counter(map(name_of_tomogram, names or [""]))
        if len(rows) > 1:
            counts = ", ".join(f"{n} of {name or 'none'}" for name, n in rows.most_common(5))
            several = f"rows of {len(rows)} tomograms in {column} ({counts}{', ...' if len(rows) > 5 else ''})"
            raise UserError(f"{listed_in}: {several}, but {path.name} is one; give a folder with them in its place")
        called = f", which {column} calls {names[0]}" if names else ""
        tomogram = tomogram_at(path, file_voxel_size_nm)
        return [tomogram] * len(table), (f"{listed_in}: every row is cut from {path.name}{called}",)
    if not path.exists():
        raise UserError(f"{path}: no such tomogram; correct the name")
    if names is None:
        absent = f"no column {' or '.join(TOMOGRAM_COLUMNS)}, but {path} is not one tomogram"
        raise UserError(f"{listed_in}: {absent}; give the file of one")
    found = find_tomograms(path, dict.fromkeys(names), listed_in)
    known = {name: tomogram_at(file, file_voxel_size_nm) for name, file in found.items()}
    pairs = [f"{name_of_tomogram(name)} is {file.name}" for name, file in found.items()]
    note = f"{listed_in}: {column} names the tomograms: {', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''}"
    return [known[name] for name in names], (note,)


def _any_inside(centres: np.ndarray, which: np.ndarray, tomograms: Sequence[Tomogram]) -> bool:
    shapes = np.array([tomogram.shape for tomogram in tomograms])[which]
    return bool(((centres >= 0) & (centres < shapes)).all(axis=1).any())


def _even(voxels: float) -> int:
    return max(4, 2 * int(np.ceil(voxels / 2 - 1e-6)))
