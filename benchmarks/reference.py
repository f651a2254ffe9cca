"""What a careful user writes in PyTorch from the paper: fp32, contiguous, nothing folded, one episode at a time.

Written to be read. The benchmark measures the package against it.
"""

import torch
from torch import nn
from torch.nn import functional as F


def encoder(n_blocks: int = 4, width: int = 64) -> nn.Sequential:
    """Four blocks of convolution, batch normalisation, ReLU and pooling, then flatten."""
    layers, channels = [], 1
    for _ in range(n_blocks):
        layers += [nn.Conv3d(channels, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU(), nn.MaxPool3d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten())


def embed(network: nn.Module, volumes: torch.Tensor, batch: int = 100) -> torch.Tensor:
    """Embed `(n, d, h, w)` in batches."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(part[:, None]) for part in volumes.split(batch)])


def episode_loss(network: nn.Module, support: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Loss of one episode: support `(n_way, n_shot, d, h, w)`, query `(n_way, n_query, d, h, w)`."""
    n_way, n_shot, n_query = *support.shape[:2], query.shape[1]
    embeddings = network(torch.cat([support.flatten(0, 1), query.flatten(0, 1)])[:, None])
    prototypes = embeddings[: n_way * n_shot].view(n_way, n_shot, -1).mean(1)
    distances = torch.cdist(embeddings[n_way * n_shot :], prototypes) ** 2
    return F.cross_entropy(-distances, torch.arange(n_way).repeat_interleave(n_query))


def training_step(network, optimizer, support, query) -> None:
    """One step of Adam on one episode."""
    optimizer.zero_grad()
    episode_loss(network, support, query).backward()
    optimizer.step()


def combined_accuracy(network, attention, support: torch.Tensor, query: torch.Tensor) -> float:
    """ProtoNet-CE on one episode, the encoder run again for it and the attention once per query."""
    n_way, n_query = support.shape[0], query.shape[1]
    network.eval()
    with torch.no_grad():
        prototypes = network(support.flatten(0, 1)[:, None]).view(n_way, support.shape[1], -1).mean(1)
        right = 0
        for number, x in enumerate(network(query.flatten(0, 1)[:, None])):
            tokens = torch.cat([prototypes, x[None]])
            q, k, v = (layer(tokens) for layer in (attention.to_query, attention.to_key, attention.to_value))
            adapted = tokens + attention.output(torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=-1) @ v)
            total = (x - prototypes).pow(2).sum(1) + (adapted[-1] - adapted[:-1]).pow(2).sum(1)
            right += int(total.argmin() == number // n_query)
    return right / (n_way * n_query)
