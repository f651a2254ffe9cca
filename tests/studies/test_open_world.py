"""The pretrained encoder in the open world: unknown classes, paired tasks, reliability, roles of classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from studies.open_world import (
    Rejection,
    _areas,
    draw_unknown,
    evaluated,
    fitted,
    likelihood_ratios,
    paper_like,
    role,
    same_tasks,
    tool_logits,
)
from studies.open_world_tables import surrogates_frame
from studies.pretrained import Pretrained

from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import LATER_REAL
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder

SMOKE = profile_named("smoke")
LABELS = np.repeat(np.arange(6), 9)


@pytest.fixture(scope="module")
def pretrained():
    return Pretrained(*load_encoder())


@pytest.fixture
def runner(tmp_path):
    return Runner(Store(tmp_path))


def some_episodes(classes, n_way=3):
    return sample_episodes(LABELS, classes, n_way=n_way, n_shot=2, n_query=4, n_episodes=30, seed=1)


def test_areas_of_separable_and_of_equal_scores():
    low, high = torch.zeros(2, 5), torch.ones(2, 7)
    assert _areas(high, low) == [1, 1] and _areas(low, high) == [0, 0] and _areas(low, low) == [0.5, 0.5]


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    known, unknown = rng.integers(0, 6, (3, 20)), rng.integers(-2, 4, (3, 11))
    wanted = [
        roc_auc_score(np.r_[np.ones(20), np.zeros(11)], np.r_[one, other])
        for one, other in zip(known, unknown, strict=True)
    ]
    assert _areas(torch.from_numpy(known), torch.from_numpy(unknown)) == pytest.approx(wanted, abs=1e-4)


def test_unknown_particles_belong_to_no_class_of_their_task():
    episodes = some_episodes(range(6))
    drawn = draw_unknown(episodes, LABELS, None, n_query=4)
    assert drawn.shape == (30, 3 * 4)
    for classes, unknown in zip(episodes.classes, drawn, strict=True):
        assert not set(classes) & set(LABELS[unknown])
        assert len(set(unknown)) == 12
    np.testing.assert_array_equal(drawn, draw_unknown(episodes, LABELS, None, n_query=4))


def test_named_unknown_classes_are_the_only_ones():
    drawn = draw_unknown(some_episodes(range(5)), LABELS, [5], n_query=4)
    assert set(LABELS[drawn.ravel()]) == {5}


def test_scores_and_probabilities_are_those_that_the_tool_writes():
    encoder, card = load_encoder()
    calibration = Calibration.from_json(card["calibration"])
    centres = torch.randn(4, 1, encoder.embedding_dim, generator=torch.manual_seed(0))
    scattered = centres + 0.1 * torch.randn(4, 8, encoder.embedding_dim, generator=torch.manual_seed(1))
    embeddings = torch.nn.functional.normalize(scattered, dim=-1)
    support, queries = embeddings[:, :5], embeddings[:, 5:].flatten(0, 1)
    labels = [name for name in "abcd" for _ in range(5)]
    told = build_recogniser(support.flatten(0, 1), labels, calibration).seeing(queries)
    said = told.recognise(queries)
    probabilities = torch.softmax(tool_logits(support[None], queries[None], calibration=calibration)[0], dim=-1)
    ratios = likelihood_ratios(support[None], queries[None], calibration.space)[0]
    np.testing.assert_array_equal(probabilities.argmax(1).numpy(), said.label)
    np.testing.assert_allclose(probabilities.amax(1).numpy(), said.probability, rtol=1e-4)
    np.testing.assert_allclose(ratios.numpy(), said.score, rtol=1e-3)


def test_both_encoders_are_asked_the_same_tasks_and_a_seed_gives_the_same(runner, pretrained, tmp_path):
    evaluation = replace(paper_like(SMOKE, 0.1, 5), n_episodes=20)
    tasks = same_tasks(evaluation)
    found = evaluated(runner, pretrained, "prototype", **tasks)["result"]
    assert found["episodes"] == evaluation.episodes().digest
    assert len(found["n_correct"]) == 20 and found["classes"] == list(evaluation.novel_classes)
    spec = Rejection(strangers=(EMPTY,), **pretrained.digests, **tasks)
    rejected = runner(spec, pretrained)["result"]
    assert rejected["episodes"] == found["episodes"]
    assert all(len(rejected[name]) == 20 for name in ("distance", "likelihood ratio"))
    again, other = Runner(Store(tmp_path / "again")), Pretrained(*load_encoder())
    assert evaluated(again, other, "prototype", **tasks)["result"] == found
    assert again(spec, other)["result"] == rejected


def test_its_accuracy_is_that_of_its_card(runner, pretrained):
    """On a few tasks, of the first of the subtomograms that the card was measured on."""
    evaluation = replace(paper_like(profile_named("extended"), 0.1, 5), n_episodes=40)
    assert set(evaluation.novel_classes) == set(pretrained.card["held_out_classes"]["test"])
    tasks = same_tasks(evaluation)
    tasks["data"] = replace(tasks["data"], n_per_class=25)
    counts = np.array(evaluated(runner, pretrained, "prototype", **tasks)["result"]["n_correct"]) / 75
    expected = {(row["snr"], row["n_shot"]): row["accuracy"] for row in pretrained.card["expected_accuracy"]}
    assert counts.mean() == pytest.approx(expected[0.1, 5], abs=4 * counts.std() / 40**0.5)


def test_volumes_are_brought_to_the_encoder_as_binning_would():
    _, card = load_encoder()
    unbinned, binned = (
        simulate_set(SimulatedData(microscope=Microscope(binning=binning)), {0.1: 2}, ["1OEL"]) for binning in (1, 2)
    )
    assert fitted(binned.volumes, binned.voxel_size_nm, card) is binned.volumes
    found = fitted(unbinned.volumes, unbinned.voxel_size_nm, card)
    torch.testing.assert_close(found, binned.volumes, rtol=0, atol=0.02)


def test_a_class_has_the_role_that_the_card_gives_it():
    card = {"training_classes": ["6QZP", EMPTY], "held_out_classes": {"selection": ["1PMA"], "test": ["1OEL"]}}
    roles = {"6QZP": "trained on", "1PMA": "calibrated on", "1OEL": "held out"}
    assert {name: role(name, card) for name in roles} == roles


def test_surrogates_stand_beside_what_later_work_reports(runner, pretrained):
    small = replace(SMOKE, data=replace(SMOKE.data, n_per_class=6), n_test_episodes=10)
    frame = surrogates_frame(runner, pretrained, small, shots=[3])
    assert list(zip(frame["set"], frame["n_way"], strict=True)) == [("noble", 7)] * 2 + [("guo", 6)] * 2
    assert frame.set_index("set").loc["guo", "later"].unique() == [LATER_REAL["guo", 3][0]]
    assert frame["accuracy"].between(1 / 7, 1).all()
