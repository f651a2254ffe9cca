"""Simulated particles of held-out complexes, alone in their boxes or in surroundings, the same for every encoder."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from cryo_fewshot.episodes import Episodes, sample_episodes
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.pretraining import pretrained_spec
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions, simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import Surroundings

ALONE = "alone in the box"
AROUND = {ALONE: None, "among neighbours": {"neighbours": 1.0}, "beside a membrane": {"membranes": 1.0}}
"""What lies in the boxes: settings of `Surroundings`, whose complexes are training classes."""


@lru_cache(maxsize=16)
def held_out(around: str, snr: float, classes: tuple[str, ...], n_per_class: int) -> torch.Tensor:
    """Volumes of held-out classes, class by class."""
    microscope = Microscope(binning=2)
    if AROUND[around] is None:
        recipe = SimulatedData(microscope=microscope, n_per_class=n_per_class)
        return simulate_set(recipe, {snr: n_per_class}, classes).volumes
    return surrounded(classes, n_per_class, microscope, snr, seed_from("held out", around, snr), **AROUND[around])


def surrounded(
    classes: Sequence[str], n_per_class: int, microscope: Microscope, snr: float, seed: int, **settings: float
) -> torch.Tensor:
    """Volumes, class by class, in surroundings of training complexes; settings : of `Surroundings`."""
    complexes = tuple(name for name in pretrained_spec().classes if name != EMPTY)
    surroundings = Surroundings(complexes=complexes, **settings)
    acquisitions = Acquisitions(microscope=microscope, snrs=(snr,), surroundings=surroundings)
    names = [name for name in classes for _ in range(n_per_class)]
    return simulate_on_the_fly(names, acquisitions, np.random.default_rng(seed))


def tasks_among(classes: Sequence[str], n_per_class: int, **settings: int) -> Episodes:
    """Tasks among samples that lie class by class; settings : of `sample_episodes`."""
    labels = np.repeat(np.arange(len(classes)), n_per_class)
    return sample_episodes(labels, range(len(classes)), class_names=classes, **settings)
