"""Recognition of simulated embeddings whose classes, outsiders and mistakes are known."""

import json

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.evaluation import area_under_roc, expected_calibration_error
from cryo_fewshot.recognition.calibration import Calibration, fit_calibration, threshold_for
from cryo_fewshot.recognition.recogniser import INVALID, build_recogniser

DIM = 10
WITHIN = np.linspace(0.7, 1.8, DIM)


def classes(n_classes, n=40, seed=0, noise=1.0):
    """Embeddings `(n_classes * n, DIM)` and labels: centres of spread 3, a scatter within that is not round."""
    rng = np.random.default_rng(seed)
    x = 3 * rng.normal(size=(n_classes, 1, DIM)) + noise * WITHIN * rng.normal(size=(n_classes, n, DIM))
    return torch.from_numpy(x.reshape(-1, DIM)).float(), np.repeat(np.arange(n_classes), n)


@pytest.fixture(scope="module")
def calibration():
    x, labels = classes(20)
    return fit_calibration(x, labels, shots=(1, 5, 20), n_episodes=10, n_axes=DIM)


def user(n_classes=6, n_shot=5, n=200, seed=1, noise=1.0):
    """Support and queries of classes that no calibration has met."""
    x, labels = classes(n_classes, n, seed, noise)
    names = np.array([f"class {label}" for label in labels])
    first = np.arange(len(labels)) % n < n_shot
    return x[first], names[first], x[~first], names[~first]


def test_unseen_classes_are_found_with_true_probabilities(calibration):
    errors, n_right = [], 0
    for seed in range(1, 9):
        support, names, queries, true = user(seed=seed, n_shot=1)
        found = build_recogniser(support, names, calibration).recognise(queries)
        right = np.array(found.class_names)[found.label] == true
        errors.append((found.probability, right))
        n_right += right.mean() / 8
    assert n_right > 0.8
    assert expected_calibration_error(*map(np.concatenate, zip(*errors, strict=True))) <= 0.05


def test_outsiders_are_accepted_no_more_often_than_promised(calibration):
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


def test_a_smaller_promise_accepts_less(calibration):
    support, names, *_ = user()
    thresholds = [
        build_recogniser(support, names, calibration, false_accept_rate=rate).threshold for rate in (0.2, 0.05, 0.01)
    ]
    assert thresholds == sorted(thresholds)
    with pytest.raises(UserError, match=r"0\.5 \(--false-accept\): thresholds are known for rates from 0\.01 to 0\.2"):
        build_recogniser(support, names, calibration, false_accept_rate=0.5)


def test_noisier_data_than_the_calibrations_are_noticed(calibration):
    support, names, queries, true = user(noise=2.0, n_shot=10)
    recogniser = build_recogniser(support, names, calibration)
    found = recogniser.recognise(queries)
    assert 2.5 < recogniser.model.within < 5  # the variance is 4 times as large
    right = np.array(found.class_names)[found.label] == true
    assert abs(found.probability.mean() - right.mean()) < 0.06


def test_unequal_and_single_shots_are_allowed(calibration):
    support, names, queries, true = user(n_shot=5)
    kept = np.ones(len(names), bool)
    kept[1:5] = False  # one particle of class 0
    recogniser = build_recogniser(support[kept], names[kept], calibration)
    found = recogniser.recognise(queries)
    assert (np.array(found.class_names)[found.label] == true).mean() > 0.9
    assert recogniser.check.tested.sum() == kept.sum() - 1
    assert any("'class 0' has 1" in warning for warning in recogniser.check.warnings)


def test_what_is_said_does_not_depend_on_chunks_or_order(calibration):
    support, names, queries, _ = user()
    recogniser = build_recogniser(support, names, calibration)
    whole = recogniser.recognise(queries).to_frame()
    shuffled = np.random.default_rng(0).permutation(len(names))
    other = build_recogniser(support[shuffled], names[shuffled], calibration).recognise(queries, chunk=7).to_frame()
    assert (whole["class"] == other["class"]).all()
    assert np.allclose(whole["probability"], other["probability"], atol=1e-3)
    streamed = list(recogniser.recognise_stream(queries.split(100)))
    assert np.array_equal(np.concatenate([part.label for part in streamed]), recogniser.recognise(queries).label)


def test_the_columns_mean_what_they_say(calibration):
    support, names, queries, true = user()
    frame = build_recogniser(support, names, calibration).recognise(queries).to_frame()
    members = frame["class"] == true
    assert frame.loc[members, "distance"].median() == pytest.approx(1, abs=0.15)
    assert (frame["margin"] > 0).mean() > 0.95
    assert (frame["class"] != frame["runner_up"]).all()
    assert frame["probability"].between(1 / 6, 1).all()


def test_a_particle_without_a_finite_embedding_is_rejected_not_fatal(calibration):
    support, names, queries, _ = user()
    queries[3, 0] = torch.nan
    found = build_recogniser(support, names, calibration).recognise(queries)
    assert found.label[3] == INVALID and not found.accepted[3] and np.isnan(found.probability[3])
    assert found.to_frame()["class"][3] == ""
    assert np.isfinite(np.delete(found.probability, 3)).all()


def test_junk_is_never_accepted(calibration):
    support, names, queries, _ = user()
    found = build_recogniser(support, names, calibration, junk=["class 2"]).recognise(queries)
    assert not found.accepted[np.array(found.class_names)[found.label] == "class 2"].any()
    assert found.accepted.any()


def test_adapting_to_unbalanced_queries_helps_single_shots(calibration):
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


# ------------------------------------------------------------------ the support looked at


def test_leave_one_out_predicts_the_accuracy_of_queries(calibration):
    covered = 0
    for seed in range(1, 21):
        support, names, queries, true = user(seed=seed, n_shot=6, n=60, noise=1.7)
        recogniser = build_recogniser(support, names, calibration)
        found = recogniser.recognise(queries)
        check = recogniser.check
        assert check.low <= check.accuracy <= check.high
        covered += check.low <= (np.array(found.class_names)[found.label] == true).mean() <= check.high
    assert covered >= 17


def test_a_wrong_label_is_named(calibration):
    support, names, *_ = user()
    assert build_recogniser(support, names, calibration).check.warnings == ()
    names[0] = "class 3"
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("labelled particle 0 ('class 3') looks like 'class 0'" in warning for warning in warnings)


def test_duplicates_are_named(calibration):
    support, names, *_ = user()
    support[1] = support[0]
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("particles 0 and 1 are duplicates" in warning for warning in warnings)
    support[7] = support[0]  # of class 1
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("0 ('class 0') and 7 ('class 1') are identical" in warning for warning in warnings)


def test_classes_that_are_one_are_named(calibration):
    x, _ = classes(1, 20)
    support, names, *_ = user()
    both = torch.cat([support, x[:5] + 20, x[5:10] + 20])
    warnings = build_recogniser(both, [*names, *["left"] * 5, *["right"] * 5], calibration).check.warnings
    assert any("'left' and 'right' are hard to tell apart" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, names: (x[:5], names[:5]), "support of 1 class"),
        (lambda x, names: (x, names[:-1]), "one label per embedding"),
        (lambda x, names: (torch.where(torch.arange(len(x))[:, None] == 4, torch.nan, x), names), "particle 4"),
        (lambda x, names: (x[:, :3], names), "3 dimensions"),
    ],
)
def test_a_support_that_cannot_be_used_is_refused_in_one_line(calibration, change, message):
    support, names, *_ = user()
    with pytest.raises(UserError, match=message) as caught:
        build_recogniser(*change(support, names), calibration)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ calibration


def test_a_calibration_survives_json(calibration):
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


def test_close_relatives_do_not_count_as_outsiders():
    x, labels = classes(12)
    twins = torch.cat([x, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))])
    both = np.r_[labels, labels + 12]
    settings = {"shots": (5,), "n_episodes": 6, "n_axes": DIM}
    apart, together = (
        fit_calibration(twins, both, families=families, **settings) for families in (np.r_[labels, labels], None)
    )
    assert apart.threshold(5, 0.05) < together.threshold(5, 0.05)
    assert apart.measured[0]["kept"] > together.measured[0]["kept"]


def test_too_little_to_calibrate_on_is_refused():
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


def test_scores_are_counted_rightly():
    assert area_under_roc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert area_under_roc(np.array([1.0]), np.array([1.0])) == 0.5
    assert expected_calibration_error(np.full(100, 0.75), np.arange(100) < 75) == pytest.approx(0)
    assert expected_calibration_error(np.full(100, 0.95), np.arange(100) < 75) == pytest.approx(0.2)
