"""Training samples simulated on the fly: which classes may be trained on, and acquisitions of many kinds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import UserError
from ..hashing import ADDED_LATER
from ..randomness import seed_from
from .datasets import EMPTY, SimulatedData
from .imaging import simulate
from .microscope import Microscope
from .scenes import simulate_surrounded
from .structures import class_keys, registry
from .surroundings import BACKGROUND, Surroundings

RELATED = {"tric": "groel", "ino80": "nucleosome"}
"""Families that are homologous to another one: TRiC is a chaperonin as GroEL is; this INO80 holds a nucleosome."""


def homologous_family(class_name: str) -> str:
    """Homologous family of a class, related ones under one name; a class outside the registry is its own family."""
    family = registry()["family"].get(class_name) or class_name
    return RELATED.get(family, family)


def outside_families(class_names: Sequence[str], held_out: Sequence[str]) -> tuple[str, ...]:
    """Those of the classes that share no homologous family with a held-out one, in their order."""
    families = {homologous_family(name) for name in held_out}
    return tuple(name for name in class_names if homologous_family(name) not in families)


def library_classes(held_out: Sequence[str], width_nm: float = 40.0) -> tuple[str, ...]:
    """The empty class, and complexes of the library that fit the box and share no family with a held-out class."""
    diameters = registry()["max_diameter_nm"]
    fitting = [name for name in class_keys("library") if diameters[name] <= width_nm]
    return outside_families([*fitting, EMPTY], held_out)


@dataclass(frozen=True, kw_only=True)
class Acquisitions:
    """Acquisition settings that training samples are drawn from; lengths in nm, angles in degrees.

    By default a single microscope at the paper's SNRs. With `n_microscopes` above 1, that many are drawn once: a finite
    set whose plans stay in memory. Pose, shift, defocus and noise are drawn for each sample. How finely the tomogram
    was sampled before binning only changes what an SNR means, so the range of SNRs covers it.

    microscope : the box, and every setting that is not drawn
    snrs : drawn from with equal chance
    n_microscopes : 1 for `microscope` as it is
    tilt_end : range of both ends of the tilt series; half of the microscopes are symmetric
    tilt_increment, defocus_um, low_pass_nm, noise_before_ctf : ranges of `Microscope`'s settings of that name
    voxel_size_error : magnification is off by up to this share, as it is between instruments
    surroundings : what lies around the complex; None for a box that holds nothing else
    """

    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    n_microscopes: int = 1
    tilt_end: tuple[float, float] = (40.0, 70.0)
    tilt_increment: tuple[float, float] = (1.0, 5.0)
    defocus_um: tuple[float, float] = (1.5, 8.0)
    low_pass_nm: tuple[float, float] = (4.0, 6.0)
    noise_before_ctf: tuple[float, float] = (0.2, 0.8)
    voxel_size_error: float = 0.03
    seed: int = 0
    surroundings: Surroundings | None = field(default=None, metadata=ADDED_LATER)

    def __post_init__(self):
        if not self.snrs or min(self.snrs) <= 0:
            raise UserError(f"snrs={self.snrs}: give at least one positive ratio")
        if not 1 <= self.n_microscopes <= 30:
            raise UserError(f"n_microscopes={self.n_microscopes}: give 1 to 30, as many plans as stay in memory")

    def microscopes(self) -> tuple[Microscope, ...]:
        """The microscopes that samples are drawn from; equal settings give the same ones."""
        if self.n_microscopes == 1:
            return (self.microscope,)
        return tuple(self._drawn(index) for index in range(self.n_microscopes))

    def _drawn(self, index: int) -> Microscope:
        rng = np.random.default_rng(seed_from("microscope", self.seed, index))
        ends = rng.uniform(*self.tilt_end, size=2)
        magnification = 1 + self.voxel_size_error * rng.uniform(-1, 1)
        return replace(
            self.microscope,
            tilt_min=-round(ends[0], 1),
            tilt_max=round(ends[index % 2], 1),
            tilt_increment=round(rng.uniform(*self.tilt_increment), 2),
            defocus_min_um=self.defocus_um[0],
            defocus_max_um=self.defocus_um[1],
            voxel_size_nm=round(self.microscope.voxel_size_nm * magnification, 4),
            low_pass_nm=round(rng.uniform(*self.low_pass_nm), 2),
            noise_before_ctf=round(rng.uniform(*self.noise_before_ctf), 2),
        )


WIDE = Acquisitions(snrs=tuple(round(float(snr), 4) for snr in np.geomspace(0.02, 0.5, 12)), n_microscopes=24)
"""Acquisitions of many kinds: what the pretrained encoder was trained on."""
_RECIPE = SimulatedData()


def simulate_on_the_fly(
    class_names: Sequence[str],
    acquisitions: Acquisitions,
    rng: np.random.Generator,
    group_size: int = 25,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Simulate one sample for each class name: `(n, box, box, box)` in the order of the names, which may repeat.

    rng : everything that is drawn follows from it
    group_size : samples that share a microscope and an SNR; classes are mixed, so neither gives the class away
    """
    surroundings = acquisitions.surroundings
    if surroundings is None and (unknown := {*class_names} & {*BACKGROUND} - {EMPTY}):
        raise UserError(f"class '{unknown.pop()}' is made of surroundings: give Acquisitions(surroundings=...)")
    microscopes, box = acquisitions.microscopes(), acquisitions.microscope.final_box
    seeds = torch.from_numpy(rng.integers(2**62, size=len(class_names)))
    volumes = torch.empty(len(class_names), box, box, box, device=device)
    for group in np.array_split(rng.permutation(len(class_names)), -(-len(class_names) // group_size)):
        microscope = microscopes[rng.integers(len(microscopes))]
        snr = acquisitions.snrs[rng.integers(len(acquisitions.snrs))]
        if surroundings is None:
            beads = [_RECIPE.beads_of(class_names[i], seeds[i : i + 1])[0] for i in group]
            volumes[group] = simulate(beads, seeds[group], snr, microscope, device)
        else:
            names = [class_names[i] for i in group]
            volumes[group] = simulate_surrounded(names, seeds[group], snr, microscope, surroundings, rng, device)
    return volumes
