"""The finetuning baseline: a linear probe fitted to the support set of each episode, the encoder frozen.

The encoder was trained as an ordinary classifier of the base classes.
"""

import torch
from torch import nn


def baseline_logits(
    support: torch.Tensor, queries: torch.Tensor, *, n_steps: int = 100, learning_rate: float = 1e-2, seed: int = 0
) -> torch.Tensor:
    """Fit one fully connected layer per episode with Adam on the support set, the encoder frozen; score the queries.

    All episodes are fitted at once. The paper names Adam but neither steps nor rate; both are settings here.

    Parameters
    ----------
    support : `(n_episodes, n_way, n_shot, dim)` embeddings
    queries : `(n_episodes, m, dim)`

    Returns
    -------
    `(n_episodes, m, n_way)` logits.
    """
    n_episodes, n_way, n_shot, dim = support.shape
    generator = torch.Generator().manual_seed(seed)
    start = torch.empty(n_way, dim).uniform_(-1, 1, generator=generator) * dim**-0.5  # as nn.Linear starts
    weight = start.to(support.device).repeat(n_episodes, 1, 1).requires_grad_()
    bias = torch.zeros(n_episodes, 1, n_way, device=support.device, requires_grad=True)
    labels = torch.arange(n_way, device=support.device).repeat_interleave(n_shot).repeat(n_episodes)
    samples = support.detach().flatten(1, 2)
    optimizer = torch.optim.Adam([weight, bias], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(n_steps):
            logits = torch.baddbmm(bias, samples, weight.transpose(1, 2))
            # Each episode's mean loss, summed over episodes: no episode affects the fit of another.
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels) * n_episodes
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return torch.baddbmm(bias, queries, weight.transpose(1, 2)).detach()
