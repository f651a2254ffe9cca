"""The geometry of the user's data against its equations, written out in numpy."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from cryo_fewshot.recognition import domain
from cryo_fewshot.recognition.domain import lifted, reason_not_to_fit, space_of_data
from cryo_fewshot.recognition.plda import PLDA

RNG = np.random.default_rng(0)
SPACE = PLDA(mean=RNG.normal(size=4), axes=RNG.normal(size=(4, 3)), between=np.array([1.0, 3.0, 8.0]), unit_columns=0)
WIDTHS = (3, 1)


def data():
    """Support of three classes, one of them alone, and unlabelled particles of two of them and of neither."""
    centres = 2 * RNG.normal(size=(3, 8))
    own = np.repeat(np.arange(3), (3, 2, 1))
    support = centres[own] + RNG.normal(size=(6, 8))
    unlabelled = centres[[0] * 20 + [1] * 9] + RNG.normal(size=(29, 8))
    far = 5 * RNG.normal(size=(3, 8))
    return support, np.eye(3)[own], np.concatenate([unlabelled, far])


def blocks_by_hand(rows, widths):
    """Encoder's axes and standardised columns, each block of the total variance that it gets."""
    mean = rows.mean(0)
    parts = [(rows - mean)[:, :4] @ SPACE.axes]
    behind, start = (rows - mean) / rows.std(0, ddof=1), 4
    for width in widths:
        parts.append(behind[:, start : start + width])
        start += width
    weights = [1.0, *domain.BLOCK_WEIGHTS]
    parts = [w * part / np.sqrt(part.var(0, ddof=1).sum()) for w, part in zip(weights, parts, strict=False)]
    return mean, np.concatenate(parts, axis=1)


def em_by_hand(labelled, members, unlabelled):
    rows, n = np.concatenate([labelled, unlabelled]), members.shape[1]
    total = np.cov(rows.T)
    prior = domain.PRIOR_SHARE * np.trace(total) / len(total) * np.eye(len(total))
    within, frequencies, seen, weights = prior, np.full(n, 1 / n), labelled, members
    for step in range(domain.N_STEPS):
        counts = weights.sum(0)
        centres = weights.T @ seen / counts[:, None]
        if step:
            scatter = sum(
                w * np.outer(x - centres[c], x - centres[c])
                for x, of_row in zip(seen, weights, strict=True)
                for c, w in enumerate(of_row)
            )
            within = (scatter + domain.PRIOR_WEIGHT * prior) / (counts.sum() + domain.PRIOR_WEIGHT)
            frequencies = (counts + 1) / (counts + 1).sum()
        known = [
            f * multivariate_normal(m, within * (1 + 1 / k)).pdf(unlabelled)
            for f, m, k in zip(frequencies, centres, counts, strict=True)
        ]
        # An unknown class scatters as all particles do, and on no axis less than a known one.
        root = np.linalg.cholesky(within)
        values, axes = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, total).T))
        spread = root @ axes @ np.diag(np.maximum(values, 1)) @ axes.T @ root.T
        unknown = multivariate_normal(np.zeros(len(total)), spread).pdf(unlabelled)
        both = np.stack([*known, domain.UNKNOWN_FREQUENCY * unknown], axis=1)
        seen, weights = rows, np.concatenate([members, (both / both.sum(1, keepdims=True))[:, :-1]])
    return within, frequencies


@pytest.mark.parametrize("widths", [(), (3,), (3, 1)])
def test_the_fitted_geometry_follows_its_equations(widths):
    support, members, unlabelled = (part for part in data())
    support, unlabelled = (part[:, : 4 + sum(widths)] for part in (support, unlabelled))
    rows = np.concatenate([unlabelled, support])
    mean, blocks = blocks_by_hand(rows, widths)
    asked, labelled = blocks[: len(unlabelled)], blocks[len(unlabelled) :]
    within, frequencies = em_by_hand(labelled, members, asked)
    missing = 1 - np.exp(-(frequencies * np.log(frequencies)).sum()) / 3
    between = (1 - missing) * (np.cov(blocks.T) - within)
    of_encoder = (rows - mean)[:, :4] @ SPACE.axes
    scale = 1 / of_encoder.var(0, ddof=1).sum()
    between[:3, :3] += missing * scale * np.diag(SPACE.between)
    root = np.linalg.cholesky(within)
    values, vectors = np.linalg.eigh(np.linalg.solve(root, np.linalg.solve(root, between).T))
    with_nan = np.concatenate([unlabelled, np.full((1, unlabelled.shape[1]), np.nan)])
    found = space_of_data(SPACE, widths, *(torch.from_numpy(part).float() for part in (support, members, with_nan)))
    assert 0.05 < missing < 0.6 and found.unit_columns == SPACE.unit_columns
    np.testing.assert_allclose(found.between, np.maximum(values[-3:], domain.SMALLEST_BETWEEN), rtol=1e-3)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
    projected = np.linalg.solve(root, blocks.T).T @ vectors[:, -3:]
    np.testing.assert_allclose(np.abs((rows - mean) @ found.axes), np.abs(projected), rtol=1e-2, atol=1e-3)


def test_columns_that_are_all_alike_do_not_count():
    support, members, unlabelled = data()
    support[:, 5] = unlabelled[:, 5] = 7.0
    found = space_of_data(SPACE, WIDTHS, *(torch.from_numpy(part).float() for part in (support, members, unlabelled)))
    assert np.isfinite(found.axes).all()
    assert (
        lifted(SPACE, 0).axes.shape == lifted(SPACE, -1).axes.shape == (4, 3) and lifted(SPACE, 2).mean[4:].sum() == 0
    )


@pytest.mark.parametrize(("n_way", "limit"), [(2, 0.3), (5, 0.3 / 2.5**0.5), (8, 0.3 / 2.5**0.5)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_power_may_lie_beyond_the_classes_by_so_much(n_way, limit, sign):
    """Of descriptors of five columns the last two are the power; grey values behind them do not count."""
    members = torch.eye(n_way)
    support = torch.zeros(n_way, 10)
    support[0, 7:9] = -sign * 50.0  # the range of the classes reaches far the other way
    unlabelled = torch.zeros(60, 10)
    unlabelled[:, :7], unlabelled[:, 9] = 99.0, 99.0
    for share, reason in ((0.98, ""), (1.02, "power per Fourier shell")):
        unlabelled[:, 7:9] = torch.tensor([2.0, 0.0]) * sign * share * limit
        found = reason_not_to_fit(lambda rows: torch.zeros(()), (5, 1), support, members, unlabelled)
        assert reason in found and bool(found) == bool(reason)


@pytest.mark.parametrize(("n_way", "limit"), [(2, 0.4), (5, 0.4), (3, 0.4)])
def test_noise_counts_where_classes_have_fewer_than_three_labels(n_way, limit):
    unlabelled = torch.zeros(60, 10)

    def reason(n_shot, beyond):
        members = torch.eye(n_way).repeat_interleave(n_shot, 0)
        support = torch.zeros(n_way * n_shot, 10)
        return reason_not_to_fit(
            lambda rows: torch.tensor(beyond if len(rows) == 60 else 0.0), (5, 1), support, members, unlabelled
        )

    assert "noise" in reason(2, 1.02 * limit) and "noise" in reason(2, -1.02 * limit)
    assert not reason(2, 0.98 * limit) and not reason(3, 9.0)
