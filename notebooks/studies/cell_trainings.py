"""Trainings that ask what surroundings bring: the pretrained encoder's recipe with one setting after the other."""

from dataclasses import replace

import numpy as np

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.recognition.pretraining import Pretraining, in_cells, pretrained_spec
from cryo_fewshot.training import Schedule
from cryo_fewshot.weights import load_encoder

CELLS = {"neighbours": 0.5, "membranes": 0.15}
"""Shares of samples; membrane and crowd are two further classes."""
APART = {"neighbours": 0.5, "membranes": 0.1, "n_neighbours": (1, 2), "gap_nm": (3.0, 12.0)}
"""Fewer and farther away: nothing touches."""
PICKS = CELLS | {"off_centre": 0.3, "source_voxel_nm": (0.5, 3.2), "edges": 0.05, "gold": 0.02}
RESPONSE = PICKS | {"response": 0.1}
WIDER = (32, 64, 192)
"""Channels of a larger encoder that still embeds a volume in less than a millisecond on two cores."""
SHORT, LONG = 12, 100
SHOWN = {
    "shipped": "the encoder of the package",
    "control": "alone in the box",
    "neighbours": "neighbours",
    "cells": "neighbours, membranes",
    "apart": "neighbours, membranes, farther away",
    "cells-off-centre": "neighbours, membranes, off-centre picks",
    "cells-source-voxel": "neighbours, membranes, large source voxels",
    "picks": "neighbours, membranes, picks, voxels, edges, gold",
    "picks-apart": "the same, farther away",
    "response": "all, and a mild response",
    "clearer": "all but the response, SNR up to 2",
    "control-long": "long: alone in the box",
    "cells-long": "long: neighbours, membranes",
    "picks-long": "long: all but the response",
    "picks-apart-long": "long: all but the response, farther away",
    "picks-wider-long": "long: all but the response, a wider network",
}
"""What the trainings are called on the page, in its order."""


def trainings() -> dict[str, Pretraining]:
    """All of them by name; those without "long" take 120,000 volumes, the others a million."""
    control = pretrained_spec(SHORT)
    short = {
        "control": control,
        "neighbours": in_cells(control, neighbours=0.5),
        "cells": in_cells(control, **CELLS),
        "apart": in_cells(control, **APART),
        "cells-off-centre": in_cells(control, **CELLS, off_centre=0.3),
        "cells-source-voxel": in_cells(control, **CELLS, source_voxel_nm=(0.5, 3.2)),
        "picks": in_cells(control, **PICKS),
        "picks-apart": in_cells(control, **PICKS | APART),
        "response": in_cells(control, **RESPONSE),
        "clearer": _with_snrs(in_cells(control, **PICKS)),
    }
    long = {f"{name}-long": lengthened(short[name]) for name in ("control", "cells", "picks", "picks-apart")}
    shipped, _ = load_encoder()
    schedule = Schedule(n_epochs=8, steps_per_epoch=100, learning_rate=1e-3, halve_every=2)
    tuned = replace(short["cells"], schedule=schedule, start=digest_of(*shipped.state_dict().values()))
    return short | {"cells-tuned": tuned} | long | {"picks-wider-long": replace(long["picks-long"], widths=WIDER)}


def _with_snrs(spec: Pretraining) -> Pretraining:
    """The same training with SNRs up to 2, those of a tomogram of large voxels, instead of 0.5."""
    snrs = tuple(round(float(snr), 4) for snr in np.geomspace(0.02, 2, 16))
    return replace(spec, acquisitions=replace(spec.acquisitions, snrs=snrs))


def lengthened(spec: Pretraining, n_epochs: int = LONG) -> Pretraining:
    """The same training over more epochs, its rate halved as often."""
    schedule = Schedule(**{**vars(spec.schedule), "n_epochs": n_epochs, "halve_every": max(1, n_epochs // 5)})
    return replace(spec, schedule=schedule)
