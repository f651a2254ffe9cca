"""Subtomogram averaging of one class: alignment without known poses, averages of two halves, and their resolution.

Volumes are compared frequency by frequency, and only at those that the tilt series sampled: a particle is a short list
of Fourier coefficients, a rotated reference is the same list read from its padded transform, and the score of all
particles, shifts and rotations is one matrix product. The score is the constrained cross-correlation, normalised over
the frequencies that both have sampled (Förster et al. 2008; Xu, Beck and Alber 2012), so that overlapping the missing
wedges brings no gain. The CTF is not corrected: use it below its first zero (3.5 nm at 6 um of defocus and 300 kV).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from .errors import UserError
from .imaging import Microscope, slice_weights

_PAD = 2  # references are transformed in a box this many times larger, then read with trilinear interpolation
_NEIGHBOURS = torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0])] * 3)  # (27, 3), the unmoved first


@dataclass(frozen=True, kw_only=True)
class Search:
    """How poses are searched; lengths in nm, angles in degrees.

    Parameters
    ----------
    low_pass_nm, coarse_low_pass_nm : resolution of the comparison, in the local and in the exhaustive search
    grid_degrees, finest_degrees : step of the exhaustive grid of rotations, then halved locally down to the finest
    n_candidates : rotations of the grid that are refined locally, for each particle
    max_shift_nm : of the exhaustive search, along each axis
    mask_radius_nm : of the soft sphere around the particle; None for 0.4 of the box
    """

    low_pass_nm: float = 4.0
    coarse_low_pass_nm: float = 6.0
    grid_degrees: float = 15.0
    finest_degrees: float = 1.0
    n_candidates: int = 4
    max_shift_nm: float = 4.0
    mask_radius_nm: float | None = None

    def __post_init__(self):
        for name in ("low_pass_nm", "coarse_low_pass_nm", "grid_degrees", "finest_degrees", "n_candidates"):
            if getattr(self, name) <= 0:
                raise UserError(f"{name}={getattr(self, name)}: give a positive number")
        if self.coarse_low_pass_nm < self.low_pass_nm:
            raise UserError(f"coarse_low_pass_nm={self.coarse_low_pass_nm} is finer than low_pass_nm={self.low_pass_nm}")


@dataclass(frozen=True)
class Poses:
    """Where each particle lies: the density rotated about the box centre, then shifted.

    quaternions : `(n, 4)` xyzw of the active rotation of xyz coordinates; shifts_nm : `(n, 3)` zyx;
    scores : `(n,)` constrained cross-correlation, -1 to 1, NaN where not searched.
    """

    quaternions: np.ndarray
    shifts_nm: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Average:
    """A density and how well each frequency of it is known.

    density : `(b, b, b)` float32; coverage : `(b, b, b)` float32, frequency zero at b // 2: the sum over particles of
    the squared weight with which their tilt series sampled the frequency.
    """

    density: torch.Tensor
    coverage: torch.Tensor


@dataclass(frozen=True)
class Refined:
    """Result of `refine`.

    average : of all particles; half_maps : two Averages, poses found independently, then laid onto each other;
    poses : of all particles, in the frame of the average; halves : `(n,)` 0 or 1; frequencies_per_nm, fsc : Fourier
    shell correlation of the masked half maps; history : per iteration, mean score and resolution at 0.143 in nm.
    """

    average: Average
    half_maps: tuple[Average, Average]
    poses: Poses
    halves: np.ndarray
    frequencies_per_nm: np.ndarray
    fsc: np.ndarray
    history: tuple[dict[str, float], ...]

    @property
    def resolutions_nm(self) -> dict[float, float]:
        """Resolution in nm at the thresholds 0.143 and 0.5."""
        return {threshold: resolution(self.fsc, self.frequencies_per_nm, threshold) for threshold in (0.143, 0.5)}


def rotation_grid(step_degrees: float) -> np.ndarray:
    """Quaternions `(n, 4)` xyzw spread evenly over all rotations, about `step_degrees` apart.

    Super-Fibonacci spirals (Alexa 2022, CVPR); n is the volume of the rotation group, 8 pi^2, over the cubed step.
    """
    n = math.ceil(8 * math.pi**2 / math.radians(step_degrees) ** 3)
    s = np.arange(n) + 0.5
    a, b = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    r, t = np.sqrt(s / n), np.sqrt(1 - s / n)
    return np.stack([r * np.sin(a), r * np.cos(a), t * np.sin(b), t * np.cos(b)], axis=1)


def align(
    volumes: torch.Tensor,
    reference: Average | torch.Tensor,
    microscope: Microscope,
    search: Search | None = None,
    quaternions: np.ndarray | None = None,
    local: bool = True,
) -> Poses:
    """Pose of each particle against one reference, by exhaustive then local search.

    Parameters
    ----------
    volumes : `(n, b, b, b)` float32 particles
    reference : an Average, or a density `(b, b, b)` known at all frequencies
    microscope : gives the tilt angles and the width of the box of `volumes`
    quaternions : `(m, 4)` rotations to search instead of the whole grid
    local : refine the best rotations and shifts locally

    Raises
    ------
    UserError : boxes that are not cubic or differ, or voxels that are not finite
    """
    search = search or Search()
    _check(volumes, reference.density if isinstance(reference, Average) else reference)
    particles = _Particles(volumes, microscope, search)
    return _align(particles, reference, search, rotation_grid(search.grid_degrees) if quaternions is None else quaternions, local)


class _Particles:
    """Whitened Fourier coefficients of particles at the sampled frequencies, in order of distance from zero."""

    def __init__(self, volumes: torch.Tensor, microscope: Microscope, search: Search):
        device, self.width, box = volumes.device, microscope.width_nm, volumes.shape[-1]
        k = _half_space(min(self.width / search.low_pass_nm, box // 2 - 1)).to(device)
        weight = slice_weights(k[:, 0].double(), k[:, 2].double(), microscope.tilt_angles)[0].clamp(max=1).float()
        sampled = weight > 0.1
        self.k, self.weight = k[sampled], weight[sampled]
        self.n_coarse = int((self.k.norm(dim=1) <= self.width / search.coarse_low_pass_nm).sum())
        spectra = torch.fft.fftn(torch.fft.ifftshift(volumes, dim=(1, 2, 3)), dim=(1, 2, 3))
        z, y, x = (self.k.long() % box).unbind(1)
        spectra = spectra[:, z, y, x]
        shell = self.k.norm(dim=1).round().long()
        power = torch.zeros(int(shell.max()) + 1, device=device)
        power = power.index_add(0, shell, spectra.abs().square().mean(0)) / torch.bincount(shell)
        self.whitening = power[shell].clamp(min=1e-12 * float(power.max()) or 1.0).rsqrt()
        self.spectra = spectra * self.whitening

    def __len__(self) -> int:
        return len(self.spectra)

    def phases(self, shifts_nm: torch.Tensor, n: int) -> torch.Tensor:
        """Factors that undo shifts `(..., 3)`, at the first n frequencies: `(..., n)` complex64."""
        angle = shifts_nm @ self.k[:n].T * (2 * math.pi / self.width)
        return torch.polar(torch.ones_like(angle), angle)


def _align(
    particles: _Particles, reference: Average | torch.Tensor, search: Search, quaternions: np.ndarray, local: bool
) -> Poses:
    template = _Template(reference, particles, search)
    n, n_coarse, device = len(particles), particles.n_coarse, particles.k.device
    steps = np.arange(-(search.max_shift_nm // 2), search.max_shift_nm // 2 + 1) * 2.0
    shifts = torch.cartesian_prod(*[torch.as_tensor(steps, dtype=torch.float32, device=device)] * 3)
    phases = particles.phases(shifts, n_coarse)
    moved = torch.view_as_real(particles.spectra[:, None, :n_coarse] * phases).flatten(2).flatten(0, 1)
    energy = particles.spectra[:, :n_coarse].abs().square()
    scores, shift_of = [], []
    for part in np.array_split(quaternions, math.ceil(len(quaternions) / 256)):
        rotated, both = template.rotated(part, n_coarse)
        products = (moved @ torch.view_as_real(rotated).flatten(1).T).view(n, len(shifts), len(part))
        best, index = products.max(1)
        scores.append(best / (rotated.abs().square().sum(1) * (energy @ both.T)).sqrt().clamp(min=1e-20))
        shift_of.append(index)
    scores, shift_of = torch.cat(scores, 1), torch.cat(shift_of, 1)
    scores, chosen = scores.topk(min(search.n_candidates, scores.shape[1]), dim=1)
    candidates = quaternions[chosen.cpu().numpy()]
    shifts = shifts[shift_of.gather(1, chosen)]
    if not local:
        return Poses(candidates[:, 0], shifts[:, 0].double().cpu().numpy(), scores[:, 0].double().cpu().numpy())
    angle, step_nm = search.grid_degrees / 2, 1.0
    while angle > search.finest_degrees / 2:
        candidates, shifts, scores = _refine_locally(particles, template, candidates, shifts, angle, step_nm)
        keep = scores.topk(max(1, candidates.shape[1] // 2), dim=1).indices
        candidates = np.take_along_axis(candidates, keep.cpu().numpy()[..., None], 1)
        shifts = shifts.gather(1, keep[..., None].expand(-1, -1, 3))
        angle, step_nm = angle / 2, step_nm / 2
    best = scores.max(1).values
    return Poses(candidates[:, 0], shifts[:, 0].double().cpu().numpy(), best.double().cpu().numpy())


def _refine_locally(particles, template, candidates, shifts, angle, step_nm):
    """Best of 27 rotations times 27 shifts around each of the candidates `(n, c, 4)` and their shifts `(n, c, 3)`."""
    n, c = candidates.shape[:2]
    device, n_all = particles.k.device, particles.k.shape[0]
    turns = Rotation.from_rotvec(_NEIGHBOURS.numpy() * angle, degrees=True)
    offsets = _NEIGHBOURS.to(device) * step_nm
    offset_phases = particles.phases(offsets, n_all)
    quaternions, moves, scores = [], [], []
    for i in range(n):
        around = np.concatenate([(turns * Rotation.from_quat(q)).as_quat() for q in candidates[i]])  # (c * 27, 4)
        rotated, both = template.rotated(around, n_all)
        moved = (particles.spectra[i] * particles.phases(shifts[i], n_all))[:, None] * offset_phases
        products = torch.view_as_real(rotated).view(c, 27, -1) @ torch.view_as_real(moved).view(c, 27, -1).mT
        norm = (rotated.abs().square().sum(1) * (both @ particles.spectra[i].abs().square())).sqrt().view(c, 27, 1)
        best, index = (products / norm.clamp(min=1e-20)).flatten(1).max(1)
        turn, move = (index // 27).cpu(), index % 27
        quaternions.append(around.reshape(c, 27, 4)[np.arange(c), turn.numpy()])
        moves.append(shifts[i] + offsets[move])
        scores.append(best)
    return np.stack(quaternions), torch.stack(moves), torch.stack(scores)


class _Template:
    """A reference whose whitened, wedge-weighted coefficients are read at the particles' frequencies, rotated."""

    def __init__(self, reference: Average | torch.Tensor, particles: _Particles, search: Search):
        self.particles = particles
        density = reference.density if isinstance(reference, Average) else reference
        density = density.to(particles.k.device, torch.float32)
        mask = soft_sphere(density.shape[-1], _radius(search, particles.width) * density.shape[-1] / particles.width)
        self.spectrum = _padded_spectrum((density * mask.to(density.device))[None])
        self.support = None
        if isinstance(reference, Average):
            known = reference.coverage > 0.1 * reference.coverage.max()
            edge = _radii(len(known)) < len(known) // 2 - 1
            if not bool(known[edge].all()):
                self.support = known.float()[None, None].to(density.device)

    def rotated(self, quaternions: np.ndarray, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients `(m, n)` complex64 of the reference turned by each quaternion, and `(m, n)` what it knows."""
        k = self.particles.k[:n] @ _matrices_zyx(quaternions).to(self.particles.k)
        values = torch.view_as_complex(_read(self.spectrum, k[None], _PAD)[0].movedim(0, -1).contiguous())
        gain = self.particles.weight[:n] * self.particles.whitening[:n]
        if self.support is None:
            return values * gain, torch.ones(len(quaternions), n, device=k.device)
        both = _read(self.support, k[None], 1)[0, 0]
        return values * gain * both, both
