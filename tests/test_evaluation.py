"""Accuracy over episodes, intervals, calibration error, area under the ROC curve."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cryo_fewshot.adaptation import Adaptation, combined_logits
from cryo_fewshot.baseline import baseline_logits
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import (
    area_under_roc,
    confusion,
    correct_counts,
    expected_calibration_error,
    mean_accuracy,
    mean_and_interval,
    predict,
    reliability,
)
from cryo_fewshot.protonet import prototype_logits

LABELS = np.repeat(np.arange(7), 20)


LABEL_AS_EMBEDDING = F.one_hot(torch.from_numpy(LABELS)).float()


def episodes(n_episodes=50, n_shot=5):
    return sample_episodes(LABELS, range(7), n_way=5, n_shot=n_shot, n_query=10, n_episodes=n_episodes, seed=0)


def adaptation(dim=16, **settings):
    torch.manual_seed(1)
    return Adaptation(dim, **settings).eval()


@pytest.mark.parametrize("n_shot", [1, 5])
def test_an_encoder_that_returns_the_label_scores_one(n_shot):
    tasks, model = episodes(n_shot=n_shot), adaptation(7)
    with torch.no_grad():
        projected = model.project(LABEL_AS_EMBEDDING)
    for embeddings, head in (
        (LABEL_AS_EMBEDDING, prototype_logits),
        (LABEL_AS_EMBEDDING, baseline_logits),
        (projected, partial(combined_logits, model)),
    ):
        assert (correct_counts(predict(embeddings, tasks, head)) == 50).all()


@pytest.mark.parametrize("n_episodes", [1, 3])
def test_the_mean_accuracy_is_the_share_of_right_answers(n_episodes):
    noise, tasks = torch.randn(len(LABELS), 3, generator=torch.Generator().manual_seed(0)), episodes(n_episodes)
    right = predict(noise, tasks, prototype_logits) == np.arange(5)[:, None]
    assert mean_accuracy(noise, tasks, prototype_logits) == pytest.approx(right.mean())


def test_an_encoder_that_returns_noise_scores_chance():
    noise = torch.randn(len(LABELS), 7, generator=torch.Generator().manual_seed(0))
    correct = correct_counts(predict(noise, episodes(400), prototype_logits))
    assert correct.mean() / 50 == pytest.approx(0.2, abs=0.03)


def test_confusion_counts_queries_by_class():
    tasks = episodes()
    predictions = predict(LABEL_AS_EMBEDDING, tasks, prototype_logits)
    predictions[0, 0, 0] = 1  # one query of the first way now goes to the second
    counts = confusion(predictions, tasks, 7)
    true, wrong = tasks.classes[0, :2]
    assert counts.sum() == tasks.query.size
    assert counts[true, wrong] == 1
    assert counts.sum() - np.trace(counts) == 1


def test_the_interval_is_that_of_the_mean():
    accuracies = np.random.default_rng(0).binomial(75, 0.8, size=1000) / 75
    mean, interval = mean_and_interval(accuracies)
    assert mean == pytest.approx(0.8, abs=0.01)
    assert interval == pytest.approx(1.96 * (0.8 * 0.2 / 75 / 1000) ** 0.5, rel=0.1)


def test_scores_are_counted_rightly():
    assert area_under_roc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5
    assert expected_calibration_error(np.full(100, 0.75), np.arange(100) < 75) == pytest.approx(0)
    assert expected_calibration_error(np.full(100, 0.95), np.arange(100) < 75) == pytest.approx(0.2)


def test_predictions_do_not_depend_on_the_chunk():
    noise = torch.randn(len(LABELS), 7, generator=torch.Generator().manual_seed(0))
    whole = predict(noise, episodes(), prototype_logits)
    for chunk in (1, 7, 50):
        assert (predict(noise, episodes(), prototype_logits, chunk) == whole).all()


def test_predictions_keep_no_gradients():
    noise = torch.randn(len(LABELS), 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    seen = []

    def head(support, queries):
        logits = prototype_logits(support, queries)
        seen.append(logits.requires_grad)
        return logits

    predict(noise, episodes(3), head)
    assert seen == [False]


def test_the_interval_of_few_episodes():
    assert mean_and_interval([0.0, 1.0]) == pytest.approx((0.5, 1.96 * 0.5))
    mean, interval = mean_and_interval([0.25])
    assert mean == 0.25 and np.isnan(interval)


def test_calibration_error_is_taken_in_bins_of_equal_width():
    # Over and under by 0.2: they cancel within a bin and add up over two.
    right = np.tile([1, 1, 1, 1, 0], 20)  # 0.8 of them
    same_bin, two_bins = np.tile([0.6, 1.0], 50), np.repeat([0.6, 1.0], 50)
    assert expected_calibration_error(same_bin, right, n_bins=1) == pytest.approx(0)
    assert expected_calibration_error(two_bins, right, n_bins=15) == pytest.approx(0.2)
    just_apart = np.array([1 / 15 - 1e-9, 1 / 15 + 1e-9])  # in neighbouring ones of the 15 bins
    assert expected_calibration_error(just_apart, [1, 0]) == pytest.approx(0.5, abs=1e-6)


def test_a_reliability_diagram_has_a_row_for_each_bin_with_answers():
    probability = np.array([1.0, 0.95, 0.123456, 0.0999999])
    rows = reliability(probability, np.array([1, 0, 1, 1]))
    assert rows == [
        {"probability": 0.1, "accuracy": 1.0, "n": 1},
        {"probability": 0.1235, "accuracy": 1.0, "n": 1},
        {"probability": 0.975, "accuracy": 0.5, "n": 2},
    ]
    assert reliability(np.full(3, 0.5), np.array([1, 0, 0]), n_bins=1)[0]["accuracy"] == 0.3333


def test_accuracy_is_the_share_of_all_queries():
    tasks = episodes(3)
    noise = torch.randn(len(LABELS), 7, generator=torch.Generator().manual_seed(0))
    right = correct_counts(predict(noise, tasks, prototype_logits)).sum()
    assert mean_accuracy(noise, tasks, prototype_logits) == pytest.approx(right / tasks.query.size)


def test_area_under_roc_counts_pairs():
    inside, outside = np.array([0.3, 0.5, 0.5, 0.9]), np.array([0.5, 0.1, 0.4])
    pairs = [(a > b) + 0.5 * (a == b) for a in inside for b in outside]
    assert area_under_roc(inside, outside) == pytest.approx(np.mean(pairs))
