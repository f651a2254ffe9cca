"""Leave-one-out over a support whose mistakes are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryo_fewshot.recognition.calibration import ClassModel
from cryo_fewshot.recognition.plda import class_posteriors, gaussian_log_likelihoods
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.recognition.support_check import _inseparable, _tempered


def test_leave_one_out_predicts_the_accuracy_of_queries(calibration, user):
    covered = 0
    for seed in range(1, 21):
        support, names, queries, true = user(seed=seed, n_shot=6, n=60, noise=1.7)
        recogniser = build_recogniser(support, names, calibration)
        found = recogniser.recognise(queries)
        check = recogniser.check
        assert check.low <= check.accuracy <= check.high
        covered += check.low <= (np.array(found.class_names)[found.label] == true).mean() <= check.high
    assert covered >= 17


def test_probabilities_follow_the_support_where_it_is_noisier_than_foreseen(calibration, user):
    """Labels that are wrong by chance cannot be foreseen: the more of them, the less is promised."""
    support, names, *_ = user(n_shot=20)
    clean = build_recogniser(support, names, calibration).check
    names[::4] = np.roll(names[::4], 7)
    noisy = build_recogniser(support, names, calibration).check
    assert clean.tempered < 1.05 < 1.3 < noisy.tempered
    single = build_recogniser(support[::20], names[1::20], calibration).check
    assert single.n_tested == 0 and single.tempered == 1


def test_a_wrong_label_is_named(calibration, user):
    support, names, *_ = user()
    assert build_recogniser(support, names, calibration).check.warnings == ()
    names[0] = "class 3"
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("labelled particle 0 ('class 3') looks like 'class 0'" in warning for warning in warnings)


def test_duplicates_are_named(calibration, user):
    support, names, *_ = user()
    support[1] = support[0]
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("particles 0 and 1 are duplicates" in warning for warning in warnings)
    support[7] = support[0]  # of class 1
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("particles 0 and 1 are duplicates: a" in warning for warning in warnings)  # and no others
    assert any("0 ('class 0') and 7 ('class 1') are identical" in warning for warning in warnings)


def test_classes_that_are_one_are_named(calibration, classes, user):
    x, _ = classes(1, 20)
    support, names, *_ = user()
    both = torch.cat([support, x[:5] + 20, x[5:10] + 20])
    warnings = build_recogniser(both, [*names, *["left"] * 5, *["right"] * 5], calibration).check.warnings
    assert any("'left' and 'right' are hard to tell apart" in warning for warning in warnings)


def test_a_particle_left_out_takes_no_part_in_its_own_class(calibration, user):
    """Against a recogniser whose support really lacks the particle; the scatter within is that of all."""
    support, names, *_ = user(n_classes=4, n_shot=4, noise=3.0)
    whole = build_recogniser(support, names, calibration)
    space, one_less = calibration.space, replace(whole.conditions, n_shot=3)
    temperature = float(calibration.promises.temperature_of(one_less))
    for i in range(len(names)):
        kept = np.arange(len(names)) != i
        members = torch.from_numpy(names[kept][:, None] == np.array(whole.class_names)).float()
        sums, counts = members.T @ space.project(support[kept]), members.sum(0)
        means, variances = class_posteriors(sums, counts, whole.model.between, whole.model.within)
        logits = gaussian_log_likelihoods(space.project(support[[i]]), means, variances + whole.model.within)
        probabilities = torch.softmax(logits / temperature, dim=-1)[0]
        assert whole.check.probability[i] == pytest.approx(probabilities.max().item(), abs=1e-3)
        assert whole.check.right[i] == (probabilities.argmax() == i // 4)
    right = whole.check.right
    assert whole.check.accuracy == pytest.approx(right.mean()) and 0.3 < right.mean() < 1


def test_a_support_of_single_particles_cannot_be_checked(calibration, user):
    support, names, *_ = user(n_shot=1)
    check = build_recogniser(support, names, calibration).check
    assert not check.tested.any() and np.isnan(check.accuracy)
    assert (check.low, check.high) == (0, 1)
    assert "'class 0' has 1, 'class 1' has 1" in check.warnings[0]


def test_few_means_fewer_than_three(calibration, user):
    for n_shot, said in ((2, True), (3, False)):
        support, names, *_ = user(n_shot=n_shot)
        warnings = build_recogniser(support, names, calibration).check.warnings
        assert any("few labelled particles" in warning for warning in warnings) == said


def test_a_support_of_noise_is_called_one(calibration, user):
    support, names, *_ = user(n_shot=12, noise=1.0)
    shuffled = np.random.default_rng(0).permutation(names)
    check = build_recogniser(support, shuffled, calibration).check
    assert any("this support does not define its classes" in warning for warning in check.warnings)
    assert any("more labelled particles look like another class" in w for w in check.warnings) == (
        (~check.right & (check.probability > 0.9)).sum() > 10
    )


def test_long_lists_of_warnings_are_cut_and_counted(calibration, user):
    support, names, *_ = user(n_shot=5)
    doubled, twice = support.repeat(2, 1), np.tile(names, 2)
    warnings = build_recogniser(doubled, twice, calibration).check.warnings
    assert any("particles 0 and 30 are duplicates (and 29 more)" in warning for warning in warnings)
    wrong = np.r_[names, np.roll(names, 5)]
    warnings = build_recogniser(doubled, wrong, calibration).check.warnings
    assert sum("are identical: remove the wrong one" in warning for warning in warnings) == 10
    one_class = np.tile(["a", "b", "c", "d"], 10)
    x = support[:1] + 0.8 * torch.randn(40, support.shape[1], generator=torch.Generator().manual_seed(0))
    warnings = build_recogniser(x, one_class, calibration).check.warnings
    assert sum("are hard to tell apart (" in warning for warning in warnings) == 5
    assert "1 more pairs of classes are hard to tell apart" in warnings


@pytest.mark.parametrize(("distance", "said"), [(1.4, True), (1.9, False)])
def test_classes_are_hard_to_tell_apart_from_a_confusion_of_a_fifth(distance, said):
    """Two Gaussians at 1.4 standard deviations are confused in 24 % of cases, at 1.9 in 17 %."""
    means = torch.tensor([[0.0, 0.0], [distance, 0.0]])
    model = ClassModel(means, torch.zeros(2, 2), torch.tensor(1.0), torch.ones(2))
    assert bool(_inseparable(model, np.array([3, 3]), ["a", "b"])) == said
    assert not _inseparable(model, np.array([2, 3]), ["a", "b"])


def test_a_support_is_called_undefined_only_where_less_than_half_is_sure(calibration, user):
    support, names, *_ = user(n_classes=2, n_shot=20)
    names = names.copy()
    names[:8], names[20:28] = "class 1", "class 0"  # 24 of 40 are right
    check = build_recogniser(support, names, calibration).check
    assert 0.5 < check.high < 0.75
    assert not any("does not define its classes" in warning for warning in check.warnings)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_the_temperature_of_a_support_is_its_most_likely_one_with_a_prior_for_one(scale):
    rng = np.random.default_rng(0)
    logits, own = scale * rng.normal(size=(30, 3)), rng.integers(3, size=30)
    factors = np.exp(np.linspace(-1.5, 1.5, 3001))
    scaled = logits / factors[:, None, None]
    likelihood = (np.log(np.exp(scaled).sum(-1)) - scaled[:, np.arange(30), own]).sum(1)
    best = factors[np.argmin(likelihood + 0.5 * (np.log(factors) / 0.15) ** 2)]
    assert _tempered(logits, own) == pytest.approx(best, rel=2e-3) and abs(np.log(best)) > 0.02
    assert _tempered(logits[:0], own[:0]) == 1
