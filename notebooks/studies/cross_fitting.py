"""Cross-fitting: each class of the library is held out from one of k trainings of the same recipe.

One training can be calibrated on the few classes that it left out. Trained k times, each time without another k-th of
the families, every class is once a class never met, and what is measured on all of them is pooled. Pooling assumes that
scores of one recipe mean the same whichever classes it was trained on.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cryo_fewshot.errors import UserError
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.pretraining import Pretraining
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.structures import registry


def cross_fit_specs(spec: Pretraining, k: int = 4) -> tuple[Pretraining, ...]:
    """The recipe of a spec, k times: `selection` is in turn each part of `family_folds`, the test classes stay out.

    What is no complex, such as the empty box, is trained on every time.
    """
    known = [*spec.classes, *spec.selection]
    complexes = [name for name in known if name in registry().index]
    folds = family_folds(complexes, k, spec.seed)
    return tuple(
        replace(spec, classes=tuple(name for name in known if name not in fold), selection=fold) for fold in folds
    )


def family_folds(class_names: Sequence[str], k: int, seed: int = 0) -> tuple[tuple[str, ...], ...]:
    """k parts of the classes of nearly equal number; no homologous family is in two parts."""
    families: dict[str, list[str]] = {}
    for name in class_names:
        families.setdefault(homologous_family(name), []).append(name)
    if not 2 <= k <= len(families):
        raise UserError(f"k={k} parts of {len(families)} families: choose 2 to {len(families)}")
    drawn = np.random.default_rng(seed_from("family folds", seed)).permutation(sorted(families))
    folds: list[list[str]] = [[] for _ in range(k)]
    for family in sorted(drawn, key=lambda name: -len(families[name])):  # the largest first
        min(folds, key=len).extend(families[family])
    return tuple(map(tuple, folds))
