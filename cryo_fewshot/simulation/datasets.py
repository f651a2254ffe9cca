"""Simulated sets of subtomograms: a recipe fixes every voxel."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import UserError
from ..randomness import seed_from
from ..subtomograms import SubtomogramSet
from .imaging import simulate
from .microscope import Microscope
from .structures import class_keys, complex_beads

EMPTY = "empty"
"""Name of the class without a macromolecule."""


@dataclass(frozen=True, kw_only=True)
class SimulatedData:
    """Recipe of a simulated set: together with the bead library it fixes every voxel.

    n_per_class : subtomograms of each class at each SNR; with_empty : add the class without a macromolecule.
    """

    class_set: str = "paper22"
    n_per_class: int = 100
    with_empty: bool = True
    microscope: Microscope = field(default_factory=Microscope)
    seed: int = 2020

    def __post_init__(self):
        if self.n_per_class < 1:
            raise UserError(f"n_per_class={self.n_per_class}: give at least 1")

    @property
    def class_names(self) -> tuple[str, ...]:
        return class_keys(self.class_set) + ((EMPTY,) if self.with_empty else ())

    @property
    def box(self) -> int:
        """Voxels along one edge of a finished volume."""
        return self.microscope.final_box

    @property
    def voxel_size_nm(self) -> float:
        """Edge of a voxel of a finished volume."""
        return self.microscope.final_voxel_size_nm

    def count_of(self, name: str, count: int) -> int:
        """Samples of a class where `count` are asked of each."""
        return count

    def beads_of(self, name: str, seeds: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """Positions and masses of the samples of a class, one per seed; None for no macromolecule."""
        return [None if name == EMPTY else complex_beads(name)] * len(seeds)

    def subtomograms(self, snr_counts: dict[float, int], class_names: Sequence[str], device) -> "SubtomogramSet":
        """The volumes of some classes, see `simulate_set`."""
        return simulate_set(self, snr_counts, class_names, device)

    def sample_seeds(self, name: str, snr: float, start: int = 0, count: int | None = None) -> torch.Tensor:
        """Seeds of samples start..start+count of one class at one SNR, `(count,)` int64."""
        first = seed_from("subtomogram", self.seed, name, snr)
        return torch.arange(start, start + (self.n_per_class if count is None else count)) + first // 2


def simulate_set(
    recipe: SimulatedData,
    snr_counts: dict[float, int],
    class_names: Sequence[str],
    device: torch.device | str = "cpu",
    chunk: int = 32,
) -> SubtomogramSet:
    """Simulate the first `snr_counts[snr]` samples of each class at each SNR.

    Sample i of a class at an SNR is the same in every set made from one recipe, so subsets agree (Mix34 is a part of
    Mix100).
    """
    box = recipe.box
    n_total = sum(recipe.count_of(name, count) for name in class_names for count in snr_counts.values())
    volumes = torch.empty(n_total, box, box, box, device=device)
    labels, snrs, done = [], [], 0
    for snr, count in snr_counts.items():
        if count > recipe.n_per_class:
            raise UserError(f"{count} samples asked of n_per_class={recipe.n_per_class}: raise n_per_class")
        for label, name in enumerate(class_names):
            seeds = recipe.sample_seeds(name, snr, count=recipe.count_of(name, count))
            for part in seeds.split(chunk):
                volumes[done : done + len(part)] = simulate(
                    recipe.beads_of(name, part), part, snr, recipe.microscope, device
                )
                done += len(part)
            labels.append(np.full(len(seeds), label))
            snrs.append(np.full(len(seeds), snr))
    return SubtomogramSet(
        volumes=volumes,
        labels=np.concatenate(labels),
        class_names=tuple(class_names),
        snrs=np.concatenate(snrs),
        voxel_size_nm=recipe.voxel_size_nm,
    )
