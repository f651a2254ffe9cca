"""The bounds: likelihood under the simulator, and accuracy over all tasks without drawing any."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from studies.bounds import (
    Oracle,
    SupervisedEvaluation,
    log_likelihood_ratios,
    oracle_accuracy,
    supervised_run,
)

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import load_complex

MICROSCOPE = Microscope(binning=2)
SEEDS = torch.arange(12) + 5000


def beads_of(key):
    entry = load_complex(key)
    return entry.positions_nm, entry.masses_kda


def test_the_true_complex_in_its_true_pose_is_the_likeliest():
    true, other = beads_of("1OEL"), beads_of("3CF3")
    acquisition = draw_acquisition(SEEDS, MICROSCOPE)
    volumes = simulate([true] * len(SEEDS), SEEDS, 0.05, MICROSCOPE)
    right = log_likelihood_ratios(volumes, true, acquisition, 0.05, MICROSCOPE)
    moved = replace(acquisition, shifts_nm=acquisition.shifts_nm + 3.0)
    turned = replace(acquisition, quaternions=np.roll(acquisition.quaternions, 1, axis=0))
    assert (right > 0).all()
    assert (right > log_likelihood_ratios(volumes, true, moved, 0.05, MICROSCOPE)).all()
    assert (right > log_likelihood_ratios(volumes, true, turned, 0.05, MICROSCOPE)).all()
    assert (right > log_likelihood_ratios(volumes, other, acquisition, 0.05, MICROSCOPE)).all()


def test_noise_alone_is_likelier_as_noise():
    volumes = simulate([None] * len(SEEDS), SEEDS, 0.05, MICROSCOPE)
    ratios = log_likelihood_ratios(volumes, beads_of("1OEL"), draw_acquisition(SEEDS, MICROSCOPE), 0.05, MICROSCOPE)
    assert (ratios < 0).all()


def test_the_scale_of_a_volume_does_not_matter():
    beads, acquisition = beads_of("1OEL"), draw_acquisition(SEEDS[:3], MICROSCOPE)
    volumes = simulate([beads] * 3, SEEDS[:3], 0.05, MICROSCOPE)
    ratios = [log_likelihood_ratios(volumes * scale, beads, acquisition, 0.05, MICROSCOPE) for scale in (1, 7)]
    torch.testing.assert_close(*ratios, rtol=1e-4, atol=1e-2)


def test_an_unbinned_box_tells_more():
    """Binning cuts off the soft edge of the density, and the noise that fixes a volume's scale."""
    beads, acquisition = beads_of("1OEL"), draw_acquisition(SEEDS[:4], MICROSCOPE)
    ratios = []
    for microscope in (MICROSCOPE, Microscope()):
        volumes = simulate([beads] * 4, SEEDS[:4], 0.1, microscope)
        ratios.append(log_likelihood_ratios(volumes, beads, acquisition, 0.1, microscope))
    assert (ratios[1] > ratios[0]).all() and (ratios[0] > 0.5 * ratios[1]).all()


def test_accuracy_over_all_tasks_equals_counting_them():
    scores = np.random.default_rng(0).normal(size=(6, 4, 6))
    right = [
        scores[label, sample, label] == max(scores[label, sample, list(task)])
        for label in range(6)
        for sample in range(4)
        for task in combinations(range(6), 3)
        if label in task
    ]
    assert oracle_accuracy(scores, 3)[0] == pytest.approx(np.mean(right))


def test_the_oracle_finds_poses_and_classes(tmp_path):
    evaluation = table_1(profile_named("quick"), snrs=[0.1], shots=[5], methods=["ProtoNet3D"])[0].evaluation
    spec = Oracle(evaluation=evaluation, n_per_class=1)
    result = Runner(Store(tmp_path))(spec)["result"]
    scores = np.array(result["scores"])
    assert scores.shape == (8, 1, 8)
    assert oracle_accuracy(scores, 5)[0] > 0.85


def test_the_supervised_network_never_trains_on_a_test_sample(tmp_path):
    smoke = profile_named("smoke")
    evaluation = table_1(smoke, snrs=[0.1], shots=[5], methods=["baseline"])[0].evaluation
    run = supervised_run(evaluation, 15, evaluation.encoder)
    assert run.split.base == evaluation.novel_classes
    for name in run.split.base:
        trained, tested = (set(data.sample_seeds(name, 0.1).tolist()) for data in (run.data, evaluation.novel_data))
        assert len(trained) == 15 and not trained & tested
    entry = Runner(Store(tmp_path))(SupervisedEvaluation(encoder=run, evaluation=evaluation))
    assert len(entry["result"]["n_correct"]) == evaluation.n_episodes


def test_upright_is_a_pose_like_any_other():
    beads = beads_of("1OEL")
    upright = Acquisition(np.array([[0.0, 0, 0, 1]]), np.zeros((1, 3)), np.array([4.0]))
    volumes = simulate([beads], SEEDS[:1], 0.1, MICROSCOPE, acquisition=upright)
    assert log_likelihood_ratios(volumes, beads, upright, 0.1, MICROSCOPE) > 100
