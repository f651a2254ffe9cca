"""Subtomograms of the user: folders of MRC files, one per class, or a STAR file; resampled to one box and voxel size.

Every problem with a file is a UserError of one line with the file, the value and the remedy.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .dataset import SubtomogramSet
from .errors import UserError
from .randomness import seed_from

SUFFIXES = (".mrc", ".mrcs")
CLASS_COLUMNS = ("rlnClassNumber", "rlnGroupName")
SAME_VOXEL = 1e-3  # share by which two voxel sizes may differ and be one: 0.04 voxel over a box of 40
SAME_PIXEL = 1e-2  # the same between a STAR file and a header, which round differently


class Source(NamedTuple):
    """A file with one subtomogram; voxel_size_nm : nm, as a STAR file states it, None where nothing does."""

    path: Path
    voxel_size_nm: float | None = None


def read_folder(
    path: str | Path,
    *,
    box: int = 40,
    voxel_size_nm: float | None = 1.0,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool = True,
    max_per_class: int = 100,
    seed: int = 0,
) -> SubtomogramSet:
    """Read a folder with one sub-folder of MRC files per class; the sub-folders' names are the classes.

    Parameters
    ----------
    path : the folder; names that start with a dot are passed over
    box, voxel_size_nm, file_voxel_size_nm, dark_protein : as in `read_volumes`
    max_per_class : of a class with more files, this many are drawn; the seed alone decides which

    Raises
    ------
    UserError
        The folder, a class or a file is missing, empty, damaged, or does not fit the others.
    """
    path = Path(path)
    remedy = "give one with a sub-folder of .mrc files per class"
    try:
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        classes = {p.name: [Source(file) for file in sorted(p.iterdir()) if _is_mrc(file)] for p in folders}
    except FileNotFoundError:
        raise UserError(f"{path}: no such folder; {remedy}") from None
    except NotADirectoryError:
        raise UserError(f"{path}: a file, not a folder; {remedy}, or read it with read_star") from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error
    if not classes:
        raise UserError(f"{path}: no classes in it; {remedy}")
    for name, sources in classes.items():
        if not sources:
            raise UserError(f"{path / name}: holds no {' or '.join(SUFFIXES)} file; add some or remove the folder")
    sources, labels = _draw(classes, max_per_class, seed)
    return _labelled_set(path, sources, labels, tuple(classes), box, voxel_size_nm, file_voxel_size_nm, dark_protein)


def read_star(
    path: str | Path,
    *,
    class_column: str | None = None,
    box: int = 40,
    voxel_size_nm: float | None = 1.0,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool = True,
    max_per_class: int = 100,
    seed: int = 0,
) -> SubtomogramSet:
    """Read the 3D subtomograms that a STAR file of RELION 3 or 4 kind lists.

    Names of files (rlnImageName) are relative to the STAR file's folder or to a folder above it, such as the project's.
    The pixel size is the STAR file's (rlnImagePixelSize, rlnPixelSize, or rlnDetectorPixelSize and rlnMagnification),
    which must agree with the headers', or the headers' where it states none.

    Parameters
    ----------
    class_column : column with the classes; default rlnClassNumber or rlnGroupName, the first that has several values
    box, voxel_size_nm, file_voxel_size_nm, dark_protein : as in `read_volumes`
    max_per_class, seed : as in `read_folder`

    Raises
    ------
    UserError
        As in `read_folder`; or the file lists tilt images instead of volumes (RELION 5's 2D stacks).
    """
    path = Path(path)
    columns = (class_column,) if class_column else CLASS_COLUMNS
    particles = _particle_table(path, columns)
    known = [column for column in columns if column in particles]
    if not known:
        there = ", ".join(column for column in particles if column.startswith("rln"))
        raise UserError(f"{path}: no column {' or '.join(columns)}; give class_column, one of {there}")
    column = next((name for name in known if particles[name].nunique() > 1), known[0])
    classes: dict[str, list[Source]] = {name: [] for name in sorted(particles[column].unique(), key=_in_number_order)}
    for label, name, nm in zip(particles[column], particles["rlnImageName"], particles["voxel_size_nm"], strict=True):
        classes[label].append(Source(Path(name), nm if nm > 0 else None))
    sources, labels = _draw(classes, max_per_class, seed)
    sources = [_located(path, source) for source in sources]
    return _labelled_set(path, sources, labels, tuple(classes), box, voxel_size_nm, file_voxel_size_nm, dark_protein)


def read_volumes(
    sources: Sequence[Source],
    *,
    box: int = 40,
    voxel_size_nm: float | None = 1.0,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool = True,
) -> tuple[torch.Tensor, float]:
    """Read subtomograms, one file each, into one box and voxel size.

    Parameters
    ----------
    sources : files, all of one box and voxel size
    box : voxels along one edge of the result; where the files show less, the rest is their mean
    voxel_size_nm : nm, of the result; None keeps that of the files
    file_voxel_size_nm : nm, of the files, whatever their headers or STAR file say
    dark_protein : whether protein is dark in the files, as in an unprocessed tomogram; where it is not they are
        inverted, for it is dark in all arrays here

    Returns
    -------
    `(n, box, box, box)` float32, each with mean 0 and variance 1, and their voxel size in nm.
    """
    if box < 4:
        raise UserError(f"box={box}: give at least 4 voxels")
    for name, value in {"voxel_size_nm": voxel_size_nm, "file_voxel_size_nm": file_voxel_size_nm}.items():
        if value is not None and not value > 0:
            raise UserError(f"{name}={value}: give a positive length in nm")
    if not sources:
        raise UserError("no files to read: give at least one")
    volumes = torch.empty(len(sources), box, box, box)
    matrix = first_box = first_nm = None
    for i, source in enumerate(sources):
        volume, header_nm = read_mrc(source.path)
        nm = file_voxel_size_nm or _agreed_voxel_size(source, header_nm)
        if matrix is None:
            first_box, first_nm, target_nm = len(volume), nm, voxel_size_nm or nm
            matrix = resampling_matrix(first_box, nm, box, target_nm)
        here = f"{source.path}: "
        there = f"but {sources[0].path.name} has"
        if len(volume) != first_box:
            raise UserError(f"{here}box of {len(volume)} voxels {there} {first_box}; cut all to one box")
        if abs(nm / first_nm - 1) > SAME_VOXEL:
            raise UserError(
                f"{here}voxel size {nm:.4g} nm {there} {first_nm:.4g} nm; bring all to one, or give file_voxel_size_nm"
            )
        volume = volume if dark_protein else -volume
        resampled = torch.from_numpy(volume - volume.mean())
        for _ in range(3):  # the first axis goes last each time, so that the order is as before after three
            resampled = torch.tensordot(resampled, matrix, dims=([0], [1]))
        spread = resampled.std(correction=0)
        if not spread > 1e-6 * volume.std():
            raise UserError(f"{source.path}: nothing is left of it at {target_nm:.4g} nm; use a smaller voxel size")
        volumes[i] = (resampled - resampled.mean()) / spread
    return volumes, float(target_nm)


def resampling_matrix(n: int, voxel_size_nm: float, new_n: int, new_voxel_size_nm: float) -> torch.Tensor:
    """Matrix `(new_n, n)` float64 that resamples one axis; both centres are at index n // 2.

    A Fourier crop or padding to the new voxel size, then a crop or padding about the centre, in one step: the
    trigonometric interpolation of the samples (Whittaker and Shannon on a periodic axis) without the frequencies
    that the new voxels cannot hold, read at the new positions, and zero beyond the old box. So the ratio of the voxel
    sizes need not be one of whole numbers.
    """
    step = new_voxel_size_nm / voxel_size_nm
    step = 1.0 if abs(step - 1) < SAME_VOXEL else step
    position = (torch.arange(new_n, dtype=torch.float64) - new_n // 2) * step + n // 2
    frequency = torch.arange(-((n - 1) // 2), n // 2 + 1, dtype=torch.float64) / n  # of the old voxels, Nyquist once
    frequency = frequency[frequency.abs() * step <= 0.5]
    distance = position[:, None] - torch.arange(n)
    matrix = torch.cos(2 * torch.pi * distance[..., None] * frequency).sum(-1) / n
    inside = (position > -0.5 - 1e-9) & (position < n - 0.5 + 1e-9)
    return matrix * inside[:, None]


def read_mrc(path: Path) -> tuple[np.ndarray, float | None]:
    """One volume `(n, n, n)` float64 and its header's voxel size in nm, None where the header states none."""
    import mrcfile

    again = "write it again as one volume of mode 2 (float32)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes after the data, a header without voxel size: neither matters here
            with mrcfile.open(path, permissive=False) as file:
                data, sizes, is_images = file.data, file.voxel_size.item(), file.is_image_stack()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check that it is there") from error
    except Exception as error:  # what mrcfile and numpy raise for a damaged header has no common class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a whole MRC file ({reason}); {again}") from error
    if data.dtype.kind == "c":
        raise UserError(f"{path}: complex numbers (mode 4), a Fourier transform; {again}")
    if data.ndim != 3 or len(set(data.shape)) != 1:
        shape = " x ".join(map(str, data.shape))
        kind = "a stack of images" if data.ndim == 3 and is_images else "not a cube"
        raise UserError(f"{path}: {shape} voxels, {kind}; cut 3D subtomograms with a cubic box")
    volume = data.astype(np.float64)
    if not np.isfinite(volume).all():
        n_bad = np.count_nonzero(~np.isfinite(volume))
        raise UserError(f"{path}: {n_bad} voxels are NaN or infinite; remove the file or cut it anew")
    if volume.min() == volume.max():
        raise UserError(f"{path}: every voxel is {volume.flat[0]:g}; remove the file or cut it anew")
    # Sections of an image stack have no thickness, even where the stack is a volume in truth.
    sizes = np.array(sizes[:2] if is_images else sizes) / 10
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        return volume, None
    if np.ptp(sizes) > SAME_VOXEL * sizes.max():
        raise UserError(f"{path}: voxels of {' x '.join(f'{s:.4g}' for s in sizes)} nm; resample it to cubic voxels")
    return volume, float(sizes[0])


def looks_dark(volumes: torch.Tensor) -> bool | None:
    """Whether protein looks dark in most of the volumes `(n, b, b, b)`: their centres against their outer shells.

    A guess for a warning, never a reason to invert: None where the difference is within three standard errors.
    """
    box = volumes.shape[-1]
    axis = torch.arange(box, dtype=torch.float32) - box // 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt() / box
    contrast = volumes[:, radius < 0.15].mean(1) - volumes[:, (radius > 0.35) & (radius < 0.5)].mean(1)
    if len(contrast) < 3:
        return None
    error = contrast.std() / len(contrast) ** 0.5
    return None if contrast.mean().abs() < 3 * error else bool(contrast.mean() < 0)


def _draw(classes: dict[str, list[Source]], max_per_class: int, seed: int) -> tuple[list[Source], np.ndarray]:
    """At most max_per_class sources of each class, in their order, and their labels; classes do not affect another."""
    if max_per_class < 1:
        raise UserError(f"max_per_class={max_per_class}: give at least 1")
    chosen, labels = [], []
    for label, (name, sources) in enumerate(classes.items()):
        rng = np.random.default_rng(seed_from("reader", seed, name))
        drawn = np.sort(rng.permutation(len(sources))[:max_per_class])
        chosen += [sources[i] for i in drawn]
        labels += [label] * len(drawn)
    return chosen, np.array(labels, dtype=np.int64)


def _labelled_set(path, sources, labels, class_names, box, voxel_size_nm, file_voxel_size_nm, dark_protein):
    volumes, voxel_size_nm = read_volumes(
        sources,
        box=box,
        voxel_size_nm=voxel_size_nm,
        file_voxel_size_nm=file_voxel_size_nm,
        dark_protein=dark_protein,
    )
    if looks_dark(volumes) is False:
        seems = f"protein looks {'bright' if dark_protein else 'dark'} in these files but dark_protein={dark_protein}"
        warnings.warn(f"{path}: {seems}; if it is, give dark_protein={not dark_protein}", stacklevel=3)
    return SubtomogramSet(
        volumes=volumes,
        labels=labels,
        class_names=class_names,
        snrs=np.full(len(labels), np.nan),
        voxel_size_nm=voxel_size_nm,
    )


def _is_mrc(path: Path) -> bool:
    # macOS leaves ._name.mrc beside name.mrc on foreign disks.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _agreed_voxel_size(source: Source, header_nm: float | None) -> float:
    stated_nm = source.voxel_size_nm
    if header_nm is None and stated_nm is None:
        raise UserError(f"{source.path}: its header has voxel size 0; give file_voxel_size_nm")
    if header_nm is not None and stated_nm is not None and abs(header_nm / stated_nm - 1) > SAME_PIXEL:
        both = f"voxel size {header_nm:.4g} nm in its header but {stated_nm:.4g} nm in the STAR file"
        raise UserError(f"{source.path}: {both}; give file_voxel_size_nm, the right one")
    return stated_nm or header_nm


def _in_number_order(text: str) -> tuple:
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


# --- STAR files -------------------------------------------------------------------------------------------------------


def _particle_table(path: Path, columns: Sequence[str]):
    """Table of particles with rlnImageName and `columns` as text, and voxel_size_nm, NaN where nothing states it."""
    blocks = _star_blocks(path, ["rlnImageName", *columns])
    for block in blocks.values():
        for key, is_stack in {"rlnTomoSubTomosAre2DStacks": 1, "rlnImageDimensionality": 2}.items():
            if key in block and (block[key].astype(str) == str(is_stack)).any():
                what = f"2D stacks of tilt images ({key} {is_stack})"
                raise UserError(f"{path}: lists {what}, which are not read; extract the particles as 3D subtomograms")
    particles = next((block for block in blocks.values() if "rlnImageName" in block), None)
    if particles is None:
        raise UserError(f"{path}: no column rlnImageName in it; give the STAR file of the particles")
    if not len(particles):
        raise UserError(f"{path}: lists no particles; export it again")
    optics = blocks.get("optics")
    if optics is not None and "rlnOpticsGroup" in optics and "rlnOpticsGroup" in particles:
        new = [column for column in optics if column not in particles]
        optics = optics.drop_duplicates("rlnOpticsGroup")[["rlnOpticsGroup", *new]]
        particles = particles.merge(optics, on="rlnOpticsGroup", how="left")
    size_a = next((particles[c] for c in ("rlnImagePixelSize", "rlnPixelSize") if c in particles), np.nan)
    if np.ndim(size_a) == 0 and {"rlnDetectorPixelSize", "rlnMagnification"} <= set(particles):
        size_a = particles["rlnDetectorPixelSize"] / particles["rlnMagnification"] * 1e4  # from micrometres
    return particles.assign(voxel_size_nm=size_a / 10)


def _star_blocks(path: Path, text_columns: list[str]) -> dict:
    """The tables of a STAR file by name; a block of single values is a table of one row."""
    import linecache

    import pandas as pd
    import starfile

    try:
        path.read_bytes().decode()
        linecache.checkcache(str(path))  # starfile reads through this cache, and leaves it full where it fails
        blocks = starfile.read(path, always_dict=True, parse_as_string=text_columns)
        return {name: block if hasattr(block, "columns") else pd.DataFrame([block]) for name, block in blocks.items()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
    except Exception as error:  # starfile has no exception of its own
        raise UserError(f"{path}: not a STAR file in UTF-8; export it again") from error


def _located(star: Path, source: Source) -> Source:
    """The source with its whole path: names are relative to the STAR file's folder or one above it."""
    for folder in star.absolute().parents:
        if (folder / source.path).is_file():
            return source._replace(path=folder / source.path)
    where = f"named in {star} but neither beside it nor in a folder above"
    raise UserError(f"{source.path}: {where}; move the STAR file to its project, or correct the name")


# --- a folder or STAR file as the data of an experiment ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MeasuredData:
    """The user's own set in the place of a recipe; made by `measured_data`, which reads the files once.

    class_set : a name for tables; digest : of all volumes, so that results belong to these very files; snr, box,
    voxel_size_nm : nominal SNR of the set, voxels and nm of the volumes as they are used; split_sizes, n_way : as in
    `standins.StandIn`; counts : subtomograms per class; the path and the volumes take no part in comparison.
    """

    class_set: str
    digest: str
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    n_per_class: int
    snr: float
    box: int
    voxel_size_nm: float
    split_sizes: tuple[int, int, int]
    n_way: int = 3
    seed: int = 0
    whole: SubtomogramSet = field(compare=False, repr=False)

    def count_of(self, name: str, count: int) -> int:
        """Samples of a class where `count` are asked of each: no more than there are."""
        return min(count, self.counts[self.class_names.index(name)])

    def subtomograms(self, snr_counts: dict[float, int], class_names: Sequence[str], device) -> SubtomogramSet:
        """The volumes of some classes; the set has one SNR, whose count limits each class."""
        ((_, count),) = snr_counts.items()
        chosen = [np.flatnonzero(self.whole.labels == label)[:count] for label in self.whole.indices_of(class_names)]
        return SubtomogramSet(
            volumes=self.whole.volumes[np.concatenate(chosen)].to(device),
            labels=np.repeat(np.arange(len(chosen)), [len(part) for part in chosen]),
            class_names=tuple(class_names),
            snrs=np.full(sum(map(len, chosen)), self.snr),
            voxel_size_nm=self.voxel_size_nm,
        )


def measured_data(
    path: str | Path,
    *,
    name: str,
    snr: float,
    split_sizes: tuple[int, int, int],
    n_way: int = 3,
    **reading,
) -> MeasuredData:
    """Read a folder of classes or a STAR file as the data of an experiment; `reading` as in `read_folder`.

    Raises UserError as the readers do, and where the set has fewer classes than the split needs.
    """
    read = read_star if str(path).endswith(".star") else read_folder
    whole = read(path, **reading)
    if len(whole.class_names) < sum(split_sizes):
        raise UserError(
            f"{path}: {len(whole.class_names)} classes, but the split {split_sizes} needs {sum(split_sizes)}; "
            "add classes or change the split"
        )
    counts = np.bincount(whole.labels, minlength=len(whole.class_names))
    return MeasuredData(
        class_set=name,
        digest=hashlib.sha256(np.ascontiguousarray(whole.volumes.numpy()).tobytes()).hexdigest()[:16],
        class_names=whole.class_names,
        counts=tuple(int(count) for count in counts),
        n_per_class=int(counts.max()),
        snr=snr,
        box=whole.volumes.shape[1],
        voxel_size_nm=whole.voxel_size_nm,
        split_sizes=split_sizes,
        n_way=n_way,
        whole=whole,
    )
