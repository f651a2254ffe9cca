"""What lies around a complex in a cell, and what became of the tomogram before its box was cut: the settings.

Neighbours, membranes and gold are beads as the complex is, so CTF, missing wedge and noise are the same for all. A box
is simulated wider than it is returned: what reaches in from outside is cut, as from a tomogram, and does not wrap.
`scenes` makes the volumes.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import UserError
from ..hashing import ADDED_LATER
from .datasets import EMPTY
from .microscope import Microscope

MEMBRANE, CROWD = "membrane", "crowd"
BACKGROUND = (EMPTY, MEMBRANE, CROWD)
"""Classes without a complex in the centre: noise alone; a bilayer near the centre; neighbours around a gap."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What training samples are surrounded by; lengths in nm, shares between 0 and 1, everything off by default.

    complexes : that neighbours and membrane proteins are drawn from
    neighbours : share of samples with some; n_neighbours : how many, both ends included; gap_nm : from the complex's
    surface to theirs, taking each for the ball of equal radius of gyration; below 0 they touch
    membranes : share of samples with a bilayer gap_nm from the complex; vesicle_nm : smallest radius it is bent to;
    paired : share of bilayers with a second one beside them, pair_nm apart; decorated : share with complexes on them
    off_centre : share of picks off their complex by up to off_centre_nm
    gold : share of samples with a gold bead; edges : share that reach over the edge of the tomogram, filled with its
    mean
    source_voxel_nm : edge of the tomogram's voxels, the end of its frequencies; one for each group of samples
    textures : power of measured noise in shells of `TEXTURE_NM`, from the first on, for each texture; every group of
    samples has the noise as simulated or, with equal chance, one of these, with as much power in the lowest four shells
    response : standard deviation of the logarithm of a random smooth radial gain, one for each group
    loudest : surroundings with more than so many times the power of the complex are dimmed to that
    margin : voxels that are simulated around the box and cut
    """

    complexes: tuple[str, ...] = ()
    neighbours: float = 0.0
    n_neighbours: tuple[int, int] = (1, 3)
    gap_nm: tuple[float, float] = (-1.0, 8.0)
    membranes: float = 0.0
    vesicle_nm: float = 15.0
    paired: float = 0.4
    pair_nm: tuple[float, float] = (10.0, 30.0)
    decorated: float = 0.5
    off_centre: float = 0.0
    off_centre_nm: float = 8.0
    gold: float = 0.0
    edges: float = 0.0
    source_voxel_nm: tuple[float, float] = (0.5, 0.5)
    response: float = 0.0
    loudest: float = 4.0
    margin: int = 4
    textures: tuple[tuple[float, ...], ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self):
        for name in ("neighbours", "membranes", "paired", "decorated", "off_centre", "gold", "edges"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)}: give a share between 0 and 1")
        if (self.neighbours or self.membranes * self.decorated) and not self.complexes:
            raise UserError("neighbours and membrane proteins are drawn from `complexes`: name some")
        if any(not texture or min(texture) <= 0 for texture in self.textures):
            raise UserError(f"textures={self.textures}: give the power in each shell, above 0")


TEXTURE_NM, LOWEST = 40.0, 4
"""Shell s of a texture holds frequencies around s / 40 per nm; noise keeps its power in the lowest ones.

Measured noise is red. At the same total power it would bury the long waves that tell complexes apart.
"""


def widened(microscope: Microscope, surroundings: Surroundings) -> Microscope:
    """The microscope with the margin around its box."""
    return replace(microscope, box=microscope.box + 2 * surroundings.margin)


def radial_gain(
    frequencies: torch.Tensor, voxel_nm: float, surroundings: Surroundings, rng: np.random.Generator
) -> torch.Tensor:
    """What became of each frequency (per nm) before the box was cut: a smooth random gain, none past the band limit."""
    relative = (2 * voxel_nm * frequencies).clamp(max=1)
    waves, phases = rng.normal(size=3).tolist(), rng.uniform(0, 2 * np.pi, size=3).tolist()
    log_gain = sum(waves[j] * torch.cos(np.pi * (j + 1) * relative + phases[j]) for j in range(3))
    source = float(np.exp(rng.uniform(*np.log(surroundings.source_voxel_nm))))
    return torch.exp(surroundings.response * (2 / 3) ** 0.5 * log_gain) * (frequencies * 2 * source < 1)


def texture_gain(powers: torch.Tensor, frequencies: torch.Tensor, texture: tuple[float, ...]) -> torch.Tensor:
    """Factors `(n_final,)` that give simulated noise the power per shell of a texture.

    powers `(n, n_final)` : variances of the simulated noise, from `imaging.noise_powers`; frequencies `(n_final,)` per
    nm. Past the last shell its power holds. What the missing wedge takes stays taken.
    """
    shells = (TEXTURE_NM * frequencies).round().long().clamp(1, len(texture)) - 1
    simulated, counts = torch.zeros(2, len(texture), device=powers.device)
    simulated.index_add_(0, shells, powers.mean(0))
    counts.index_add_(0, shells, torch.ones_like(frequencies))
    wanted = torch.tensor(texture, device=powers.device)
    scale = simulated[:LOWEST].sum() / (wanted * counts)[:LOWEST].sum()
    return (scale * wanted * counts / simulated.clamp(min=1e-30))[shells].sqrt()
