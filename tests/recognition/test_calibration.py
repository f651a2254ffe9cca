"""A calibration: what it survives, what its numbers mean between those measured, and the model of classes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.calibration import RATES, Calibration, Conditions, adapt, class_model, most_of
from cryo_fewshot.recognition.plda import gaussian_log_likelihoods
from cryo_fewshot.recognition.recogniser import build_recogniser

DIM = 10
RUN = Conditions(n_shot=2, n_way=5, log_snr=np.log(0.1))


def test_a_calibration_survives_json(calibration, user):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    support, names, queries, _ = user()
    frames = [build_recogniser(support, names, c).recognise(queries).to_frame() for c in (calibration, again)]
    assert frames[0].equals(frames[1])
    with pytest.raises(UserError, match="cryo-fewshot calibrate"):
        Calibration.from_json({"space": {}})


def test_thresholds_lie_between_those_measured_and_beyond_them_the_nearest_counts(calibration):
    promises = calibration.promises
    lower, between, higher = (promises.threshold(RUN, rate) for rate in (0.1, 0.07, 0.05))
    assert lower < between < higher
    assert higher == pytest.approx(promises.thresholds_of(RUN)[RATES.index(0.05)])
    for name, far in (("n_shot", 100), ("n_way", 30), ("log_snr", 5.0)):
        at_the_end = replace(RUN, **{name: promises.limits[name][1]})
        assert promises.temperature_of(replace(RUN, **{name: far})) == promises.temperature_of(at_the_end)


def test_crowding_does_not_count_where_it_was_not_measured(calibration):
    promises = calibration.promises
    assert calibration.crowd is None and calibration.crowding(torch.ones(3, 10)) == 0
    crowded = replace(RUN, crowding=1.0)
    np.testing.assert_array_equal(promises.thresholds_of(crowded), promises.thresholds_of(RUN))
    earlier = replace(promises, thresholds=tuple(row[:6] for row in promises.thresholds))
    np.testing.assert_allclose(earlier.thresholds_of(crowded), promises.thresholds_of(RUN), rtol=1e-12)


def test_p_values_undo_thresholds_and_fall_with_the_score(calibration):
    promises = calibration.promises
    scores = np.array([promises.threshold(RUN, rate) for rate in (0.2, 0.07, 0.01)])
    assert promises.p_values(scores, RUN) == pytest.approx([0.2, 0.07, 0.01])
    far = promises.p_values(np.array([-1e6, 1e6, np.nan]), RUN)
    assert far[:2] == pytest.approx([1, RATES[0]]) and np.isnan(far[2])


def test_a_poisson_count_stays_below_its_bound():
    rng = np.random.default_rng(0)
    for expected in (0.0, 0.5, 5, 100):
        assert (rng.poisson(expected, 20_000) <= most_of(expected)).mean() > 0.95


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
    at_centre = gaussian_log_likelihoods(torch.zeros(1, DIM), torch.zeros(1, DIM), model.variances[:1] + model.within)
    at_centre = at_centre - gaussian_log_likelihoods(torch.zeros(1, DIM), torch.zeros(1, DIM), spread)
    expected = known.exp().mean(1).log() - unknown - at_centre[0]  # each class has six particles
    np.testing.assert_allclose(model.scores(queries, model.log_likelihoods(queries)), expected, rtol=1e-3, atol=1e-3)


def test_several_runs_adapt_at_once_as_one_by_one(calibration, classes):
    runs = [calibration.space.project(classes(3, n=6, seed=seed)[0]) for seed in (1, 2)]
    members = torch.eye(3).repeat_interleave(6, 0)
    support = torch.stack(runs)
    model, frequencies = adapt(
        class_model(calibration.space, support, members), members.mT @ support, members.sum(0), support, 2.0
    )
    for i, run in enumerate(runs):
        alone = class_model(calibration.space, run, members)
        one, of_one = adapt(alone, members.mT @ run, members.sum(0), run, 2.0)
        torch.testing.assert_close(model.means[i], one.means, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(frequencies[i], of_one, rtol=1e-3, atol=1e-3)
