"""PLDA against its definition: Gaussians written out, and embeddings whose covariances are known."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.domain import lifted
from cryo_fewshot.recognition.plda import (
    PLDA,
    class_posteriors,
    fit_plda,
    gaussian_log_likelihoods,
)


def test_the_fit_finds_the_covariances(embeddings):
    x, labels = embeddings()
    model = fit_plda(x, labels, n_axes=3, shrinkage=0)
    projected = model.project(x).numpy().reshape(400, 10, 3)
    within = (projected - projected.mean(axis=1, keepdims=True)).reshape(-1, 3)
    np.testing.assert_allclose(within.T @ within / (4000 - 400), np.eye(3), atol=1e-3)
    # Ratios of the two variances, ascending: 2^2 / 2^2, 1 / 0.5^2, 3^2 / 1.
    np.testing.assert_allclose(model.between, [1, 4, 9], rtol=0.25)
    np.testing.assert_allclose(model.mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(model.project(x).mean(0), 0, atol=1e-3)  # where an unknown class is expected


def test_few_particles_per_class_do_not_widen_the_scatter_of_the_centres(embeddings):
    """The sample means of two particles scatter more than the centres do; the fit takes that off."""
    model = fit_plda(*embeddings(4000, n=2), n_axes=3, shrinkage=0)
    np.testing.assert_allclose(model.between, [1, 4, 9], rtol=0.15)


def test_shrinkage_makes_covariances_rounder(embeddings):
    x, labels = embeddings()
    ratios = [np.ptp(np.log(fit_plda(x, labels, shrinkage=share).between)) for share in (0, 0.1, 0.5, 1)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(0, abs=1e-4)
    covariance_within, covariance_between = np.diag([1, 4, 0.25]), np.diag([9, 4, 1])
    shrunk = [0.9 * c + 0.1 * np.trace(c) / 3 * np.eye(3) for c in (covariance_within, covariance_between)]
    expected = np.sort(np.diag(shrunk[1]) / np.diag(shrunk[0]))
    np.testing.assert_allclose(fit_plda(x, labels, shrinkage=0.1).between, expected, rtol=0.25)


def test_only_the_longest_axes_are_kept(embeddings):
    x, labels = embeddings()
    assert fit_plda(x, labels, n_axes=2).axes.shape == (3, 2)
    assert fit_plda(x, labels).axes.shape == (3, 3)
    kept = fit_plda(x, labels, n_axes=1).axes[:, 0]
    assert abs(kept[0]) > 5 * abs(kept[2])


def test_posteriors_of_centres_are_those_of_bayes():
    """A Gaussian prior times Gaussian likelihoods, on a grid."""
    between, within, support = 4.0, 0.5, [1.0, 2.5, 2.0]
    grid = np.linspace(-10, 10, 20001)
    density = np.exp(-(grid**2) / (2 * between) - sum((x - grid) ** 2 for x in support) / (2 * within))
    density /= density.sum()
    mean = (grid * density).sum()
    sums, counts = torch.tensor([[sum(support)]]), torch.tensor([3.0])
    found, variance = class_posteriors(sums, counts, torch.tensor([between]), within)
    assert found.item() == pytest.approx(mean, rel=1e-4)
    assert variance.item() == pytest.approx(((grid - mean) ** 2 * density).sum(), rel=1e-4)
    found, variance = class_posteriors(0 * sums, 0 * counts, torch.tensor([between]))
    assert (found.item(), variance.item()) == (0, between)  # nothing is known but the prior


def test_log_likelihoods_are_gaussians_without_their_constant():
    rng = np.random.default_rng(0)
    queries, means, variances = rng.normal(size=(5, 3)), rng.normal(size=(2, 3)), rng.uniform(0.5, 2, size=(2, 3))
    expected = [
        multivariate_normal(m, np.diag(v)).logpdf(queries) + 1.5 * np.log(2 * np.pi)
        for m, v in zip(means, variances, strict=True)
    ]
    found = gaussian_log_likelihoods(*(torch.from_numpy(part) for part in (queries, means, variances)))
    np.testing.assert_allclose(found.T, expected, rtol=1e-9)


def test_what_does_not_belong_together_is_refused(embeddings):
    x, labels = embeddings(20)
    model = fit_plda(x, labels)
    with pytest.raises(UserError, match="4 dimensions, the calibration was fitted on 3"):
        model.project(torch.zeros(2, 4))
    with pytest.raises(UserError, match="do not belong together"):
        PLDA(mean=model.mean, axes=model.axes[:2], between=model.between)
    with pytest.raises(UserError, match="2 classes with at least 10"):
        fit_plda(x[:20], labels[:20])
    with pytest.raises(UserError, match="3 classes with at least 1 "):
        fit_plda(x[:21], labels[:21])


def test_what_was_fitted_on_length_1_takes_nothing_else(embeddings):
    """Embeddings of another length would be accepted or rejected by it."""
    x, labels = embeddings(20)
    unit = torch.nn.functional.normalize(x, dim=-1)
    model = fit_plda(unit, labels)
    assert model.unit_columns == 3 and fit_plda(x, labels).unit_columns == 0
    with pytest.raises(UserError, match="the calibration was fitted on length 1: normalise"):
        model.project(2 * unit)
    wide = lifted(model, 2)  # plain numbers behind the embedding have any length
    assert torch.equal(wide.project(torch.cat([unit, 5 * x[:, :2]], dim=1)), model.project(unit))
    with pytest.raises(UserError, match="length 0 to 1"):
        model.project(torch.cat([unit, torch.zeros(1, 3)]))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_scale_of_embeddings_does_not_count(embeddings, factor):
    x, labels = embeddings(20)
    found, scaled = (fit_plda(part, labels, shrinkage=0.3) for part in (x, factor * x))
    np.testing.assert_allclose(scaled.between, found.between, rtol=1e-3)
    np.testing.assert_allclose(scaled.project(factor * x).abs(), found.project(x).abs(), rtol=1e-2, atol=1e-2)


def test_six_particles_have_five_axes_and_what_never_differs_is_no_axis_of_infinite_length():
    rng = np.random.default_rng(0)
    labels = np.arange(6) % 3
    assert fit_plda(torch.from_numpy(rng.normal(size=(6, 10))), labels).axes.shape == (10, 5)
    flat = rng.normal(size=(60, 3)) * [1, 2, 0]
    assert np.isfinite(fit_plda(torch.from_numpy(flat), np.arange(60) % 6, shrinkage=0).axes).all()


def test_each_class_counts_its_own_labels():
    between, counts, sums = torch.tensor([4.0, 2.0]), torch.tensor([1.0, 3.0]), torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    means, variances = class_posteriors(sums, counts, between, 0.5)
    for c in range(2):
        variance = 1 / (1 / between + counts[c] / 0.5)
        torch.testing.assert_close(variances[c], variance)
        torch.testing.assert_close(means[c], variance * sums[c] / 0.5)
