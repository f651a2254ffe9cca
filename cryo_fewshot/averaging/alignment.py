"""Poses of particles against a reference, by exhaustive then local search; no pose needs to be known.

Volumes are compared frequency by frequency, and only at those that the tilt series sampled: a particle is a short list
of Fourier coefficients, a rotated reference is the same list read from its padded transform, and the score of all
particles, shifts and rotations is one matrix product. The score is a constrained cross-correlation, normalised over
the frequencies that both have sampled (Förster et al. 2008; Xu, Beck and Alber 2012). The CTF is not corrected: stay
below its first zero (3.5 nm at 6 um of defocus and 300 kV).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from ..fourier import slice_weights
from .spectra import AXES, half_space, padded_spectrum, places, read_spectrum, soft_mask

_NEIGHBOURS = torch.cartesian_prod(*[torch.tensor([0.0, -1.0, 1.0])] * 3)  # (27, 3), the unmoved first


@dataclass(frozen=True)
class TiltSeries:
    """tilt_angles : `(n,)` degrees about the y axis; width_nm : edge of the box. A `Microscope` has both."""

    tilt_angles: np.ndarray
    width_nm: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """How poses are searched; lengths in nm, angles in degrees.

    low_pass_nm, coarse_low_pass_nm : resolution of the comparison, in the local and in the exhaustive search
    grid_degrees, finest_degrees : step of the exhaustive grid of rotations, then halved locally down to the finest
    n_candidates : rotations of the grid that are refined locally, for each particle
    max_shift_nm : of the exhaustive search, along each axis
    mask_radius_nm : of the soft sphere around the reference, best a little wider than the complex; None for 0.4 of
        the box. It is not used for the averages and their FSC: a tight mask carries signal beyond its resolution.
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
            raise UserError(
                f"coarse_low_pass_nm={self.coarse_low_pass_nm} is finer than low_pass_nm={self.low_pass_nm}"
            )


@dataclass(frozen=True)
class Poses:
    """Where each particle lies: the density rotated about the box centre, then shifted.

    quaternions : `(n, 4)` xyzw of the active rotation of xyz coordinates; shifts_nm : `(n, 3)` zyx;
    scores : `(n,)` constrained cross-correlation as in `align`, -1 to 1; None for poses that were not searched.
    """

    quaternions: np.ndarray
    shifts_nm: np.ndarray
    scores: np.ndarray | None = None


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
    volumes: torch.Tensor, reference: torch.Tensor, tilt_series: TiltSeries, search: Search | None = None
) -> Poses:
    """Pose of each particle against one reference, by exhaustive then local search.

    score = Re sum_k conj(P) R / sqrt(sum |P|^2 sum |R|^2), P the particle and R the rotated reference times the weight
    of the tilt series, both whitened by the noise. As R is zero where the reference is unknown, the product and the
    energy of R run over the overlap. The energy of P runs over all that its tilt series sampled: with P over the
    overlap as well, as is usual, noise scores higher the smaller the overlap, and wedges are pushed apart. Against a
    complete reference the two are the same.

    volumes : `(n, b, b, b)` float32 particles
    reference : `(b, b, b)` density; an average is zero at the frequencies that none of its particles sampled
    tilt_series : its angles and the width of the box of `volumes`

    Raises UserError: boxes that are not cubic or differ, or voxels that are not finite
    """
    search = search or Search()
    check_particles(volumes, reference)
    return align_particles(
        ParticleSpectra(volumes, tilt_series, search), reference, search, rotation_grid(search.grid_degrees)
    )


class ParticleSpectra:
    """Whitened Fourier coefficients of particles at the sampled frequencies, in order of distance from zero.

    A Fourier coefficient is a weighted mean over the slices that meet there, so the variance of its noise is
    sum(w^2) / sum(w)^2 times that of its shell: lower towards the tilt axis. Without that factor noise has a direction.
    """

    def __init__(self, volumes: torch.Tensor, tilt_series: TiltSeries, search: Search, whiten: bool = True):
        device, self.width, box = volumes.device, tilt_series.width_nm, volumes.shape[-1]
        self.k = half_space(min(self.width / search.low_pass_nm, box // 2 - 1)).to(device)
        total, squares = slice_weights(self.k[:, 0], self.k[:, 2], tilt_series.tilt_angles)
        sampled = total > 0.1
        self.k, total, squares = self.k[sampled], total[sampled], squares[sampled]
        self.weight = total.clamp(max=1)
        self.n_coarse = int((self.k.norm(dim=1) <= self.width / search.coarse_low_pass_nm).sum())
        spectra = torch.fft.fftn(torch.fft.ifftshift(volumes, dim=AXES), dim=AXES)
        spectra = spectra.flatten(1)[:, places(self.k, box)]
        noise, shell = squares / total.clamp(min=1).square(), self.k.norm(dim=1).round().long()
        power = torch.zeros(int(shell.max()) + 1, device=device)
        power.index_add_(0, shell, spectra.abs().square().mean(0) / noise)
        noise = noise * (power / torch.bincount(shell).clamp(min=1))[shell] if whiten else torch.ones_like(noise)
        self.whitening = noise.clamp(min=1e-12 * float(noise.max()) + 1e-30).rsqrt()
        self.spectra = spectra * self.whitening
        self.norms = self.spectra.abs().square().sum(1).sqrt()

    def phases(self, shifts_nm: torch.Tensor, n: int) -> torch.Tensor:
        """Factors that undo shifts `(..., 3)`, at the first n frequencies: `(..., n)` complex64."""
        angle = shifts_nm @ self.k[:n].T * (2 * math.pi / self.width)
        return torch.polar(torch.ones_like(angle), angle)


class Template:
    """A reference whose coefficients are read, rotated, at the particles' frequencies, as a particle shows them."""

    def __init__(self, reference: torch.Tensor, particles: ParticleSpectra, search: Search):
        self.particles = particles
        self.spectrum = padded_spectrum(reference * soft_mask(reference, particles.width, search.mask_radius_nm))

    def rotated(self, quaternions: np.ndarray, n: int) -> torch.Tensor:
        """Coefficients at the first n frequencies, rotated by each of m quaternions: `(m, n, 2)`, norm 1."""
        k = self.particles.k[:n] @ matrices_zyx(quaternions).to(self.particles.k)
        values = read_spectrum(self.spectrum, k) * (self.particles.weight * self.particles.whitening)[:n]
        return (values / values.square().sum((0, 2), keepdim=True).sqrt().clamp(min=1e-20)).movedim(0, -1)


def align_particles(
    particles: ParticleSpectra, reference: torch.Tensor, search: Search, grid: np.ndarray, local: bool = True
) -> Poses:
    """`align` of prepared particles over a given grid of rotations; `local` False leaves out the local search."""
    template = Template(reference, particles, search)
    candidates, shifts, scores = _search_grid(particles, template, search, grid)
    angle, step_nm = search.grid_degrees / 2, 1.0
    while local and angle > search.finest_degrees / 2:
        candidates, shifts, scores = _search_around(particles, template, candidates, shifts, angle, step_nm)
        angle, step_nm = angle / 2, step_nm / 2
    return Poses(candidates[:, 0], shifts[:, 0].double().cpu().numpy(), scores[:, 0].double().cpu().numpy())


def _search_grid(particles, template, search, grid):
    """The best rotations of a grid, best first, each with its best shift: `(n, c, 4)`, `(n, c, 3)`, scores `(n, c)`."""
    n, limit = particles.n_coarse, search.max_shift_nm
    line = torch.linspace(-limit, limit, 2 * math.ceil(limit / 2) + 1, device=particles.k.device)  # at most 2 nm apart
    shifts = torch.cartesian_prod(line, line, line)
    spectra = particles.spectra[:, :n]
    moved = torch.view_as_real(spectra[:, None] * particles.phases(shifts, n)).flatten(2).flatten(0, 1)
    scores, shift_of = [], []
    for part in np.array_split(grid, math.ceil(len(grid) / 256)):
        products = moved @ template.rotated(part, n).flatten(1).T
        best, index = products.view(len(spectra), len(shifts), len(part)).max(1)
        scores.append(best)
        shift_of.append(index)
    scores, chosen = torch.cat(scores, 1).topk(min(search.n_candidates, len(grid)), dim=1)
    shift_of = torch.cat(shift_of, 1).gather(1, chosen)
    return grid[chosen.cpu().numpy()], shifts[shift_of], scores / spectra.abs().square().sum(1, keepdim=True).sqrt()


def _search_around(particles, template, candidates, shifts, angle, step_nm):
    """The best of 27 rotations times 27 shifts around each candidate; the better half of the candidates, best first."""
    c, n = candidates.shape[1], len(particles.k)
    rotations = Rotation.from_rotvec(_NEIGHBOURS.numpy() * angle, degrees=True)
    offsets = _NEIGHBOURS.to(particles.k.device) * step_nm
    offset_phases = particles.phases(offsets, n)
    found = []
    for spectrum, norm, quaternions, shift in zip(particles.spectra, particles.norms, candidates, shifts, strict=True):
        around = np.stack([(rotations * Rotation.from_quat(q)).as_quat() for q in quaternions])  # (c, 27, 4)
        rotated = template.rotated(around.reshape(c * 27, 4), n).reshape(c, 27, -1)
        moved = torch.view_as_real((spectrum * particles.phases(shift, n))[:, None] * offset_phases).flatten(2)
        scores, index = (rotated @ moved.mT / norm.clamp(min=1e-20)).flatten(1).max(1)
        scores, kept = scores.topk(max(1, c // 2))
        index = index[kept]
        rotation = (index // 27).cpu().numpy()
        found.append((around[kept.cpu().numpy(), rotation], shift[kept] + offsets[index % 27], scores))
    quaternions, shifts, scores = zip(*found, strict=True)
    return np.stack(quaternions), torch.stack(shifts), torch.stack(scores)


def matrices_zyx(quaternions: np.ndarray) -> torch.Tensor:
    """Matrices `(n, 3, 3)` that act on zyx columns, from quaternions `(n, 4)` xyzw."""
    matrices = Rotation.from_quat(quaternions).as_matrix()[:, ::-1, ::-1]
    return torch.as_tensor(np.ascontiguousarray(matrices), dtype=torch.float32)


def check_particles(volumes: torch.Tensor, reference: torch.Tensor | None = None) -> None:
    """Raise UserError for boxes that are not cubic, or differ, and for voxels that are not finite."""
    box = volumes.shape[-1]
    if volumes.ndim != 4 or len(set(volumes.shape[1:])) != 1 or box % 2 or len(volumes) == 0:
        raise UserError(f"particles of shape {tuple(volumes.shape)}: give (n, b, b, b), n at least 1, b even")
    if reference is not None and reference.shape != volumes.shape[1:]:
        raise UserError(f"reference of shape {tuple(reference.shape)}: it must match the particles, {(box,) * 3}")
    for name, part in (("particles", volumes), ("reference", reference)):
        if part is not None and not bool(torch.isfinite(part).all()):
            raise UserError(f"the {name} hold NaN or infinite voxels: remove or repair them")
