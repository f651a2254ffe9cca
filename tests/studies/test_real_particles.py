"""Particles of one known class among simulated ones of every other; and runs of the command on known particles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from studies import real_particles_figures as figures
from studies.demonstration import Demonstration
from studies.real_particles import real_particles
from studies.spectra import (
    binned_snr,
    matched,
    mean_power,
    microscope_of,
    mirrored,
    multiplied_by_ctf,
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
SMALL = {
    "classes": ("6QZP", "1OEL", "1S3X"),
    "snrs": (0.1,),
    "noise_snrs": (0.1,),
    "n_draws": 4,
    "n_training": 30,
    "n_per_class": 20,
    "n_episodes": 5,
}
FEW = {"held_out_classes": {"test": ["1OEL", "3KUY"]}}  # classes of the control
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


def test_mirrored_twice_is_as_before_and_an_axis_stays():
    particles = volumes(2)
    assert torch.equal(mirrored(mirrored(particles)), particles)
    assert torch.equal(mirrored(particles)[:, 10], particles[:, 10])


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


def test_a_second_ctf_takes_the_long_waves():
    particles, bins = noise_free(("6QZP",), 4, MICROSCOPE, 0), radii(20)
    once, twice = (mean_power(group, bins) for group in (particles, multiplied_by_ctf(particles, MICROSCOPE)))
    assert twice[1] / twice[5] < 0.2 * once[1] / once[5]


def test_simulated_ribosomes_are_found_among_all_classes(tmp_path):
    """Simulated ribosomes in the place of the real ones: an easy case with a known answer."""
    encoder, card = load_encoder()
    card |= FEW
    np.savez(tmp_path / "ribosomes.npz", volumes=volumes().numpy(), voxel_size_nm=2.0)
    particles = open_particles(tmp_path / "ribosomes.npz", dark_protein=True)
    store = Store(tmp_path)
    entry = real_particles(Runner(store), encoder, card, particles, MICROSCOPE, **SMALL)
    result = entry["result"]
    assert result["tried"]["CTF undone"]["first"] > 0.8 and result["tried"]["CTF undone"]["rank_together"] == 1
    assert result["tried"]["CTF undone"] == result["tried"]["CTF left in"]  # volumes hold no CTF to undo
    assert result["support"]["in their own noise"]["real_right"] > 0.6 and result["family"] == ["6QZP"]
    assert result["twins"]["real, CTF undone"]["right"] > 0.9 > 0.7 > result["twins"]["empty, SNR 0.1"]["right"]
    assert result["average"] is None
    assert real_particles(Runner(store), encoder, card, particles, MICROSCOPE, **SMALL)["result"] == result
    frame = figures.correction_frame(entry).set_index("Correction")
    assert frame.loc["CTF undone", "Likeliest"] == f"{result['tried']['CTF undone']['first']:.0%}"
    for name, control in result["unharmed"].items():
        assert frame.loc[name, "Control, SNR 0.1"] == f"{control['0.1'][0]:.3f}"
    assert set(frame.index[frame["Control, SNR 0.1"] == "–"]) == set(result["tried"]) - set(result["unharmed"])


def stored(corrections: dict[str, float], control: dict[str, dict]) -> dict:
    """An entry with the share of each correction and its control."""
    found = {"median_rank": 3.0, "rank_together": 2.0}
    tried = {name: {**found, "first": first} for name, first in corrections.items()}
    return {"spec": {"snrs": [0.1, 0.03]}, "result": {"tried": tried, "unharmed": control}}


def test_the_table_leaves_out_what_the_study_no_longer_holds_and_keeps_the_best():
    entry = stored(
        {"CTF undone; embeddings centred": 0.9, "CTF undone": 0.1015, "CTF undone; masked": 0.278},
        {"CTF undone; masked": {"0.03": [0.8984, 0.002]}},
    )
    frame = figures.correction_frame(entry)
    assert frame["Correction"].tolist() == ["CTF undone", "CTF undone; masked"]
    assert frame["Likeliest"].tolist() == ["10%", "28%"]
    assert frame[["Control, SNR 0.1", "Control, SNR 0.03"]].to_numpy().tolist() == [["–", "–"], ["–", "0.898"]]


def test_decoys_are_listed_with_the_real_particles_first():
    right = {"right": 0.8, "low": 0.731, "high": 0.871}
    kinds = ("6QZP, SNR 0.1", "empty, SNR 0.1", "real, x")
    frame = figures.decoy_frame({"result": {"twins": dict.fromkeys(kinds, right)}})
    assert frame["Particles"].tolist() == ["real, x", "6QZP, SNR 0.1", "noise alone, SNR 0.1"]
    assert frame.iloc[0, 1:].tolist() == ["80%", "73% to 87%"]


@needs_real
def test_the_real_ribosomes_average_to_a_ribosome(tmp_path):
    encoder, card = load_encoder()
    card |= FEW
    particles = open_particles(REAL / "particles.star")
    measured = microscope_of(particles, MICROSCOPE)
    assert 55 < measured.tilt_max < 65 and 2.5 < measured.defocus_min_um < measured.defocus_max_um < 3.5
    result = real_particles(Runner(Store(tmp_path)), encoder, card, particles, MICROSCOPE, **SMALL)["result"]
    power = result["power"]
    assert power["real, CTF undone"][0] > 5 * power["real, CTF left in"][0]
    likeness = result["average"]["likeness"]
    assert max(likeness["6QZP"]) > max(max(likeness[name]) for name in likeness if name not in result["family"])
    assert result["average"]["resolution_nm"] < 8


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
