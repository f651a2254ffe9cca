"""Boxes of a user's own background: an accepted particle must not be taken for one, and must stand out from them.

Half of the boxes are a class of their own: where that changes a particle's class, the particle is rejected. The other
half are decoys for the p-values. Both were chosen on the even half of a real tomogram in which some classes had no
labels, with 1, 5 and 20 labels: decoys alone let 12 % of the unknown particles in, both together 2 %; one class of half
of the boxes did as well as several of their clusters.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from ..particles.base import Particles
from ..particles.tomograms import Boxes
from .rejection import with_decoys

BACKGROUND = "background boxes"
WITHOUT = (
    "without boxes of the background (--background) what is unlike all that was simulated, such as membranes, may be "
    "taken for a known class, and be missing among the wrong ones"
)
ALIKE = 0.1
"""Share of the decoys from which on a class that takes them may be background itself."""


def background_of(query: Particles, count: int, seed: int) -> Particles | None:
    """Boxes away from the query's picks, where it is cut from tomograms that have room for some."""
    if not isinstance(query.source, Boxes) or not count:
        return None
    boxes = query.source.background(count, seed)
    return replace(query.without_table(), names=boxes.names, source=boxes, labels=None) if boxes.names else None


def with_background(
    support: torch.Tensor, labels: Sequence[str], boxes: torch.Tensor
) -> tuple[torch.Tensor, list[str], torch.Tensor]:
    """Labelled particles `(n, dim)` and their labels with every other box as one more class; and the decoys."""
    boxes = boxes[torch.isfinite(boxes).all(dim=1)]
    return torch.cat([support, boxes[::2]]), [*labels, *[BACKGROUND] * len(boxes[::2])], boxes[1::2]


def against_background(table: pd.DataFrame, beside: np.ndarray, decoys: pd.DataFrame) -> np.ndarray:
    """p-values `(n,)` that know the background: 1 where it changes the class, else of `with_decoys`.

    table, decoys : of `Recognition.to_frame`, particles and decoys, by the labelled classes alone
    beside : `(n,)` class of each particle where background is one as well
    """
    changed = (table["class"] != "") & (table["class"] != beside)
    return np.where(changed, 1.0, with_decoys(table, decoys))


def background_text(table: pd.DataFrame, p_value: np.ndarray, accepted: np.ndarray, decoys: pd.DataFrame) -> str:
    """What the background changes, in a line; table : before, p_value, accepted : after."""
    counts = decoys.loc[decoys["accepted"], "class"].value_counts()
    lost = (table["accepted"] & ~accepted).to_numpy()
    changed = (lost & (p_value == 1)).sum()
    by_class = f" ({', '.join(f'{count} as {name}' for name, count in counts.items())})" if len(counts) else ""
    alike = " or ".join(counts.index[counts >= ALIKE * len(decoys)])
    advice = f". If {alike} is background, name it with --junk" if alike else ""
    return (
        f"background: half of the boxes are a class as well, {len(decoys)} others are decoys; {lost.sum()} particles "
        f"are rejected for it ({changed} whose class changes, {lost.sum() - changed} that decoys equal). "
        f"Without it {counts.sum()} of the decoys would be accepted{by_class}{advice}"
    )
