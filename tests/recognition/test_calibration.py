"""A calibration: what it survives, thresholds, temperatures, p-values and adaptation against their formulas."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import norm

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.calibration import (
    PROMISED,
    RATES,
    Calibration,
    Conditions,
    Promises,
    adapt,
    class_model,
    most_of,
)
from cryo_fewshot.recognition.plda import PLDA, gaussian_log_likelihoods
from cryo_fewshot.recognition.recogniser import build_recogniser

DIM = 10


def test_a_calibration_survives_json(calibration, user):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    support, names, queries, _ = user()
    frames = [build_recogniser(support, names, c).recognise(queries).to_frame() for c in (calibration, again)]
    assert frames[0].equals(frames[1])
    with pytest.raises(UserError, match="cryo-fewshot calibrate"):
        Calibration.from_json({"space": {}})
    with pytest.raises(UserError, match="card has no calibration"):
        Calibration.from_json(None)


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


LIMITS = {"n_shot": (1.0, 20.0), "n_way": (2, 10), "log_snr": (-4.0, 0.0), "crowding": (0.0, 1.0)}
RUN = Conditions(n_shot=3, n_way=5, log_snr=-2.0, crowding=0.5)


def promises(thresholds=0.0, slope=0.0, limits=LIMITS):
    """Thresholds at each rate that depend on log_snr alone, by a slope."""
    rows = np.zeros((len(RATES), 9))
    rows[:, 0], rows[:, 4] = thresholds, slope
    return Promises(
        temperature=tuple(0.1 * np.arange(9)),
        adapted_temperature=(np.log(3.0), *[0.0] * 5),
        thresholds=tuple(map(tuple, rows)),
        limits=limits,
        excess=1.0,
        doubt=1.0,
        measured=(),
        by_class={},
        choices=(),
    )


def test_terms_of_a_run_and_those_beyond_what_was_measured():
    log3 = np.log(3)
    expected = [1, log3, 1 / 3, np.log(5), -2, -2 * log3, 0.5, 0.5 * log3, -1]
    np.testing.assert_allclose(RUN.terms(LIMITS), expected)
    far = Conditions(n_shot=50, n_way=1, log_snr=1.0, crowding=2.0).terms(LIMITS)
    np.testing.assert_allclose(far, [1, np.log(20), 1 / 20, np.log(2), 0, 0, 1, np.log(20), 0])
    without = {name: pair for name, pair in LIMITS.items() if name != "crowding"}
    np.testing.assert_allclose(RUN.terms(without), [*expected[:6], 0, 0, 0])
    both = Conditions(n_shot=3, n_way=5, log_snr=np.array([-2.0, -1.0]), crowding=0.5).terms(LIMITS)
    assert both.shape == (2, 9) and both[1, 4] == -1 and np.allclose(both[0], expected)


def test_temperatures_are_the_exponential_of_factors_times_terms():
    found = promises()
    assert found.temperature_of(RUN) == pytest.approx(np.exp(0.1 * np.arange(9) @ RUN.terms(LIMITS)))
    assert found.temperature_of(RUN, adapted=True) == pytest.approx(3)


def test_a_threshold_is_read_between_rates_in_their_logarithm_and_never_rises_with_them():
    falling = -np.log(RATES)
    found = promises(falling, slope=2.0)
    rate = np.sqrt(0.05 * 0.1)
    assert found.threshold(RUN, rate) == pytest.approx(-np.log(rate) - 4)
    assert found.thresholds_of(RUN).shape == (len(RATES),)
    risen = falling.copy()
    risen[4] = 50.0
    np.testing.assert_allclose(promises(risen).thresholds_of(RUN)[3:6], [falling[3], falling[3], falling[5]])
    for rate in PROMISED:
        assert found.threshold(RUN, rate) == pytest.approx(-np.log(rate) - 4)
    for rate in (0.0099, 0.201):
        with pytest.raises(UserError, match=r"from 0.01 to 0.2"):
            found.threshold(RUN, rate)


@pytest.mark.parametrize(("factor", "reach"), [(1.0, np.log(0.9 / 0.005)), (0.01, 1.0)])
def test_p_values_reach_one_two_spreads_below_the_lowest_threshold(factor, reach):
    found, lowest = promises(-factor * np.log(RATES)), -factor * np.log(0.9)
    p = found.p_values(np.array([lowest - 2 * reach, lowest - reach, lowest, 1e9]), RUN)
    np.testing.assert_allclose(p, [1, 0.9**0.5, 0.9, 0.005])


def test_a_bound_of_a_count():
    assert most_of(0.0) == 1 and most_of(4.0) == pytest.approx(4 + 1.645 * 2 + 1)
    assert norm.sf(1.645) == pytest.approx(0.05, abs=1e-4)


def space(dim=2):
    return PLDA(mean=np.zeros(dim), axes=np.eye(dim), between=np.array([4.0, 2.0])[:dim])


def test_how_particles_look_is_the_mean_over_them():
    noise, crowd = np.array([1.0, 2.0, -3.0]), np.array([0.5, 0.0, 0.25])
    fields = {"space": space(), "noise": noise, "promises": promises(), "n_classes": 3}
    alone, measured = Calibration(**fields), Calibration(**fields, crowd=crowd, crowded_space=space())
    x = torch.tensor([[1.0, 1.0, 9.0], [0.0, 2.0, 9.0]])  # the third column lies behind the embedding
    assert alone.log_snr(x) == pytest.approx((3 + 4) / 2 - 3)
    assert torch.equal(alone.crowding(x.expand(4, 2, 3)), torch.zeros(4)) and alone.suited(x) is alone
    assert measured.crowding(x) == pytest.approx(0.5)
    assert measured.suited(x).space is measured.crowded_space
    assert measured.suited(x[1:]) is measured
    again = Calibration.from_json(measured.to_json())
    assert again.suited(x).space is again.crowded_space and np.array_equal(again.crowd, crowd)


@pytest.mark.parametrize("settings", [{}, {"n_steps": 2, "weight": 0.5}])
def test_adaptation_follows_its_equations_step_by_step(settings):
    rng = np.random.default_rng(0)
    members = np.eye(3)[[0, 0, 1, 2, 2, 2]]
    support = 3 * members @ rng.normal(size=(3, 2)) + rng.normal(size=(6, 2))
    x = np.concatenate([support[[0, 2, 3, 3]] + rng.normal(size=(4, 2)), 4 * rng.normal(size=(6, 2))])
    between, counts, sums = space().between.astype(float), members.sum(0), members.T @ support
    residuals = support - members @ (sums / counts[:, None])
    within = ((residuals**2).mean(-1).sum() + 10) / (6 - 3 + 10)

    def density(x, mean, variance):
        return norm.logpdf(x, mean, np.sqrt(variance)).sum(-1)

    def centres(sums, counts):
        variance = 1 / (1 / between + counts[:, None] / within)
        return variance * sums / within, variance

    means, variances = centres(sums, counts)
    frequencies = np.full(4, 0.25)
    for _ in range(settings.get("n_steps", 10)):
        known = [density(x, m, v + within) for m, v in zip(means, variances, strict=True)]
        both = np.stack([*known, density(x, 0, between + within)], axis=1) / 2.0 + np.log(frequencies)
        shares = np.exp(both - both.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        found = shares.sum(0)
        frequencies = (found + 1) / (found + 1).sum()
        shares = shares[:, :3] * np.minimum(1, settings.get("weight", 2.0) * counts / found[:3])
        means, variances = centres(sums + shares.T @ x, counts + shares.sum(0))
    start = class_model(space(), *(torch.from_numpy(part).float() for part in (support, members)))
    assert float(start.within) == pytest.approx(within, rel=1e-5)
    given = (torch.from_numpy(part).float() for part in (sums, counts, x))
    model, log_frequencies = adapt(start, *given, 2.0, **settings)
    np.testing.assert_allclose(model.means, means, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(model.variances, variances, rtol=1e-3)
    np.testing.assert_allclose(log_frequencies.exp(), frequencies[:3] / frequencies[:3].sum(), rtol=1e-3)
