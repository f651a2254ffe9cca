"""Calibration on simulated embeddings: thresholds, temperature, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import t as student

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.calibration import (
    Calibration,
    _temperature_terms,
    class_model,
    fit_calibration,
    threshold_for,
)
from cryo_fewshot.recognition.plda import gaussian_log_likelihoods
from cryo_fewshot.recognition.recogniser import build_recogniser

DIM = 10


def test_a_calibration_survives_json(calibration, user):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    support, names, queries, _ = user()
    frames = [build_recogniser(support, names, c).recognise(queries).to_frame() for c in (calibration, again)]
    assert frames[0].equals(frames[1])
    with pytest.raises(UserError, match="calibration"):
        Calibration.from_json({"shots": [1]})


def test_more_shots_are_measured_to_be_better(calibration):
    by_shot = {row["n_shot"]: row for row in calibration.measured}
    assert by_shot[1]["accuracy"] < by_shot[5]["accuracy"] <= by_shot[20]["accuracy"] + 0.01
    assert by_shot[1]["auroc"] < by_shot[5]["auroc"]
    assert all(row["ece"] < 0.05 for row in calibration.measured)


def test_close_relatives_do_not_count_as_outsiders(classes):
    x, labels = classes(12)
    twins = torch.cat([x, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))])
    both = np.r_[labels, labels + 12]
    settings = {"shots": (5,), "n_episodes": 6, "n_axes": DIM}
    apart, together = (
        fit_calibration(twins, both, families=families, **settings) for families in (np.r_[labels, labels], None)
    )
    assert apart.threshold(5, 0.05) < together.threshold(5, 0.05)
    assert apart.measured[0]["kept"] > together.measured[0]["kept"]


def test_too_little_to_calibrate_on_is_refused(classes):
    x, labels = classes(3)
    with pytest.raises(UserError, match="3 held-out classes"):
        fit_calibration(x, labels)
    x, labels = classes(5, n=10)
    with pytest.raises(UserError, match="10 particles in a held-out class"):
        fit_calibration(x, labels)


def test_a_threshold_is_more_careful_with_fewer_classes():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=1000) + 0.5 * rng.normal() for _ in range(40)]
    few, many = threshold_for(scores[:4], 0.05, 0.9), threshold_for(scores, 0.05, 0.9)
    plain = np.quantile(np.concatenate(scores), 0.95)
    assert plain < many
    assert (
        np.mean([(part >= few).mean() for part in scores[:4]])
        < 0.05
        > np.mean([(part >= many).mean() for part in scores])
    )


def test_the_margin_of_a_threshold_is_students():
    """The rate at the chosen threshold plus t sd / sqrt(n) keeps the promise; that of a lower one does not."""
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=20000) + shift for shift in (-0.6, -0.2, 0.2, 0.6)]
    for confidence in (0.9, 0.7):
        threshold = threshold_for(scores, 0.05, confidence)
        accepted = np.array([(part >= threshold).mean() for part in scores])
        bound = accepted.mean() + student.ppf(confidence, 3) * accepted.std(ddof=1) / 2
        assert 0.96 * 0.05 < bound <= 0.05  # thresholds are tried in steps of 4 %


def test_a_promise_that_nothing_keeps_accepts_only_the_best_score():
    scores = [np.array([0.0, 1.0]), np.array([2.0, 3.0])]
    assert threshold_for(scores, 0.01, 0.9) == 3


def test_thresholds_and_temperatures_lie_between_those_measured(calibration):
    for rate, column in ((0.01, 0), (0.05, 2), (0.2, 4)):
        for n_shot, row in ((1, 0), (5, 1), (20, 2)):
            assert calibration.threshold(n_shot, rate) == pytest.approx(calibration.thresholds[row][column])
    between = calibration.threshold(2, 0.07)
    corners = [calibration.thresholds[row][column] for row in (0, 1) for column in (2, 3)]
    assert min(corners) < between < max(corners)
    constant, of_shots, of_ways = calibration.temperature_terms
    expected = np.exp(constant + of_shots * np.log(5) + of_ways * np.log(3))
    assert calibration.temperature(5, 3) == pytest.approx(expected)
    expected = np.exp(constant + of_shots * np.log(20) + of_ways * np.log(3))
    assert calibration.temperature(100, 3) == calibration.temperature(20, 3) == pytest.approx(expected)
    assert calibration.temperature(0.5, 3) == calibration.temperature(1, 3)


def test_the_temperature_undoes_a_scale():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20000, 3)) * 2
    true = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).cumsum(1) > rng.random((20000, 1))
    true = true.argmax(1)
    cells = {(n_shot, n_way): (4 * logits, true) for n_shot in (1, 5) for n_way in (3, 8)}
    terms = _temperature_terms(cells)
    np.testing.assert_allclose(terms, [np.log(4), 0, 0], atol=0.05)


def test_the_scatter_within_is_between_the_calibrations_and_the_supports(calibration, classes):
    """n - n_way degrees of freedom of the support, and a prior that weighs as ten."""
    x, labels = classes(4, n=6, noise=2.0)
    support = calibration.space.project(x)
    members = torch.from_numpy(labels[:, None] == np.arange(4)).float()
    model = class_model(calibration.space, support, members)
    means = torch.stack([support[labels == c].mean(0) for c in range(4)])
    scatter = (support - means[labels]).square().sum().item() / DIM
    assert model.within.item() == pytest.approx((scatter + 10) / (24 - 4 + 10), rel=1e-4)
    queries = support[:7]
    known = gaussian_log_likelihoods(queries, model.means, model.variances + model.within)
    spread = (model.between + model.within).reshape(1, -1)
    unknown = gaussian_log_likelihoods(queries, torch.zeros_like(spread), spread)[:, 0]
    np.testing.assert_allclose(model.unknown_class(queries), unknown, rtol=1e-4)
    expected = known.exp().mean(1).log() - unknown
    np.testing.assert_allclose(model.scores(queries, model.log_likelihoods(queries)), expected, rtol=1e-3, atol=1e-3)
