"""Recognition of simulated embeddings whose classes are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.evaluation import expected_calibration_error
from cryo_fewshot.recognition.calibration import Conditions, class_model
from cryo_fewshot.recognition.recogniser import INVALID, build_recogniser


def test_unseen_classes_are_found_with_true_probabilities(calibration, user):
    errors, n_right = [], 0
    for seed in range(1, 9):
        support, names, queries, true = user(seed=seed, n_shot=1)
        found = build_recogniser(support, names, calibration).recognise(queries)
        right = np.array(found.class_names)[found.label] == true
        errors.append((found.probability, right))
        n_right += right.mean() / 8
    assert n_right > 0.8
    assert expected_calibration_error(*map(np.concatenate, zip(*errors, strict=True))) <= 0.05


def test_outsiders_are_accepted_no_more_often_than_promised(calibration, user):
    accepted, kept = [], []
    for seed in range(1, 13):
        support, names, queries, true = user(seed=seed)
        inside = ~np.isin(names, ["class 0", "class 1"])
        outsiders = np.isin(true, ["class 0", "class 1"])
        found = build_recogniser(support[inside], names[inside], calibration).recognise(queries)
        accepted.append(found.accepted[outsiders].mean())
        kept.append(found.accepted[~outsiders].mean())
    assert np.mean(accepted) <= 0.05
    assert np.mean(kept) > 0.6


def test_a_smaller_promise_accepts_less(calibration, user):
    support, names, *_ = user()
    thresholds = [
        build_recogniser(support, names, calibration, false_accept_rate=rate).threshold for rate in (0.2, 0.05, 0.01)
    ]
    assert thresholds == sorted(thresholds)
    with pytest.raises(
        UserError, match=r"0\.5 \(--false-accept-rate\): thresholds are known for rates from 0\.01 to 0\.2"
    ):
        build_recogniser(support, names, calibration, false_accept_rate=0.5)


def test_unequal_and_single_shots_are_allowed(calibration, user):
    support, names, queries, true = user(n_shot=5)
    kept = np.ones(len(names), bool)
    kept[1:5] = False  # one particle of class 0
    recogniser = build_recogniser(support[kept], names[kept], calibration)
    found = recogniser.recognise(queries)
    assert (np.array(found.class_names)[found.label] == true).mean() > 0.9
    assert recogniser.check.tested.sum() == kept.sum() - 1
    assert any("'class 0' has 1" in warning for warning in recogniser.check.warnings)


def test_what_is_said_does_not_depend_on_chunks_or_order(calibration, user):
    support, names, queries, _ = user()
    recogniser = build_recogniser(support, names, calibration)
    whole = recogniser.recognise(queries).to_frame()
    shuffled = np.random.default_rng(0).permutation(len(names))
    other = build_recogniser(support[shuffled], names[shuffled], calibration).recognise(queries, chunk=7).to_frame()
    assert (whole["class"] == other["class"]).all()
    assert np.allclose(whole["probability"], other["probability"], atol=1e-3)


def test_a_particle_without_a_finite_embedding_is_rejected_not_fatal(calibration, user):
    support, names, queries, _ = user()
    queries[3, 0] = torch.nan
    found = build_recogniser(support, names, calibration).recognise(queries)
    assert found.label[3] == INVALID and not found.accepted[3] and np.isnan(found.probability[3])
    assert found.to_frame()["class"][3] == ""
    assert np.isfinite(np.delete(found.probability, 3)).all()


def test_junk_that_is_no_class_is_refused_by_its_name(calibration, user):
    support, names, *_ = user(n_classes=3)
    with pytest.raises(
        UserError, match=r"junk class 'ice' \(--junk\) is not in the support; it has class 0, class 1, "
    ):
        build_recogniser(support, names, calibration, junk=["class 1", "ice", "gold"])


def test_adapting_to_unbalanced_queries_helps_single_shots(calibration, user):
    gains = []
    for seed in range(1, 9):
        support, names, queries, true = user(seed=seed, n_shot=1, noise=1.7)
        frequency = {f"class {i}": 0.5**i for i in range(6)}
        rng = np.random.default_rng(seed)
        chosen = rng.random(len(true)) < [frequency[name] for name in true]
        recogniser = build_recogniser(support, names, calibration)
        accuracies = [
            (np.array(found.class_names)[found.label] == true[chosen]).mean()
            for found in (r.recognise(queries[chosen]) for r in (recogniser, recogniser.adapted(queries[chosen])))
        ]
        gains.append(accuracies[1] - accuracies[0])
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, names: (x[:5], names[:5]), "support of 1 class"),
        (lambda x, names: (x, names[:-1]), "one label per embedding"),
        (
            lambda x, names: (torch.where(torch.arange(len(x))[:, None] // 3 == 2, torch.nan, x), names),
            r"labelled particle 6 has an embedding with NaN \(3 do\)",
        ),
        (lambda x, names: (x[:, :3], names), "3 dimensions"),
    ],
)
def test_a_support_that_cannot_be_used_is_refused_in_one_line(calibration, change, message, user):
    support, names, *_ = user()
    with pytest.raises(UserError, match=message) as caught:
        build_recogniser(*change(support, names), calibration)
    assert "\n" not in str(caught.value)


def test_classes_with_few_shots_decide_threshold_and_temperature(calibration, user):
    """The harmonic mean of 1 and 4 shots is 1.6."""
    support, names, *_ = user(n_classes=2, n_shot=4)
    recogniser = build_recogniser(support[3:], names[3:], calibration)
    conditions = Conditions(n_shot=1.6, n_way=2, log_snr=float(calibration.log_snr(support[3:])))
    assert recogniser.threshold == pytest.approx(calibration.promises.threshold(conditions, 0.05))
    measured = calibration.promises.temperature_of(conditions)
    assert recogniser.temperature == pytest.approx(measured * recogniser.check.tempered)


def test_what_is_accepted_has_the_promised_p_value(calibration, user):
    support, names, queries, _ = user()
    for rate in (0.02, 0.1):
        found = build_recogniser(support, names, calibration, false_accept_rate=rate).recognise(queries)
        assert np.array_equal(found.accepted, found.p_value <= rate * (1 + 1e-9))


def test_unlabelled_particles_tell_how_noisy_the_particles_are(calibration, user):
    support, names, queries, _ = user()
    queries[0, 0] = torch.nan
    both = torch.cat([support, queries[1:]])
    recogniser = build_recogniser(support, names, calibration).seeing(queries)
    assert recogniser.conditions.log_snr == pytest.approx(float(calibration.log_snr(both)), abs=1e-3)
    adapted = recogniser.adapted(queries)
    for name in ("score", "accepted"):
        one, other = (getattr(part.recognise(both), name) for part in (recogniser, adapted))
        np.testing.assert_array_equal(one, other)
    measured = calibration.promises.temperature_of(recogniser.conditions, adapted=True)
    assert adapted.temperature == pytest.approx(measured * recogniser.check.tempered)


def test_every_number_follows_from_the_model_of_the_classes(calibration, user):
    support, names, queries, _ = user(n_classes=4, n_shot=2, n=10, noise=2.0)
    recogniser = build_recogniser(support, names, calibration, junk=["class 1"])
    found, model = recogniser.recognise(queries), recogniser.model
    x = recogniser.space.project(queries)
    of_class = model.log_likelihoods(x)
    p = torch.softmax(of_class / recogniser.temperature - np.log(4), dim=1)
    order = p.argsort(dim=1, descending=True)
    np.testing.assert_array_equal(found.label, order[:, 0])
    np.testing.assert_array_equal(found.runner_up, order[:, 1])
    np.testing.assert_allclose(found.probability, p.amax(1), rtol=1e-5)
    away = ((x[:, None] - model.means).square().sum(-1) / (model.within * x.shape[1])).sqrt()
    first, second = (away.gather(1, order[:, k : k + 1])[:, 0] for k in (0, 1))
    np.testing.assert_allclose(found.distance, first, rtol=1e-4)
    np.testing.assert_allclose(found.margin, second - first, atol=1e-4)
    np.testing.assert_allclose(found.score, model.scores(x, of_class), rtol=1e-4, atol=1e-4)
    high = found.score >= recogniser.threshold
    np.testing.assert_array_equal(found.accepted, high & (found.label != 1))
    assert (high & (found.label == 1)).any() and recogniser.junk.tolist() == [False, True, False, False]
    frame = found.to_frame()
    assert frame["class"].tolist() == [found.class_names[k] for k in found.label]
    assert frame["runner_up"].tolist() == [found.class_names[k] for k in found.runner_up]


def test_embeddings_that_carry_gradients_are_taken_as_they_are(calibration, user):
    support, names, queries, _ = user(n=30)
    plain = build_recogniser(support, names, calibration)
    carrying = build_recogniser(support.clone().requires_grad_(), names, calibration)
    assert not carrying.model.means.requires_grad and not carrying.support.requires_grad
    queries = queries.clone().requires_grad_()
    for one, other in ((plain, carrying), (plain.adapted(queries.detach()), carrying.adapted(queries))):
        assert not other.model.means.requires_grad
        np.testing.assert_array_equal(one.recognise(queries).score, other.recognise(queries).score)
    assert plain.seeing(queries).conditions == plain.seeing(queries.detach()).conditions


def test_a_geometry_of_the_users_data_tells_classes_and_the_encoders_own_accepts(calibration, user):
    support, names, queries, _ = user(n_classes=3, n=30)
    own = calibration.space
    other = replace(own, axes=own.axes[:, ::-1] * 0.5, between=own.between[::-1] * 0.25)
    plain, fitted = (build_recogniser(support, names, calibration, space=space) for space in (None, other))
    for recogniser, space in ((plain, plain.own), (fitted, other)):
        expected = class_model(space, space.project(support), recogniser.members)
        assert recogniser.space is space
        torch.testing.assert_close(recogniser.model.means, expected.means)
        torch.testing.assert_close(recogniser.support, space.project(support))
    assert plain.model is plain.labelled and fitted.model is not fitted.labelled
    torch.testing.assert_close(fitted.labelled.means, plain.labelled.means)
    found, before = fitted.recognise(queries), plain.recognise(queries)
    np.testing.assert_allclose(found.score, before.score, rtol=1e-4, atol=1e-4)
    assert np.abs(found.distance - before.distance).max() > 0.1
