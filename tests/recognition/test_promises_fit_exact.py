"""Thresholds and temperatures of promises, written out; in no order of the trials."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import t as student

from cryo_fewshot.recognition import promises_fit as room
from cryo_fewshot.recognition.calibration import Conditions
from cryo_fewshot.recognition.promises_fit import Trials, fit_promises, threshold_for, with_adapted


@pytest.mark.parametrize(("rate", "shift"), [(0.0005, 0), (0.05, 0), (0.7, 0), (0.05, 3)])
def test_a_threshold_is_the_first_of_200_quantiles_that_meets_the_promise(rate, shift):
    """Where the largest class is the most often accepted, more of the pool is than of the mean over classes."""
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=n) + 0.1 * rng.normal() for n in (20_000, *[2000] * 20)]
    scores[0] += shift
    last = min(rate / 10, 1e-4)
    quantiles = np.quantile(np.concatenate(scores), 1 - np.geomspace(min(1, 2 * rate), last, 200))
    for threshold in quantiles:
        accepted = np.array([(part >= threshold).mean() for part in scores])
        if accepted.mean() + student.ppf(0.8, 20) * accepted.std(ddof=1) / 21**0.5 <= rate:
            break
    assert threshold_for(scores, rate, 0.8) == pytest.approx(threshold, abs=1e-12)
    assert (threshold < np.quantile(np.concatenate(scores), 1 - rate)) == bool(shift)
    assert threshold < max(map(np.max, scores))


def trials(seed=0):
    """Of four classes, one and five labels, three ways of unequal log frequencies."""
    rng = np.random.default_rng(seed)
    frequencies = np.log([0.1, 0.3, 0.6])
    for name in range(4):
        for n_shot in (1, 5):
            true, snrs = np.arange(9) % 3, np.repeat([0.1, 0.03], 4)
            yield Trials(
                unknown=f"c{name}",
                family=f"f{name}",
                conditions=Conditions(n_shot=n_shot, n_way=3, log_snr=np.log(snrs), crowding=np.zeros(8)),
                snrs=snrs,
                crowded=np.zeros(8, bool),
                log_likelihoods=3 * rng.normal(size=(8, 9, 3)) + 4 * np.eye(3)[true] * n_shot**0.5,
                log_frequencies=np.broadcast_to(frequencies, (8, 1, 3)),
                scores=rng.normal(size=(8, 9)) + 3,
                unknown_scores=rng.normal(size=(8, 12)) + 0.3 * name,
                true=true,
            )


@pytest.fixture
def promises(monkeypatch):
    monkeypatch.setattr(room, "N_CHOICES", 0)
    return fit_promises(list(trials()))


def test_the_temperature_of_one_kind_of_task_makes_the_right_answers_likeliest(monkeypatch):
    monkeypatch.setattr(room, "N_CHOICES", 0)
    alike = Conditions(n_shot=5, n_way=3, log_snr=np.full(8, -2.0), crowding=np.zeros(8))
    kind = [replace(t, conditions=alike, snrs=np.full(8, 0.1)) for t in trials() if t.conditions.n_shot == 5]
    found = float(fit_promises(kind).temperature_of(Conditions(n_shot=5, n_way=3, log_snr=-2.0)))
    logits = np.concatenate([t.log_likelihoods + t.log_frequencies for t in kind])
    of_true = logits[:, np.arange(9), kind[0].true]
    log_temperatures = np.arange(-2, 3, 0.005)
    costs = [(logsumexp(logits / t, axis=-1) - of_true / t).mean() for t in np.exp(log_temperatures)]
    assert np.log(found) == pytest.approx(log_temperatures[np.argmin(costs)], abs=0.02)


def test_answers_weigh_log_frequencies_as_log_likelihoods(promises):
    for row in promises.measured:
        own = [t for t in trials() if t.conditions.n_shot == row["n_shot"]]
        logits = np.concatenate([(t.log_likelihoods + t.log_frequencies)[t.snrs == row["snr"]] for t in own])
        assert row["accuracy"] == pytest.approx((logits.argmax(-1) == own[0].true).mean(), abs=5e-5)


def test_the_order_of_the_trials_does_not_count(promises):
    once, turned = (with_adapted(promises, list(trials(1))[::step]) for step in (1, -1))
    assert once.measured == turned.measured and len({row["adapted_accuracy"] for row in once.measured}) > 1
