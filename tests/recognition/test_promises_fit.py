"""Promises from tasks whose scores are known: thresholds, their margin, temperature, and how they are checked."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import t as student

from cryo_fewshot.recognition.calibration import Conditions
from cryo_fewshot.recognition.promises_fit import Trials, fit_promises, threshold_for


def trials_of(n_classes=30, shift=0.3, scale=4.0, seed=0):
    """Unknown scores fall with noise, rise in crowds, and classes differ by `shift`; log-likelihoods are `scale` times
    too sure."""
    rng = np.random.default_rng(seed)
    for name in range(n_classes):
        own = shift * rng.normal()
        for n_shot in (1, 5):
            for n_way in (3, 8):
                snrs, crowded = np.repeat([0.3, 0.1, 0.03], 4), np.tile([False, True], 6)
                conditions = Conditions(n_shot=n_shot, n_way=n_way, log_snr=np.log(snrs), crowding=crowded * 1.0)
                true = np.arange(40) % n_way
                logits = 2 * rng.normal(size=(12, 40, n_way))
                drawn = (logits + rng.gumbel(size=logits.shape)).argmax(-1, keepdims=True)  # by its probability
                places = np.broadcast_to(true[:, None], drawn.shape)
                swapped = np.take_along_axis(logits, drawn, -1), np.take_along_axis(logits, places, -1)
                np.put_along_axis(logits, drawn, swapped[1], -1)
                np.put_along_axis(logits, places, swapped[0], -1)
                unknown = rng.normal(size=(12, 25)) + own + (np.log(snrs) + 1.5 * crowded)[:, None] + n_shot**0.5
                yield Trials(
                    unknown=str(name), family=str(name), conditions=conditions, snrs=snrs, crowded=crowded,
                    log_likelihoods=scale * logits, log_frequencies=np.full((12, 1, n_way), -np.log(n_way)),
                    scores=unknown[:, :20] + 4, unknown_scores=unknown, true=true,
                )  # fmt: skip


@pytest.fixture(scope="module")
def promises():
    return fit_promises(list(trials_of()))


def test_promises_hold_whatever_the_noise_the_shots_and_the_crowd(promises):
    for n_shot, snr, crowded in product((1, 5), (0.3, 0.1, 0.03), (False, True)):
        conditions = Conditions(n_shot=n_shot, n_way=3, log_snr=np.log(snr), crowding=float(crowded))
        new = [trial for trial in trials_of(seed=1) if trial.conditions.n_shot == n_shot]
        chosen = [(trial.snrs == snr) & (trial.crowded == crowded) for trial in new]
        scores = np.concatenate([trial.unknown_scores[of] for trial, of in zip(new, chosen, strict=True)])
        assert 0.02 < (scores >= promises.threshold(conditions, 0.05)).mean() < 0.06
    assert {(row["crowded"], row["snr"]) for row in promises.measured} == set(product((False, True), (0.3, 0.1, 0.03)))
    assert all(0.02 < row["false_accepts"] < 0.06 and row["kept"] > 0.9 for row in promises.measured)


def test_the_temperature_undoes_a_scale(promises):
    for n_shot, n_way in ((1, 3), (5, 8)):
        conditions = Conditions(n_shot=n_shot, n_way=n_way, log_snr=np.log(0.1))
        assert promises.temperature_of(conditions) == pytest.approx(4, rel=0.06)
    assert all(row["ece"] < 0.03 for row in promises.measured)
    assert promises.doubt < 1.3


def test_other_choices_of_families_are_told(promises):
    alike = fit_promises(list(trials_of(shift=0.0, seed=2)))
    assert len(promises.choices) == 20 and np.std(promises.choices) > np.std(alike.choices)
    assert alike.excess < promises.excess
    assert np.mean([rate > 0.05 for rate in promises.choices]) <= 0.3
    assert len(promises.by_class) == 30 and max(promises.by_class.values()) > 0.06


def test_a_threshold_is_more_careful_with_fewer_classes():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=1000) + 0.5 * rng.normal() for _ in range(40)]
    few, many = threshold_for(scores[:4], 0.05, 0.9), threshold_for(scores, 0.05, 0.9)
    plain = np.quantile(np.concatenate(scores), 0.95)
    assert plain < many
    assert np.mean([(part >= few).mean() for part in scores[:4]]) < 0.05
    assert np.mean([(part >= many).mean() for part in scores]) < 0.05


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
