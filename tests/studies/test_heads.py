"""Heads on Gaussian mixtures whose truth is known."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from studies.heads import (
    alpha_tim_logits,
    normalised,
    plda_em_logits,
    plda_logits,
    scaled_prototype_logits,
    tim_logits,
)

from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.plda import PLDA, fit_plda

N_WAY, DIM = 5, 8
UNIT = PLDA(mean=np.zeros(DIM), axes=np.eye(DIM), between=np.full(DIM, 4.0))
INDUCTIVE = {
    "prototypes": partial(scaled_prototype_logits, scale=0.5),
    "PLDA": partial(plda_logits, model=UNIT),
}
TRANSDUCTIVE = {
    "TIM": partial(tim_logits, scale=0.5),
    "alpha-TIM": partial(alpha_tim_logits, scale=0.5),
    "PLDA, EM": partial(plda_em_logits, model=UNIT),
}
HEADS = {**INDUCTIVE, **TRANSDUCTIVE}


def mixture(n_episodes=20, n_shot=1, per_class=(15,) * N_WAY, apart=2.0, seed=0):
    """Episodes of unit Gaussians about centres of that spread: support, queries and the true ways `(m,)`."""
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(n_episodes, N_WAY, DIM, generator=generator)
    support = centres[:, :, None] + torch.randn(n_episodes, N_WAY, n_shot, DIM, generator=generator)
    true = torch.arange(N_WAY).repeat_interleave(torch.tensor(per_class))
    queries = centres[:, true] + torch.randn(n_episodes, len(true), DIM, generator=generator)
    return support, queries, true


def accuracy(head, support, queries, true):
    return float((head(support, queries).argmax(-1) == true).float().mean())


@pytest.mark.parametrize("name", HEADS)
def test_a_permutation_of_ways_permutes_the_logits(name):
    support, queries, _ = mixture(n_episodes=3, n_shot=2)
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = HEADS[name](support, queries).softmax(-1)[..., order]
    assert torch.allclose(HEADS[name](support[:, order], queries).softmax(-1), expected, atol=0.02)


@pytest.mark.parametrize("name", HEADS)
def test_an_episode_does_not_depend_on_the_others(name):
    support, queries, _ = mixture(n_episodes=3, n_shot=2)
    alone = HEADS[name](support[1:2], queries[1:2])
    assert torch.allclose(HEADS[name](support, queries)[1:2], alone, atol=0.02)


@pytest.mark.parametrize("name", HEADS)
def test_each_head_finds_well_separated_classes(name):
    assert accuracy(HEADS[name], *mixture(n_shot=5, apart=4.0)) > 0.97


@pytest.mark.parametrize("name", INDUCTIVE)
def test_inductive_heads_score_each_query_alone(name):
    support, queries, _ = mixture(n_episodes=2, n_shot=2)
    assert torch.allclose(HEADS[name](support, queries)[:, :1], HEADS[name](support, queries[:, :1]), atol=1e-3)


@pytest.mark.parametrize("name", ["TIM", "PLDA, EM"])
def test_all_queries_together_help_where_there_is_one_shot(name):
    episodes = mixture(n_episodes=30)
    assert accuracy(HEADS[name], *episodes) > accuracy(prototype_logits, *episodes) + 0.02


def test_entropies_that_tolerate_imbalance_hold_where_shannons_do_not():
    unbalanced = mixture(n_episodes=20, n_shot=5, per_class=(60, 8, 4, 2, 1), apart=1.5)
    inductive = accuracy(prototype_logits, *unbalanced)
    tim, alpha_tim, em = (accuracy(HEADS[name], *unbalanced) for name in ("TIM", "alpha-TIM", "PLDA, EM"))
    assert tim < inductive - 0.2
    assert alpha_tim > inductive - 0.03
    assert em > inductive - 0.01


def test_a_class_may_be_absent_from_the_queries():
    absent = mixture(n_episodes=20, n_shot=5, per_class=(20, 20, 20, 20, 0), apart=2.0)
    for name in ("alpha-TIM", "PLDA, EM"):
        assert accuracy(HEADS[name], *absent) > accuracy(prototype_logits, *absent) - 0.02, name


def test_a_single_query_is_no_special_case():
    support, queries, _ = mixture(n_episodes=2)
    for name, head in HEADS.items():
        logits = head(support, queries[:, :1])
        assert logits.shape == (2, 1, N_WAY) and torch.isfinite(logits).all(), name


def test_centring_takes_away_what_all_classes_share():
    support, queries, true = mixture(n_shot=5, apart=1.5)
    shared = torch.full((DIM,), 3.0)
    centred = normalised(support + shared, shared), normalised(queries + shared, shared)
    prepared = normalised(support), normalised(queries)
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(prepared, centred, strict=True))
    assert torch.allclose(centred[1].norm(dim=-1), torch.ones(queries.shape[:2]))
    assert accuracy(scaled_prototype_logits, *centred, true) > 0.85


def test_the_logits_are_log_likelihoods_under_the_posterior_of_each_centre(embeddings):
    x, labels = embeddings(40)
    model = fit_plda(x, labels, n_axes=3)
    support, queries = x.view(40, 10, 3)[None, :4, :5], x.view(40, 10, 3)[:4, 5:].reshape(1, 20, 3)
    projected, asked = model.project(support)[0].numpy(), model.project(queries)[0].numpy()
    expected = []
    for members in projected:
        variance = 1 / (1 / model.between + 5)
        centre = multivariate_normal(variance * members.sum(0), np.diag(variance + 1))
        expected.append(centre.logpdf(asked) + 1.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(plda_logits(support, queries, model=model)[0], np.transpose(expected), atol=1e-3)


def test_expectation_maximisation_follows_its_equations_step_by_step(embeddings):
    x, labels = embeddings(40)
    model = fit_plda(x, labels, n_axes=3)
    support, queries = x.view(40, 10, 3)[None, :3, :2], x.view(40, 10, 3)[:3, 2:].reshape(1, 24, 3)
    found = plda_em_logits(support, queries, model=model, n_steps=2, concentration=5.0)[0].double().numpy()
    sums, asked = model.project(support)[0].sum(1).double().numpy(), model.project(queries)[0].double().numpy()
    weights, counts, frequencies = np.zeros((24, 3)), np.full(3, 2.0), np.zeros(3)
    for step in range(3):
        variance = 1 / (1 / model.between + (counts + weights.sum(0))[:, None])
        means = variance * (sums + weights.T @ asked)
        squares = (asked[:, None] - means) ** 2 / (variance + 1)
        logits = -0.5 * (squares + np.log(variance + 1)).sum(-1) + (np.log(frequencies) if step else 0)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        frequencies = (5 + weights.sum(0)) / (15 + 24)
    np.testing.assert_allclose(found, logits, atol=2e-3)
