"""Corrections that bring particles nearer to simulated ones without labels, and decoys that have no shape."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.resampling import band_limited
from cryo_fewshot.particles.tilt_stacks import TiltStacks
from cryo_fewshot.recognition.pretraining import spec_of
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.imaging import noise_powers, simulate, volume_spectra
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition
from cryo_fewshot.simulation.on_the_fly import simulate_on_the_fly


def microscope_of(particles: Particles, like: Microscope) -> Microscope:
    """`like` with the tilt series and the defocus that the files of tilt stacks name; `like` itself for other files."""
    source = particles.source
    if not isinstance(source, TiltStacks) or source.ctfs is None:
        return like
    cosines = np.concatenate([rotations[:, 2, 2] for rotations in source.rotations]).clip(-1, 1)
    # The 5th percentile: single images beyond the tilt range of most particles do not widen it.
    end = round(float(np.rad2deg(np.arccos(np.percentile(cosines, 5)))), 1)
    n_tilts = len(source.rotations[0])
    micrometres = np.concatenate([ctfs[:, :2].mean(1) for ctfs in source.ctfs]) / 1e4
    low, high = np.percentile(micrometres, [5, 95]).round(2)
    return replace(
        like,
        tilt_min=-end,
        tilt_max=end,
        tilt_increment=round(2 * end / (n_tilts - 1), 2),
        defocus_min_um=float(low),
        defocus_max_um=float(high),
    )


def radii(box: int) -> torch.Tensor:
    """Fourier shell of each frequency of `rfftn`, `(b, b, b // 2 + 1)` int64."""
    full, half = torch.fft.fftfreq(box) * box, torch.fft.rfftfreq(box) * box
    return (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2).sqrt().round().long()


def mean_power(volumes: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Mean over volumes `(n, b, b, b)` and over the frequencies of each bin of the squared modulus, `(n_bins,)`."""
    power = torch.fft.rfftn(volumes, dim=(1, 2, 3)).abs().square().mean(0).flatten()
    counts = torch.bincount(bins.flatten())
    return torch.zeros(len(counts)).index_add_(0, bins.flatten(), power) / counts.clamp(min=1)


def matched(volumes: torch.Tensor, like: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Volumes scaled to the mean power of others in each bin, by one factor per bin for all of them."""
    own, wanted = mean_power(volumes, bins), mean_power(like, bins)
    factors = torch.where(own > 1e-6 * own.max(), (wanted / own.clamp(min=1e-12)).sqrt(), 1.0)
    return filtered(volumes, factors[bins])


def phase_randomised(volumes: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """A decoy of each volume: the same modulus at every frequency, random phases. Its spectrum, but no shape."""
    white = torch.randn(volumes.shape, generator=torch.Generator().manual_seed(seed))
    phases = torch.fft.rfftn(white, dim=(1, 2, 3))
    return filtered(volumes, phases / phases.abs().clamp(min=1e-9), keep_phase=False)


def training_like(card: dict, n: int) -> torch.Tensor:
    """Simulated particles as the training of a card's encoder met them, `(n, b, b, b)`."""
    names = [card["training_classes"][i % len(card["training_classes"])] for i in range(n)]
    return simulate_on_the_fly(names, spec_of(card).acquisitions, np.random.default_rng(5))


def noise_free(class_names: Sequence[str], n_per_class: int, microscope: Microscope, seed: int) -> torch.Tensor:
    """Particles without noise, class by class: `(n_classes * n_per_class, b, b, b)`."""
    recipe = SimulatedData(n_per_class=n_per_class, microscope=microscope, seed=seed)
    volumes = []
    for name in class_names:
        seeds = recipe.sample_seeds(name, 0.0)
        volumes.append(simulate(recipe.beads_of(name, seeds), seeds, None, microscope))
    return torch.cat(volumes)


def binned_snr(snr: float, microscope: Microscope) -> float:
    """The ratio of variances after binning, which drops noise, of a volume that had `snr` before it."""
    seeds, box = torch.arange(32), microscope.final_box
    powers = noise_powers(draw_acquisition(seeds, microscope), microscope)
    halves = volume_spectra(torch.zeros(1, box, box, box), microscope)[1]
    return snr / float((powers * 2 * halves).sum(1).mean())


def with_noise_of(signals: torch.Tensor, measured: torch.Tensor, ratio: float, seed: int = 0) -> torch.Tensor:
    """Signals, each standardised, in Gaussian noise with the mean power that measured volumes have at each frequency.

    ratio : of variances in the finished volume. Measured volumes hold signal too, so the noise is slightly too strong.
    """
    spectrum = torch.fft.rfftn(measured, dim=(1, 2, 3)).abs().square().mean(0).sqrt()
    noise = filtered(torch.randn(signals.shape, generator=torch.Generator().manual_seed(seed)), spectrum)
    signals = signals / signals.flatten(1).std(dim=1).clamp(min=1e-12)[:, None, None, None]
    return band_limited(signals * ratio**0.5 + noise)


def filtered(volumes: torch.Tensor, factors: torch.Tensor, keep_phase: bool = True) -> torch.Tensor:
    spectra = torch.fft.rfftn(volumes, dim=(1, 2, 3))
    spectra = (spectra if keep_phase else spectra.abs()) * factors
    return band_limited(torch.fft.irfftn(spectra, s=volumes.shape[1:], dim=(1, 2, 3)))
