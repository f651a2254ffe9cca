"""Particles of any kind of file, read in pieces: what a classifier streams over.

STAR files with 3D subtomograms or 2D tilt stacks, folders of MRC files, npz archives, tomograms with coordinates. What
concerns one particle costs that particle, with the reason; what concerns the whole input is a UserError of one line.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..errors import UserError
from .mrc import SUFFIXES
from .particle_files import ParticleFiles
from .resampling import checked_sizes, looks_dark, resample

KINDS = "a STAR file, a folder of .mrc files, an .npz archive, or a tomogram with coordinates"
CONTRAST_SAMPLE = 48  # particles whose contrast is looked at


class Source(Protocol):
    """What can read particle i; plain data that travels to worker processes."""

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """A function: i -> volume `(n, n, n)` and its voxel size in nm, or UserError; it may keep a file open.

        voxel_size_nm : nm, detail finer than this is not needed
        """

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """Index and a key that is equal for two particles that are the same piece of the same file."""


@dataclass(frozen=True, kw_only=True)
class Particles:
    """n particles that are read in pieces, in constant memory; holds no open file and is cheap to pickle.

    names : what to call each in messages and tables
    source : reads one of them
    voxel_size_nm, box : nm and voxels, of the files (of their largest group)
    labels : class of each particle where the input says so, else None
    table : every column of the input's table as text, in order; None for folders and npz
    blocks, block_name : the input's other STAR blocks, and which of them `table` is
    dark_protein : whether protein is dark in the files, as given or as detected; None where neither
    mirror : whether z is turned, which changes handedness
    notes : what was found and assumed, one line each, to be told to the user
    """

    names: Sequence[str]
    source: Source
    voxel_size_nm: float
    box: int
    labels: list[str] | None = None
    table: object | None = None
    blocks: dict = field(default_factory=dict)
    block_name: str = "particles"
    dark_protein: bool | None = None
    mirror: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def read(
        self,
        indices: Sequence[int],
        box: int = 20,
        voxel_size_nm: float = 2.0,
        dark_protein: bool | None = None,
    ) -> tuple[torch.Tensor, dict[int, str]]:
        """Read some particles into one box and voxel size, protein dark.

        Parameters
        ----------
        indices : which, in the order of the result
        box, voxel_size_nm : voxels and nm of the result; where a file shows less, the rest is its mean
        dark_protein : whether protein is dark in the files; where it is not they are inverted. Default: as detected,
            or True where that could not be told

        Returns
        -------
        `(len(indices), box, box, box)` float32, each with mean 0 and variance 1; and, by particle index, one line for
        each particle that cannot be used: its volume is all zeros.
        """
        checked_sizes(box, voxel_size_nm=voxel_size_nm)
        if dark_protein is None:
            dark_protein = self.dark_protein is not False
        volumes = torch.zeros(len(indices), box, box, box)
        rejected = {}
        volume_of = self.source.opened(voxel_size_nm)
        for row, i in enumerate(map(int, indices)):
            try:
                volume, nm = volume_of(i)
                volume = volume if dark_protein else -volume
                volumes[row] = resample(volume, nm, box, voxel_size_nm, self.names[i], self.mirror)
            except UserError as error:
                rejected[i] = str(error)
        return volumes, rejected

    def without_table(self) -> "Particles":
        """The same particles for a worker that only reads: a table of a million rows stays at home."""
        return replace(self, table=None, blocks={})


def open_particles(
    path: str | Path,
    *,
    tomogram: str | Path | None = None,
    coordinates: str | Path | None = None,
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

    Parameters
    ----------
    path : a STAR file (RELION 3, 4, 5, WarpTools), a folder of MRC files or with one such folder per class, an npz
        archive (volumes, and if need be labels and voxel_size_nm), an MRC file or stack of volumes, a tomogram (MRC or
        OME-Zarr, with `coordinates`), a table of coordinates (with `tomogram`) or the json of a copick project
    tomogram : of the coordinates: a file, or a folder with one for each rlnTomoName; of a copick project: its type and
        voxel size in angstrom, as in wbp@10.0
    coordinates : STAR or csv, see `tomograms.read_coordinates`
    label_column : column with the classes; default the first of rlnClassName, rlnClassNumber and rlnGroupName that
        has several values
    file_voxel_size_nm : nm, of the files, whatever headers and STAR file say
    dark_protein : whether protein is dark in the files; detected by default, see `notes`
    mirror : turn z, for tomograms of the other handedness
    root : folder that the names in a STAR file are relative to, where that is not the STAR file's or one above it
    tomograms_star : tilt geometry of 2D stacks; by default tomograms.star beside the particles or above
    box_nm : nm, edge of the boxes that are cut from a tomogram
    coordinate_voxel_size_nm : nm, unit of the coordinates where it is not the tomogram's voxel
    pad_edges : fill boxes that reach out of the tomogram with their mean; by default those particles are rejected

    Raises
    ------
    UserError
        The input as a whole cannot be read, or contradicts itself.
    """
    from .listings import open_folder, open_stack, open_star

    sizes_nm = {"file_voxel_size_nm": file_voxel_size_nm, "coordinate_voxel_size_nm": coordinate_voxel_size_nm}
    checked_sizes(4, box_nm=box_nm, **sizes_nm)
    path, root = Path(path), Path(root) if root is not None else None
    if root is not None and not root.is_dir():
        raise UserError(f"root={root}: no such folder; give the one that the names in {path.name} are relative to")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give {KINDS}")
    if path.suffix == ".json" or coordinates is not None or tomogram is not None:
        from .tomograms import open_tomogram

        particles = open_tomogram(
            path,
            tomogram=tomogram,
            coordinates=coordinates,
            label_column=label_column,
            file_voxel_size_nm=file_voxel_size_nm,
            box_nm=box_nm,
            coordinate_voxel_size_nm=coordinate_voxel_size_nm,
            pad_edges=pad_edges,
        )
    elif path.suffix.lower() == ".star":
        particles = open_star(path, label_column, file_voxel_size_nm, root, tomograms_star)
    elif path.suffix.lower() == ".npz":
        from .archives import open_npz

        particles = open_npz(path, file_voxel_size_nm)
    elif path.is_dir() and path.suffix.lower() != ".zarr":
        particles = open_folder(path, file_voxel_size_nm)
    elif path.suffix.lower() in SUFFIXES:
        particles = open_stack(path, file_voxel_size_nm)
    else:
        raise UserError(f"{path}: not a kind of particles known here; give {KINDS}")
    sizes = f"{len(particles)} particles, box of {particles.box} voxels of {particles.voxel_size_nm:.4g} nm"
    particles = replace(particles, mirror=mirror, notes=(f"{path}: {sizes}", *particles.notes))
    return _with_contrast(particles, path, dark_protein)


def class_indices(particles: Particles, path: object = "support") -> dict[str, list[int]]:
    """Indices of each class by name, numbers in their order; raises UserError for no labels or one class only."""
    if particles.labels is None:
        remedy = "give label_column (--label-column), or a folder with one sub-folder per class"
        raise UserError(f"{path}: says of no particle which class it is; {remedy}")
    classes: dict[str, list[int]] = {name: [] for name in sorted(set(particles.labels), key=in_number_order)}
    for i, label in enumerate(particles.labels):
        classes[label].append(i)
    if len(classes) < 2:
        only = f"one class only ({next(iter(classes))}, {len(particles)} particles)"
        raise UserError(f"{path}: {only}; add labelled particles of another, or give label_column (--label-column)")
    return classes


def duplicates(support: Particles, query: Particles) -> list[tuple[int, int]]:
    """Pairs (index in support, index in query) of particles that are the same piece of the same file."""
    known: dict[tuple, list[int]] = {}
    for i, key in support.source.identities(range(len(support))):
        known.setdefault(key, []).append(i)
    alike = range(len(query))
    if isinstance(getattr(query.source, "files", query.source), ParticleFiles):
        # A file is only looked for on disk where its name is a support file's: a query may have a million.
        last_names = {_last_name(name) for name in support.names}
        alike = [i for i in alike if _last_name(query.names[i]) in last_names]
    return [(s, q) for q, key in query.source.identities(alike) for s in known.get(key, [])]


def in_number_order(text: str) -> tuple:
    """Key that sorts 9 before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _last_name(name: str) -> str:
    return name.rpartition("/")[2].rpartition("@")[2]


def _with_contrast(particles: Particles, path: Path, dark_protein: bool | None) -> Particles:
    words = {True: "dark", False: "bright"}
    count = min(CONTRAST_SAMPLE, len(particles))
    sample = np.unique(np.linspace(0, len(particles) - 1, count).astype(int))
    nm = max(particles.voxel_size_nm, particles.box * particles.voxel_size_nm / 20)
    volumes, rejected = particles.read(sample, 20, nm, dark_protein=True)
    seen = looks_dark(volumes[[i not in rejected for i in sample.tolist()]])
    looks = f"protein looks {words.get(seen)} in {len(sample) - len(rejected)} particles looked at"
    if dark_protein is None:
        opposite = seen is False  # also of dark, which is assumed where nothing is seen
        other = f"give dark_protein={opposite} (--contrast {words[opposite]})"
        assumed = f"{path}: {looks}, and is taken as that; if it is not, {other}"
        unclear = f"{path}: contrast cannot be told, protein is taken as dark; if it is bright, {other}"
        note, dark_protein = (unclear if seen is None else assumed), seen
    elif seen is None or seen == dark_protein:
        note = f"{path}: protein is {words[dark_protein]}, as given"
    else:
        note = f"{path}: {looks} but dark_protein={dark_protein} was given and is used"
    return replace(particles, dark_protein=dark_protein, notes=(*particles.notes, note))
