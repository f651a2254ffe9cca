"""Acquisition settings, and what is drawn for each sample: pose, shift, defocus."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ..errors import UserError
from ..hashing import ADDED_LATER
from ..randomness import complex_normals, uniforms

_POSE_COUNTERS = torch.arange(2) - 16  # negative counters: never used by the noise
_SHIFT_AND_DEFOCUS_COUNTERS = torch.arange(4) - 8


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """Acquisition and box of a simulated subtomogram; lengths in nm, angles in degrees.

    box : voxels along one edge of the cubic box, before binning
    voxel_size_nm : edge of a voxel, before binning
    binning : the finished volume is cropped in Fourier space to box / binning; its SNR is stated before
    tilt_min, tilt_max, tilt_increment : the tilt series, degrees about the y axis; the beam is along z
    defocus_min_um, defocus_max_um : micrometres, positive is underfocus; drawn uniformly per sample
    voltage_kv, spherical_aberration_mm, amplitude_contrast : of the CTF (Rohou and Grigorieff 2015, as in torch-ctf)
    envelope_sigma_per_nm : width of the Gaussian envelope of the CTF
    mtf_sigma_per_nm : width of the Gaussian roll-off of the detector, met by the noise after the CTF
    noise_before_ctf : share of the final noise power that passes the CTF (ice, neighbours); the rest is detector noise
    low_pass_nm : resolution of the density, by a soft low-pass; the noise reaches to Nyquist
    max_shift_nm : shift drawn uniformly from [-max, max] along each axis
    dark_protein : contrast of an unprocessed tomogram, density negative
    bead_grid_nm : beads are spread onto voxels of at most this edge
    """

    box: int = 40
    voxel_size_nm: float = 1.0
    binning: int = 1
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_increment: float = 3.0
    defocus_min_um: float = 2.0
    defocus_max_um: float = 6.0
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    envelope_sigma_per_nm: float = 0.2
    mtf_sigma_per_nm: float = 0.4
    noise_before_ctf: float = 0.5
    low_pass_nm: float = 4.0
    max_shift_nm: float = 4.0
    dark_protein: bool = True
    bead_grid_nm: float = field(default=1.0, metadata=ADDED_LATER)

    def __post_init__(self):
        if self.box < 8 or self.box % 2:
            raise UserError(f"box={self.box}: use an even number of voxels, at least 8")
        if self.binning < 1 or self.box % (2 * self.binning):
            raise UserError(f"binning={self.binning}: box={self.box} must be an even multiple of it")
        if not -90 <= self.tilt_min < self.tilt_max <= 90 or self.tilt_increment <= 0:
            range_text = f"{self.tilt_min}..{self.tilt_max} by {self.tilt_increment} degrees"
            raise UserError(f"tilt range {range_text}: give -90 <= tilt_min < tilt_max <= 90, a positive increment")
        if self.voxel_size_nm <= 0 or self.low_pass_nm < 2 * self.voxel_size_nm:
            remedy = f"use at least twice voxel_size_nm={self.voxel_size_nm}"
            raise UserError(f"low_pass_nm={self.low_pass_nm} is finer than the box can hold: {remedy}")
        if not 0 <= self.noise_before_ctf <= 1:
            raise UserError(f"noise_before_ctf={self.noise_before_ctf}: give a share between 0 and 1")
        if self.defocus_min_um > self.defocus_max_um:
            raise UserError(f"defocus {self.defocus_min_um}..{self.defocus_max_um} um: give the smaller one first")

    @property
    def final_box(self) -> int:
        """Voxels along one edge of the finished volume."""
        return self.box // self.binning

    @property
    def final_voxel_size_nm(self) -> float:
        """Edge of a voxel of the finished volume."""
        return self.voxel_size_nm * self.binning

    @property
    def width_nm(self) -> float:
        """Edge of the box."""
        return self.box * self.voxel_size_nm

    @property
    def tilt_angles(self) -> np.ndarray:
        """Angles of the tilt series in degrees, both ends included where the increment allows."""
        return np.arange(self.tilt_min, self.tilt_max + 1e-6, self.tilt_increment)


@dataclass(frozen=True)
class Acquisition:
    """What was drawn for each sample: known in a simulation, never shown to a classifier.

    quaternions : `(n, 4)` xyzw of the active rotation of xyz coordinates; shifts_nm : `(n, 3)` zyx;
    defocus_um : `(n,)`.
    """

    quaternions: np.ndarray
    shifts_nm: np.ndarray
    defocus_um: np.ndarray


def draw_acquisition(seeds: torch.Tensor, microscope: Microscope) -> Acquisition:
    """Pose uniform on SO(3), shift and defocus uniform, from one seed per sample; seeds `(n,)` int64."""
    normals = torch.view_as_real(complex_normals(seeds.cpu(), _POSE_COUNTERS)).flatten(1).double()
    numbers = uniforms(seeds.cpu(), _SHIFT_AND_DEFOCUS_COUNTERS).numpy()
    span = microscope.defocus_max_um - microscope.defocus_min_um
    return Acquisition(
        # A normalised Gaussian 4-vector is a uniform quaternion (Shoemake 1992).
        quaternions=(normals / normals.norm(dim=1, keepdim=True)).numpy(),
        shifts_nm=(2 * numbers[:, :3] - 1) * microscope.max_shift_nm,
        defocus_um=microscope.defocus_min_um + span * numbers[:, 3],
    )
