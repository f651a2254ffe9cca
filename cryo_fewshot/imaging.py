"""The microscope: beads of a complex -> one noisy subtomogram with pose, CTF, missing wedge and a stated SNR.

Everything between the beads and the final volume is linear, so it is done once in Fourier space, and only at the
frequencies that pass the low-pass: fewer than a tenth of them. Boxes of equal width in nm hold the same
frequencies, so a 20^3 box at 2 nm is the Fourier crop of the 40^3 box at 1 nm of the same sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch_ctf import calculate_total_phase_shift

from .errors import UserError
from .randomness import complex_normals, uniforms

_POSE_COUNTERS = torch.arange(2) - 16  # negative counters: never used by the noise
_SHIFT_AND_DEFOCUS_COUNTERS = torch.arange(4) - 8


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """Acquisition and box of a simulated subtomogram; lengths in nm, angles in degrees.

    Parameters
    ----------
    box : voxels along one edge of the cubic box
    voxel_size_nm : edge of a voxel
    tilt_min, tilt_max, tilt_increment : the tilt series, degrees about the y axis; the beam is along z
    defocus_min_um, defocus_max_um : micrometres, positive is underfocus; drawn uniformly per sample
    voltage_kv, spherical_aberration_mm, amplitude_contrast : of the CTF (Rohou and Grigorieff 2015, as in torch-ctf)
    envelope_sigma_per_nm : width of the Gaussian envelope of the CTF
    mtf_sigma_per_nm : width of the Gaussian roll-off of the detector, met by the noise after the CTF
    noise_before_ctf : share of the final noise power that passes the CTF (ice, neighbours); the rest is detector noise
    low_pass_nm : resolution of the soft low-pass of the whole volume
    max_shift_nm : shift drawn uniformly from [-max, max] along each axis
    dark_protein : contrast of an unprocessed tomogram, density negative
    """

    box: int = 40
    voxel_size_nm: float = 1.0
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_increment: float = 3.0
    defocus_min_um: float = 2.0
    defocus_max_um: float = 6.0
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.07
    envelope_sigma_per_nm: float = 0.2
    mtf_sigma_per_nm: float = 0.25
    noise_before_ctf: float = 0.5
    low_pass_nm: float = 4.0
    max_shift_nm: float = 4.0
    dark_protein: bool = True

    def __post_init__(self):
        if self.box < 8 or self.box % 2:
            raise UserError(f"box={self.box}: use an even number of voxels, at least 8")
        if not -90 <= self.tilt_min < self.tilt_max <= 90 or self.tilt_increment <= 0:
            raise UserError(
                f"tilt range {self.tilt_min}..{self.tilt_max} by {self.tilt_increment} degrees: "
                "give -90 <= tilt_min < tilt_max <= 90 and a positive increment"
            )
        if self.voxel_size_nm <= 0 or self.low_pass_nm < 2 * self.voxel_size_nm:
            raise UserError(
                f"low_pass_nm={self.low_pass_nm} is finer than the box can hold: "
                f"use at least twice voxel_size_nm={self.voxel_size_nm}"
            )
        if not 0 <= self.noise_before_ctf <= 1:
            raise UserError(f"noise_before_ctf={self.noise_before_ctf}: give a share between 0 and 1")
        if self.defocus_min_um > self.defocus_max_um:
            raise UserError(f"defocus {self.defocus_min_um}..{self.defocus_max_um} um: the minimum is above the maximum")

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


def simulate(
    beads: Sequence[tuple[np.ndarray, np.ndarray] | None],
    seeds: torch.Tensor,
    snr: float | None,
    microscope: Microscope,
    device: torch.device | str = "cpu",
    acquisition: Acquisition | None = None,
) -> torch.Tensor:
    """Simulate one subtomogram per entry of `beads`.

    SNR = var(signal) / var(noise) over the whole final box, after CTF, missing wedge and low-pass: of exactly what a
    network sees. The noise is white in each tilt image; a share passes the CTF, the rest the detector's MTF; as both
    are Gaussian, their sum is drawn at once from the summed power spectrum.

    Parameters
    ----------
    beads : per sample, positions `(n_beads, 3)` zyx in nm and masses `(n_beads,)`; None for no macromolecule
    seeds : `(n,)` int64, one per sample; sample i depends on seeds[i] alone, not on the batch
    snr : ratio of variances; None for no noise
    acquisition : poses, shifts and defocus to use instead of those drawn from the seeds

    Returns
    -------
    `(n, box, box, box)` float32 on `device`, each volume with mean 0 and variance 1.
    """
    if snr is not None and snr <= 0:
        raise UserError(f"snr={snr}: give a positive ratio of variances, or None for no noise")
    seeds = torch.as_tensor(seeds, dtype=torch.int64)
    acquisition = acquisition or draw_acquisition(seeds, microscope)
    plan = _plan(microscope, str(device))
    transfer = plan.ctf(acquisition.defocus_um)
    signal = bead_spectra(beads, acquisition, microscope, device)[:, plan.in_fine_grid] * transfer * plan.signal_gain
    power = _row_sums(plan.multiplicity * signal.abs().square())
    # A complex scales to unit variance; an empty box stays zero.
    signal = signal * torch.where(power > 0, power, 1).rsqrt()[:, None]
    spectrum = signal
    if snr is not None:
        noise_power = _unit_sum(plan.multiplicity, (transfer * plan.noise_gain).square()) * microscope.noise_before_ctf
        noise_power = noise_power + (1 - microscope.noise_before_ctf) * _unit_sum(
            plan.multiplicity, (plan.mtf * plan.noise_gain).square()[None]
        )
        noise = complex_normals(seeds.to(device), plan.counters) * plan.plane_correction
        spectrum = signal * snr**0.5 + noise * noise_power.sqrt()
    return _standardised(_to_volume(spectrum, plan, microscope))


def bead_spectra(
    beads: Sequence[tuple[np.ndarray, np.ndarray] | None],
    acquisition: Acquisition,
    microscope: Microscope,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Fourier transform of the posed beads, unfiltered: `(n, g, g, g//2 + 1)` flattened to `(n, -1)`, complex64.

    Beads are rotated exactly, then spread onto a grid of at most 1 nm per voxel with a quadratic B-spline, whose
    transform (sinc cubed) is divided out: no interpolation of volumes takes place.
    """
    grid = _fine_box(microscope)
    n_samples = len(beads)
    positions, masses, owner = [], [], []
    rotations = Rotation.from_quat(acquisition.quaternions).as_matrix()
    for i, sample in enumerate(beads):
        if sample is None:
            continue
        zyx, mass = sample
        turned = zyx[:, ::-1] @ rotations[i].T
        positions.append(turned[:, ::-1] + acquisition.shifts_nm[i])
        masses.append(mass)
        owner.append(np.full(len(mass), i))
    volume = torch.zeros(n_samples * grid**3, device=device)
    if positions:
        index = torch.from_numpy(np.concatenate(positions) * (grid / microscope.width_nm) + grid // 2).to(device)
        weight = torch.from_numpy(np.concatenate(masses)).to(device, torch.float32)
        base = torch.from_numpy(np.concatenate(owner)).to(device) * grid**3
        _spread(volume, index, weight, base, grid)
    return torch.fft.rfftn(volume.view(n_samples, grid, grid, grid), dim=(1, 2, 3)).flatten(1)


def _spread(
    volume: torch.Tensor, index: torch.Tensor, weight: torch.Tensor, base: torch.Tensor, grid: int
) -> None:
    nearest = torch.round(index)
    offset = (index - nearest).float()
    # The three weights of a quadratic B-spline at -1, 0, +1 voxel, for each axis: (n_beads, 3 axes, 3 weights).
    splines = torch.stack([0.5 * (0.5 - offset) ** 2, 0.75 - offset**2, 0.5 * (0.5 + offset) ** 2], dim=-1)
    # Beads beyond the box wrap around; complexes of the library stay inside.
    cells = (nearest.long()[..., None] + torch.arange(-1, 2, device=index.device)) % grid
    flat = base[:, None, None, None] + (
        (cells[:, 0, :, None, None] * grid + cells[:, 1, None, :, None]) * grid + cells[:, 2, None, None, :]
    )
    share = weight[:, None, None, None] * (
        splines[:, 0, :, None, None] * splines[:, 1, None, :, None] * splines[:, 2, None, None, :]
    )
    volume.index_add_(0, flat.flatten(), share.flatten())


@dataclass(frozen=True)
class _Plan:
    """Per-frequency quantities of one microscope, `(m,)` each: only frequencies that pass the low-pass."""

    in_fine_grid: torch.Tensor  # index into the flattened spectrum of the fine grid
    in_box: torch.Tensor  # index into the flattened spectrum of the final box
    counters: torch.Tensor  # names a frequency to the random generator, whatever the box
    multiplicity: torch.Tensor  # 2 where the conjugate half is left out, else 1
    plane_correction: torch.Tensor  # sqrt(2) on kx = 0, where the inverse transform averages a pair of draws
    signal_gain: torch.Tensor
    noise_gain: torch.Tensor
    mtf: torch.Tensor
    envelope: torch.Tensor
    shell_frequency: torch.Tensor  # distinct squared frequencies, per squared angstrom
    shell: torch.Tensor
    microscope: Microscope

    def ctf(self, defocus_um: np.ndarray) -> torch.Tensor:
        """`(n, m)`: CTF times envelope, negative at low frequency where protein is dark."""
        m = self.microscope
        phase = calculate_total_phase_shift(
            defocus_um=torch.as_tensor(defocus_um, dtype=torch.float32, device=self.shell.device)[:, None],
            voltage_kv=torch.tensor(m.voltage_kv, device=self.shell.device),
            spherical_aberration_mm=torch.tensor(m.spherical_aberration_mm, device=self.shell.device),
            phase_shift_degrees=torch.tensor(0.0, device=self.shell.device),
            amplitude_contrast_fraction=torch.tensor(m.amplitude_contrast, device=self.shell.device),
            fftfreq_grid_angstrom_squared=self.shell_frequency,
        )
        curve = torch.sin(phase) if m.dark_protein else -torch.sin(phase)
        return (curve * self.envelope)[:, self.shell]


@lru_cache(maxsize=32)
def _plan(microscope: Microscope, device: str) -> _Plan:
    box, fine, width = microscope.box, _fine_box(microscope), microscope.width_nm
    k = torch.fft.fftfreq(box, 1 / box, dtype=torch.float64)
    kz, ky, kx = torch.meshgrid(k, k, torch.arange(box // 2 + 1, dtype=torch.float64), indexing="ij")
    frequency = torch.sqrt(kz**2 + ky**2 + kx**2) / width
    low_pass = _soft_edge(frequency * microscope.low_pass_nm)
    # Nyquist planes hold each frequency once for both signs; they are left out.
    kept = (low_pass > 0) & (frequency > 0) & (kz.abs() < box // 2) & (ky.abs() < box // 2) & (kx < box // 2)
    kz, ky, kx, frequency, low_pass = (part[kept] for part in (kz, ky, kx, frequency, low_pass))

    weight_sum, weight_square_sum = slice_weights(kz, kx, microscope.tilt_angles)
    in_fine = (kz.long() % fine) * fine * (fine // 2 + 1) + (ky.long() % fine) * (fine // 2 + 1) + kx.long()
    sinc = torch.sinc(kz / fine) * torch.sinc(ky / fine) * torch.sinc(kx / fine)
    squared, shell = torch.unique(torch.round((frequency * width) ** 2), return_inverse=True)
    shell_nm = squared.sqrt() / width
    as_float = {"dtype": torch.float32, "device": device}
    return _Plan(
        in_fine_grid=in_fine.to(device),
        in_box=torch.nonzero(kept.flatten())[:, 0].to(device),
        counters=(((kz + 512) * 1024 + ky + 512) * 1024 + kx).long().to(device),
        multiplicity=torch.where(kx > 0, 2.0, 1.0).to(**as_float),
        plane_correction=torch.where(kx > 0, 1.0, 2**0.5).to(**as_float),
        signal_gain=(low_pass * weight_sum.clamp(max=1) / sinc**3).to(**as_float),
        noise_gain=(low_pass * weight_square_sum.sqrt() / weight_sum.clamp(min=1)).to(**as_float),
        mtf=torch.exp(-0.5 * (frequency / microscope.mtf_sigma_per_nm) ** 2).to(**as_float),
        envelope=torch.exp(-0.5 * (shell_nm / microscope.envelope_sigma_per_nm) ** 2).to(**as_float),
        shell_frequency=(shell_nm / 10).square().to(**as_float),
        shell=shell.to(device),
        microscope=microscope,
    )


def slice_weights(
    kz: torch.Tensor, kx: torch.Tensor, tilt_angles: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of weights, and of squared weights, with which the tilt images' central slices meet each frequency.

    A slice is one Fourier voxel thick: its weight falls linearly to zero at a distance of one voxel. kz and kx in
    Fourier voxels, any shape; angles in degrees about y. Where no slice comes near lies the missing wedge.
    """
    total, squares = torch.zeros_like(kz), torch.zeros_like(kz)
    for angle in np.deg2rad(tilt_angles):
        weight = (1 - (kz * np.cos(angle) - kx * np.sin(angle)).abs()).clamp(min=0)
        total += weight
        squares += weight**2
    return total, squares


def _soft_edge(ratio: torch.Tensor) -> torch.Tensor:
    # Raised cosine: 1 up to 0.9 of the cut-off frequency, 0 from 1.1 on.
    return 0.5 * (1 + torch.cos(torch.pi * ((ratio - 0.9) / 0.2).clamp(0, 1))) * (ratio < 1.1)


def _fine_box(microscope: Microscope) -> int:
    """Voxels of the grid that beads are spread on: at most 1 nm each, a multiple of the box."""
    return microscope.box * math.ceil(microscope.voxel_size_nm)


def _unit_sum(multiplicity: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    return power / _row_sums(multiplicity * power)[:, None]


def _to_volume(spectrum: torch.Tensor, plan: _Plan, microscope: Microscope) -> torch.Tensor:
    box = microscope.box
    full = torch.zeros(len(spectrum), box * box * (box // 2 + 1), dtype=torch.complex64, device=spectrum.device)
    full[:, plan.in_box] = spectrum
    return torch.fft.irfftn(full.view(-1, box, box, box // 2 + 1), s=(box,) * 3, dim=(1, 2, 3), norm="forward")


def _standardised(volumes: torch.Tensor) -> torch.Tensor:
    n_voxels = volumes[0].numel()
    flat = volumes.flatten(1)
    flat = flat - (_row_sums(flat) / n_voxels)[:, None]
    variance = _row_sums(flat.square()) / n_voxels
    return (flat * torch.where(variance > 0, variance, 1).rsqrt()[:, None]).view_as(volumes)


def _row_sums(rows: torch.Tensor) -> torch.Tensor:
    # In two steps, each too short to be split between threads: the same bits whatever the batch.
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 64))
    return padded.unflatten(1, (-1, 64)).sum(2).sum(1)
