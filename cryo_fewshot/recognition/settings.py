"""How particles are classified: everything that changes a result but the particles and the encoder."""

from dataclasses import dataclass

from ..errors import UserError
from .embedding_cache import check_rotations

MIN_AVERAGED = 8
"""Particles that an average needs, for two half maps of four."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How particles are classified.

    false_accept_rate : promised false-positive rate: at most this share of particles of unknown classes is accepted
    fdr : promised false-discovery rate instead: at most this share of the accepted particles of each class is wrong, of
        an unknown class or of another known one
    junk : classes of the support that are never accepted
    adapt : fit how classes scatter to these data, see `domain`; False keeps the encoder's own geometry
    n_background : boxes away from the picks of a tomogram, from which particles must stand out; 0 for none
    transductive : let the unlabelled particles refine the classes
    rotations : test-time augmentation: 1, 2 or 4 rotations that keep the missing wedge, over which each embedding is
        averaged, at as many times the cost
    n_averaged : particles that go into a class average, the most probable ones; 0 for no averages
    tilt_min, tilt_max, tilt_increment : degrees, of the tilt series, for the averages' missing wedge
    average_voxel_nm : nm, of the averages; the files' own where that is larger
    seed : of everything that is drawn
    """

    false_accept_rate: float = 0.05
    fdr: float | None = None
    junk: tuple[str, ...] = ()
    adapt: bool = True
    n_background: int = 200
    transductive: bool = False
    rotations: int = 1
    n_averaged: int = 100
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_increment: float = 3.0
    average_voxel_nm: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.n_averaged < 0 or 0 < self.n_averaged < MIN_AVERAGED:
            raise UserError(
                f"n_averaged={self.n_averaged} (--averages): an average needs at least {MIN_AVERAGED} particles; "
                "give 0 for no averages"
            )
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise UserError(f"fdr={self.fdr} (--fdr): give a share between 0 and 1, such as 0.05")
        check_rotations(self.rotations)
        if self.average_voxel_nm <= 0:
            raise UserError(f"average_voxel_nm={self.average_voxel_nm}: give a positive voxel size")
