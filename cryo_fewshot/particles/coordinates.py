"""Coordinates in tomograms as particles: a STAR file, a csv table or a copick project, and the tomogram of each row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .base import Particles
from .copick_projects import copick_table
from .listings import column_labels
from .mrc import first_line, is_mrc, remark_lines
from .star import numbers, read_star_blocks, table_with
from .tomograms import Boxes, Tomogram, tomogram_at

CSV_COLUMNS = "x, y, z in voxels from 0, or x_nm, y_nm, z_nm"


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
    if path.suffix == ".json":
        table, tomograms = copick_table(path, tomogram, file_voxel_size_nm)
        listed_in, blocks, block_name = path, {}, "particles"
        label_column = label_column or "copickObject"
    else:
        if coordinates is not None and tomogram is not None:
            raise UserError(f"{path}: given with coordinates and tomogram; give two of the three")
        listed_in, tomogram_path = (path, Path(tomogram)) if tomogram is not None else (Path(coordinates), path)
        blocks, block_name = _coordinate_blocks(listed_in)
        table = blocks[block_name]
        tomograms = _tomograms_of(table, tomogram_path, listed_in, file_voxel_size_nm)
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


def _tomograms_of(table, path: Path, listed_in: Path, file_voxel_size_nm: float | None) -> list[Tomogram]:
    """The tomogram of each row: the one file for all, or of a folder the one named as the row's tomogram."""
    names = next((table[c].tolist() for c in ("rlnTomoName", "tomogram") if c in table), None)
    if path.is_file() or (path / ".zattrs").exists() or (path / "zarr.json").exists():
        if names is not None and len(set(names)) > 1:
            several = f"particles of {len(set(names))} tomograms ({', '.join(sorted(set(map(str, names)))[:3])}, ...)"
            raise UserError(f"{listed_in}: lists {several}, but {path.name} is one; give tomogram, a folder with them")
        return [tomogram_at(path, file_voxel_size_nm)] * len(table)
    if not path.is_dir():
        raise UserError(f"{path}: no such tomogram; correct the name")
    if names is None:
        raise UserError(f"{listed_in}: no column rlnTomoName or tomogram, but {path} is a folder; give one tomogram")
    inside = sorted(f for f in path.iterdir() if is_mrc(f) or f.suffix.lower() in (".rec", ".zarr"))
    known = {}
    for name in dict.fromkeys(map(str, names)):
        stem = name.removesuffix(".tomostar").removesuffix(".mrc")
        fitting = [f for f in inside if f.name.partition(".")[0] == stem] or [
            f for f in inside if f.name.startswith((stem + "_", stem + "."))
        ]
        if len(fitting) != 1:
            found = f"{len(fitting)} files there begin with {stem}" if fitting else f"none there begins with {stem}"
            raise UserError(f"{path}: {found}, a tomogram of {listed_in.name}; keep one file for each tomogram")
        known[name] = tomogram_at(fitting[0], file_voxel_size_nm)
    return [known[str(name)] for name in names]


def _any_inside(centres: np.ndarray, which: np.ndarray, tomograms: Sequence[Tomogram]) -> bool:
    shapes = np.array([tomogram.shape for tomogram in tomograms])[which]
    return bool(((centres >= 0) & (centres < shapes)).all(axis=1).any())


def _even(voxels: float) -> int:
    return max(4, 2 * int(np.ceil(voxels / 2 - 1e-6)))
