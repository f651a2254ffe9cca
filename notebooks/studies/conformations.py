"""Two or more conformations of one complex: half of it is bent against the other half by a stated angle."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.structures import complex_beads


@dataclass(frozen=True, kw_only=True)
class Conformations(SimulatedData):
    """Recipe of a simulated set whose classes are conformations of one complex.

    class_set : key of the complex; angles_degrees : one per class.
    """

    class_set: str
    angles_degrees: tuple[float, ...] = (0.0, 30.0)
    with_empty: bool = False

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.angles_degrees)) < len(self.angles_degrees):
            raise UserError(f"angles_degrees={self.angles_degrees}: each conformation needs an angle of its own")

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(f"{self.class_set} bent by {angle:g}" for angle in self.angles_degrees)

    def beads_of(self, name: str, seeds: torch.Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions and masses of the samples of a conformation, one per seed."""
        return [bent(self.class_set, self.angles_degrees[self.class_names.index(name)])] * len(seeds)


@lru_cache(maxsize=64)
def bent(key: str, angle_degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Beads of a complex, one half turned by an angle: positions `(n, 3)` zyx in nm from the centre of mass, masses.

    The complex stands upright: its longest axis along y, its shortest along z, the viewer's. The halves lie above and
    below the centre of mass, the hinge is the middle of the beads within 1.5 nm of it, the turn is about z.
    """
    positions, masses = complex_beads(key)
    positions = positions - np.average(positions, axis=0, weights=masses)
    _, axes = np.linalg.eigh((positions * masses[:, None]).T @ positions)  # columns zyx, shortest extent first
    shortest, middle, longest = axes.T
    if np.linalg.det(np.stack([shortest, longest, middle])) < 0:
        shortest = -shortest  # never the mirror image
    positions = positions @ np.stack([shortest, longest, middle], axis=1)
    height = positions[:, 1]
    hinge = positions[np.abs(height) < 1.5].mean(axis=0)
    turn = Rotation.from_rotvec([np.radians(angle_degrees), 0.0, 0.0])  # about the first axis, z
    positions = np.where((height > 0)[:, None], turn.apply(positions - hinge) + hinge, positions)
    positions -= np.average(positions, axis=0, weights=masses)
    return positions.astype(np.float32), masses
