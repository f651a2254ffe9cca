"""Trainings that ask what surroundings bring: the pretrained encoder's recipe with one setting after the other."""

from dataclasses import replace

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.recognition.pretraining import CELLS, Pretraining, in_cells, pretrained_spec, trained_on

from .cross_fitting import cross_fit_specs

PICKS = CELLS | {"off_centre": 0.3, "source_voxel_nm": (0.5, 3.2), "edges": 0.05, "gold": 0.02}
WIDER = (32, 64, 192)
"""Channels of a larger encoder that still embeds a volume in about a millisecond on two cores."""
FIRST = REPOSITORY / "results" / "encoders" / "first.safetensors"
"""The encoder that the pretrained one started from."""
START = "0148163f2e1e0b21"
"""Digest of the weights of the first encoder of the package, trained on 400,000 volumes without surroundings."""
FOLD_STARTS = ("f6c03f7f8717c14f", "71672da883988323", "1ec16972823cdd8e", "ea5e5da5770ded02")
"""Digests of the weights of `fold-I-first`."""
SHORT, LONG = 12, 100
_ALL = "neighbours, membranes, picks, voxels, edges, gold"
SHOWN = {
    "shipped": "alone in the box (first encoder of the package)",
    "control": "alone in the box",
    "control-long": "alone in the box",
    "cells": "neighbours, membranes",
    "cells-long": "neighbours, membranes",
    "cells-tuned": "neighbours, membranes, from the first encoder",
    "cells-averaged": "the same, averaged with the first encoder, 7 : 3 (the pretrained encoder)",
    "picks": _ALL,
    "picks-long": _ALL,
    "picks-wider-long": f"{_ALL}; wider network",
}
"""What the trainings are called on the page, in its order; where volumes differ, so does the schedule."""


def trainings() -> dict[str, Pretraining]:
    """All of them by name; those without "long" take 120,000 volumes or fewer, the others a million."""
    control = pretrained_spec(SHORT)
    short = {
        "control": control,
        "cells": in_cells(control, **CELLS),
        "picks": in_cells(control, **PICKS),
    }
    averaged = trained_on(control, START)
    from_first = {"cells-tuned": replace(averaged, start_share=0.0), "cells-averaged": averaged}
    long = {f"{name}-long": lengthened(short[name]) for name in ("control", "cells", "picks")}
    return short | from_first | long | {"picks-wider-long": replace(long["picks-long"], widths=WIDER)}


def lengthened(spec: Pretraining, n_epochs: int = LONG) -> Pretraining:
    """The same training over more epochs, its rate halved as often."""
    return replace(spec, schedule=replace(spec.schedule, n_epochs=n_epochs, halve_every=max(1, n_epochs // 5)))


def cross_fitted() -> dict[str, Pretraining]:
    """The two trainings of the pretrained encoder, four times without another part of the families, by name.

    The first of the two takes 40,000 volumes, a tenth of the pretrained encoder's. Promises are measured with the
    second's encoders, see `cryo-fewshot calibrate`.
    """
    pairs = enumerate(zip(cross_fit_specs(pretrained_spec(4)), FOLD_STARTS, strict=True))
    firsts_and_seconds = [
        {f"fold-{i}-first": alone, f"fold-{i}": trained_on(alone, start)} for i, (alone, start) in pairs
    ]
    return {name: spec for both in firsts_and_seconds for name, spec in both.items()}
