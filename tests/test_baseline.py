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
