"""Tomograms on disk, MRC or OME-Zarr, and the boxes that are cut from them when they are read."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .mrc import SUFFIXES, checked_values, checked_voxel_size, first_line, is_mrc, open_mrc, overruled_remark
from .star import as_numbers, read_star_blocks
from .zarr_images import open_group, zarr_image

FILE_SUFFIXES = (".tomostar", *SUFFIXES, ".gz", ".st", ".zarr", ".ome")
# What programs put after a tomogram's name; half1 and half2 are not among it, for a half is no tomogram.
_ENDING = r"(_\d+(\.\d+)?Apx|[_.](mrc|st|rec|full|vol|bin\d+|wbp|sirt|ctf3d|deconv|denoised|corrected|filtered))*"
RECONSTRUCTED = ("rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised")  # the first there counts
TILT_PIXEL = "rlnTomoTiltSeriesPixelSize"
NARROWEST_NM = 200.0  # no tomogram of 1.000 A is narrower


@dataclass(frozen=True)
class Tomogram:
    """A tomogram on disk.

    shape : zyx voxels; level : path of the array in an OME-Zarr group; remarks : as in `mrc.MrcData`
    """

    path: Path
    shape: tuple[int, int, int]
    voxel_size_nm: float
    level: str | None = None
    remarks: tuple[str, ...] = ()

    def array(self):
        """The array, from which slices are read: mapped MRC, or a zarr array read in chunks."""
        return open_mrc(self.path).data if self.level is None else open_group(self.path)[self.level]

    def grey_values(self) -> tuple[float, float]:
        """Mean and standard deviation, of 64 boxes at random places, the same ones each time."""
        array, rng, n_boxes, edge = self.array(), np.random.default_rng(0), 64, 16
        low = rng.integers(0, np.maximum(1, np.array(self.shape) - edge + 1), size=(n_boxes, 3))
        boxes = [np.asarray(_piece(array, start, start + edge), dtype=np.float64).ravel() for start in low]
        values = np.concatenate(boxes)
        return float(values.mean()), max(float(values.std()), 1e-9)


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

    def of_each(self, field: str) -> np.ndarray:
        """A field of each box's tomogram, `(n,)` or `(n, 3)`."""
        return np.array([getattr(tomogram, field) for tomogram in self.tomograms])[self.which]

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """As in `base.Source`; the last tomogram stays open."""
        array_of = lru_cache(maxsize=1)(Tomogram.array)

        def volume_of(i: int) -> tuple[np.ndarray, float]:
            tomogram = self.tomograms[self.which[i]]
            return self._cut(i, array_of(tomogram)), tomogram.voxel_size_nm

        return volume_of

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """As in `base.Source`: the tomogram and the voxel at the centre."""
        paths = [str(tomogram.path.resolve()) for tomogram in self.tomograms]
        for i in indices:
            if np.isfinite(self.centres[i]).all():
                k = self.which[i]
                voxel = np.floor(self.centres[i] + 0.5).astype(int).tolist()
                yield i, (paths[k], self.tomograms[k].level, *voxel)

    def relion_columns(self, table: pd.DataFrame) -> pd.DataFrame:
        """Tomogram and centre of each particle as texts: as RELION 5 has them, and in voxels of the tomogram, which
        ArtiaX reads.

        table : of n rows; the shifts that it has as rlnOriginXAngst are part of the centres, and stay in it
        """
        nm, middles = self.of_each("voxel_size_nm"), self.of_each("shape") // 2
        names = np.array([name_of_tomogram(tomogram.path.name) for tomogram in self.tomograms])[self.which]
        columns = {"rlnTomoName": names, "rlnMicrographPixelSize": 10 * nm}
        for axis in "XYZ":
            k = "ZYX".index(axis)
            voxels = self.centres[:, k]
            if (shift := f"rlnOrigin{axis}Angst") in table:
                voxels = voxels + as_numbers(table[shift]) / (10 * nm)
            columns[f"rlnCoordinate{axis}"] = voxels
            columns[f"rlnCenteredCoordinate{axis}Angst"] = 10 * nm * (voxels - middles[:, k])
        return pd.DataFrame(columns).astype(str)

    def background(self, count: int, seed: int = 0) -> "Boxes":
        """At most so many boxes at random places of the same tomograms, that share no voxel with any of these."""
        rng, places, which = np.random.default_rng(seed), [], []
        for k in rng.choice(self.which, max(1000, 20 * count)):  # tries
            edge, shape = self.edges[k], np.array(self.tomograms[k].shape)
            place = rng.integers(edge // 2, np.maximum(shape - edge // 2, edge // 2 + 1))
            taken = [*self.centres[self.which == k], *(p for p, j in zip(places, which, strict=True) if j == k)]
            if np.abs(np.array(taken) - place).max(axis=1).min() >= edge:
                places.append(place)
                which.append(int(k))
            if len(places) == count:
                break
        names = [f"background {i + 1} in {self.tomograms[k].path.name}" for i, k in enumerate(which)]
        return replace(self, names=names, which=np.array(which, int), centres=np.array(places, float).reshape(-1, 3))

    def _cut(self, i: int, array) -> np.ndarray:
        tomogram, edge, centre = self.tomograms[self.which[i]], self.edges[self.which[i]], self.centres[i]
        if not np.isfinite(centre).all():
            raise UserError(f"{self.names[i]}: a coordinate is not a number; correct it")
        start = np.floor(centre + 0.5).astype(int) - edge // 2
        low, high = np.maximum(start, 0), np.minimum(start + edge, tomogram.shape)
        here = f"zyx {', '.join(f'{c:.1f}' for c in centre)} voxels"
        if (high <= low).any() or (centre < -0.5).any() or (centre > np.array(tomogram.shape) - 0.5).any():
            size = " x ".join(map(str, tomogram.shape))
            remedy = "check the order and unit of the coordinates (--coordinate-voxel-size-nm)"
            raise UserError(f"{self.names[i]}: {here} lie outside {tomogram.path.name} of {size}; {remedy}")
        inside = (high - low == edge).all()
        if not inside and not self.pad_edges:
            remedy = "give pad_edges (--pad-edges) to pad with the mean, or a smaller box_nm (--box-nm)"
            raise UserError(f"{self.names[i]}: box of {edge} voxels about {here} extends beyond the tomogram; {remedy}")
        try:
            piece = _piece(array, low, high)
        except Exception as error:  # a damaged chunk of a zarr array: codecs have no common class
            said = f"cannot be read ({first_line(error)}); write {tomogram.path} again"
            raise UserError(f"{self.names[i]}: {said}") from error
        piece = checked_values(piece, self.names[i], "remove the particle")
        if inside:
            return piece
        volume = np.full((edge,) * 3, piece.mean())
        volume[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))] = piece
        return volume


def _piece(array, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    where = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return np.asarray(array[(0,) * (array.ndim - 3) + where])  # axes of one before z belong to OME-Zarr


def tomogram_at(path: Path, file_voxel_size_nm: float | None) -> Tomogram:
    """A tomogram file: MRC, or the finest level of an OME-Zarr image; raises UserError."""
    if not path.exists():
        raise UserError(f"{path}: no such tomogram; correct the name")
    level = None
    if path.is_dir():
        level, shape, stated_nm, remarks = zarr_image(path)
    elif is_mrc(path):
        file = open_mrc(path)
        if file.data.ndim != 3 or file.is_images:
            what = "a stack of images by its header (ispg 0, mz 1)" if file.is_images else f"{file.data.ndim} axes"
            raise UserError(f"{path}: {what}, not one tomogram; give a volume of three axes")
        shape, stated_nm, remarks = tuple(map(int, file.data.shape)), file.voxel_size_nm, file.remarks + file.of_place
    else:
        raise UserError(f"{path}: not a tomogram; give an MRC file or an OME-Zarr folder")
    nm = file_voxel_size_nm or stated_nm
    if nm is None:
        raise UserError(f"{path}: states no voxel size with its unit; give file_voxel_size_nm (--voxel-size-nm)")
    if file_voxel_size_nm is None:
        checked_voxel_size(nm, max(shape), path, NARROWEST_NM)
    return Tomogram(path, shape, nm, level, remarks + overruled_remark(file_voxel_size_nm, stated_nm))


def name_of_tomogram(name: str) -> str:
    """A tomogram's name, or the path of its file, without what says the kind of file: TS_1 of TS_1.tomostar."""
    while name.lower().endswith(FILE_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def find_tomograms(path: Path, names: Iterable[str], listed_in: Path) -> dict[str, Path]:
    """The file of each tomogram: exactly the one that is called so, never one whose name only begins alike.

    path : a tomograms.star (RELION 5), or a folder. In a folder that is the file which a tomograms.star there or above
        names; else `<name>`, or else `rec_<name>` or `<name>` with an ending that programs add, as `_10.00Apx`

    Raises UserError where there is no such file, several, or one for two names.
    """
    listed = _reconstructed(path)
    inside = sorted(f for f in path.iterdir() if is_mrc(f) or f.suffix.lower() == ".zarr") if path.is_dir() else []
    inside = [f for f in inside if f.suffix.lower() != ".gz" or f.with_suffix("") not in inside]  # a packed copy
    found: dict[str, Path] = {}
    owners: dict[Path, str] = {}
    for name in names:
        whole = name_of_tomogram(name)
        last = whole.rpartition("/")[2]
        file = listed.get(whole) or _one_called(last, name, inside, path, listed_in)
        other = owners.setdefault(file, name)
        if name_of_tomogram(other) != whole:
            both = f"{file} would be both {other} and {name}"
            raise UserError(f"{listed_in}: {both}; give a folder with a file for each, or correct the names")
        found[name] = file
    return found


def _one_called(last: str, name: str, inside: list[Path], path: Path, listed_in: Path) -> Path:
    loosely = re.compile(rf"(rec_)?{re.escape(last)}(?i:{_ENDING})")
    fits = (
        lambda f: f.name == name.rpartition("/")[2],
        lambda f: name_of_tomogram(f.name) == last,
        lambda f: loosely.fullmatch(name_of_tomogram(f.name)),
    )
    fitting = next((files for fit in fits if (files := [f for f in inside if last and fit(f)])), [])
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        files = ", ".join(f.name for f in fitting[:3])
        several = f"{len(fitting)} files for tomogram {last} of {listed_in.name} ({files})"
        raise UserError(f"{path}: {several}; give a folder with one file for each tomogram")
    remedy = f"name its file {last}.mrc or rec_{last}.mrc, or give its file in place of the folder"
    if path.is_file():
        remedy = "give a tomograms.star that names it, or the folder of the tomograms"
    absent = f"no such tomogram as {last or 'one without a name'}, which {listed_in.name} lists"
    raise UserError(f"{path}: {absent}; {remedy}")


def tilt_pixel_sizes(path: Path, names: Iterable[str]) -> np.ndarray:
    """Angstrom, the unbinned pixel of each named tomogram `(n,)` as a tomograms.star says, NaN where none does."""
    sizes = dict(_by_tomogram(_tomograms_star(path), TILT_PIXEL))
    return as_numbers([sizes.get(name_of_tomogram(name)) for name in names])


def _by_tomogram(star: Path | None, column: str) -> Iterator[tuple[str, str]]:
    """Each tomogram of a tomograms.star, and what a column says of it."""
    for block in () if star is None else read_star_blocks(star).values():
        if {"rlnTomoName", column} <= set(block):
            columns = (np.atleast_1d(np.asarray(block[c], dtype=object)).astype(str) for c in ("rlnTomoName", column))
            yield from ((name_of_tomogram(name), value) for name, value in zip(*columns, strict=True))


def _tomograms_star(path: Path) -> Path | None:
    stars = [path] if path.is_file() else [path / "tomograms.star", path.absolute().parent / "tomograms.star"]
    return next((star for star in stars if star.is_file() and star.suffix.lower() == ".star"), None)


def _reconstructed(path: Path) -> dict[str, Path]:
    """Files that a tomograms.star names by tomogram; of a folder, those of its tomograms.star that lie in it."""
    star = _tomograms_star(path)
    files: dict[str, Path] = {}
    for name, file in (pair for column in RECONSTRUCTED for pair in _by_tomogram(star, column)):
        there = next((above / file for above in star.absolute().parents if (above / file).exists()), None)
        if there is None and star == path and name not in files:
            raise UserError(f"{file}: named in {star} but missing; give the folder with it, or correct the name")
        if there is not None and (star == path or path.resolve() in there.resolve().parents):
            files.setdefault(name, there)
    if star == path and not files:
        raise UserError(f"{path}: no column {RECONSTRUCTED[0]} in it; give the folder of the tomograms in its place")
    return files
