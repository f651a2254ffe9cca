"""Surrogate data sets for those of Noble et al. 2018 and Guo et al. 2018, simulated where the user has no files.

Complexes of the library take the place of the real ones, at each set's SNR, tilt range and voxel size. Guo's set has
three classes that no bead model holds: a membrane, the 26S proteasome with two caps, and nothing at all.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from ..randomness import uniforms
from ..simulation.datasets import EMPTY, SimulatedData
from ..simulation.microscope import Microscope, draw_acquisition
from ..simulation.structures import complex_beads

Beads = tuple[np.ndarray, np.ndarray]
"""Positions `(n_beads, 3)` zyx in nm, and masses `(n_beads,)` in kDa."""
MEMBRANE = "membrane"
SINGLE_CAPPED = "26S-single-capped"
DOUBLE_CAPPED = "26S-double-capped"
# Class -> what it stands for, subtomograms in the real set.
_CLASSES = {
    "noble stand-in": {
        "1ZNQ": ("stand-in for aldolase: GAPDH tetramer", 400),
        "4ZLA": ("stand-in for glutamate dehydrogenase: leucyl aminopeptidase hexamer", 400),
        "4NMN": ("stand-in for DnaB helicase-loader: DnaB hexamer", 400),
        "1PMA": ("stand-in for the T20S proteasome: the same, from 1PMA", 400),
        "4V1W": ("stand-in for apoferritin: the same, from 4V1W", 400),
        "1RUZ": ("stand-in for haemagglutinin: the same, from 1RUZ", 400),
        "2CG9": ("stand-in for the insulin receptor: Hsp90-Sba1", 400),
    },
    "guo stand-in": {
        MEMBRANE: ("stand-in for membrane: a bilayer without proteins", 460),
        DOUBLE_CAPPED: ("stand-in for the double-capped 26S proteasome: 4CR2 and its image under the two-fold", 1043),
        SINGLE_CAPPED: ("stand-in for the single-capped 26S proteasome: 4CR2, its core made whole", 386),
        EMPTY: ("stand-in for none: noise alone", 300),
        "4V94": ("stand-in for TRiC: from 4V94", 125),
        "6QZP": ("stand-in for the ribosome: human 80S from 6QZP", 80),
    },
}
# 4CR2 holds one half of the 20S core, an alpha and a beta ring, with the cap. Where the other half belongs follows from
# the symmetric core of 3IPM, fitted to it (correlation 0.95; 1PMA gives the same within 0.1 nm and 3 degrees).
CORE_CENTRE_NM = (1.11, 10.50, 0.32)  # zyx in the frame of the library's beads
CORE_AXIS = (0.030, 0.992, -0.120)  # zyx, the seven-fold, away from the cap
TWO_FOLD_AXIS = (0.955, -0.062, -0.290)  # zyx, one of the seven that exchange the halves of the core
CORE_HALF_LENGTH_NM = 7.5
CORE_RADIUS_NM = 6.5
LEAFLET_DISTANCE_NM = 4.0
LEAFLET_MASS_KDA_PER_NM2 = 1.2  # a lipid of 0.76 kDa on 0.65 nm2
MEMBRANE_RADII_NM = (20.0, 100.0)
_RADIUS_COUNTER = torch.tensor([-20])  # negative, and not one that pose, shift or defocus uses


@dataclass(frozen=True, kw_only=True)
class Surrogate(SimulatedData):
    """Recipe of a surrogate of a real set; class_set : 'noble stand-in' or 'guo stand-in'.

    snr : ratio of variances; n_per_class : at most, a class has no more samples than the real set; split_sizes :
    classes to train, validate and test on; n_way : classes of an episode.
    """

    class_set: str
    with_empty: bool = False  # Guo's empty class is one of the six
    snr: float
    split_sizes: tuple[int, int, int]
    n_way: int = 3
    microscope: Microscope = field(default_factory=Microscope)

    def __post_init__(self):
        super().__post_init__()
        if self.class_set not in _CLASSES:
            raise UserError(f"class_set '{self.class_set}' has no surrogate: use one of {', '.join(_CLASSES)}")

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(_CLASSES[self.class_set])

    @property
    def description(self) -> dict[str, str]:
        """What each class stands for."""
        return {name: words for name, (words, _) in _CLASSES[self.class_set].items()}

    def count_of(self, name: str, count: int | None = None) -> int:
        """Samples of a class where `count` are asked of each: no more than the real set has."""
        return min(self.n_per_class if count is None else count, _CLASSES[self.class_set][name][1])

    def beads_of(self, name: str, seeds: torch.Tensor) -> list[Beads | None]:
        """Beads of the samples of a class, one per seed; what sticks out of a sample's box is cut off.

        `imaging.simulate` draws the same poses from the same seeds.
        """
        if name == EMPTY:
            return [None] * len(seeds)
        half_width_nm = self.microscope.width_nm / 2
        if name == MEMBRANE:
            low, high = MEMBRANE_RADII_NM
            radii = low + (high - low) * uniforms(seeds.cpu(), _RADIUS_COUNTER)[:, 0].numpy()
            reach = 3**0.5 * (half_width_nm + self.microscope.max_shift_nm)
            samples = [membrane(radius, reach) for radius in radii]
        else:
            n_caps = {SINGLE_CAPPED: 1, DOUBLE_CAPPED: 2}.get(name)
            samples = [proteasome_26s(n_caps) if n_caps else complex_beads(name)] * len(seeds)
        acquisition = draw_acquisition(seeds, self.microscope)
        rotations = Rotation.from_quat(acquisition.quaternions).as_matrix()
        cut = []
        for (positions, masses), rotation, shift in zip(samples, rotations, acquisition.shifts_nm, strict=True):
            turned = (positions[:, ::-1] @ rotation.T)[:, ::-1] + shift
            inside = (np.abs(turned) < half_width_nm).all(axis=1)
            cut.append((positions[inside], masses[inside]))
        return cut


# Every class of the real set has its own grid, session and pixel size; these share one microscope, so that noise does
# not tell them apart. A box of 40 nm is that of 28 voxels at 1.43 nm.
NOBLE = Surrogate(class_set="noble stand-in", snr=0.5, split_sizes=(4, 0, 3))
GUO = Surrogate(
    class_set="guo stand-in",
    snr=0.01,
    split_sizes=(3, 0, 3),
    microscope=Microscope(voxel_size_nm=1.368, tilt_min=-50, tilt_max=70),
)


@lru_cache(maxsize=2)
def proteasome_26s(n_caps: int) -> Beads:
    """Beads of the 26S proteasome with one or two caps, from the centre of mass; with two caps that of the core.

    4CR2 is a cap and half a core. Its image under the two-fold axis is the other half of the particle: all of it, or
    the part that belongs to the core.
    """
    positions, masses = complex_beads("4CR2")
    axis, _ = core_axes()
    positions = positions - np.array(CORE_CENTRE_NM)
    along = positions @ axis
    off_axis = np.linalg.norm(positions - along[:, None] * axis, axis=1)
    is_core = (along > -CORE_HALF_LENGTH_NM) & (off_axis < CORE_RADIUS_NM)
    copied = is_core if n_caps == 1 else np.ones(len(masses), dtype=bool)
    positions = np.concatenate([positions, turned_about_two_fold(positions[copied])])
    masses = np.concatenate([masses, masses[copied]])
    positions -= np.average(positions, axis=0, weights=masses)
    return positions.astype(np.float32), masses.astype(np.float32)


def core_axes() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, zyx, of the core's seven-fold and two-fold, made exactly perpendicular."""
    axis = np.array(CORE_AXIS) / np.linalg.norm(CORE_AXIS)
    two_fold = np.array(TWO_FOLD_AXIS) - (axis @ TWO_FOLD_AXIS) * axis
    return axis, two_fold / np.linalg.norm(two_fold)


def turned_about_two_fold(positions: np.ndarray) -> np.ndarray:
    """Positions `(n, 3)`, zyx from the core's centre, turned by 180 degrees about its two-fold axis."""
    _, two_fold = core_axes()
    return 2 * (positions @ two_fold)[:, None] * two_fold - positions


def membrane(radius_nm: float, reach_nm: float) -> Beads:
    """A lipid bilayer around a vesicle, as two spheres of one bead per nm2, within `reach_nm` of the origin.

    The origin lies half-way between the leaflets and the vesicle's centre at z = -radius_nm: the normal is along z.
    """
    leaflets = []
    for radius in (radius_nm - LEAFLET_DISTANCE_NM / 2, radius_nm + LEAFLET_DISTANCE_NM / 2):
        # A Fibonacci lattice covers the sphere evenly (Gonzalez 2010); only its part near the origin is made.
        n_sphere = round(4 * np.pi * radius**2)
        lowest = (radius**2 + radius_nm**2 - reach_nm**2) / (2 * radius * radius_nm)  # cosine of the polar angle
        n = min(n_sphere, int(np.ceil(n_sphere * (1 - lowest) / 2)))
        cosine = 1 - (2 * np.arange(n) + 1) / n_sphere
        angle = np.arange(n) * np.pi * (3 - 5**0.5)
        sine = np.sqrt(1 - cosine**2)
        points = np.stack([cosine, sine * np.sin(angle), sine * np.cos(angle)], axis=1) * radius
        leaflets.append(points - [radius_nm, 0, 0])
    positions = np.concatenate(leaflets).astype(np.float32)
    return positions, np.full(len(positions), LEAFLET_MASS_KDA_PER_NM2, dtype=np.float32)
