"""Labelled sets of the user's own particles, read whole, as the data of an experiment.

For as many particles as memory holds, every one of them needed: the first that cannot be used is a UserError of one
line with the file, the value and the remedy. `base.Particles` reads the same files in pieces and goes on.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..randomness import seed_from
from ..subtomograms import SubtomogramSet
from .base import class_indices
from .opening import open_particles
from .resampling import looks_dark


@dataclass(frozen=True, kw_only=True)
class MeasuredData:
    """The user's own set in the place of a recipe; made by `measured_data`, which reads the files once.

    class_set : a name for tables; digest : of all volumes, so that results belong to these very files; snr, box,
    voxel_size_nm : nominal SNR of the set, voxels and nm of the volumes as they are used; split_sizes, n_way : as in
    `reproduction.surrogates.Surrogate`; counts : subtomograms per class; the volumes take no part in comparison.
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
    label_column: str | None = None,
    box: int = 40,
    voxel_size_nm: float = 1.0,
    file_voxel_size_nm: float | None = None,
    dark_protein: bool = True,
    max_per_class: int = 100,
    seed: int = 0,
) -> MeasuredData:
    """Read labelled particles whole: a folder with a sub-folder per class, a STAR file, an npz archive with labels.

    name, snr, split_sizes : as `MeasuredData` has them, name as class_set
    path, label_column, file_voxel_size_nm : as in `opening.open_particles`
    box, voxel_size_nm : voxels and nm of the result; where the files show less, the rest is their mean
    dark_protein : whether protein is dark in the files, as in an unprocessed tomogram; where it is not they are
    inverted, for it is dark in all arrays here
    max_per_class : of a class with more particles, this many are drawn; the seed alone decides which

    Raises UserError for an input, class or particle that is missing, empty, damaged, or does not fit the others, and
    where the set has fewer classes than the split needs.
    """
    particles = open_particles(
        path, label_column=label_column, file_voxel_size_nm=file_voxel_size_nm, dark_protein=dark_protein
    )
    classes = class_indices(particles, path, at_least=1)
    if len(classes) < sum(split_sizes):
        lacking = f"{len(classes)} classes, but the split {split_sizes} needs {sum(split_sizes)}"
        raise UserError(f"{path}: {lacking}; add classes or change the split")
    chosen, labels = _draw(classes, max_per_class, seed)
    volumes, rejected = particles.read(chosen, box, voxel_size_nm)
    for reason in rejected.values():
        raise UserError(reason)
    if looks_dark(volumes) is False:
        seems = f"protein looks {'bright' if dark_protein else 'dark'} in these files but dark_protein={dark_protein}"
        warnings.warn(f"{path}: {seems}; if it is, give dark_protein={not dark_protein}", stacklevel=2)
    counts = np.bincount(labels).tolist()
    return MeasuredData(
        class_set=name,
        digest=hashlib.sha256(np.ascontiguousarray(volumes.numpy()).tobytes()).hexdigest()[:16],
        class_names=tuple(classes),
        counts=tuple(counts),
        n_per_class=max(counts),
        snr=snr,
        box=box,
        voxel_size_nm=voxel_size_nm,
        split_sizes=split_sizes,
        whole=SubtomogramSet(
            volumes=volumes,
            labels=labels,
            class_names=tuple(classes),
            snrs=np.full(len(labels), snr),
            voxel_size_nm=voxel_size_nm,
        ),
    )


def _draw(classes: dict[str, list[int]], max_per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of at most max_per_class of each class, in their order, and their labels as numbers."""
    if max_per_class < 1:
        raise UserError(f"max_per_class={max_per_class}: give at least 1")
    drawn = []
    for name, members in classes.items():
        rng = np.random.default_rng(seed_from("reader", seed, name))  # a class does not affect another
        drawn.append(np.array(members)[np.sort(rng.permutation(len(members))[:max_per_class])])
    labels = np.repeat(np.arange(len(drawn), dtype=np.int64), [len(part) for part in drawn])
    return np.concatenate(drawn), labels
