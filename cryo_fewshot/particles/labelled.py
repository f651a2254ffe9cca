"""Labelled sets of the user's own subtomograms: a folder of MRC files per class, or a STAR file, read whole.

For as many particles as memory holds, every one of them needed: the first that cannot be used is a UserError of one
line with the file, the value and the remedy. `particles` reads the same files in pieces and goes on.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from ..randomness import seed_from
from ..subtomograms import SubtomogramSet
from .base import Particles, in_number_order
from .listings import LABEL_COLUMNS, of_files
from .mrc_particles import ParticleFiles
from .opening import open_particles
from .resampling import checked_sizes, looks_dark


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
    box : voxels along one edge of the result; where the files show less, the rest is their mean
    voxel_size_nm : nm, of the result; None keeps that of the files
    file_voxel_size_nm : nm, of the files, whatever their headers say
    dark_protein : whether protein is dark in the files, as in an unprocessed tomogram; where it is not they are
        inverted, for it is dark in all arrays here
    max_per_class : of a class with more files, this many are drawn; the seed alone decides which

    Raises
    ------
    UserError
        The folder, a class or a file is missing, empty, damaged, or does not fit the others.
    """
    path = Path(path)
    remedy = "give one with a sub-folder of .mrc files per class"
    if path.is_file():
        raise UserError(f"{path}: a file, not a folder; {remedy}, or read it with read_star")
    particles = open_particles(path, file_voxel_size_nm=file_voxel_size_nm, dark_protein=dark_protein)
    if particles.labels is None:
        raise UserError(f"{path}: no classes in it; {remedy}")
    return _labelled_set(path, particles, box, voxel_size_nm, dark_protein, max_per_class, seed)


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
    """Read the subtomograms that a STAR file lists, of any kind that `particles.open_particles` reads.

    Parameters
    ----------
    class_column : column with the classes; default as there
    box, voxel_size_nm, file_voxel_size_nm, dark_protein, max_per_class, seed : as in `read_folder`

    Raises
    ------
    UserError
        As in `read_folder`.
    """
    path = Path(path)
    particles = open_particles(
        path, label_column=class_column, file_voxel_size_nm=file_voxel_size_nm, dark_protein=dark_protein
    )
    if particles.labels is None:
        there = ", ".join(column for column in particles.table if column.startswith("rln"))
        raise UserError(f"{path}: no column {' or '.join(LABEL_COLUMNS)}; give class_column, one of {there}")
    return _labelled_set(path, particles, box, voxel_size_nm, dark_protein, max_per_class, seed)


def read_volumes(
    paths: Sequence[str | Path],
    *,
    box: int = 40,
    voxel_size_nm: float | None = 1.0,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool = True,
) -> tuple[torch.Tensor, float]:
    """Read subtomograms, one file each, into one box and voxel size; parameters as in `read_folder`.

    Returns
    -------
    `(n, box, box, box)` float32, each with mean 0 and variance 1, and their voxel size in nm.
    """
    if not len(paths):
        raise UserError("no files to read: give at least one")
    names = [str(Path(path).absolute()) for path in paths]
    files = ParticleFiles(names, Path(names[0]), np.zeros(len(names), int), (None,), file_voxel_size_nm)
    return _read_all(of_files(files), range(len(names)), box, voxel_size_nm, dark_protein)


def _labelled_set(path, particles, box, voxel_size_nm, dark_protein, max_per_class, seed) -> SubtomogramSet:
    class_names = tuple(sorted(set(particles.labels), key=in_number_order))
    chosen, labels = _draw(np.array(particles.labels, dtype=object), class_names, max_per_class, seed)
    volumes, voxel_size_nm = _read_all(particles, chosen, box, voxel_size_nm, dark_protein)
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


def _read_all(
    particles: Particles, indices: Sequence[int], box: int, voxel_size_nm: float | None, dark_protein: bool
) -> tuple[torch.Tensor, float]:
    checked_sizes(box, voxel_size_nm=voxel_size_nm)
    voxel_size_nm = particles.voxel_size_nm if voxel_size_nm is None else voxel_size_nm
    volumes, rejected = particles.read(indices, box, voxel_size_nm, dark_protein)
    for reason in rejected.values():
        raise UserError(reason)
    return volumes, float(voxel_size_nm)


def _draw(
    labels: np.ndarray, class_names: tuple[str, ...], max_per_class: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of at most max_per_class of each class, in their order, and their labels as numbers."""
    if max_per_class < 1:
        raise UserError(f"max_per_class={max_per_class}: give at least 1")
    chosen, numbers = [], []
    for number, name in enumerate(class_names):
        members = np.flatnonzero(labels == name)
        rng = np.random.default_rng(seed_from("reader", seed, name))  # a class does not affect another
        drawn = np.sort(rng.permutation(len(members))[:max_per_class])
        chosen.append(members[drawn])
        numbers += [number] * len(drawn)
    return np.concatenate(chosen), np.array(numbers, dtype=np.int64)


# --- a folder or STAR file as the data of an experiment ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MeasuredData:
    """The user's own set in the place of a recipe; made by `measured_data`, which reads the files once.

    class_set : a name for tables; digest : of all volumes, so that results belong to these very files; snr, box,
    voxel_size_nm : nominal SNR of the set, voxels and nm of the volumes as they are used; split_sizes, n_way : as in
    `standins.Surrogate`; counts : subtomograms per class; the path and the volumes take no part in comparison.
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
