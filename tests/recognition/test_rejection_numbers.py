"""Error probabilities, q-values and bounds against their definitions, written out."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from cryo_fewshot.recognition.calibration import RATES, most_of
from cryo_fewshot.recognition.rejection import Errors, estimate_errors, operating_points

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
