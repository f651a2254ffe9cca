"""Boxes cut from tomograms about coordinates: MRC or OME-Zarr, with STAR, csv or a copick project."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .base import Particles
from .listings import column_labels
from .mrc import SUFFIXES, checked_values, is_mrc, open_mrc
from .star import numbers, read_star_blocks, table_with

UNITS_NM = {"angstrom": 0.1, "nanometer": 1.0, "micrometer": 1000.0}
CSV_COLUMNS = "x, y, z in voxels from 0, or x_nm, y_nm, z_nm"


@dataclass(frozen=True)
class Tomogram:
    """A tomogram on disk; shape : zyx voxels; voxel_size_nm : nm; level : path of the array in an OME-Zarr group."""

    path: Path
    shape: tuple[int, int, int]
    voxel_size_nm: float
    level: str | None = None

    def array(self):
        """The array, from which slices are read: mapped MRC, or a zarr array read in chunks."""
        if self.level is None:
            return open_mrc(self.path).data
        array = _zarr_group(self.path)[self.level]
        return _LastThreeAxes(array) if array.ndim > 3 else array


@dataclass(frozen=True)
class Boxes:
    """Boxes of `edge[k]` voxels about `centres` `(n, 3)`, zyx voxels of tomogram which[i]; plain data.

    A centre is rounded to the nearest voxel, which becomes index edge // 2 of the box.
    """

    names: list[str]
    tomograms: tuple[Tomogram, ...]
    which: np.ndarray
    centres: np.ndarray
    edges: tuple[int, ...]
    pad_edges: bool = False

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """As in `particles.Source`; the last tomogram stays open."""
        last: list = []

        def volume_of(i: int) -> tuple[np.ndarray, float]:
            k = int(self.which[i])
            if not last or last[0] != k:
                last[:] = [k, self.tomograms[k].array()]
            return self._cut(i, last[1]), self.tomograms[k].voxel_size_nm

        return volume_of

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """As in `particles.Source`: the tomogram and the voxel at the centre."""
        paths = [str(tomogram.path.resolve()) for tomogram in self.tomograms]
        for i in indices:
            if np.isfinite(self.centres[i]).all():
                k = self.which[i]
                voxel = np.floor(self.centres[i] + 0.5).astype(int).tolist()
                yield i, (paths[k], self.tomograms[k].level, *voxel)

    def _cut(self, i: int, array) -> np.ndarray:
        tomogram, edge, centre = self.tomograms[self.which[i]], self.edges[self.which[i]], self.centres[i]
        if not np.isfinite(centre).all():
            raise UserError(f"{self.names[i]}: a coordinate is not a number; correct it")
        start = np.floor(centre + 0.5).astype(int) - edge // 2
        low, high = np.maximum(start, 0), np.minimum(start + edge, tomogram.shape)
        here = f"zyx {', '.join(f'{c:.1f}' for c in centre)} voxels"
        if (high <= low).any() or (centre < -0.5).any() or (centre > np.array(tomogram.shape) - 0.5).any():
            size = " x ".join(map(str, tomogram.shape))
            remedy = "check the order and unit of the coordinates (coordinate_voxel_size_nm)"
            raise UserError(f"{self.names[i]}: {here} lie outside {tomogram.path.name} of {size}; {remedy}")
        inside = (high - low == edge).all()
        if not inside and not self.pad_edges:
            remedy = "give pad_edges=True to fill what is missing with the mean, or a smaller box_nm"
            raise UserError(f"{self.names[i]}: box of {edge} voxels about {here} reaches out of the tomogram; {remedy}")
        try:
            piece = np.asarray(array[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))])
        except Exception as error:  # a damaged chunk of a zarr array: codecs have no common class
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{self.names[i]}: cannot be read ({reason}); write {tomogram.path} again") from error
        piece = checked_values(piece, self.names[i], "remove the particle")
        if inside:
            return piece
        volume = np.full((edge,) * 3, piece.mean())
        volume[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = piece
        return volume


def open_tomogram(
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
    """Particles of coordinates and their tomograms, see `particles.open_particles`; either of the two is `path`."""
    if path.suffix == ".json":
        from .copick_projects import copick_table

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
    which, tomograms = _numbered(tomograms)
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
    return Particles(
        names=names,
        source=Boxes(names, tomograms, which, centres, edges, pad_edges),
        voxel_size_nm=tomograms[main].voxel_size_nm,
        box=edges[main],
        labels=column_labels(table, listed_in, label_column),
        table=table,
        blocks=blocks,
        block_name=block_name,
        notes=(f"{listed_in}: coordinates in {unit}; boxes that reach out of a tomogram are {edge_note}",),
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


def tomogram_at(path: Path, file_voxel_size_nm: float | None) -> Tomogram:
    """A tomogram file: MRC, or the finest level of an OME-Zarr image; raises UserError."""
    if not path.exists():
        raise UserError(f"{path}: no such tomogram; correct the name")
    if path.is_dir():
        return _zarr_tomogram(path, file_voxel_size_nm)
    if path.suffix.lower() not in (*SUFFIXES, ".rec"):
        raise UserError(f"{path}: not a tomogram; give an MRC file or an OME-Zarr folder")
    file = open_mrc(path)
    if file.data.ndim != 3:
        raise UserError(f"{path}: {file.data.ndim} axes, not one tomogram; give a volume of three")
    nm = file_voxel_size_nm or file.voxel_size_nm
    if nm is None:
        raise UserError(f"{path}: its header has voxel size 0; give file_voxel_size_nm (--voxel-size-nm)")
    return Tomogram(path, tuple(map(int, file.data.shape)), nm)


def _zarr_tomogram(path: Path, file_voxel_size_nm: float | None) -> Tomogram:
    try:
        group = _zarr_group(path)
        attributes = group.attrs.asdict()
        image = attributes.get("ome", attributes)["multiscales"][0]  # OME-Zarr 0.5 nests, 0.4 does not
        level = image["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image["axes"]]
        scales = [t["scale"] for t in level.get("coordinateTransformations", ()) if t["type"] == "scale"]
        shape = tuple(map(int, group[level["path"]].shape))
    except UserError:
        raise
    except Exception as error:  # zarr and the attributes of a damaged group raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not an OME-Zarr image ({reason}); write it again") from error
    names = [axis["name"] for axis in axes]
    if names[-3:] != ["z", "y", "x"] or any(n != 1 for n in shape[:-3]) or len(shape) != len(axes):
        raise UserError(f"{path}: axes {' '.join(names)} of {shape}, not one volume zyx; write it as one")
    units = [UNITS_NM.get(axis.get("unit")) for axis in axes[-3:]]
    nm = file_voxel_size_nm
    if nm is None:
        if not scales or None in units:
            raise UserError(f"{path}: states no voxel size with a unit; give file_voxel_size_nm (--voxel-size-nm)")
        sizes = np.array(scales[0][-3:], dtype=float) * units
        if not (sizes > 0).all() or np.ptp(sizes) > 1e-3 * sizes.max():
            voxels = " x ".join(f"{size:.4g}" for size in sizes)
            raise UserError(f"{path}: voxels of {voxels} nm; resample it to cubic voxels")
        nm = float(sizes[0])
    return Tomogram(path, shape[-3:], nm, level["path"])


def _zarr_group(path: Path):
    try:
        import zarr
    except ImportError:
        raise UserError(f"{path}: reading OME-Zarr needs the package zarr; run pip install zarr") from None
    return zarr.open_group(str(path), mode="r")


class _LastThreeAxes:
    def __init__(self, array):
        self.array = array

    def __getitem__(self, slices):
        return self.array[(0,) * (self.array.ndim - 3) + slices]


def _coordinate_blocks(path: Path) -> tuple[dict, str]:
    import pandas as pd

    if path.suffix.lower() == ".star":
        blocks = read_star_blocks(path)
        columns = ["rlnCenteredCoordinateXAngst", "rlnCoordinateX"]
        return blocks, table_with(blocks, path, columns, "give the STAR file of the coordinates")
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", skipinitialspace=True, keep_default_na=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
    except Exception as error:  # pandas' parser errors and those of the encoding
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a csv in UTF-8 ({reason}); give columns {CSV_COLUMNS}") from error
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


def _numbered(tomograms: list[Tomogram]) -> tuple[np.ndarray, tuple[Tomogram, ...]]:
    number = {tomogram: k for k, tomogram in enumerate(dict.fromkeys(tomograms))}
    return np.array([number[tomogram] for tomogram in tomograms]), tuple(number)


def _any_inside(centres: np.ndarray, which: np.ndarray, tomograms: tuple[Tomogram, ...]) -> bool:
    shapes = np.array([tomogram.shape for tomogram in tomograms])[which]
    return bool(((centres >= 0) & (centres < shapes)).all(axis=1).any())


def _even(voxels: float) -> int:
    return max(4, 2 * int(np.ceil(voxels / 2 - 1e-6)))
