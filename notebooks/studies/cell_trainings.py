"""Trainings that ask what surroundings bring: the pretrained encoder's recipe with one setting after the other."""

from dataclasses import replace

from cryo_fewshot.recognition.pretraining import Pretraining, in_cells, pretrained_spec
from cryo_fewshot.training import Schedule

CELLS = {"neighbours": 0.5, "membranes": 0.15}
"""Shares of samples; membrane and crowd are two further classes."""
PICKS = CELLS | {"off_centre": 0.3, "source_voxel_nm": (0.5, 3.2), "edges": 0.05, "gold": 0.02}
RESPONSE = PICKS | {"response": 0.1}
WIDER = (32, 64, 192)
"""Channels of a larger encoder that still embeds a volume in about a millisecond on two cores."""
START = "0148163f2e1e0b21"
"""Digest of the weights of the first encoder of the package, trained on 400,000 volumes without surroundings."""
SHORT, LONG = 12, 100
_ALL = "neighbours, membranes, picks, voxels, edges, gold"
SHOWN = {
    "shipped": "alone in the box (first encoder of the package)",
    "control": "alone in the box",
    "control-long": "alone in the box",
    "neighbours": "neighbours",
    "cells": "neighbours, membranes",
    "cells-long": "neighbours, membranes",
    "cells-tuned": "neighbours, membranes, from the first encoder",
    "cells-averaged": "the same, averaged with the first encoder, 7 : 3",
    "cells-off-centre": "neighbours, membranes, off-centre picks",
    "cells-source-voxel": "neighbours, membranes, large source voxels",
    "picks": _ALL,
    "picks-long": _ALL,
    "picks-wider-long": f"{_ALL}; wider network",
    "response": f"{_ALL}, mild response",
}
"""What the trainings are called on the page, in its order; where volumes differ, so does the schedule."""


def trainings() -> dict[str, Pretraining]:
    """All of them by name; those without "long" take 120,000 volumes or fewer, the others a million."""
    control = pretrained_spec(SHORT)
    short = {
        "control": control,
        "neighbours": in_cells(control, neighbours=0.5),
        "cells": in_cells(control, **CELLS),
        "cells-off-centre": in_cells(control, **CELLS, off_centre=0.3),
        "cells-source-voxel": in_cells(control, **CELLS, source_voxel_nm=(0.5, 3.2)),
        "picks": in_cells(control, **PICKS),
        "response": in_cells(control, **RESPONSE),
    }
    gentle = Schedule(n_epochs=8, steps_per_epoch=100, learning_rate=1e-3, halve_every=2)
    tuned = replace(short["cells"], schedule=gentle, start=START)
    from_first = {"cells-tuned": tuned, "cells-averaged": replace(tuned, start_share=0.3)}
    long = {f"{name}-long": lengthened(short[name]) for name in ("control", "cells", "picks")}
    return short | from_first | long | {"picks-wider-long": replace(long["picks-long"], widths=WIDER)}


def lengthened(spec: Pretraining, n_epochs: int = LONG) -> Pretraining:
    """The same training over more epochs, its rate halved as often."""
    return replace(spec, schedule=replace(spec.schedule, n_epochs=n_epochs, halve_every=max(1, n_epochs // 5)))
