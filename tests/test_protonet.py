"""Prototypes and distances."""

import torch

from cryo_fewshot.protonet import cosine_logits, prototype_logits, prototypes, squared_distances


def random_episode(n_episodes=3, n_way=5, n_shot=4, m=11, dim=16):
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(n_episodes, n_way, n_shot, dim, generator=generator)
    return support, torch.randn(n_episodes, m, dim, generator=generator)


def test_prototypes_are_means():
    support, _ = random_episode()
    by_hand = torch.stack([torch.stack([way.sum(0) / 4 for way in episode]) for episode in support])
    assert torch.allclose(prototypes(support), by_hand)


def test_logits_are_minus_squared_distances():
    support, queries = random_episode()
    difference = queries[:, :, None] - prototypes(support)[:, None]
    assert torch.allclose(prototype_logits(support, queries), -difference.pow(2).sum(-1), atol=1e-4)


def test_distances_stay_accurate_far_from_the_origin():
    support, queries = random_episode()
    near = squared_distances(queries, prototypes(support))
    assert torch.allclose(squared_distances(queries + 100, prototypes(support + 100)), near, rtol=1e-3, atol=1e-2)


def test_cosine_logits_compare_directions_alone():
    support, queries = random_episode()
    expected = torch.nn.functional.cosine_similarity(queries[:, :, None], prototypes(support)[:, None], dim=-1)
    assert torch.allclose(cosine_logits(support, queries), expected, atol=1e-5)
    assert torch.allclose(cosine_logits(support, 7 * queries), expected, atol=1e-5)
