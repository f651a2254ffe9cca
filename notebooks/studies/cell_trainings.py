"""Trainings behind the pretrained encoder: the one that it started from, and those that its promises rest on.

These are cross-fitted: each class of the library is held out from one of four trainings of the same recipe, and what is
measured on the classes that each left out is pooled. That assumes that scores of one recipe mean the same whichever
classes it was trained on.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.pretraining import Pretraining, pretrained_spec, trained_on
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.structures import registry

FIRST = REPOSITORY / "results" / "encoders" / "first.safetensors"
"""The encoder that the pretrained one started from."""
START = "0148163f2e1e0b21"
"""Digest of its weights; trained on 400,000 volumes without surroundings."""
FOLD_STARTS = ("f6c03f7f8717c14f", "71672da883988323", "1ec16972823cdd8e", "ea5e5da5770ded02")
"""Digests of the weights of `fold-I-first`."""


def cross_fitted() -> dict[str, Pretraining]:
    """The two trainings of the pretrained encoder, four times without another part of the families, by name.

    The first of the two takes 40,000 volumes, a tenth of the pretrained encoder's. Promises are measured with the
    second's encoders, see `cryo-fewshot calibrate`.
    """
    found = {}
    for i, (alone, start) in enumerate(zip(cross_fit_specs(pretrained_spec(4)), FOLD_STARTS, strict=True)):
        found |= {f"fold-{i}-first": alone, f"fold-{i}": trained_on(alone, start)}
    return found


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
