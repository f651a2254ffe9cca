"""The finetuning baseline."""

import torch

from cryo_fewshot.baseline import baseline_logits


def random_episode(n_episodes=3, n_way=5, n_shot=4, m=11, dim=16):
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(n_episodes, n_way, n_shot, dim, generator=generator)
    return support, torch.randn(n_episodes, m, dim, generator=generator)


def test_the_finetuned_layer_of_an_episode_does_not_depend_on_other_episodes():
    support, queries = random_episode()
    together = baseline_logits(support, queries)
    alone = torch.cat([baseline_logits(support[i : i + 1], queries[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_the_layer_is_fitted_as_torchs_own_would_be():
    support, queries = random_episode(1)
    layer = torch.nn.Linear(16, 5)
    with torch.no_grad():
        layer.weight.uniform_(-1, 1, generator=torch.Generator().manual_seed(3)).mul_(16**-0.5)
        layer.bias.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    labels = torch.arange(5).repeat_interleave(4)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(support[0].flatten(0, 1)), labels).backward()
        optimizer.step()
    with torch.no_grad():
        found = baseline_logits(support, queries, seed=3)
    assert not found.requires_grad
    torch.testing.assert_close(found[0], layer(queries[0]).detach(), rtol=1e-3, atol=1e-3)


def test_settings_are_heeded():
    support, queries = random_episode()
    plain = baseline_logits(support, queries)
    for changed in ({"n_steps": 99}, {"learning_rate": 2e-2}, {"seed": 1}):
        assert not torch.allclose(plain, baseline_logits(support, queries, **changed), atol=1e-4)
