"""Trainings that ask what surroundings bring: the pretrained encoder's recipe with one setting after the other."""

from dataclasses import replace

import numpy as np

from cryo_fewshot.recognition.pretraining import Pretraining, in_cells, pretrained_spec
from cryo_fewshot.training import Schedule

CELLS = {"neighbours": 0.5, "membranes": 0.15}
"""Shares of samples; membrane and crowd are two further classes."""
PICKS = CELLS | {"off_centre": 0.3, "source_voxel_nm": (0.5, 3.2), "edges": 0.05, "gold": 0.02}
RESPONSE = PICKS | {"response": 0.1}
WIDER = (32, 64, 192)
"""Channels of a larger encoder that still embeds a volume in less than a millisecond on two cores."""
SHORT, LONG = 12, 100
SHOWN = {
    "shipped": "the encoder of the package",
    "control": "complexes alone in their boxes",
    "neighbours": "neighbours for half of the samples; two background classes",
    "cells": "the same and membranes",
    "cells-off-centre": "the same and picks off by up to 8 nm",
    "cells-source-voxel": "membranes, and source voxels of 0.5 to 3.2 nm",
    "picks": "all of these, edges and gold",
    "response": "the same and a mild random response",
    "clearer": "all of these, edges and gold, SNR up to 2",
    "control-long": "complexes alone, longer",
    "cells-long": "neighbours and membranes, longer",
    "picks-long": "all but the response, longer",
    "picks-wider-long": "the same, a wider network",
}
"""What the trainings are called on the page, in its order."""


def trainings() -> dict[str, Pretraining]:
    """All of them by name; those without "long" take 120,000 volumes, the others a million."""
    control = pretrained_spec(SHORT)
    short = {
        "control": control,
        "neighbours": in_cells(control, neighbours=0.5),
        "cells": in_cells(control, **CELLS),
        "cells-off-centre": in_cells(control, **CELLS, off_centre=0.3),
        "cells-source-voxel": in_cells(control, **CELLS, source_voxel_nm=(0.5, 3.2)),
        "picks": in_cells(control, **PICKS),
        "response": in_cells(control, **RESPONSE),
        "clearer": _with_snrs(in_cells(control, **PICKS)),
    }
    long = {f"{name}-long": lengthened(short[name]) for name in ("control", "cells", "picks")}
    return short | long | {"picks-wider-long": replace(long["picks-long"], widths=WIDER)}


def _with_snrs(spec: Pretraining) -> Pretraining:
    """The same training with SNRs up to 2, those of a tomogram of large voxels, instead of 0.5."""
    snrs = tuple(round(float(snr), 4) for snr in np.geomspace(0.02, 2, 16))
    return replace(spec, acquisitions=replace(spec.acquisitions, snrs=snrs))


def lengthened(spec: Pretraining, n_epochs: int = LONG) -> Pretraining:
    """The same training over more epochs, its rate halved as often."""
    schedule = Schedule(**{**vars(spec.schedule), "n_epochs": n_epochs, "halve_every": max(1, n_epochs // 5)})
    return replace(spec, schedule=schedule)
