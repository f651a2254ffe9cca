"""Error probabilities and q-values of particles whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.recognition.rejection import Q_VALUES, estimate_errors, operating_points, with_decoys


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


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_how_many_are_unknown_is_told(share):
    p_value, probability, label, _ = mixture(round(4000 * (1 - share)), round(4000 * share))
    told = estimate_errors(p_value, probability, label).unknown.mean()
    assert share - 0.03 < told < share + 0.15  # known ones with high p-values count as unknown


def test_a_particle_must_stand_out_from_decoys_of_its_class():
    particles = pd.DataFrame({"class": ["a", "a", "a", "b", ""], "score": [3.0, 1.0, 0.0, 1.0, np.nan]})
    particles["p_value"] = [0.01, 0.02, 0.9, 0.02, np.nan]
    decoys = pd.DataFrame({"class": ["a", "a", "a", "c", "c", ""], "score": [2.0, 1.0, 0.5, 9.0, 9.0, np.nan]})
    np.testing.assert_allclose(with_decoys(particles, decoys), [0.01, 2 / 5, 0.9, 0.02, np.nan])
    np.testing.assert_array_equal(with_decoys(particles, decoys[:0]), particles["p_value"])


def test_an_unknown_class_far_from_the_known_ones_is_not_taken_for_known():
    """Its particles are alike: their p-values are no sample of a uniform distribution."""
    p_value = np.r_[np.full(100, 0.005), np.full(60, 0.3)]
    errors = estimate_errors(p_value, np.full(160, 0.99), np.zeros(160, int))
    assert errors.unknown[:100].max() < 0.05 and errors.unknown[100:].min() == 1
    assert (errors.q_value <= 0.05).sum() == 100


def test_operating_points_start_with_what_was_accepted():
    p_value, probability, label, wrong = mixture(600, 200)
    errors, promises = estimate_errors(p_value, probability, label), SimpleNamespace(excess=1.0, doubt=1.0)
    accepted, wanted = p_value <= 0.05, label != 2
    first, *others = operating_points(errors, accepted, wanted, promises)
    assert first["n"] == accepted.sum() and first["q_value"] is None
    assert [point["n"] for point in others] == [((errors.q_value <= q) & wanted).sum() for q in Q_VALUES]
    (at,) = (point for point in others if point["q_value"] == pytest.approx(0.05, rel=0.05))
    chosen = wanted & (errors.q_value <= at["q_value"])
    assert at["precision"] == pytest.approx((~wrong)[chosen].mean(), abs=0.04)
    assert at["recall"] == pytest.approx(chosen[~wrong & wanted].mean(), abs=0.1)
    assert others[-1]["recall"] > others[0]["recall"] and others[-1]["precision"] < others[0]["precision"]


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
