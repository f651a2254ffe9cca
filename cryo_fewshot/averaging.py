"""Subtomogram averaging of one class: alignment without known poses, averages of two halves, and their resolution.

Volumes are compared frequency by frequency, and only at those that the tilt series sampled: a particle is a short list
of Fourier coefficients, a rotated reference is the same list read from its padded transform, and the score of all
particles, shifts and rotations is one matrix product. The score is a constrained cross-correlation, normalised over
the frequencies that both have sampled (Förster et al. 2008; Xu, Beck and Alber 2012). The CTF is not corrected: stay
below its first zero (3.5 nm at 6 um of defocus and 300 kV).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from .errors import UserError
from .imaging import Microscope, slice_weights

_AXES = (1, 2, 3)
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
    volumes: torch.Tensor, reference: torch.Tensor, microscope: Microscope, search: Search | None = None
) -> Poses:
    """Pose of each particle against one reference, by exhaustive then local search.

    score = Re sum_k conj(P) R / sqrt(sum |P|^2 sum |R|^2), P the particle and R the turned reference times the weight
    of the tilt series, both whitened by the noise. As R is zero where the reference is unknown, the product and the
    energy of R run over the overlap. The energy of P runs over all that its tilt series sampled: with P over the
    overlap as well, as is usual, noise scores higher the smaller the overlap, and wedges are pushed apart. Against a
    complete reference the two are the same.

    Parameters
    ----------
    volumes : `(n, b, b, b)` float32 particles
    reference : `(b, b, b)` density; an average is zero at the frequencies that none of its particles sampled
    microscope : gives the tilt angles and the width of the box of `volumes`

    Raises
    ------
    UserError : boxes that are not cubic or differ, or voxels that are not finite
    """
    search = search or Search()
    _check(volumes, reference)
    return _align(_Particles(volumes, microscope, search), reference, search, rotation_grid(search.grid_degrees))


class _Particles:
    """Whitened Fourier coefficients of particles at the sampled frequencies, in order of distance from zero.

    A Fourier coefficient is a weighted mean over the slices that meet there, so the variance of its noise is
    sum(w^2) / sum(w)^2 times that of its shell: lower towards the tilt axis. Without that factor noise has a direction.
    """

    def __init__(self, volumes: torch.Tensor, microscope: Microscope, search: Search, whiten: bool = True):
        device, self.width, box = volumes.device, microscope.width_nm, volumes.shape[-1]
        self.k = _half_space(min(self.width / search.low_pass_nm, box // 2 - 1)).to(device)
        total, squares = slice_weights(self.k[:, 0], self.k[:, 2], microscope.tilt_angles)
        sampled = total > 0.1
        self.k, total, squares = self.k[sampled], total[sampled], squares[sampled]
        self.weight = total.clamp(max=1)
        self.n_coarse = int((self.k.norm(dim=1) <= self.width / search.coarse_low_pass_nm).sum())
        spectra = torch.fft.fftn(torch.fft.ifftshift(volumes, dim=_AXES), dim=_AXES)
        spectra = spectra.flatten(1)[:, _places(self.k, box)]
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


class _Template:
    """A reference whose coefficients are read, rotated, at the particles' frequencies, as a particle shows them."""

    def __init__(self, reference: torch.Tensor, particles: _Particles, search: Search):
        self.particles = particles
        self.spectrum = _padded_spectrum(reference * _mask(reference, particles.width, search.mask_radius_nm))

    def rotated(self, quaternions: np.ndarray, n: int) -> torch.Tensor:
        """Coefficients at the first n frequencies, turned by each of m quaternions: `(m, n, 2)`, norm 1."""
        k = self.particles.k[:n] @ _matrices_zyx(quaternions).to(self.particles.k)
        values = _read(self.spectrum, k) * (self.particles.weight * self.particles.whitening)[:n]
        return (values / values.square().sum((0, 2), keepdim=True).sqrt().clamp(min=1e-20)).movedim(0, -1)


def _align(
    particles: _Particles, reference: torch.Tensor, search: Search, grid: np.ndarray, local: bool = True
) -> Poses:
    template = _Template(reference, particles, search)
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
    turns = Rotation.from_rotvec(_NEIGHBOURS.numpy() * angle, degrees=True)
    offsets = _NEIGHBOURS.to(particles.k.device) * step_nm
    offset_phases = particles.phases(offsets, n)
    found = []
    for spectrum, norm, quaternions, shift in zip(particles.spectra, particles.norms, candidates, shifts, strict=True):
        around = np.stack([(turns * Rotation.from_quat(q)).as_quat() for q in quaternions])  # (c, 27, 4)
        rotated = template.rotated(around.reshape(-1, 4), n).reshape(c, 27, -1)
        moved = torch.view_as_real((spectrum * particles.phases(shift, n))[:, None] * offset_phases).flatten(2)
        scores, index = (rotated @ moved.mT / norm.clamp(min=1e-20)).flatten(1).max(1)
        scores, kept = scores.topk(max(1, c // 2))
        index = index[kept]
        turn = (index // 27).cpu().numpy()
        found.append((around[kept.cpu().numpy(), turn], shift[kept] + offsets[index % 27], scores))
    quaternions, shifts, scores = zip(*found, strict=True)
    return np.stack(quaternions), torch.stack(shifts), torch.stack(scores)


def average(
    volumes: torch.Tensor, poses: Poses, microscope: Microscope, mask_radius_nm: float | None = None
) -> Average:
    """Mean of the particles, each moved back by its pose, at every frequency over those that sampled it.

    A(q) = sum_i w_i(q) P_i(q) / (sum_i w_i(q)^2 + 0.1), with P_i the transform of particle i turned back and w_i the
    weight of its tilt series there: the least-squares density, its floor a tenth of one particle.

    Parameters
    ----------
    volumes : `(n, b, b, b)` float32
    poses : of the n particles
    microscope : gives the tilt angles and the width of the box of `volumes`
    mask_radius_nm : of the soft sphere that cuts out each particle; None for 0.4 of the box
    """
    _check(volumes)
    box, width, device = volumes.shape[-1], microscope.width_nm, volumes.device
    mask = _mask(volumes[0], width, mask_radius_nm)
    k = torch.cat([torch.zeros(1, 3), _half_space(box // 2 - 1)]).to(device)
    all_k = torch.fft.fftfreq(box, 1 / box, device=device)
    full_k = torch.stack(torch.meshgrid(all_k, all_k, all_k[: box // 2 + 1], indexing="ij"), dim=-1)
    total = torch.zeros(len(k), dtype=torch.complex64, device=device)
    weights = torch.zeros(len(k), device=device)
    matrices = _matrices_zyx(poses.quaternions).to(device)
    shifts = torch.as_tensor(poses.shifts_nm, dtype=torch.float32, device=device)
    for volume, matrix, shift in zip(volumes, matrices, shifts, strict=True):
        angle = full_k @ shift * (2 * math.pi / width)
        centred = torch.fft.irfftn(torch.fft.rfftn(volume) * torch.polar(torch.ones_like(angle), angle), s=(box,) * 3)
        turned = k @ matrix.T  # where the particle holds the frequency k of the density
        values = _read(_padded_spectrum(centred * mask), turned[None])[:, 0]
        weight = slice_weights(turned[:, 0], turned[:, 2], microscope.tilt_angles)[0].clamp(max=1)
        total += torch.complex(*values) * weight
        weights += weight.square()
    spectrum = torch.zeros(box**3, dtype=torch.complex64, device=device)
    coverage = torch.zeros(box**3, device=device)
    spectrum[_places(-k, box)], spectrum[_places(k, box)] = (total / (weights + 0.1)).conj(), total / (weights + 0.1)
    coverage[_places(-k, box)], coverage[_places(k, box)] = weights, weights
    density = torch.fft.fftshift(torch.fft.ifftn(spectrum.view(box, box, box)).real)
    return Average(density.contiguous(), torch.fft.fftshift(coverage.view(box, box, box)))


def refine(
    volumes: torch.Tensor,
    microscope: Microscope,
    seed: int,
    search: Search | None = None,
    n_iterations: int = 4,
    n_starts: int = 3,
    progress: Callable[[dict[str, float]], object] = lambda record: None,
) -> Refined:
    """Average one class from particles alone: no pose and no template is given.

    The particles are split into two halves that never meet in a reference. Each half starts from one of its own
    particles (the best of `n_starts` draws after two coarse rounds), then is aligned to its own average, filtered by
    the FSC of the halves (a Wiener filter), `n_iterations` times. Same seed, CPU and number of threads: same bits.

    Parameters
    ----------
    volumes : `(n, b, b, b)` float32 particles of one class, n at least 8
    microscope : gives the tilt angles and the width of the box of `volumes`
    seed : of the split into halves and of the particles to start from
    progress : called after each iteration with its entry of the history

    Raises
    ------
    UserError : too few particles, boxes that are not cubic, voxels that are not finite
    """
    search = search or Search()
    _check(volumes)
    if len(volumes) < 8:
        raise UserError(f"{len(volumes)} particles: averaging two halves needs at least 8")
    if n_iterations < 1 or n_starts < 1:
        raise UserError(f"n_iterations={n_iterations}, n_starts={n_starts}: give at least 1 of each")
    rng = np.random.default_rng(seed)
    halves = np.zeros(len(volumes), dtype=np.int64)
    halves[rng.permutation(len(volumes))[len(volumes) // 2 :]] = 1
    small = _cropped(volumes, 2 * math.ceil(1.3 * microscope.width_nm / search.low_pass_nm))
    width, grid = microscope.width_nm, rotation_grid(search.grid_degrees)
    members = [torch.as_tensor(np.flatnonzero(halves == side)) for side in (0, 1)]
    sides = [small[indices] for indices in members]
    particles = [_Particles(side, microscope, search) for side in sides]
    references = [_start(side, p, microscope, search, n_starts, rng) for side, p in zip(sides, particles, strict=True)]
    fsc, turn = _compared(references, microscope, search)
    history = []
    for iteration in range(n_iterations):
        filtered = [_filtered(reference, fsc[1]) for reference in references]
        poses = [_align(p, r, search, grid) for p, r in zip(particles, filtered, strict=True)]
        references = [average(v, p, microscope).density for v, p in zip(sides, poses, strict=True)]
        fsc, turn = _compared(references, microscope, search)
        score = float(np.concatenate([p.scores for p in poses]).mean())
        history.append({"iteration": iteration + 1, "score": score, "resolution_nm": resolution(fsc[1], fsc[0])})
        progress(history[-1])
    poses[1] = _composed(poses[1], turn)
    both = _merged(poses, halves)
    maps = tuple(average(volumes[members[side]], poses[side], microscope) for side in (0, 1))
    frequencies, fsc = shell_correlation(maps[0].density, maps[1].density, width / volumes.shape[-1])
    return Refined(average(volumes, both, microscope), maps, both, halves, frequencies, fsc, tuple(history))


def shell_correlation(
    a: torch.Tensor, b: torch.Tensor, voxel_size_nm: float, mask_radius_nm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies per nm and Fourier shell correlation `(box // 2 + 1,)` of two densities under a soft sphere.

    The correlation is that of torch-fourier-shell-correlation; shell 0 is 1 by definition. `mask_radius_nm` None for
    0.4 of the box.
    """
    from torch_fourier_shell_correlation import fourier_shell_correlation

    _check(a[None], b)
    box = len(a)
    mask = _mask(a, box * voxel_size_nm, mask_radius_nm)
    fsc = fourier_shell_correlation(a * mask, b * mask)
    return np.arange(len(fsc)) / (box * voxel_size_nm), fsc.double().cpu().numpy()


def resolution(fsc: np.ndarray, frequencies_per_nm: np.ndarray, threshold: float = 0.143) -> float:
    """Resolution in nm where the FSC first falls below the threshold, between shells by linear interpolation.

    inf where it is below from the first shell on; NaN where it never falls below: finer than the box can tell.
    0.143 is the criterion for half maps (Rosenthal and Henderson 2003).
    """
    below = np.flatnonzero(np.asarray(fsc)[1:] < threshold) + 1
    if len(below) == 0:
        return math.nan
    i = below[0]
    if i == 1:
        return math.inf
    share = (fsc[i - 1] - threshold) / (fsc[i - 1] - fsc[i])
    return float(1 / (frequencies_per_nm[i - 1] + share * (frequencies_per_nm[i] - frequencies_per_nm[i - 1])))


def soft_sphere(box: int, radius: float) -> torch.Tensor:
    """`(box, box, box)` mask: 1 inside `radius` voxels of the centre, falling to 0 as a cosine over the next tenth."""
    edge = max(1.0, 0.1 * box)
    return 0.5 * (1 + torch.cos(math.pi * ((_radii(box) - radius) / edge).clamp(0, 1)))


def _start(volumes, particles, microscope, search, n_starts, rng) -> torch.Tensor:
    """Reference of one half from its own particles: they are centred on their mean, then one is the first reference."""
    n, upright = len(volumes), np.array([[0.0, 0.0, 0.0, 1.0]])
    centred = Poses(upright.repeat(n, axis=0), np.zeros((n, 3)))
    for _ in range(2):
        blob = average(volumes, centred, microscope).density
        centred = _align(particles, blob, search, upright, local=False)
    coarse = replace(search, grid_degrees=max(20.0, search.grid_degrees))
    grid = rotation_grid(coarse.grid_degrees)
    best, best_score = None, -math.inf
    for i in rng.permutation(n)[:n_starts]:
        one = Poses(upright, centred.shifts_nm[i : i + 1])
        reference = average(volumes[i : i + 1], one, microscope).density
        for _ in range(2):
            poses = _align(particles, reference, coarse, grid, local=False)
            reference = average(volumes, poses, microscope).density
        if poses.scores.mean() > best_score:
            best, best_score = reference, poses.scores.mean()
    return best


def _compared(
    references: list[torch.Tensor], microscope: Microscope, search: Search
) -> tuple[tuple[np.ndarray, np.ndarray], Poses]:
    """Frequencies and FSC of two densities after the second is laid onto the first, and its pose in that frame."""
    complete = replace(microscope, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0)
    first, second = references
    width = microscope.width_nm
    moving = _Particles((second * _mask(second, width, search.mask_radius_nm))[None], complete, search, whiten=False)
    pose = _align(moving, first, search, rotation_grid(search.grid_degrees))
    laid = average(second[None], pose, complete).density
    return shell_correlation(first, laid, width / len(first)), pose


def _composed(poses: Poses, turn: Poses) -> Poses:
    """Poses in the frame in which the old reference itself has the single pose `turn`."""
    rotations = Rotation.from_quat(poses.quaternions)
    shifts_nm = poses.shifts_nm + rotations.apply(turn.shifts_nm[0, ::-1])[:, ::-1]
    return Poses((rotations * Rotation.from_quat(turn.quaternions[0])).as_quat(), shifts_nm, poses.scores)


def _merged(poses: list[Poses], halves: np.ndarray) -> Poses:
    order = np.argsort(np.argsort(halves, kind="stable"))
    return Poses(*(np.concatenate(parts)[order] for parts in zip(*map(_parts, poses), strict=True)))


def _parts(poses: Poses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return poses.quaternions, poses.shifts_nm, poses.scores


def _filtered(density: torch.Tensor, shells: np.ndarray) -> torch.Tensor:
    """The density with each Fourier shell times the FSC there (its Wiener filter), at least 0.05."""
    weights = torch.as_tensor(shells.clip(0.05, 1), dtype=torch.float32, device=density.device)
    shell = torch.fft.ifftshift(_radii(len(density))).round().long().clamp(max=len(shells) - 1).to(density.device)
    return torch.fft.ifftn(torch.fft.fftn(density) * weights[shell]).real


def _cropped(volumes: torch.Tensor, box: int) -> torch.Tensor:
    """Fourier crop to `box` voxels, the same width; the volumes where they are no larger."""
    old = volumes.shape[-1]
    if old <= box:
        return volumes
    k = torch.fft.fftfreq(box, 1 / box).long() % old
    spectra = torch.fft.fftn(torch.fft.ifftshift(volumes, dim=_AXES), dim=_AXES)
    spectra = spectra[:, k[:, None, None], k[:, None], k]
    return torch.fft.fftshift(torch.fft.ifftn(spectra, dim=_AXES).real, dim=_AXES) * (box / old) ** 3


def _half_space(radius: float) -> torch.Tensor:
    """Integer frequencies zyx `(f, 3)` of one half of Fourier space, zero left out, in order of their distance."""
    line = torch.arange(-math.floor(radius), math.floor(radius) + 1)
    k = torch.cartesian_prod(line, line, line)
    z, y, x = k.unbind(1)
    half = (x > 0) | ((x == 0) & (y > 0)) | ((x == 0) & (y == 0) & (z > 0))
    squared = k.square().sum(1)
    k, squared = k[half & (squared <= radius**2)], squared[half & (squared <= radius**2)]
    return k[torch.argsort(squared, stable=True)].float()


def _places(k: torch.Tensor, box: int) -> torch.Tensor:
    z, y, x = (k.long() % box).unbind(1)
    return (z * box + y) * box + x


def _radii(box: int) -> torch.Tensor:
    """Distance in voxels from the centre `box // 2`, `(box, box, box)`."""
    line = torch.arange(box) - box // 2
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij")).float().norm(dim=0)


def _mask(like: torch.Tensor, width_nm: float, radius_nm: float | None) -> torch.Tensor:
    box = like.shape[-1]
    return soft_sphere(box, (radius_nm or 0.4 * width_nm) * box / width_nm).to(like.device)


def _matrices_zyx(quaternions: np.ndarray) -> torch.Tensor:
    matrices = Rotation.from_quat(quaternions).as_matrix()[:, ::-1, ::-1]
    return torch.as_tensor(np.ascontiguousarray(matrices), dtype=torch.float32)


def _padded_spectrum(volume: torch.Tensor) -> torch.Tensor:
    """Transform `(1, 2, m, m, m)`, real and imaginary, frequency zero at m // 2, of a zero-padded volume `(b, b, b)`.

    Divided beforehand by the transform of the trilinear kernel that it will be read with.
    """
    box = len(volume)
    line = torch.sinc((torch.arange(box, device=volume.device) - box // 2) / (_PAD * box)).square()
    volume = volume / (line[:, None, None] * line[:, None] * line)
    before = (_PAD * box) // 2 - box // 2
    padded = torch.nn.functional.pad(volume, (before, _PAD * box - box - before) * 3)
    spectrum = torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(padded)))
    return torch.view_as_real(spectrum).movedim(-1, 0)[None].contiguous()


def _read(grid: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Trilinear values `(c, r, f)` of a grid `(1, c, m, m, m)` at frequencies zyx `(r, f, 3)` of the unpadded box."""
    m = grid.shape[-1]
    place = (k.flip(-1) * _PAD + m // 2) * (2 / (m - 1)) - 1
    return torch.nn.functional.grid_sample(grid, place[None, :, :, None], align_corners=True)[0, ..., 0]


def _check(volumes: torch.Tensor, reference: torch.Tensor | None = None) -> None:
    box = volumes.shape[-1]
    if volumes.ndim != 4 or len(set(volumes.shape[1:])) != 1 or box % 2 or len(volumes) == 0:
        raise UserError(f"particles of shape {tuple(volumes.shape)}: give (n, b, b, b), n at least 1, b even")
    if reference is not None and reference.shape != volumes.shape[1:]:
        raise UserError(f"reference of shape {tuple(reference.shape)}: it must be as the particles, {(box,) * 3}")
    for name, part in (("particles", volumes), ("reference", reference)):
        if part is not None and not bool(torch.isfinite(part).all()):
            raise UserError(f"the {name} hold NaN or infinite voxels: remove or repair them")
