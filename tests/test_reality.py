"""Particles of one known class among simulated ones of every other; and the demonstration of the tool."""

from pathlib import Path

import numpy as np
import pytest

from cryo_fewshot.dataset import SimulatedData, simulate_set
from cryo_fewshot.imaging import Microscope
from cryo_fewshot.particles import open_particles
from cryo_fewshot.results import Store
from cryo_fewshot.shipped import load_encoder
from cryo_fewshot.studies.demonstration import Demonstration, demonstrate
from cryo_fewshot.studies.reality import digest_of, real_particles, reality_words

REAL = Path(__file__).resolve().parents[2] / "shared" / "real" / "ribosome70S_relion5_2dstacks"
MICROSCOPE = Microscope(binning=2)


def test_simulated_ribosomes_are_found_among_all_classes(tmp_path):
    """Particles that the question is easy for, in the place of the real ones."""
    encoder, card = load_encoder()
    recipe = SimulatedData(n_per_class=12, microscope=MICROSCOPE, seed=5)
    volumes = simulate_set(recipe, {0.1: 12}, ["6QZP"]).volumes
    np.savez(tmp_path / "ribosomes.npz", volumes=volumes.numpy(), voxel_size_nm=2.0)
    particles = open_particles(tmp_path / "ribosomes.npz", dark_protein=True)
    store = Store(tmp_path)
    result = real_particles(store, encoder, card, particles, MICROSCOPE)["result"]
    assert np.mean(np.array(result["ranks"]) == 1) > 0.8
    assert np.mean(result["real_right"]) > 0.6
    assert set(result["family"]) == {"5OOM", "6QZP", "5LMO", "4V7R", "5MRC"}
    words = reality_words({"result": result})
    assert f"{np.mean(np.array(result['ranks']) == 1):.0%}" in words
    assert real_particles(store, encoder, card, particles, MICROSCOPE)["result"] == result


@pytest.mark.skipif(not REAL.is_dir(), reason="the real ribosomes (../shared/real) are absent")
def test_the_real_ribosomes_can_be_asked(tmp_path):
    encoder, card = load_encoder()
    particles = open_particles(REAL / "particles.star")
    result = real_particles(Store(tmp_path), encoder, card, particles, MICROSCOPE)["result"]
    assert np.array(result["ranks"]).shape == (100, 20)
    assert 0 <= np.mean(result["real_right"]) <= 1


def test_the_demonstration_tells_what_it_wrote_and_how_right_it_was(tmp_path):
    encoder, _ = load_encoder()
    spec = Demonstration(
        encoder=digest_of(*encoder.state_dict().values()),
        classes=("1OEL", "3KUY"),
        outsiders=("4NMN",),
        n_particles=12,
        n_averaged=8,
        snr=0.3,
    )
    result = demonstrate(Store(tmp_path), spec)["result"]
    assert "run1/particles.star" in result["files"] and "run1/report.html" in result["files"]
    assert result["accuracy"] > 0.8
    assert sum(result["counts"]["most probable"]) == 36
    assert str(tmp_path) not in str(result["printed"]) and "/tmp" not in str(result["printed"])
    assert all(name in spec.classes for name in result["averages"])
