"""Coordinates in tomograms as particles: a STAR file, a csv table or a copick project, and the tomogram of each row."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..errors import UserError
from .base import Particles
from .copick_projects import copick_table, is_copick
from .exchange import CSV_COLUMNS, exchange_table
from .listings import column_labels, stated_nm
from .mrc import SAME_PIXEL, remark_lines
from .star import numbers, read_star_blocks, table_with
from .stated import column_notes
from .tomograms import (
    TILT_PIXEL,
    Boxes,
    Tomogram,
    find_tomograms,
    name_of_tomogram,
    tilt_pixel_sizes,
    tomogram_at,
)

TOMOGRAM_COLUMNS = ("rlnTomoName", "tomogram", "rlnMicrographName", "wrpSourceName", "copickRun")
CONVENTIONS = (  # columns, nm of their unit where that is not a voxel, whether they count from the tomogram's centre
    ("rlnCenteredCoordinate{}Angst", 0.1, True),  # RELION 5
    ("rlnCoordinate{}", None, False),
    ("wrpCoordinate{}1", 0.1, False),  # M; the 1 is that of the first time point
    ("{}_nm", 1.0, False),
    ("{}", None, False),
)
UNITS = ("rlnMicrographPixelSize", TILT_PIXEL)  # what RELION counts rlnCoordinateX in


def open_coordinates(
    path: Path,
    *,
    tomogram: str | Path | None,
    coordinates: str | Path | None,
    picks: str | None,
    label_column: str | None,
    file_voxel_size_nm: float | None,
    box_nm: float,
    coordinate_voxel_size_nm: float | None,
    pad_edges: bool,
) -> Particles:
    """Particles of coordinates and their tomograms, see `opening.open_particles`; either of the two is `path`."""
    if is_copick(path):
        table, tomograms = copick_table(path, tomogram, picks, file_voxel_size_nm)
        listed_in, blocks, block_name, named = path, {}, "particles", ()
        stated = {block_name: table}
        label_column = label_column or "copickObject"
    else:
        if (coordinates is None) == (tomogram is None):
            remedy = "give its tomogram (--tomogram), or give the tomogram and name this file as its coordinates"
            raise UserError(f"{path}: coordinates need exactly one tomogram or one folder of tomograms; {remedy}")
        listed_in, tomogram_path = (path, Path(tomogram)) if tomogram is not None else (Path(coordinates), path)
        blocks, block_name = _coordinate_blocks(listed_in)
        table = blocks[block_name]
        tomograms, named = _tomograms_of(table, tomogram_path, listed_in, file_voxel_size_nm)
        stated = _with_tilt_pixels(blocks, block_name, tomogram_path)
    _check_turned(stated, block_name, listed_in)
    which, tomograms = pd.factorize(pd.Series(tomograms, dtype=object))
    nm = np.array([one.voxel_size_nm for one in tomograms])[which]
    shapes = np.array([one.shape for one in tomograms])[which]
    centres, unit = read_coordinates(stated, block_name, nm, shapes, coordinate_voxel_size_nm)
    _check_inside(centres, shapes, listed_in, unit)
    edges = tuple(max(4, 2 * int(np.ceil(box_nm / one.voxel_size_nm / 2 - 1e-6))) for one in tomograms)
    stems = [one.path.name for one in tomograms]
    names = [f"{listed_in.name}:{i + 1} in {stems[k]}" for i, k in enumerate(which)]
    main = int(np.bincount(which).argmax())
    edge_note = "filled with their mean" if pad_edges else "rejected"
    header_notes = remark_lines({one.path: one.remarks for one in tomograms})
    labels, column = column_labels(table, listed_in, label_column)
    return Particles(
        names=names,
        source=Boxes(names, tuple(tomograms), which, centres, edges, pad_edges),
        voxel_size_nm=tomograms[main].voxel_size_nm,
        box=edges[main],
        voxel_size_from="given" if file_voxel_size_nm else "header",
        labels=labels,
        label_column=column,
        table=table,
        blocks=blocks,
        block_name=block_name,
        notes=(
            *named,
            f"{listed_in}: {unit}; boxes that extend beyond a tomogram are {edge_note}",
            *column_notes(stated, block_name, listed_in, "coordinates"),
            *header_notes,
        ),
    )


def read_coordinates(
    blocks: dict, name: str, nm: np.ndarray, shapes: np.ndarray, unit_nm: float | None = None
) -> tuple[np.ndarray, str]:
    """Centres `(n, 3)` in zyx voxels from 0, NaN where a value is not a number; and their unit in words.

    Columns: the first of CONVENTIONS that are there; it is said where others say another place. rlnOriginXAngst, the
    shift found in a refinement, is subtracted.

    blocks, name : of the STAR file, and which is the table of n rows
    nm, shapes : `(n,)` and `(n, 3)` voxel size and zyx voxels of each row's tomogram
    unit_nm : nm of what coordinates in voxels count; by default what the file states, else the tomogram's voxel
    """
    readings = _readings(blocks, name, nm, shapes, unit_nm)
    first = next(readings, None)
    if first is None:
        there = ", ".join(blocks[name])
        raise UserError(f"coordinates: no columns {CSV_COLUMNS}, or rlnCoordinateX, Y, Z among {there}; rename them")
    column, centres, said = first
    for other, places, _ in readings:
        with np.errstate(invalid="ignore"):
            rows = int((np.abs(places - centres) > 1).any(axis=1).sum())
        said += f"; {other} of {rows} rows gives another position and is ignored" if rows else ""
    for k, axis in enumerate("ZYX"):
        shift_a = numbers(blocks, name, f"rlnOrigin{axis}Angst")
        if shift_a is not None and shift_a.any():
            centres[:, k] -= shift_a * 0.1 / nm
            said += f"; rlnOrigin{axis}Angst is subtracted"
    return centres, f"{column} in {said}"


def _readings(
    blocks: dict, name: str, nm: np.ndarray, shapes: np.ndarray, unit_nm: float | None
) -> Iterator[tuple[str, np.ndarray, str]]:
    """Column, centres and unit of each of CONVENTIONS that is there; of later ones where the unit is clear."""
    first = True
    for pattern, column_nm, from_centre in CONVENTIONS:
        for axes in ("ZYX", "zyx"):
            found = [numbers(blocks, name, pattern.format(axis)) for axis in axes]
            if any(values is None for values in found):
                continue
            step_nm, said = column_nm, {1: "nm"}.get(column_nm, "angstrom") + " from the centre" * from_centre
            try:
                if step_nm is None:
                    step_nm, said = _voxel_of_coordinates(blocks, name, nm, unit_nm)
            except UserError:
                if first:
                    raise
                continue
            centres = np.stack(found, axis=1) * np.broadcast_to(step_nm / nm, nm.shape)[:, None]
            yield pattern.format(axes[-1]), centres + from_centre * (shapes // 2), said
            first = False


def _check_turned(blocks: dict, name: str, path: Path) -> None:
    """UserError for shifts of boxes that were turned, which are along the boxes' axes, not the tomogram's."""

    def any_of(columns: list[str]) -> np.ndarray:
        values = [found for column in columns if (found := numbers(blocks, name, column)) is not None]
        return np.nan_to_num(values).any(axis=0)

    shifted = any_of([f"rlnOrigin{axis}Angst" for axis in "XYZ"])
    turned = any_of([f"rlnTomoSubtomogram{angle}" for angle in ("Rot", "Tilt", "Psi")])
    if rows := int((shifted & turned).sum()):
        both = f"{rows} rows with rlnOriginXAngst, Y or Z have rlnTomoSubtomogramRot, Tilt or Psi as well"
        raise UserError(f"{path}: {both}, along whose axes the shift is; export coordinates without shifts")


def _voxel_of_coordinates(
    blocks: dict, name: str, tomogram_nm: np.ndarray, given_nm: float | None
) -> tuple[np.ndarray | float, str]:
    """nm of the voxel that coordinates count, and how that is known.

    RELION counts pixels of the unbinned tilt images or of the micrograph; Warp, whose tomograms are called
    <name>.tomostar, those of its export, although it states the unbinned ones as well. What the particles' pixel size
    says of other programs' coordinates nobody knows.
    """
    if given_nm:
        return given_nm, f"voxels of {given_nm:.4g} nm, as given"
    table = blocks[name]
    names = next((table[column] for column in TOMOGRAM_COLUMNS if column in table), None)
    is_warp = names is not None and names.fillna("").astype(str).str.endswith(".tomostar").all()
    stated = {column: size_a / 10 for column in UNITS if (size_a := numbers(blocks, name, column)) is not None}
    of_particles = {"the particles' pixel size": nm} if (nm := stated_nm(blocks, name)) is not None else {}
    known = (of_particles if is_warp else {}) | stated | of_particles
    for source, nm in known.items():
        nm = np.where(nm > 0, nm, tomogram_nm)
        first = nm.flat[0]
        if np.abs(nm / tomogram_nm - 1).max() <= SAME_PIXEL:
            return tomogram_nm, f"voxels of the tomogram, which are {source}"
        if source in stated or is_warp:
            return nm, f"pixels of {first:.4g} nm ({source}), scaled to voxels of {tomogram_nm.flat[0]:.4g} nm"
        both = f"{source} is {first:.4g} nm but the tomogram's voxel {tomogram_nm.flat[0]:.4g} nm"
        remedy = "give the right one as coordinate_voxel_size_nm (--coordinate-voxel-size-nm)"
        raise UserError(f"{both}, and nothing says which of them is the unit of the coordinates; {remedy}")
    return tomogram_nm, "voxels of the tomogram, as nothing else is stated"


def overlapping(particles: Particles, indices: Sequence[int], within_nm: float) -> np.ndarray:
    """Numbers `(len(indices),)`, equal for particles nearer than within_nm in one tomogram, and those near to these.

    Particles of which no place is known lie apart, all of them.
    """
    groups, indices = np.arange(len(indices)), np.asarray(indices)
    places = _places(particles)
    if places is None or not len(indices):
        return groups
    which, centres_nm = (part[indices] for part in places)
    pairs = []
    for k in np.unique(which):
        rows = np.flatnonzero((which == k) & np.isfinite(centres_nm).all(axis=1))
        pairs.append(rows[cKDTree(centres_nm[rows]).query_pairs(within_nm, output_type="ndarray")])
    a, b = np.concatenate(pairs).reshape(-1, 2).T
    linked = coo_array((np.ones(len(a)), (a, b)), shape=(len(indices),) * 2)
    return connected_components(linked, directed=False)[1]


def near(support: Particles, query: Particles, within_nm: float) -> list[tuple[int, int]]:
    """Pairs (index in support, index in query) of boxes of one tomogram whose centres are nearer than within_nm."""
    if not (isinstance(support.source, Boxes) and isinstance(query.source, Boxes)):
        return []
    (s_which, s_nm), (q_which, q_nm) = _places(support), _places(query)
    pairs = []
    for tomogram in sorted({*s_which} & {*q_which}):
        s = np.flatnonzero((s_which == tomogram) & np.isfinite(s_nm).all(axis=1))
        q = np.flatnonzero((q_which == tomogram) & np.isfinite(q_nm).all(axis=1))
        found = cKDTree(s_nm[s]).query_ball_tree(cKDTree(q_nm[q]), within_nm)
        pairs += [(int(s[a]), int(q[b])) for a, near_by in enumerate(found) for b in near_by]
    return pairs


def _places(particles: Particles) -> tuple[np.ndarray, np.ndarray] | None:
    """Each particle's tomogram `(n,)` and its centre there `(n, 3)` in nm, None where nothing says."""
    if isinstance(source := particles.source, Boxes):
        paths = np.array([str(tomogram.path.resolve()) for tomogram in source.tomograms])
        return paths[source.which], source.centres * source.of_each("voxel_size_nm")[:, None]
    column = next((c for c in TOMOGRAM_COLUMNS if c in (() if particles.table is None else particles.table)), None)
    if column is None:
        return None
    n = len(particles)
    blocks = {**particles.blocks, particles.block_name: particles.table}
    try:
        nm = np.full(n, particles.voxel_size_nm)
        centres, _ = read_coordinates(blocks, particles.block_name, nm, np.zeros((n, 3), int))
    except UserError:  # no coordinates
        return None
    return pd.factorize(particles.table[column].fillna(""))[0], centres * particles.voxel_size_nm


def _coordinate_blocks(path: Path) -> tuple[dict, str]:
    if path.suffix.lower() == ".star":
        blocks = read_star_blocks(path)
        columns = [pattern.format(axis) for axis in "Xx" for pattern, *_ in CONVENTIONS]
        return blocks, table_with(blocks, path, columns, "give the STAR file of the coordinates")
    return {"particles": exchange_table(path)}, "particles"


def _tomograms_of(
    table, path: Path, listed_in: Path, file_voxel_size_nm: float | None
) -> tuple[list[Tomogram], tuple[str, ...]]:
    """The tomogram of each row, the one file for all or that which the row names, and a note that says which."""
    column = next((c for c in TOMOGRAM_COLUMNS if c in table), None)
    names = None if column is None else [name.replace("\\", "/") for name in table[column].fillna("").astype(str)]
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


def _with_tilt_pixels(blocks: dict, name: str, tomograms: Path) -> dict:
    """Blocks whose rlnCoordinateX have the unit that a tomograms.star states, where they state none themselves."""
    table = blocks[name]
    stated = any(numbers(blocks, name, unit) is not None for unit in UNITS) or stated_nm(blocks, name) is not None
    if stated or not {"rlnCoordinateX", "rlnTomoName"} <= set(table):
        return blocks
    sizes_a = tilt_pixel_sizes(tomograms, table["rlnTomoName"].fillna(""))
    return {**blocks, name: table.assign(**{TILT_PIXEL: sizes_a})} if np.isfinite(sizes_a).all() else blocks


def _check_inside(centres: np.ndarray, shapes: np.ndarray, listed_in: Path, unit: str) -> None:
    """UserError where most of the coordinates lie outside: their unit, order or tomogram is another."""
    finite = np.isfinite(centres).all(axis=1)
    inside = ((centres >= 0) & (centres < shapes)).all(axis=1)
    if inside.any() and 2 * inside.sum() >= finite.sum():
        return
    i = int(np.flatnonzero(finite & ~inside)[0]) if finite.any() else 0
    extent, where = " x ".join(map(str, shapes[i])), ", ".join(f"{c:.1f}" for c in centres[i])
    outside = f"{len(inside) - inside.sum()} of {len(inside)} coordinates lie outside their tomogram"
    example = f"for example row {i + 1}, zyx {where} of {extent} voxels ({unit})"
    remedy = "give coordinate_voxel_size_nm (--coordinate-voxel-size-nm) or the right tomogram"
    raise UserError(f"{listed_in}: {outside}, {example}; {remedy}")
