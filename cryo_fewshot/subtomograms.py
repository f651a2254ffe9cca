"""Labelled sets of subtomograms, and the split of their classes into base, validation and novel ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from .errors import UserError


@dataclass(frozen=True)
class SubtomogramSet:
    """Volumes with their labels.

    volumes : `(n, d, h, w)` float32, each with mean 0 and variance 1; labels : `(n,)` int64, into class_names;
    snrs : `(n,)` of each volume, NaN where unknown.
    """

    volumes: torch.Tensor
    labels: np.ndarray
    class_names: tuple[str, ...]
    snrs: np.ndarray
    voxel_size_nm: float

    def __post_init__(self):
        n, *box = self.volumes.shape
        if len(box) != 3 or len(set(box)) != 1:
            raise UserError(f"subtomograms of shape {tuple(box)}: boxes must be cubic, cut them anew")
        if not len(self.labels) == len(self.snrs) == n:
            raise UserError(f"{n} subtomograms but {len(self.labels)} labels and {len(self.snrs)} SNRs: give one each")
        bad = np.flatnonzero(~torch.isfinite(self.volumes.flatten(1).sum(1)).cpu().numpy())
        if len(bad):
            raise UserError(f"subtomogram {bad[0]} holds NaN or infinite voxels ({len(bad)} do): remove or repair them")

    def __len__(self) -> int:
        return len(self.labels)

    def indices_of(self, names: Sequence[str]) -> list[int]:
        """Labels of the classes with these names; raises UserError, listing the known names, for any other."""
        unknown = [name for name in names if name not in self.class_names]
        if unknown:
            raise UserError(f"class '{unknown[0]}' is not in the set; it has {', '.join(self.class_names)}")
        return [self.class_names.index(name) for name in names]


class DataSource(Protocol):
    """Where the subtomograms of an experiment come from: a simulation's recipe, or a user's own files.

    class_set : a name for tables; class_names : all its classes; n_per_class : subtomograms of each at each SNR, at
    most; box, voxel_size_nm : voxels and nm of a volume; seed : of the drawing.
    """

    class_set: str
    class_names: tuple[str, ...]
    n_per_class: int
    box: int
    voxel_size_nm: float
    seed: int

    def count_of(self, name: str, count: int) -> int:
        """Samples of a class where `count` are asked of each."""

    def subtomograms(self, snr_counts: dict[float, int], class_names: Sequence[str], device) -> SubtomogramSet:
        """The volumes of some classes: the first `snr_counts[snr]` of each at each SNR."""


@dataclass(frozen=True)
class ClassSplit:
    """Names of the classes to train on, to select models on, and to test on; no class is in two of them."""

    base: tuple[str, ...]
    validation: tuple[str, ...]
    novel: tuple[str, ...]


def split_classes(class_names: Sequence[str], sizes: tuple[int, int, int], seed: int) -> ClassSplit:
    """Random split of the classes; the paper's sizes are (10, 5, 8) of its 23. It does not depend on the SNR."""
    if sum(sizes) > len(class_names):
        raise UserError(f"a split into {sizes} needs {sum(sizes)} classes, the set has {len(class_names)}")
    order = np.random.default_rng(seed).permutation(sorted(class_names)).tolist()
    n_base, n_validation, n_novel = sizes
    return ClassSplit(
        base=tuple(order[:n_base]),
        validation=tuple(order[n_base : n_base + n_validation]),
        novel=tuple(order[n_base + n_validation : n_base + n_validation + n_novel]),
    )
