"""Error probabilities, q-values and bounds: on particles whose truth is known, and against their definitions."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import isotonic_regression

from cryo_fewshot.recognition.calibration import RATES, most_of
from cryo_fewshot.recognition.rejection import Errors, estimate_errors, operating_points, with_decoys


def mixture(n_known, n_unknown, seed=0, n_way=3):
    """p-values, probabilities, classes, and whether each answer is wrong; uniform p-values of unknown classes."""
    rng = np.random.default_rng(seed)
    p_value = np.maximum(np.r_[rng.beta(0.15, 4, n_known), rng.random(n_unknown)], 0.005)
    probability = np.r_[1 - 0.5 * rng.beta(0.3, 3, n_known), rng.uniform(0.4, 1, n_unknown)]
    unknown = np.arange(n_known + n_unknown) >= n_known
    return (
        p_value,
        probability,
        rng.integers(n_way, size=len(unknown)),
        unknown | (rng.random(len(unknown)) > probability),
    )


@pytest.mark.parametrize(("n_known", "n_unknown"), [(1500, 1500), (2500, 100), (300, 3000)])
def test_q_values_hold_what_they_promise(n_known, n_unknown):
    for fdr in (0.05, 0.1, 0.2):
        shares = []
        for seed in range(6):
            p_value, probability, label, wrong = mixture(n_known, n_unknown, seed)
            accepted = estimate_errors(p_value, probability, label).q_value <= fdr
            shares.append(wrong[accepted].mean() if accepted.any() else 0.0)
        assert np.mean(shares) <= fdr + 0.02
    assert accepted.sum() > 0.3 * n_known


def test_the_bound_holds_however_the_threshold_is_chosen():
    """The threshold is chosen with the truth in sight, as badly as can be."""
    promises, held = SimpleNamespace(excess=1.0, doubt=1.0), []
    for seed in range(40):
        p_value, probability, label, wrong = mixture(600, 200, seed)
        errors = estimate_errors(p_value, probability, label)
        choices = [errors.q_value <= limit for limit in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)]
        held.append(all(wrong[accepted].sum() <= errors.at_most(accepted, promises) for accepted in choices))
        assert errors.at_most(choices[2], promises) < 0.5 * choices[2].sum()
    assert np.mean(held) >= 0.9


def test_a_particle_must_stand_out_from_decoys_of_its_class():
    particles = pd.DataFrame({"class": ["a", "a", "a", "b", ""], "score": [3.0, 1.0, 0.0, 1.0, np.nan]})
    particles["p_value"] = [0.01, 0.02, 0.9, 0.02, np.nan]
    decoys = pd.DataFrame({"class": ["a", "a", "a", "c", "c", ""], "score": [2.0, 1.0, 0.5, 9.0, 9.0, np.nan]})
    np.testing.assert_allclose(with_decoys(particles, decoys), [0.01, 2 / 5, 0.9, 0.02, np.nan])
    np.testing.assert_array_equal(with_decoys(particles, decoys[:0]), particles["p_value"])


def test_order_and_missing_answers_change_nothing():
    p_value, probability, label, _ = mixture(300, 100)
    whole = estimate_errors(p_value, probability, label).q_value
    order = np.random.default_rng(0).permutation(len(label))
    assert np.allclose(estimate_errors(p_value[order], probability[order], label[order]).q_value, whole[order])
    with_nan = estimate_errors(np.r_[p_value, np.nan], np.r_[probability, np.nan], np.r_[label, -1]).q_value
    assert np.array_equal(with_nan[:-1], whole) and np.isnan(with_nan[-1])


def test_particles_that_do_not_count_say_nothing_of_the_others():
    """Labelled ones are known for certain: counted, they would make the unknown look few."""
    p_value, probability, label, _ = mixture(200, 400)
    more = np.r_[p_value, np.full(400, 0.005)], np.r_[probability, np.ones(400)], np.r_[label, np.arange(400) % 3]
    alone, together = estimate_errors(p_value, probability, label), estimate_errors(*more)
    apart = estimate_errors(*more, np.arange(1000) < 600)
    np.testing.assert_allclose(apart.unknown[:600], alone.unknown)
    assert together.unknown[:600].mean() < alone.unknown.mean()


EDGES = np.array([0.0, *RATES, 1.0])
WIDTHS = np.diff(EDGES)


def of_bins(p_value, prior, weight):
    counts = np.array([sum(lo < p <= hi or (i == 0 and p <= hi) for p in p_value) for i, (lo, hi) in BINS])
    return (counts + weight * prior) / (len(p_value) + weight)


BINS = list(enumerate(pairwise(EDGES)))


def unknown_in(spread):
    """Above 0.1 all count as unknown, at their mean density; below, the density falls."""
    high = EDGES[1:] > 0.1
    share = min(1, spread[high].sum() / WIDTHS[high].sum())
    density = isotonic_regression(spread / WIDTHS, weights=WIDTHS, increasing=False).x
    return np.where(high, 1, np.minimum(1, share / density))


def test_errors_of_each_class_follow_their_equations():
    rng = np.random.default_rng(0)
    p_value = np.round(np.r_[rng.beta(0.15, 4, 30), rng.random(10), 0.05, 0.1, 0.005, 1.0], 4)
    probability, label = rng.uniform(0.5, 1, 44), rng.integers(2, size=44)
    label[3] = -1
    found = estimate_errors(p_value, probability, label)
    answered = label >= 0
    of_all = of_bins(p_value[answered], WIDTHS, 1.0)
    for name in (0, 1):
        members = np.flatnonzero(label == name)
        of_class = unknown_in(of_bins(p_value[members], of_all, 10.0))
        bins = np.array([next(i for i, (_, hi) in BINS if p <= hi) for p in p_value[members]])
        np.testing.assert_allclose(found.unknown[members], np.maximum(of_class, unknown_in(of_all))[bins])
        wrong = 1 - (1 - of_class[bins]) * probability[members]
        np.testing.assert_allclose(found.wrong[members], wrong)
        q = [wrong[wrong <= own + 1e-12].mean() for own in wrong]
        np.testing.assert_allclose(found.q_value[members], q)
    assert np.isnan([found.unknown[3], found.wrong[3], found.q_value[3]]).all()


def test_a_p_value_at_a_rate_is_of_its_bin_but_for_rounding():
    p_value = np.tile(RATES, 5)
    probability, label = np.full(len(p_value), 0.9), np.zeros(len(p_value), int)
    exact, rounded = (estimate_errors(p_value * factor, probability, label) for factor in (1, 1 + 1e-12))
    np.testing.assert_array_equal(exact.wrong, rounded.wrong)
    assert (estimate_errors(p_value * (1 + 1e-6), probability, label).wrong != exact.wrong).any()


def test_most_wrong_ones_are_of_unknown_classes_and_confused_ones():
    unknown, wrong = np.array([0.5, 0.1, 0.9, 0.2]), np.array([0.6, 0.4, 0.9, 0.1])
    errors, promises = Errors(unknown, wrong, np.zeros(4)), SimpleNamespace(excess=2.0, doubt=1.5)
    chosen = np.array([True, True, False, True])
    expected = int(most_of(2.0 * 0.8) + most_of(1.5 * (0.1 + 0.3)))
    assert errors.at_most(chosen, promises) == min(3, expected) == 3
    many = Errors(np.tile(unknown, 50), np.tile(wrong, 50), np.zeros(200))
    assert many.at_most(np.tile(chosen, 50), promises) == int(most_of(2.0 * 40) + most_of(1.5 * 20)) < 150


def test_an_operating_point_counts_right_and_wanted_particles():
    wrong, q_value = np.array([0.1, 0.3, np.nan, 0.6, 0.2]), np.array([0.001, 0.1, np.nan, 0.4, 0.05])
    errors, promises = Errors(np.zeros(5), wrong, q_value), SimpleNamespace(excess=1.0, doubt=1.0)
    accepted, wanted = np.array([True, True, False, False, False]), np.array([True, True, True, True, False])
    points = operating_points(errors, accepted, wanted, promises)
    right = 0.9 + 0.7 + 0.4
    first = {"q_value": None, "n": 2, "wrong": 0.4, "precision": 0.8, "recall": round(1.6 / right, 4)}
    assert {name: points[0][name] for name in first} == first
    strictest, loosest = points[1], points[-1]
    assert (strictest["n"], strictest["precision"], strictest["wrong"]) == (1, 0.9, 0.1)
    assert (loosest["n"], loosest["recall"], loosest["q_value"]) == (3, 1.0, 0.5)
    assert loosest["precision"] == pytest.approx(right / 3, abs=5e-5)
    none = operating_points(errors, np.zeros(5, bool), np.zeros(5, bool), promises)[0]
    assert (none["n"], none["precision"], none["recall"]) == (0, 1.0, 0.0)
