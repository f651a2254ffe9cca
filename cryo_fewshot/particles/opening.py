"""Which reader opens a file or folder, and what it says about contrast."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import UserError
from .base import Particles, in_number_order
from .coordinates import open_coordinates
from .copick_projects import is_copick
from .listings import open_folder, open_stack, open_star, set_members
from .mrc import is_mrc
from .npz import open_npz
from .resampling import checked_sizes, looks_dark, one_sidedness

KINDS = (
    "a STAR file, a folder of MRC, EM or HDF files, an .npz archive, "
    "or a tomogram with coordinates (--support-coordinates, --query-coordinates)"
)
AGAINST = "was given (--contrast) and is used"
CONTRAST_SAMPLE = 48  # particles whose contrast is looked at
ONE_SIDED, LEAST_SHARE = 0.35, 0.15  # of `one_sidedness` and of the sample, from where on two contrasts are mixed


def open_particles(
    path: str | Path,
    *,
    tomogram: str | Path | None = None,
    coordinates: str | Path | None = None,
    picks: str | None = None,
    label_column: str | None = None,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool | None = None,
    mirror: bool = False,
    root: str | Path | None = None,
    tomograms_star: str | Path | None = None,
    box_nm: float = 40.0,
    coordinate_voxel_size_nm: float | None = None,
    pad_edges: bool = False,
) -> Particles:
    """Open particles of any kind; nothing but tables, headers and a few particles is read yet.

    path : a STAR file (RELION 3, 4, 5, WarpTools), a folder of MRC files or with one such folder per class, an npz
        archive (volumes, and if need be labels and voxel_size_nm), an MRC file or stack of volumes, a tomogram (MRC or
        OME-Zarr, with `coordinates`), a table of coordinates (with `tomogram`), the json or the
        folder of a copick project, see `copick_projects`
    tomogram : of the coordinates: a file, a folder with one for each rlnTomoName (or rlnMicrographName), or a
        tomograms.star; of a copick project: its type and voxel size in angstrom, as in wbp@10.0
    coordinates : STAR, csv, Dynamo's .tbl, IMOD's .mod or EMAN2's json, see `coordinates.read_coordinates`
    picks : whose picks of a copick project, as user or user/session; needed where there are several
    label_column : column with the classes; default the first of `listings.LABEL_COLUMNS` that has several values
    file_voxel_size_nm : nm, of the files, whatever headers and STAR file say; 0.1 to 10
    dark_protein : whether protein is dark in the files; detected by default, see `notes`
    mirror : reverse z, for tomograms of the other handedness
    root : folder that the names in a STAR file are relative to, where that is not the STAR file's or one above it
    tomograms_star : tilt geometry of 2D stacks; by default tomograms.star beside the particles or above
    box_nm : nm, edge of the boxes that are cut from a tomogram
    coordinate_voxel_size_nm : nm, unit of the coordinates where it is not the tomogram's voxel
    pad_edges : fill boxes that reach out of the tomogram with their mean; by default those particles are rejected

    Raises UserError: the input as a whole cannot be read, or contradicts itself.
    """
    sizes_nm = {"file_voxel_size_nm": file_voxel_size_nm, "coordinate_voxel_size_nm": coordinate_voxel_size_nm}
    checked_sizes(4, box_nm=box_nm, **sizes_nm)
    path, root = Path(path), Path(root) if root is not None else None
    if root is not None and not root.is_dir():
        raise UserError(f"root={root} (--root): no such folder; give the one that names in {path.name} are relative to")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give {KINDS}")
    if path.suffix.lower() == ".star" and (members := set_members(path)) is not None:
        path, geometry, tomograms = members
        tomograms_star, tomogram = tomograms_star or geometry, tomogram or tomograms
    of_copick = is_copick(path)
    if picks is not None and not of_copick:
        raise UserError(f"picks={picks} (--picks): {path} is not a copick project; give it for a project alone")
    if of_copick or path.suffix.lower() in (".json", ".tbl", ".mod") or coordinates is not None or tomogram is not None:
        particles = open_coordinates(
            path,
            tomogram=tomogram,
            coordinates=coordinates,
            picks=picks,
            label_column=label_column,
            file_voxel_size_nm=file_voxel_size_nm,
            box_nm=box_nm,
            coordinate_voxel_size_nm=coordinate_voxel_size_nm,
            pad_edges=pad_edges,
        )
    elif path.suffix.lower() == ".star":
        particles = open_star(path, label_column, file_voxel_size_nm, root, tomograms_star)
    elif path.suffix.lower() == ".npz":
        particles = open_npz(path, file_voxel_size_nm)
    elif path.is_dir() and path.suffix.lower() != ".zarr":
        particles = open_folder(path, file_voxel_size_nm)
    elif is_mrc(path):
        particles = open_stack(path, file_voxel_size_nm)
    else:
        raise UserError(f"{path}: not an input that is recognised; give {KINDS}")
    sizes = f"{len(particles)} particles, box of {particles.box} voxels of {particles.voxel_size_nm:.4g} nm"
    sizes += f" ({particles.voxel_size_from})"
    particles = replace(
        particles, mirror=mirror, notes=(f"{path}: {sizes}", *particles.notes, *_label_note(particles, path))
    )
    return _with_contrast(particles, path, dark_protein)


def _label_note(particles: Particles, path: Path) -> tuple[str, ...]:
    """A line with the classes and their counts, and how many particles have none."""
    if particles.labels is None:
        return ()
    counts = Counter(label for label in particles.labels if label is not None)
    classes = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts, key=in_number_order)[:12])
    of = f" in {particles.label_column}" if particles.label_column else ""
    without = f"; {n} have no label and are left out of a support" if (n := particles.labels.count(None)) else ""
    alike = pd.Series(list(counts), dtype=object).groupby([name.casefold() for name in counts]).agg(list)
    twins = "".join(f"; {' and '.join(names)} differ only in case" for names in alike if len(names) > 1)
    return (f"{path}: {len(counts)} classes{of}: {classes}{', ...' if len(counts) > 12 else ''}{without}{twins}",)


def _with_contrast(particles: Particles, path: Path, dark_protein: bool | None) -> Particles:
    words = {True: "dark", False: "bright"}
    count = min(CONTRAST_SAMPLE, len(particles))
    sample = np.unique(np.linspace(0, len(particles) - 1, count).astype(int))
    nm = max(particles.voxel_size_nm, particles.box * particles.voxel_size_nm / 20)
    volumes, rejected = particles.read(sample, 20, nm)
    usable = [i not in rejected for i in sample.tolist()]
    seen = looks_dark(volumes[usable])
    mixed = _two_contrasts(particles, sample[usable], volumes[usable])
    if mixed and dark_protein is None:
        remedy = "invert the files of one kind, or give --contrast dark or bright if all are of one"
        raise UserError(f"{path}: {mixed}; {remedy}")
    looks = f"protein looks {words.get(seen)} in {len(sample) - len(rejected)} particles examined"
    if dark_protein is None:
        opposite = seen is False  # also of dark, which is assumed where nothing is seen
        other = f"give dark_protein={opposite} (--contrast {words[opposite]})"
        assumed = f"{path}: {looks}; if it is not, {other}"
        unclear = f"{path}: contrast cannot be determined; protein is taken to be dark; if it is bright, {other}"
        note, dark_protein = (unclear if seen is None else assumed), seen
    elif seen is None or seen == dark_protein:
        note = f"{path}: protein is {words[dark_protein]}, as given"
    else:
        alone = "for one input alone give --support-contrast or --query-contrast"
        note = f"{path}: {looks} but {words[dark_protein]} {AGAINST}; {alone}"
    note += f"; but {mixed}" if mixed else ""
    of = f"{path}: {len(rejected)} of {len(sample)} particles examined cannot be used, for example"
    unusable = (f"{of} {next(iter(rejected.values()))}",) if rejected else ()
    return replace(particles, dark_protein=dark_protein, notes=(*particles.notes, *unusable, note))


def _two_contrasts(particles: Particles, sample: np.ndarray, volumes: torch.Tensor) -> str:
    """In words that some particles of the sample are clearly dark and some clearly bright; empty where they are not.

    Of noise 1 in 28 would be called clearly bright, of 80S ribosomes in a real tomogram none.
    """
    if len(volumes) < 3:
        return ""
    sides = one_sidedness(volumes).numpy()
    bright, dark = sides > ONE_SIDED, sides < -ONE_SIDED
    if min(bright.sum(), dark.sum()) < max(3, LEAST_SHARE * len(sides)):
        return ""
    said = f"protein is bright in {bright.sum()} and dark in {dark.sum()} of {len(sides)} particles examined"
    groups = {"class": particles.labels, "optics group": getattr(particles.table, "rlnOpticsGroup", None)}
    for kind, names in groups.items():
        if names is None:
            continue
        of_group = pd.Series(sides).groupby(np.asarray(names, dtype=object)[sample]).mean()
        if (of_group > ONE_SIDED).any() and (of_group < -ONE_SIDED).any():
            return f"{said}, bright in {kind} {', '.join(map(str, of_group.index[of_group > ONE_SIDED]))}"
    return said
