"""What promises say of the trials that they were fitted to, counted again by hand."""

from dataclasses import replace

import numpy as np
import pytest

from cryo_fewshot.evaluation import area_under_roc, expected_calibration_error, reliability
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition import promises_fit as room
from cryo_fewshot.recognition.calibration import RATES, Conditions, most_of
from cryo_fewshot.recognition.promises_fit import Trials, fit_promises, reliability_rows, threshold_for, with_adapted

AT = RATES.index(0.05)


def trials_of(n_classes=8, seed=0, lift=0.0):
    """Two families each of which has two classes a size of n_query of its own, two encoders."""
    rng = np.random.default_rng(seed)
    snrs, crowded = np.repeat([0.3, 0.1, 0.03], 4), np.tile([False, True], 6)
    for name in range(n_classes):
        for n_shot, n_way in ((1, 3), (5, 2), (5, 4)):
            true = np.arange(12) % n_way
            logits = rng.normal(size=(12, 12, n_way)) + (3 + lift) * np.eye(n_way)[true]
            unknown = rng.normal(size=(12, 15 + name)) + 0.4 * rng.normal() + np.log(snrs)[:, None]
            yield Trials(
                unknown=f"c{name}",
                family=f"f{name // 2}",
                conditions=Conditions(n_shot=n_shot, n_way=n_way, log_snr=np.log(snrs) + 0.1, crowding=crowded * 1.0),
                snrs=snrs,
                crowded=crowded,
                log_likelihoods=2.0 * logits,
                log_frequencies=np.full((12, 1, n_way), -np.log(n_way)),
                scores=rng.normal(size=(12, 12)) + 3 + np.log(snrs)[:, None],
                unknown_scores=unknown,
                true=true,
                encoder=name % 2,
            )


@pytest.fixture(scope="module")
def trials():
    return list(trials_of())


@pytest.fixture(scope="module")
def promises(trials):
    return fit_promises(trials)


def answers(trial, promises, adapted=False):
    """Probability and rightness `(e, m)`, and the threshold at 5 % `(e,)`."""
    terms = trial.conditions.terms(promises.limits)
    divisor = np.exp(terms @ (promises.adapted_temperature if adapted else promises.temperature))[:, None, None]
    p = np.exp(trial.log_likelihoods / divisor + trial.log_frequencies)
    p /= p.sum(-1, keepdims=True)
    return p.max(-1), p.argmax(-1) == trial.true, terms @ promises.thresholds[AT]


def test_limits_are_those_of_the_trials(promises):
    assert promises.limits["n_shot"] == (1, 5) and promises.limits["n_way"] == (2, 4)
    assert promises.limits["log_snr"] == pytest.approx((np.log(0.03), np.log(0.3)))
    assert promises.limits["crowding"] == (0, 1)


def test_rows_measured_are_counts_over_the_tasks_of_an_snr(trials, promises):
    assert [(row["crowded"], row["snr"], row["n_shot"]) for row in promises.measured] == [
        (crowded, snr, n_shot) for crowded in (False, True) for snr in (0.3, 0.1, 0.03) for n_shot in (1, 5)
    ]
    for row in promises.measured:
        found = {"p": [], "right": [], "known": [], "unknown": []}
        for trial in trials:
            if trial.conditions.n_shot != row["n_shot"]:
                continue
            chosen = (trial.snrs == row["snr"]) & (trial.crowded == row["crowded"])
            p, right, least = answers(trial, promises)
            found["p"].extend(p[chosen].ravel())
            found["right"].extend(right[chosen].ravel())
            found["known"].extend((trial.scores - least[:, None])[chosen].ravel())
            found["unknown"].extend((trial.unknown_scores - least[:, None])[chosen].ravel())
        found = {name: np.array(values) for name, values in found.items()}
        assert row["accuracy"] == pytest.approx(found["right"].mean(), abs=5e-5)
        assert row["ece"] == pytest.approx(expected_calibration_error(found["p"], found["right"]), abs=5.1e-5)
        assert row["auroc"] == pytest.approx(area_under_roc(found["known"], found["unknown"]), abs=5.1e-5)
        assert row["false_accepts"] == pytest.approx((found["unknown"] >= 0).mean(), abs=5.1e-5)
        assert row["kept"] == pytest.approx((found["known"] >= 0).mean(), abs=5.1e-5)


def accepted_of(trials, promises, names, key):
    """Share of each unknown class's particles that is accepted at each of RATES, `(n_classes, len(RATES))`."""
    rows = []
    for name in names:
        own = [trial for trial in trials if key(trial) == name]
        terms = [np.repeat(t.conditions.terms(promises.limits), t.unknown_scores.shape[1], 0) for t in own]
        scores = np.concatenate([t.unknown_scores.ravel() for t in own])
        rows.append((scores[:, None] >= np.concatenate(terms) @ np.transpose(promises.thresholds)).mean(0))
    return np.array(rows)


def test_false_accepts_by_class_and_encoder_and_their_excess(trials, promises):
    names = [f"c{i}" for i in range(8)]
    by_class = accepted_of(trials, promises, names, lambda trial: trial.unknown)
    assert promises.by_class == pytest.approx(dict(zip(names, by_class[:, AT], strict=True)), abs=5.1e-5)
    even, odd = by_class[::2, AT].mean(), by_class[1::2, AT].mean()
    assert promises.by_encoder == pytest.approx((even, odd), abs=5.1e-5)
    drawn = by_class[np.random.default_rng(seed_from("unknown classes", 0)).integers(8, size=(2000, 3))].mean(1)
    assert promises.excess == pytest.approx(np.quantile((drawn / RATES).max(1), 0.95))


@pytest.mark.parametrize("every", [1000, 8])
def test_doubt_is_the_least_factor_with_which_tasks_are_as_wrong_as_foreseen(trials, every, monkeypatch):
    """Where every eighth task is harder than it looks, more are wrong in it than its probabilities say."""
    harder = np.arange(12) % every == every - 1
    trials = [
        replace(t, log_likelihoods=np.where(harder[:, None, None], t.log_likelihoods[..., ::-1], t.log_likelihoods))
        for t in trials
    ]
    monkeypatch.setattr(room, "N_CHOICES", 0)
    promises = fit_promises(trials)
    assert (promises.doubt > 1.2) == (every == 8)
    told = [answers(trial, promises)[:2] for trial in trials]
    wrong = np.concatenate([(~right).sum(1) for _, right in told])
    foreseen = np.concatenate([(1 - p).sum(1) for p, _ in told])
    held = [(wrong <= most_of(factor * foreseen)).mean() >= 0.95 for factor in (promises.doubt - 0.05, promises.doubt)]
    assert held[1] and (promises.doubt == 1 or not held[0]) and 1 <= promises.doubt <= 4


def test_choices_are_thresholds_of_half_of_the_families_on_the_other_half(trials, promises, monkeypatch):
    rng = np.random.default_rng(seed_from("halved families", 0))
    families = [f"f{i}" for i in range(4)]
    assert len(promises.choices) == room.N_CHOICES
    monkeypatch.setattr(room, "N_CHOICES", 0)
    for rate in promises.choices[:3]:
        half = set(rng.permutation(families)[:2])
        fitted = fit_promises([trial for trial in trials if trial.family in half])
        others = [f"c{i}" for i in range(8) if f"f{i // 2}" not in half]
        by_class = accepted_of(trials, fitted, others, lambda trial: trial.unknown)
        assert rate == pytest.approx(by_class[:, AT].mean(), abs=1e-3)


def test_the_threshold_of_each_rate_meets_its_margin(trials, promises):
    """After the fit through the quantiles of cells a constant is added: the same threshold over what is left."""
    for rate, row in zip(RATES, promises.thresholds, strict=True):
        left = {}
        for trial in trials:
            least = (trial.conditions.terms(promises.limits) @ row)[:, None]
            left.setdefault(trial.unknown, []).append((trial.unknown_scores - least).ravel())
        parts = [np.concatenate(part) for _, part in sorted(left.items())]
        assert threshold_for(parts, rate, 0.9) == pytest.approx(0, abs=1e-9)


def test_reliability_is_that_of_the_answers_with_few_labels_and_many(trials, promises):
    rows = reliability_rows(trials, promises)
    for crowded, n_shot in ((False, 1), (True, 5)):
        told = [answers(t, promises)[:2] for t in trials if t.conditions.n_shot == n_shot]
        mine = [t.crowded == crowded for t in trials if t.conditions.n_shot == n_shot]
        p, right = (np.concatenate([part[k][of].ravel() for part, of in zip(told, mine, strict=True)]) for k in (0, 1))
        expected = [row for row in reliability(p, right) if row["n"] >= len(p) / 1000]
        found = [row for row in rows if (row["crowded"], row["n_shot"]) == (crowded, n_shot)]
        assert [{**row, "crowded": crowded, "n_shot": n_shot} for row in expected] == found


def test_bins_of_less_than_one_answer_in_a_thousand_are_left_out(promises):
    many = [
        trial for seed in range(6) for trial in trials_of(seed=seed, lift=1.0) if trial.log_likelihoods.shape[-1] == 4
    ]
    told = [[part[~trial.crowded] for part in answers(trial, promises)[:2]] for trial in many]
    p, right = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*told, strict=True))
    every = reliability(p, right)
    kept = [row for row in every if row["n"] >= len(p) / 1000]
    found = reliability_rows(many, promises)
    assert 0 < len(kept) < len(every)
    assert [row for row in found if not row["crowded"]] == [{"crowded": False, "n_shot": 5, **row} for row in kept]


def test_adapted_trials_change_temperature_and_doubt_alone(trials, promises):
    adapted = with_adapted(promises, list(trials_of(seed=1, lift=1.0)))
    assert adapted.thresholds == promises.thresholds and adapted.temperature == promises.temperature
    assert adapted.adapted_temperature != promises.adapted_temperature and adapted.doubt >= promises.doubt
    for row, before in zip(adapted.measured, promises.measured, strict=True):
        assert {name: row[name] for name in before} == before
        assert row["adapted_accuracy"] > before["accuracy"] and 0 <= row["adapted_ece"] < 0.2
