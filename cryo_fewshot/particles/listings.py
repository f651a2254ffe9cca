"""Folders, stacks and STAR files that list particles: which there are, of which class and voxel size."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from . import exchange
from .base import Particles, composed, known_labels
from .ctf import DEFOCUS, OPTICS, PHASE_SHIFT
from .mrc import SAME_PIXEL, SUFFIXES, is_mrc, open_mrc
from .mrc_particles import ParticleFiles, file_groups
from .npz import archived_names, open_npz
from .star import as_numbers, check_optics_groups, names_are_in, numbers, read_star_blocks, table_with, texts
from .stated import box_notes, column_notes
from .tilt_stacks import find_tomograms_star, open_tilt_stacks, optimisation_set, read_series
from .tomograms import NARROWEST_NM

# rlnGroupName is not among them: it tells groups of intensity apart.
LABEL_COLUMNS = ("rlnClassName", "rlnClassNumber", *exchange.LABEL_COLUMNS, "class", "label")
MRC_FILE = f"MRC file ({', '.join(SUFFIXES)}, or one of them with .gz)"
BESIDE, PACKED = "CTF, weight, mask or half-map volumes by their names", "packed copies of files beside them"
OTHER = "files of other kinds"
SIZES = (  # columns that state a particle's voxel size, and nm of their values
    (("rlnImagePixelSize",), lambda size_a: size_a / 10),
    (("rlnPixelSize",), lambda size_a: size_a / 10),
    (("rlnDetectorPixelSize", "rlnMagnification"), lambda size_um, times: size_um / times * 1e3),
    (("rlnTomoTiltSeriesPixelSize", "rlnTomoSubtomogramBinning"), lambda size_a, binning: size_a * binning / 10),
)
# Names as RELION, WarpTools and others write them: 23_weights.mrc, TS_1_0000001_ctf_10.00A.mrc, run_half1_unfil.mrc.
# What is corrected for its CTF is a particle.
NO_PARTICLE = re.compile(
    r"((^|[_.-])(ctf(\d|3d)?(?![_.-]?(corr|flip|phase|premult|mult|deconv))|weights?|mask|wedge)|[_.-]half[_-]?[12])"
    r"(?=$|[_.-])",
    re.IGNORECASE,
)


def open_folder(path: Path, file_voxel_size_nm: float | None) -> Particles:
    """Particles of a flat folder of MRC files, or of one with a sub-folder per class.

    CTF, weight, mask and half-map volumes, which programs write beside particles, are left out and counted.
    """
    try:
        inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        found = {p.name: sorted(p.iterdir()) for p in inside if p.is_dir()}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error
    loose = [p for p in inside if p.name not in found]
    kinds = {file: _left_out(file, path) for file in (*loose, *(f for members in found.values() for f in members))}
    files = [p.name for p in loose if not kinds[p]]
    classes = {name: [f for f in members if not kinds[f]] for name, members in found.items()}
    classes = {name: kept for name, kept in classes.items() if kept or not any(map(is_mrc, found[name]))}
    labelled = any(classes.values())
    notes = tuple(
        f"{path}: {len(names)} {kind} are left out, for example {names[0]}"
        for kind in (BESIDE, PACKED, OTHER)
        if (names := [file.name for file in kinds if kinds[file] == kind and not file.name.startswith(".")])
    )
    if labelled and files:
        raise UserError(f"{path / files[0]}: lies beside class folders; move it into one of them")
    if not labelled and not files:
        only = f" ({notes[0].partition(': ')[2]})" if notes else ""
        remedy = "give one with such files, or with a sub-folder of them per class"
        raise UserError(f"{path}: no {MRC_FILE} of a particle in it{only}; {remedy}")
    for name, members in classes.items() if labelled else ():
        if not members:
            raise UserError(f"{path / name}: holds no {MRC_FILE}; add some or remove the folder")
    labels = [composed(name) for name, members in classes.items() for _ in members] if labelled else None
    names = [f"{f.parent.name}/{f.name}" for members in classes.values() for f in members] if labelled else files
    particles = ParticleFiles(names, path, np.zeros(len(names), int), (None,), file_voxel_size_nm)
    return of_files(particles.surveyed(), notes, labels=labels)


def open_stack(path: Path, file_voxel_size_nm: float | None) -> Particles:
    """Particles of one MRC file: a stack of volumes, or a single one."""
    file = open_mrc(path)
    data, nm = file.data, file_voxel_size_nm or file.voxel_size_nm
    if data.ndim == 3 and not file.is_images and (len(set(data.shape)) > 1 or data.shape[0] * (nm or 0) > NARROWEST_NM):
        extent = " x ".join(map(str, data.shape))
        remedy = "give its coordinates (--support-coordinates, --query-coordinates), or a cube cut from it"
        raise UserError(f"{path}: one volume of {extent} voxels, apparently a tomogram; {remedy}")
    names = [f"{i}@{path.name}" for i in range(1, len(data) + 1)] if data.ndim == 4 else [path.name]
    return of_files(ParticleFiles(names, path, np.zeros(len(names), int), (None,), file_voxel_size_nm).surveyed())


def open_star(path, label_column, file_voxel_size_nm, root, tomograms_star) -> Particles:
    """Particles that a STAR file lists, volumes or stacks of tilt images."""
    blocks = read_star_blocks(path)
    remedy = "give one of particles, or its tomograms with this one as --support-coordinates or --query-coordinates"
    name = table_with(blocks, path, ["rlnImageName"], remedy)
    check_optics_groups(blocks, name, path)
    table = blocks[name]
    names = table["rlnImageName"].fillna("").tolist()
    groups, sizes_nm = file_groups(len(names), stated_nm(blocks, name), texts(blocks, name, "rlnOpticsGroup"))
    files = ParticleFiles(names, path, groups, sizes_nm, file_voxel_size_nm, root, names_are_in(path))
    labels, column = column_labels(table, path, label_column)
    known = {"labels": labels, "label_column": column, "table": table, "blocks": blocks, "block_name": name}
    said = column_notes(blocks, name, path, "particles") + size_notes(blocks, name, path)
    others = [other for other, block in blocks.items() if other != name and "rlnImageName" in block]
    said += tuple(f"{path}: block data_{other} lists particles as well and is ignored" for other in others)
    if (archived := archived_names(names)) is not None:
        return _of_archive(files, *archived, said, known)
    if _lists_images(blocks):
        files, notes = open_tilt_stacks(files, blocks, name, tomograms_star)
        return of_files(files, notes + said, **known)
    files, notes = _open_volumes(files, blocks, name, tomograms_star)
    return of_files(files, notes + said + box_notes(blocks, name, path, files.boxes), **known)


def _open_volumes(
    files: ParticleFiles, blocks: dict, name: str, tomograms_star: str | Path | None
) -> tuple[ParticleFiles, tuple[str, ...]]:
    """Volumes of a particle STAR file, surveyed, and what was said of their CTF.

    One that RELION 4 multiplied by its CTF is the sum of its tilt images, each times its own. Their defoci differ by
    little, so that at a few nm the CTF of the particle's defocus stands for all.
    """
    flags = numbers(blocks, name, "rlnCtfDataAreCtfPremultiplied")
    files = files.surveyed()
    if flags is None:
        return files, ()
    multiplied = flags == 1
    if not multiplied.any():
        return files, (f"{files.listed_in}: volumes that were not multiplied by their CTF",)
    what = f"{files.listed_in}: {multiplied.sum()} of {len(flags)} volumes were multiplied by their CTF"
    optics = [numbers(blocks, name, column) for column in OPTICS]
    defocus_a, source = _defocus(files, blocks, name, tomograms_star)
    if defocus_a is None or any(values is None for values in optics):
        return files, (f"{what}, which is not undone for lack of {', '.join((*DEFOCUS[:2], *OPTICS))}",)
    phase = numbers(blocks, name, PHASE_SHIFT)
    columns = np.broadcast_arrays(defocus_a, defocus_a, 0.0, *optics, 0.0 if phase is None else phase)
    ctfs = np.where(multiplied[:, None], np.stack(columns, axis=1), np.nan)
    if lost := int((multiplied & ~np.isfinite(ctfs).all(axis=1)).sum()):
        raise UserError(f"{what}, but {lost} rows lack a defocus or optics value ({source}); export them again")
    return replace(files, ctfs=ctfs), (f"{what}, which is undone with the defocus of {source}",)


def _defocus(files: ParticleFiles, blocks: dict, name: str, tomograms_star) -> tuple[np.ndarray | None, str]:
    """Defocus of each particle in angstrom, mean of both axes: its own, else its tilt series' mean; and where from."""
    own = [numbers(blocks, name, column) for column in DEFOCUS[:2]]
    if all(values is not None for values in own):
        return np.mean(own, axis=0), "each row"
    try:
        path = Path(tomograms_star) if tomograms_star is not None else find_tomograms_star(files)
        names = sorted(set(blocks[name]["rlnTomoName"]))
        series = read_series(path, names)
        means = [np.mean([as_numbers(block[column]) for column in DEFOCUS[:2]]) for block, _ in series]
    except (UserError, KeyError):  # no rlnTomoName, no tilt series, or no defocus in one
        return None, ""
    return blocks[name]["rlnTomoName"].map(dict(zip(names, means, strict=True))).to_numpy(float), f"{path}"


def _of_archive(files: ParticleFiles, name: str, indices: list[int], notes: tuple[str, ...], known: dict) -> Particles:
    """Particles of a STAR file that lists volumes of one npz, as a run on an npz writes it."""
    place, _ = replace(files, names=[name]).finder()(0)
    whole = open_npz(place, files.file_voxel_size_nm)
    if max(indices) >= len(whole):
        lacks = f"names volume {max(indices)} of {place}, which has {len(whole)}"
        raise UserError(f"{files.listed_in}: {lacks}; correct it")
    return replace(whole, names=files.names, source=replace(whole.source, rows=indices), notes=notes, **known)


def set_members(path: Path) -> tuple[Path, Path | None, Path | None] | None:
    """Particle file and tomograms.star that an optimisation set names; None of any other STAR file.

    The latter again where no row names a file of a particle: then all are places in its tomograms.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096)  # a set is short, and others may be long
    except OSError:
        start = b""  # it is said where the whole is read
    if b"rlnTomoParticlesFile" not in start:
        return None
    names = optimisation_set(read_star_blocks(path))
    files = [next((up / name for up in path.absolute().parents if (up / name).is_file()), None) for name in names]
    for name, file in zip(names, files, strict=True):
        if name and file is None:
            raise UserError(f"{name}: named in {path} but missing; give that file in place of the optimisation set")
    if not names[0]:
        return None
    listed, geometry = files[0], files[1] if names[1] else None
    return listed, geometry, None if any("rlnImageName" in b for b in read_star_blocks(listed).values()) else geometry


def of_files(files: ParticleFiles, notes: tuple[str, ...] = (), **known) -> Particles:
    """Particles of files that are surveyed."""
    counts = np.bincount(files.groups, minlength=len(files.boxes))
    # The largest of which something could be read.
    group = max((g for g, box in enumerate(files.boxes) if box is not None), key=lambda g: counts[g])
    several = len({size for size in zip(files.boxes, files.voxel_sizes_nm, strict=True) if size[0]})
    if several > 1:
        notes += (f"{files.listed_in}: {several} kinds of box or voxel size, all resampled to the encoder's",)
    notes += files.header_notes()
    box, nm = files.boxes[group], files.voxel_sizes_nm[group]
    says = "given" if files.file_voxel_size_nm else "STAR file" if files.stated_nm[group] else "headers"
    known |= {"voxel_size_from": says, "notes": notes}
    return Particles(names=files.names, source=files, box=box, voxel_size_nm=nm, **known)


def column_labels(table, path: Path, label_column: str | None) -> tuple[list[str | None], str] | tuple[None, None]:
    """Classes of a table's rows, and the column: that named or the first of LABEL_COLUMNS with several classes."""
    if label_column is not None and label_column not in table:
        remedy = f"give label_column (--label-column), one of {', '.join(table)}"
        raise UserError(f"{path}: no column {label_column}; {remedy}")
    known = [label_column] if label_column else [column for column in LABEL_COLUMNS if column in table]
    if not known:
        return None, None
    columns = [(known_labels(_accepted(table, column).fillna("")), column) for column in known]
    return next((pair for pair in columns if len(set(pair[0]) - {None}) > 1), columns[0])


def _accepted(table, column: str):
    """A column of a table; of the classes that a run wrote, those of the rows that it accepted."""
    of_run = column == "fewshotClass" and "fewshotAccepted" in table
    return table[column].where(as_numbers(table["fewshotAccepted"]) == 1) if of_run else table[column]


def _left_out(path: Path, root: Path) -> str:
    """What a file is, by its name and that of its folder below root, where it is no particle; else nothing."""
    if not is_mrc(path):
        return OTHER
    if any(map(NO_PARTICLE.search, path.relative_to(root).parts)):
        return BESIDE
    return PACKED if path.suffix.lower() == ".gz" and path.with_suffix("").exists() else ""


def stated_sizes(blocks: dict, name: str) -> dict[str, np.ndarray]:
    """nm, the voxel size of each row's particle, by the columns that state it; the first counts."""
    found = {}
    for columns, nm_of in SIZES:
        values = [numbers(blocks, name, column) for column in columns]
        if all(value is not None for value in values):
            with np.errstate(divide="ignore", invalid="ignore"):
                found[" and ".join(columns)] = nm_of(*values)
    return found


def stated_nm(blocks: dict, name: str) -> np.ndarray | None:
    """The one of `stated_sizes` that counts; None where there is none."""
    return next(iter(stated_sizes(blocks, name).values()), None)


def size_notes(blocks: dict, name: str, path: object) -> tuple[str, ...]:
    """A line where a table states two voxel sizes that differ by more than they are rounded."""
    (used, first), *others = stated_sizes(blocks, name).items() or [("", None)]
    notes = []
    for other, sizes in others:
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = np.flatnonzero(np.abs(sizes / first - 1) > SAME_PIXEL)
        if len(rows):
            both = f"{other} say {sizes[rows[0]]:.4g} nm, {used} {first[rows[0]]:.4g} nm"
            notes.append(f"{path}: {both}, and the latter is used ({len(rows)} rows)")
    return tuple(notes)


def _lists_images(blocks: dict) -> bool:
    of_images = {"rlnTomoSubTomosAre2DStacks": 1, "rlnImageDimensionality": 2}.items()
    found = [(block[key], value) for block in blocks.values() for key, value in of_images if key in block]
    return any(value in as_numbers(np.atleast_1d(values)) for values, value in found)
