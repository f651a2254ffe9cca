"""Whether grey values of support and query can be compared, and in which units.

Inside one tomogram a box's own mean and contrast tell much about what it shows. That is lost where each particle was
normalised by itself, and misleads where two inputs have different scales.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..particles.base import Particles
from ..particles.tomograms import Boxes

NORMALISED = 0.15
"""Spread of the box means, in standard deviations within a box, below which particles were normalised one by one."""
LIKE = 1.5
"""Ratio of the typical contrasts of two inputs of files, beyond which they have different scales."""


@dataclass(frozen=True)
class GreyScale:
    """Mean and standard deviation that grey values are expressed in, per particle; None where they tell nothing.

    support, query : `(n, 2)`; words : what was found, for the user
    """

    support: torch.Tensor | None
    query: torch.Tensor | None
    words: str

    def of_background(self, background: Particles) -> torch.Tensor | None:
        """The same for more particles, which are given as the query is."""
        if self.query is None:
            return None
        if isinstance(background.source, Boxes):
            return _of_tomograms(background)
        return self.query[:1].expand(len(background), 2)


def common_grey_scale(
    support: Particles, query: Particles, support_grey: torch.Tensor, query_grey: torch.Tensor
) -> GreyScale:
    """The scale of two inputs; grey values `(n, 3)` of particles of each, see `Particles.read_with_grey`.

    Boxes of tomograms are compared in units of their tomograms, each measured on random boxes. Particles of files
    share one scale where neither input was normalised one by one, and their contrasts are alike.
    """
    if isinstance(support.source, Boxes) and isinstance(query.source, Boxes):
        references = [_of_tomograms(particles) for particles in (support, query)]
        return GreyScale(*references, "grey values in units of each tomogram")
    if isinstance(support.source, Boxes) or isinstance(query.source, Boxes):
        return GreyScale(None, None, "no grey values, as only one of support and query is cut from tomograms")
    kinds = {"support": support_grey, "query": query_grey}
    usable = {name: grey[torch.isfinite(grey).all(dim=1)] for name, grey in kinds.items()}
    for name, grey in usable.items():
        if len(grey) < 2 or float((grey[:, 0] / grey[:, 1].clamp(min=1e-9)).std()) < NORMALISED:
            return GreyScale(None, None, f"no grey values, as particles of the {name} were normalised one by one")
    contrasts = [float(grey[:, 1].median()) for grey in usable.values()]
    if max(contrasts) > LIKE * min(contrasts):
        both = " and ".join(f"{contrast:.3g}" for contrast in contrasts)
        return GreyScale(None, None, f"no grey values, as the contrast of support and query differs ({both})")
    reference = torch.tensor([float(usable["query"][:, 0].median()), contrasts[1]])
    return GreyScale(
        reference.expand(len(support), 2), reference.expand(len(query), 2), "grey values as the files have them"
    )


def _of_tomograms(particles: Particles) -> torch.Tensor:
    """Mean and standard deviation of the tomogram of each particle, `(n, 2)`, protein dark."""
    sign = -1.0 if particles.dark_protein is False else 1.0
    measured = np.array([tomogram.grey_values() for tomogram in particles.source.tomograms])
    return torch.from_numpy(measured * [sign, 1.0])[torch.from_numpy(particles.source.which)].float()
