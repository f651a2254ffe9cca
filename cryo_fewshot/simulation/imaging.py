"""The microscope: beads of a complex -> one noisy subtomogram with pose, CTF, missing wedge and a stated SNR.

Everything between the beads and the final volume is linear, so it is done once in Fourier space, and only at the
frequencies that matter: the signal's end at its low-pass, a tenth of all, and of the noise only what binning keeps is
drawn. A binned volume is the Fourier crop of the unbinned volume of the same sample, at the same stated SNR.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch_ctf import calculate_total_phase_shift

from ..errors import UserError
from ..fourier import slice_weights
from ..randomness import complex_normals
from .density import bead_spectra, fine_box, one_by_one
from .microscope import Acquisition, Microscope, draw_acquisition


def simulate(
    beads: Sequence[tuple[np.ndarray, np.ndarray] | None],
    seeds: torch.Tensor,
    snr: float | None,
    microscope: Microscope,
    device: torch.device | str = "cpu",
    acquisition: Acquisition | None = None,
) -> torch.Tensor:
    """Simulate one subtomogram per entry of `beads`.

    SNR = var(signal) / var(noise) over the whole box, after CTF and missing wedge, before binning: of exactly what a
    network sees where nothing is binned. The noise is white in each tilt image; a share passes the CTF, the rest the
    detector's MTF; as both are Gaussian, their sum is drawn at once from the summed power spectrum.

    beads : per sample, positions `(n_beads, 3)` zyx in nm and masses `(n_beads,)`; None for no macromolecule
    seeds : `(n,)` int64, one per sample; sample i depends on seeds[i] alone, not on the batch
    snr : ratio of variances; None for no noise
    acquisition : poses, shifts and defocus to use instead of those drawn from the seeds

    Returns `(n, b, b, b)` float32 on `device`, b = microscope.final_box; each volume with mean 0 and variance 1.
    """
    if snr is not None and snr <= 0:
        raise UserError(f"snr={snr}: give a positive ratio of variances, or None for no noise")
    seeds = torch.as_tensor(seeds, dtype=torch.int64)
    acquisition = acquisition or draw_acquisition(seeds, microscope)
    signal = signal_spectra(beads, acquisition, microscope, device)
    return finished_volumes(with_noise(signal, seeds, snr, acquisition, microscope), microscope)


def signal_spectra(
    beads: Sequence[tuple[np.ndarray, np.ndarray] | None],
    acquisition: Acquisition,
    microscope: Microscope,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """What the microscope makes of the posed beads, before noise: `(n, n_signal)` complex64, unit power over the box.

    Frequencies come in order of their distance from zero, as everywhere in this module; an empty box stays zero.
    """
    signal = imaged(bead_spectra(beads, acquisition, microscope, device), acquisition, microscope)
    power = signal_power(signal, microscope)
    return signal * torch.where(power > 0, power, 1).rsqrt()[:, None]


def imaged(spectra: torch.Tensor, acquisition: Acquisition, microscope: Microscope) -> torch.Tensor:
    """Spectra of `density.bead_spectra` after low-pass, CTF and missing wedge, `(n, n_signal)`, in the beads' scale."""
    plan = _plan(microscope, str(spectra.device))
    ctf = plan.ctf(acquisition.defocus_um)
    signal = spectra[:, plan.in_fine_grid] * plan.signal_gain
    return signal * ctf[:, plan.shell[: plan.n_signal]]


def signal_power(signal: torch.Tensor, microscope: Microscope) -> torch.Tensor:
    """Variance over the box of what `imaged` returns, `(n,)`."""
    plan = _plan(microscope, str(signal.device))
    return _row_sums(plan.multiplicity[: plan.n_signal] * signal.abs().square())


def with_noise(
    signal: torch.Tensor, seeds: torch.Tensor, snr: float | None, acquisition: Acquisition, microscope: Microscope
) -> torch.Tensor:
    """Spectra `(n, n_final)` of finished volumes: signal `(n, n_signal)` and noise of variance 1 / snr."""
    plan = _plan(microscope, str(signal.device))
    if snr is None:
        spectrum = torch.zeros(len(signal), plan.n_final, dtype=torch.complex64, device=signal.device)
    else:
        noise = complex_normals(seeds.to(signal.device), plan.counters) * plan.plane_correction
        spectrum = noise * noise_powers(acquisition, microscope, signal.device).sqrt() * snr**-0.5
    kept = min(plan.n_signal, plan.n_final)
    spectrum[:, :kept] += signal[:, :kept]
    return spectrum


def finished_volumes(spectrum: torch.Tensor, microscope: Microscope) -> torch.Tensor:
    """Volumes `(n, b, b, b)` of spectra `(n, n_final)`, b = microscope.final_box, each with mean 0 and variance 1."""
    box, plan = microscope.final_box, _plan(microscope, str(spectrum.device))
    full = torch.zeros(len(spectrum), box * box * (box // 2 + 1), dtype=torch.complex64, device=spectrum.device)
    full[:, plan.in_final_box] = spectrum
    full = full.view(-1, box, box, box // 2 + 1)
    inverse = one_by_one(lambda part: torch.fft.irfftn(part, s=(box,) * 3, dim=(1, 2, 3), norm="forward"), full)
    return standardised(inverse)


def frequencies_per_nm(microscope: Microscope, device: torch.device | str = "cpu") -> torch.Tensor:
    """Distance from zero of each frequency of the finished volume, `(n_final,)`."""
    plan = _plan(microscope, str(device))
    return 10 * plan.shell_frequency.sqrt()[plan.shell[: plan.n_final]]


def noise_powers(acquisition: Acquisition, microscope: Microscope, device: torch.device | str = "cpu") -> torch.Tensor:
    """Variance of the noise at each frequency of the finished volume, `(n, n_final)`, at SNR 1; zero in the wedge."""
    plan = _plan(microscope, str(device))
    ctf = plan.ctf(acquisition.defocus_um)
    # Both parts have unit power over the unbinned box before they are mixed.
    before = plan.noise_gain.square() / _row_sums(ctf.square() * plan.shell_noise_power)[:, None]
    power = microscope.noise_before_ctf * before * ctf.square()[:, plan.shell[: plan.n_final]]
    return power + (1 - microscope.noise_before_ctf) * plan.detector_noise_power


def volume_spectra(volumes: torch.Tensor, microscope: Microscope) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients `(n, n_final)` of finished volumes, and how many independent ones each stands for, `(n_final,)`.

    Half of a pair on the plane kx = 0, where a frequency and its opposite are both listed; else one.
    """
    plan = _plan(microscope, str(volumes.device))
    spectra = one_by_one(lambda part: torch.fft.rfftn(part, dim=(1, 2, 3), norm="forward"), volumes)
    return spectra.flatten(1)[:, plan.in_final_box], plan.multiplicity[: plan.n_final] / 2


@dataclass(frozen=True)
class _Plan:
    """Per-frequency quantities of one microscope, frequencies in order of their distance from zero.

    So the signal's are the first n_signal, within the low-pass, and the finished volume's the first n_final.
    """

    n_signal: int
    n_final: int
    in_fine_grid: torch.Tensor  # (n_signal,) index into the flattened spectrum of the fine grid
    in_final_box: torch.Tensor  # (n_final,) index into the flattened spectrum of the finished volume
    counters: torch.Tensor  # (n_final,) names a frequency to the random generator, whatever the box
    multiplicity: torch.Tensor  # (n,) 2 where the conjugate half is left out, else 1
    plane_correction: torch.Tensor  # (n_final,) sqrt(2) on kx = 0: the inverse transform averages a pair of draws
    signal_gain: torch.Tensor  # (n_signal,)
    noise_gain: torch.Tensor  # (n_final,)
    detector_noise_power: torch.Tensor  # (n_final,) of the noise after the CTF, with unit power over the box
    shell_noise_power: torch.Tensor  # (n_shells,) squared noise gain summed over each shell
    shell_frequency: torch.Tensor  # (n_shells,) squared frequencies, per squared angstrom
    envelope: torch.Tensor  # (n_shells,)
    shell: torch.Tensor  # (n,) shell of each frequency
    microscope: Microscope

    def ctf(self, defocus_um: np.ndarray) -> torch.Tensor:
        """`(n, n_shells)`: CTF times envelope, negative at low frequency where protein is dark."""
        m, device = self.microscope, self.shell.device
        phase = calculate_total_phase_shift(
            defocus_um=torch.as_tensor(defocus_um, dtype=torch.float32, device=device)[:, None],
            voltage_kv=torch.tensor(m.voltage_kv, device=device),
            spherical_aberration_mm=torch.tensor(m.spherical_aberration_mm, device=device),
            phase_shift_degrees=torch.tensor(0.0, device=device),
            amplitude_contrast_fraction=torch.tensor(m.amplitude_contrast, device=device),
            fftfreq_grid_angstrom_squared=self.shell_frequency,
        )
        return (torch.sin(phase) if m.dark_protein else -torch.sin(phase)) * self.envelope


@lru_cache(maxsize=32)
def _plan(microscope: Microscope, device: str) -> _Plan:
    box, final, fine, width = microscope.box, microscope.final_box, fine_box(microscope), microscope.width_nm
    k = torch.arange(1 - box // 2, box // 2)  # Nyquist planes hold each frequency once for both signs: left out
    kz, ky, kx = torch.meshgrid(k, k, torch.arange(box // 2), indexing="ij")
    squared = kz**2 + ky**2 + kx**2
    inside = (squared > 0) & (squared < (box // 2) ** 2)
    by_radius = torch.argsort(squared[inside], stable=True)
    kz, ky, kx, squared = (part[inside][by_radius] for part in (kz, ky, kx, squared))
    frequency = squared.double().sqrt() / width
    low_pass = _soft_edge(frequency * microscope.low_pass_nm)
    n_signal, n_final = int((low_pass > 0).sum()), int((squared < (final // 2) ** 2).sum())

    def place(grid: int, n: int) -> torch.Tensor:
        return ((kz[:n] % grid) * grid + ky[:n] % grid) * (grid // 2 + 1) + kx[:n]

    coverage, squared_coverage = slice_weights(kz.double(), kx.double(), microscope.tilt_angles)
    sinc = torch.sinc(kz / fine) * torch.sinc(ky / fine) * torch.sinc(kx / fine)
    multiplicity = torch.where(kx > 0, 2.0, 1.0).double()
    noise_gain = squared_coverage.sqrt() / coverage.clamp(min=1)
    detector = (noise_gain * torch.exp(-0.5 * (frequency / microscope.mtf_sigma_per_nm) ** 2)).square()
    shells, shell = torch.unique(squared, return_inverse=True)
    shell_noise_power = torch.zeros(len(shells), dtype=torch.float64)
    shell_noise_power.index_add_(0, shell, multiplicity * noise_gain.square())
    as_float = {"dtype": torch.float32, "device": device}
    return _Plan(
        n_signal=n_signal,
        n_final=n_final,
        in_fine_grid=place(fine, n_signal).to(device),
        in_final_box=place(final, n_final).to(device),
        counters=(((kz + 512) * 1024 + ky + 512) * 1024 + kx)[:n_final].to(device),
        multiplicity=multiplicity.to(**as_float),
        plane_correction=torch.where(kx > 0, 1.0, 2**0.5)[:n_final].to(**as_float),
        signal_gain=(low_pass * coverage.clamp(max=1) / sinc**3)[:n_signal].to(**as_float),
        noise_gain=noise_gain[:n_final].to(**as_float),
        detector_noise_power=(detector / (multiplicity * detector).sum())[:n_final].to(**as_float),
        shell_noise_power=shell_noise_power.to(**as_float),
        shell_frequency=(shells.double() / (10 * width) ** 2).to(**as_float),
        envelope=torch.exp(-0.5 * shells / (width * microscope.envelope_sigma_per_nm) ** 2).to(**as_float),
        shell=shell.to(device),
        microscope=microscope,
    )


def _soft_edge(ratio: torch.Tensor) -> torch.Tensor:
    # Raised cosine: 1 up to 0.9 of the cut-off frequency, 0 from 1.1 on.
    return 0.5 * (1 + torch.cos(torch.pi * ((ratio - 0.9) / 0.2).clamp(0, 1))) * (ratio < 1.1)


def standardised(volumes: torch.Tensor) -> torch.Tensor:
    """Volumes `(n, d, h, w)`, each brought to mean 0 and variance 1; one without contrast stays as it is."""
    n_voxels = volumes[0].numel()
    flat = volumes.flatten(1)
    flat = flat - (_row_sums(flat) / n_voxels)[:, None]
    variance = _row_sums(flat.square()) / n_voxels
    return (flat * torch.where(variance > 0, variance, 1).rsqrt()[:, None]).view_as(volumes)


def _row_sums(rows: torch.Tensor) -> torch.Tensor:
    # In two steps, each too short to be split between threads: the same bits whatever the batch.
    padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 64))
    return padded.unflatten(1, (-1, 64)).sum(2).sum(1)
