"""Folders, stacks and STAR files that list particles: which there are, of which class and voxel size."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .base import Particles, Source
from .mrc import SUFFIXES, is_mrc, open_mrc
from .mrc_particles import ParticleFiles, file_groups
from .star import as_numbers, check_optics_groups, numbers, read_star_blocks, table_with, texts
from .tilt_stacks import open_tilt_stacks

LABEL_COLUMNS = ("rlnClassName", "rlnClassNumber", "rlnGroupName")


def open_folder(path: Path, file_voxel_size_nm: float | None) -> Particles:
    """Particles of a flat folder of MRC files, or of one with a sub-folder per class."""
    remedy = "give one with .mrc files, or with a sub-folder of them per class"
    try:
        inside = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        files = [p.name for p in inside if is_mrc(p)]
        classes = {p.name: sorted(f for f in p.iterdir() if is_mrc(f)) for p in inside if p.is_dir()}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error
    labelled = any(classes.values())
    if labelled and files:
        raise UserError(f"{path / files[0]}: lies beside folders of classes; move it into one of them")
    if not labelled and not files:
        raise UserError(f"{path}: no {' or '.join(SUFFIXES)} file in it; {remedy}")
    for name, members in classes.items() if labelled else ():
        if not members:
            raise UserError(f"{path / name}: holds no {' or '.join(SUFFIXES)} file; add some or remove the folder")
    labels = [name for name, members in classes.items() for _ in members] if labelled else None
    names = [f"{f.parent.name}/{f.name}" for members in classes.values() for f in members] if labelled else files
    return of_files(ParticleFiles(names, path, np.zeros(len(names), int), (None,), file_voxel_size_nm), labels=labels)


def open_stack(path: Path, file_voxel_size_nm: float | None) -> Particles:
    """Particles of one MRC file: a stack of volumes, or a single one."""
    data = open_mrc(path).data
    names = [f"{i}@{path.name}" for i in range(1, len(data) + 1)] if data.ndim == 4 else [path.name]
    return of_files(ParticleFiles(names, path, np.zeros(len(names), int), (None,), file_voxel_size_nm))


def open_star(path, label_column, file_voxel_size_nm, root, tomograms_star) -> Particles:
    """Particles that a STAR file lists, volumes or stacks of tilt images."""
    blocks = read_star_blocks(path)
    remedy = "give one of particles, or this one as coordinates (--query-coordinates) of its tomograms (--query)"
    name = table_with(blocks, path, ["rlnImageName"], remedy)
    check_optics_groups(blocks, name, path)
    table = blocks[name]
    names = table["rlnImageName"].fillna("").tolist()
    groups, stated_nm = file_groups(len(names), _stated_nm(blocks, name), texts(blocks, name, "rlnOpticsGroup"))
    files = ParticleFiles(names, path, groups, stated_nm, file_voxel_size_nm, root)
    known = {"labels": column_labels(table, path, label_column), "table": table, "blocks": blocks, "block_name": name}
    if _lists_images(blocks):
        stacks, notes = open_tilt_stacks(files, blocks, name, tomograms_star)
        return of_files(stacks.files, stacks, notes, **known)
    return of_files(files, **known)


def of_files(files: ParticleFiles, source: Source | None = None, notes: tuple[str, ...] = (), **known) -> Particles:
    """Particles of files, surveyed here where no source that reads them is given."""
    if source is None:
        source = files = files.surveyed()
    group = files.main_group()
    several = len({size for size in zip(files.boxes, files.voxel_sizes_nm, strict=True) if size[0]})
    if several > 1:
        notes += (f"{files.listed_in}: {several} kinds of box or voxel size, each brought to the one asked for",)
    box, nm = files.boxes[group], files.voxel_sizes_nm[group]
    return Particles(names=files.names, source=source, box=box, voxel_size_nm=nm, notes=notes, **known)


def column_labels(table, path: Path, label_column: str | None) -> list[str] | None:
    """Classes of a table's rows, from the column named or the first of LABEL_COLUMNS with several values."""
    if label_column is not None and label_column not in table:
        remedy = f"give label_column (--label-column), one of {', '.join(table)}"
        raise UserError(f"{path}: no column {label_column}; {remedy}")
    known = [label_column] if label_column else [column for column in LABEL_COLUMNS if column in table]
    if not known:
        return None
    column = next((name for name in known if table[name].nunique() > 1), known[0])
    return table[column].fillna("").tolist()


def _stated_nm(blocks: dict, name: str) -> np.ndarray | None:
    for column in ("rlnImagePixelSize", "rlnPixelSize"):
        size_a = numbers(blocks, name, column)
        if size_a is not None:
            return size_a / 10
    detector_um, magnification = (numbers(blocks, name, c) for c in ("rlnDetectorPixelSize", "rlnMagnification"))
    if detector_um is None or magnification is None:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        return detector_um / magnification * 1e3


def _lists_images(blocks: dict) -> bool:
    for block in blocks.values():
        for key, value in {"rlnTomoSubTomosAre2DStacks": 1, "rlnImageDimensionality": 2}.items():
            if key in block and (as_numbers(np.atleast_1d(block[key])) == value).any():
                return True
    return False
