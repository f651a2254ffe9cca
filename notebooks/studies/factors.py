"""What each thing that boxes of a cell hold is worth in training: short trainings that differ in one setting."""

from dataclasses import replace

from cryo_fewshot.recognition.pretraining import CELLS, Pretraining, in_cells, pretrained_spec
from cryo_fewshot.training import Schedule

from .cell_trainings import START

VACUUM = (3.687, 2.411, 1.899, 0.74, 0.183, 0.045)
"""Power per shell of 57 boxes of vacuum of the yeast tomogram (EMPIAR-11658), of its even columns; see `texture_of`."""
ICE = (4.172, 1.658, 0.776, 0.605, 0.483, 0.387, 0.353, 0.308, 0.258)
"""The same of 14 boxes of ice between microtubules (cylindra's test data, BSD-3)."""
CONTROL, SHIPPED, ALL = "control", "as shipped", "all of them"
MIXED, STARTED = "as shipped, averaged 7 : 3", "before the training"
"""No trainings of their own: the average with the weights that all started from, and these."""
PRETRAINED = "the pretrained encoder"
"""The encoder that comes with the package: the recipe of `MIXED`, trained for longer."""
SCHEDULE = Schedule(n_epochs=2, steps_per_epoch=30, learning_rate=1e-3, halve_every=1)
NEIGHBOURS, MEMBRANES = ({name: CELLS[name]} for name in ("neighbours", "membranes"))
_SETTINGS = {
    "neighbours": NEIGHBOURS,
    "membranes": MEMBRANES,
    "background classes": {},
    "off-centre picks": {"off_centre": 0.3},
    "source voxels": {"source_voxel_nm": (0.5, 3.2)},
    "radial response": {"response": 0.25},
    "gold and edges": {"gold": 0.1, "edges": 0.15},
    "measured noise": {"textures": (VACUUM, ICE)},
}
FACTORS = {
    CONTROL: {},
    **_SETTINGS,
    SHIPPED: CELLS,
    ALL: {name: value for settings in _SETTINGS.values() for name, value in settings.items()},
}
"""Settings of `Surroundings` by row of the table."""
WITH_CLASSES = ("background classes", SHIPPED, ALL)
"""Rows with membrane and crowd among the training classes."""


def factor_spec(factor: str, seed: int = 0) -> Pretraining:
    """The training of a row: from the first encoder's weights, equal but for the factor."""
    first = replace(pretrained_spec(), schedule=SCHEDULE, start=START, seed=seed, n_selection_samples=20)
    spec = in_cells(first, **FACTORS[factor])
    if factor in WITH_CLASSES:
        return spec
    return replace(spec, classes=tuple(name for name in spec.classes if name in first.classes))


def trainings() -> dict[str, Pretraining]:
    """All of them by name, for `scripts/train_encoders.py --specs studies.factors:trainings`."""
    return {f"{factor.replace(' ', '_')}-{seed}": factor_spec(factor, seed) for seed in (0, 1) for factor in FACTORS}
