"""Subtomogram averaging of one class: averages of particles in their poses, of two halves, and their resolution.

No pose and no template is given: `alignment` finds the poses, against references made of the particles themselves.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from ..fourier import slice_weights
from .alignment import (
    ParticleSpectra,
    Poses,
    Search,
    TiltSeries,
    align_particles,
    check_particles,
    matrices_zyx,
    rotation_grid,
)
from .fsc import corrected_correlation, resolution, shell_correlation, wiener_filtered
from .spectra import cropped, half_space, padded_spectrum, places, read_spectrum, soft_mask

LEAST_HALF = 4  # particles
FEWEST_SHELLS = 3  # that two half maps have to agree in, for their agreement to be no chance


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
    shell correlation of the masked half maps; corrected_fsc : the same without what mask and laying of the halves
    bring, see `fsc.corrected_correlation`; history : per iteration, mean score and resolution at 0.143 in nm.
    """

    average: Average
    half_maps: tuple[Average, Average]
    poses: Poses
    halves: np.ndarray
    frequencies_per_nm: np.ndarray
    fsc: np.ndarray
    corrected_fsc: np.ndarray
    history: tuple[dict[str, float], ...]

    @property
    def resolutions_nm(self) -> dict[float, float]:
        """Resolution in nm at the thresholds 0.143 and 0.5 of the corrected FSC, as of `fsc.resolution`."""
        fsc, frequencies = self.corrected_fsc, self.frequencies_per_nm
        return {threshold: resolution(fsc, frequencies, threshold) for threshold in (0.143, 0.5)}

    @property
    def resolution_text(self) -> str:
        """What the halves say. The first shells hold few frequencies: noise agrees there by chance now and then."""
        nm = self.resolutions_nm[0.143]
        if math.isnan(nm):
            return f"finer than {1 / self.frequencies_per_nm[-2]:.1f} nm, all that its voxels show"
        if nm > 1 / self.frequencies_per_nm[FEWEST_SHELLS]:
            return "no resolution: the half maps do not agree"
        return f"{nm:.1f} nm at FSC 0.143"


def average(volumes: torch.Tensor, poses: Poses, tilt_series: TiltSeries) -> Average:
    """Mean of the particles, each moved back by its pose, at every frequency over those that sampled it.

    A(q) = sum_i w_i(q) P_i(q) / (sum_i w_i(q)^2 + 0.1), with P_i the transform of particle i moved back and w_i the
    weight of its tilt series there: the least-squares density, its floor a tenth of one particle. A soft sphere of 0.4
    of the box cuts out each particle.

    volumes : `(n, b, b, b)` float32
    poses : of the n particles
    tilt_series : its angles and the width of the box of `volumes`
    """
    check_particles(volumes)
    box, width, device = volumes.shape[-1], tilt_series.width_nm, volumes.device
    mask = soft_mask(volumes[0], width)
    k = torch.cat([torch.zeros(1, 3), half_space(box // 2 - 1)]).to(device)
    all_k = torch.fft.fftfreq(box, 1 / box, device=device)
    full_k = torch.stack(torch.meshgrid(all_k, all_k, all_k[: box // 2 + 1], indexing="ij"), dim=-1)
    total = torch.zeros(len(k), dtype=torch.complex64, device=device)
    weights = torch.zeros(len(k), device=device)
    matrices = matrices_zyx(poses.quaternions).to(device)
    shifts = torch.as_tensor(poses.shifts_nm, dtype=torch.float32, device=device)
    for volume, matrix, shift in zip(volumes, matrices, shifts, strict=True):
        angle = full_k @ shift * (2 * math.pi / width)
        centred = torch.fft.irfftn(torch.fft.rfftn(volume) * torch.polar(torch.ones_like(angle), angle), s=(box,) * 3)
        rotated = k @ matrix.T  # where the particle holds the frequency k of the density
        values = read_spectrum(padded_spectrum(centred * mask), rotated[None])[:, 0]
        weight = slice_weights(rotated[:, 0], rotated[:, 2], tilt_series.tilt_angles)[0].clamp(max=1)
        total += torch.complex(*values) * weight
        weights += weight.square()
    spectrum = torch.zeros(box**3, dtype=torch.complex64, device=device)
    coverage = torch.zeros(box**3, device=device)
    spectrum[places(-k, box)], spectrum[places(k, box)] = (total / (weights + 0.1)).conj(), total / (weights + 0.1)
    coverage[places(-k, box)], coverage[places(k, box)] = weights, weights
    density = torch.fft.fftshift(torch.fft.ifftn(spectrum.view(box, box, box)).real)
    return Average(density.contiguous(), torch.fft.fftshift(coverage.view(box, box, box)))


def refine(
    volumes: torch.Tensor,
    tilt_series: TiltSeries,
    seed: int,
    search: Search | None = None,
    n_iterations: int = 4,
    n_starts: int = 3,
    groups: np.ndarray | None = None,
) -> Refined:
    """Average one class from particles alone: no pose and no template is given.

    The particles are split into two halves that never meet in a reference. Each half starts from one of its own
    particles (the best of `n_starts` draws after two coarse rounds), then is aligned to its own average, filtered by
    the FSC of the halves (a Wiener filter), `n_iterations` times. Same seed, CPU and number of threads: same bits.

    volumes : `(n, b, b, b)` float32 particles of one class, n at least 8
    tilt_series : its angles and the width of the box of `volumes`
    seed : of the split into halves and of the particles to start from
    groups : `(n,)` numbers, equal for particles that share voxels: they come into one half, which would agree with
        the other by their noise

    Raises UserError: too few particles, boxes that are not cubic, voxels that are not finite
    """
    search = search or Search()
    check_particles(volumes)
    if len(volumes) < 8:
        raise UserError(f"{len(volumes)} particles: averaging two halves needs at least 8")
    if n_iterations < 1 or n_starts < 1:
        raise UserError(f"n_iterations={n_iterations}, n_starts={n_starts}: give at least 1 of each")
    rng = np.random.default_rng(seed)
    halves = _halves(len(volumes), groups, rng)
    small = cropped(volumes, 2 * math.ceil(1.3 * tilt_series.width_nm / search.low_pass_nm))
    voxel_size_nm, grid = tilt_series.width_nm / volumes.shape[-1], rotation_grid(search.grid_degrees)
    members = [torch.as_tensor(np.flatnonzero(halves == side)) for side in (0, 1)]
    sides = [small[indices] for indices in members]
    particles = [ParticleSpectra(side, tilt_series, search) for side in sides]
    references = [_start(side, p, tilt_series, search, n_starts, rng) for side, p in zip(sides, particles, strict=True)]
    fsc, pose = _compared(references, tilt_series, search)
    history = []
    for iteration in range(n_iterations):
        filtered = [wiener_filtered(reference, fsc[1]) for reference in references]
        poses = [align_particles(p, r, search, grid) for p, r in zip(particles, filtered, strict=True)]
        references = [average(v, p, tilt_series).density for v, p in zip(sides, poses, strict=True)]
        fsc, pose = _compared(references, tilt_series, search)
        score = float(np.concatenate([p.scores for p in poses]).mean())
        history.append({"iteration": iteration + 1, "score": score, "resolution_nm": resolution(fsc[1], fsc[0])})
    poses[1] = _composed(poses[1], pose)
    both = _merged(poses, halves)
    maps = tuple(average(volumes[members[side]], poses[side], tilt_series) for side in (0, 1))
    densities = [one.density for one in maps]
    frequencies, fsc = shell_correlation(*densities, voxel_size_nm)
    corrected = corrected_correlation(
        *densities, voxel_size_nm, lambda one, other: laid_onto(one, other, tilt_series, search)[0], seed
    )
    whole = average(volumes, both, tilt_series)
    return Refined(whole, maps, both, halves, frequencies, fsc, corrected, tuple(history))


def _halves(n: int, groups: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Half, 0 or 1, of each of n particles `(n,)`: at random, each group whole, the two as equal as groups let them."""
    order, halves = rng.permutation(n), np.zeros(n, dtype=np.int64)
    if groups is None:
        halves[order[n // 2 :]] = 1
        return halves
    counts = np.bincount(groups)
    sizes = [0, 0]
    for group in sorted(dict.fromkeys(groups[order].tolist()), key=lambda g: -counts[g]):
        side = int(sizes[1] < sizes[0])
        halves[groups == group] = side
        sizes[side] += counts[group]
    if min(sizes) < LEAST_HALF:
        raise UserError(f"{max(counts)} of {n} particles overlap in a chain: no two halves without shared voxels")
    return halves


def laid_onto(
    reference: torch.Tensor, density: torch.Tensor, tilt_series: TiltSeries, search: Search | None = None
) -> tuple[torch.Tensor, Poses]:
    """A density rotated and shifted onto a reference, both `(b, b, b)` of that width; and its pose there."""
    search = search or Search()
    check_particles(density[None], reference)
    complete = TiltSeries(np.arange(-90.0, 91.0), tilt_series.width_nm)
    masked = density * soft_mask(density, tilt_series.width_nm, search.mask_radius_nm)
    moving = ParticleSpectra(masked[None], complete, search, whiten=False)
    pose = align_particles(moving, reference, search, rotation_grid(search.grid_degrees))
    return average(density[None], pose, complete).density, pose


def _start(volumes, particles, tilt_series, search, n_starts, rng) -> torch.Tensor:
    """Reference of one half from its own particles: they are centred on their mean, then one is the first reference."""
    n, upright = len(volumes), np.array([[0.0, 0.0, 0.0, 1.0]])
    centred = Poses(upright.repeat(n, axis=0), np.zeros((n, 3)))
    for _ in range(2):
        blob = average(volumes, centred, tilt_series).density
        centred = align_particles(particles, blob, search, upright, local=False)
    coarse = replace(search, grid_degrees=max(20.0, search.grid_degrees))
    grid = rotation_grid(coarse.grid_degrees)
    starts = []
    for i in rng.permutation(n)[:n_starts]:
        one = Poses(upright, centred.shifts_nm[i : i + 1])
        reference = average(volumes[i : i + 1], one, tilt_series).density
        for _ in range(2):
            poses = align_particles(particles, reference, coarse, grid, local=False)
            reference = average(volumes, poses, tilt_series).density
        starts.append((poses.scores.mean(), reference))
    return max(starts, key=lambda start: start[0])[1]


def _compared(
    references: list[torch.Tensor], tilt_series: TiltSeries, search: Search
) -> tuple[tuple[np.ndarray, np.ndarray], Poses]:
    """Frequencies and FSC of two densities after the second is laid onto the first, and its pose in that frame."""
    first, second = references
    laid, pose = laid_onto(first, second, tilt_series, search)
    return shell_correlation(first, laid, tilt_series.width_nm / len(first)), pose


def _composed(poses: Poses, reference_pose: Poses) -> Poses:
    """Poses in the frame in which the old reference itself has the single pose `reference_pose`."""
    rotations = Rotation.from_quat(poses.quaternions)
    shifts_nm = poses.shifts_nm + rotations.apply(reference_pose.shifts_nm[0, ::-1])[:, ::-1]
    return Poses((rotations * Rotation.from_quat(reference_pose.quaternions[0])).as_quat(), shifts_nm, poses.scores)


def _merged(poses: list[Poses], halves: np.ndarray) -> Poses:
    """Poses of all particles, in their order, from those of the two halves."""
    order = np.argsort(np.argsort(halves, kind="stable"))
    parts = [[one.quaternions, one.shifts_nm, one.scores] for one in poses]
    return Poses(*(np.concatenate(part)[order] for part in zip(*parts, strict=True)))
