"""Particles of one known class among simulated ones of every other; and runs of the command on known particles."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from studies import real_particles
from studies.demonstration import Demonstration
from studies.pretrained import Pretrained
from studies.real_particles import DecoyDraws, draws_text, ranks_frame
from studies.spectra import (
    binned_snr,
    matched,
    mean_power,
    microscope_of,
    noise_free,
    phase_randomised,
    radii,
    with_noise_of,
)

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import band_limited
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "ribosome70S_relion5_2dstacks"
MICROSCOPE = Microscope(binning=2)
SMALL = {"classes": ("6QZP", "1OEL", "1S3X"), "n_draws": 4, "n_training": 30}
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ribosomes (../shared/real) are absent")


def volumes(n=12, names=("6QZP",), snr=0.1):
    return simulate_set(SimulatedData(n_per_class=n, microscope=MICROSCOPE, seed=5), {snr: n}, names).volumes


def test_decoys_have_the_spectrum_and_not_the_shape():
    particles = band_limited(volumes())
    decoys = phase_randomised(particles)
    moduli = [torch.fft.rfftn(group, dim=(1, 2, 3)).abs() for group in (particles, decoys)]
    assert torch.allclose(*moduli, atol=1e-2 * float(moduli[0].max()))
    assert (particles * decoys).mean((1, 2, 3)).abs().max() < 0.2
    assert torch.equal(decoys, phase_randomised(particles)) and not torch.equal(decoys, phase_randomised(particles, 1))


def test_matched_particles_have_the_others_mean_spectrum():
    bins, particles, others = radii(20), volumes(), volumes(names=("1S3X",), snr=0.03)
    power, wanted = mean_power(matched(particles, others, bins), bins), mean_power(others, bins)
    held = wanted > 1e-3 * wanted.max()
    # Each volume is standardised in the end, so powers agree up to a few per cent.
    assert (power[held] / wanted[held] - 1).abs().max() < 0.3
    assert (mean_power(particles, bins)[held] / wanted[held] - 1).abs().max() > 1


def test_noise_is_that_of_the_measured_particles_and_the_snr_that_of_the_microscope():
    signals, measured = noise_free(("6QZP",), 60, MICROSCOPE, 0), band_limited(volumes(60, ("empty",)))
    noise = with_noise_of(signals, measured, 1e-9)
    bins = radii(20)
    power, wanted = mean_power(noise, bins)[1:9], mean_power(measured, bins)[1:9]
    assert (power / wanted - 1).abs().max() < 0.15
    # Signal and noise of one seed, drawn by the microscope itself: their variances after binning.
    seeds = torch.arange(40)
    beads = SimulatedData(n_per_class=40, microscope=MICROSCOPE).beads_of("6QZP", seeds)
    clean, noisy = (simulate(beads, seeds, snr, MICROSCOPE) for snr in (None, 0.1))
    share = (clean * noisy).mean((1, 2, 3)).square()  # of the variance that is signal
    assert float((share / (1 - share)).mean()) == pytest.approx(binned_snr(0.1, MICROSCOPE), rel=0.1)


def test_simulated_ribosomes_are_found_among_all_classes(tmp_path):
    """Simulated ribosomes in the place of the real ones: an easy case with a known answer."""
    pretrained = Pretrained(*load_encoder())
    np.savez(tmp_path / "ribosomes.npz", volumes=volumes().numpy(), voxel_size_nm=2.0)
    particles, runner = open_particles(tmp_path / "ribosomes.npz", dark_protein=True), Runner(Store(tmp_path))
    entry = real_particles.real_particles(runner, pretrained, particles, MICROSCOPE, **SMALL)
    tried, support = entry["result"]["tried"], entry["result"]["support"]
    assert tried["CTF undone"]["first"] > 0.8 and tried["CTF undone"]["rank_together"] == 1
    assert tried["CTF undone"] == tried["CTF left in"]  # volumes hold no CTF to undo
    assert support["in their own noise"]["real_right"] > 0.6
    frame = ranks_frame(entry).set_index("Real particles")
    assert frame.loc["CTF undone", "Likeliest"] == f"{tried['CTF undone']['first']:.0%}" and len(frame) == len(tried)


@needs_real
def test_tilts_and_defocus_are_those_of_the_file():
    measured = microscope_of(open_particles(REAL / "particles.star"), MICROSCOPE)
    assert 55 < measured.tilt_max < 65 and 2.5 < measured.defocus_min_um < measured.defocus_max_um < 3.5


def test_hits_are_counted_by_particle_and_the_interval_over_particles_is_theirs(monkeypatch):
    volumes = torch.zeros(8, 8, 8, 8)
    volumes[1:, 4, 4, 4] = 1  # taken for real where the middle is bright; all but one real particle is
    monkeypatch.setattr(real_particles, "features_of", lambda encoder, group: group[:, 4, 4, 4, None])
    monkeypatch.setattr(real_particles, "log_likelihoods", lambda _, support, asked: torch.cat([asked, 1 - asked], 1))
    monkeypatch.setattr(real_particles.spectra, "phase_randomised", lambda group, seed: torch.zeros_like(group))
    spec = DecoyDraws(encoder="", particles="", n_shot=2, n_phases=3, n_draws=20)
    found = spec.run(None, SimpleNamespace(encoder=None), volumes)
    assert found["by_particle"] == [0.5] + [1.0] * 7  # its decoy is right
    assert found["right"] == pytest.approx(15 / 16, abs=0.02)
    low, middle, high = found["particles"]
    assert low < middle < high == 1.0 and low == pytest.approx(13 / 16, abs=0.07)
    assert set(np.round(found["draws"], 3)) <= {0.917, 1.0}
    entry = {"spec": {"n_shot": 2}, "result": found}
    assert f"2 labelled ones of each, {found['right']:.1%}" in draws_text([entry])
    assert "holds the 90%" in draws_text([entry], 0.9) and "does not hold the 50%" in draws_text([entry], 0.5)


def test_the_demonstration_reports_what_it_wrote_and_its_accuracy(tmp_path):
    encoder, _ = load_encoder()
    spec = Demonstration(
        encoder=digest_of(*encoder.state_dict().values()),
        classes=("1OEL", "3KUY"),
        outsiders=("4NMN",),
        n_particles=12,
        n_averaged=8,
        snr=0.3,
    )
    result = Runner(Store(tmp_path))(spec)["result"]
    assert "run1/particles.star" in result["files"] and "run1/report.html" in result["files"]
    assert result["accuracy"] > 0.8
    assert sum(result["counts"]["most probable"]) == 36
    assert str(tmp_path) not in str(result["printed"]) and "/tmp" not in str(result["printed"])
    assert all(name in spec.classes for name in result["averages"])
