"""Prototypes and distances (Snell et al. 2017; Equations 1 and 2 of Li et al. 2020), vectorised over episodes."""

import torch
from torch.nn import functional as F


def prototypes(support: torch.Tensor) -> torch.Tensor:
    """Mean support embedding of each class (Equation 1): `(..., n_way, n_shot, dim)` -> `(..., n_way, dim)`."""
    return support.mean(dim=-2)


def squared_distances(queries: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Squared Euclidean distances: `(..., m, dim)` and `(..., n_way, dim)` -> `(..., m, n_way)`.

    Expanded as |q|^2 - 2 q.c + |c|^2: one matrix product instead of an (m, n_way, dim) intermediate. Both sides are
    centred first, which keeps the subtraction accurate.
    """
    middle = centres.mean(dim=-2, keepdim=True)
    queries, centres = queries - middle, centres - middle
    cross = queries @ centres.transpose(-1, -2)
    return queries.square().sum(-1, keepdim=True) - 2 * cross + centres.square().sum(-1).unsqueeze(-2)


def prototype_logits(support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Minus the squared distance to each prototype, whose softmax is Equation 2.

    support `(..., n_way, n_shot, dim)`, queries `(..., m, dim)` -> `(..., m, n_way)`.
    """
    return -squared_distances(queries, prototypes(support))


def cosine_logits(support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Cosine between each query and each prototype (Chen et al. 2021, "Meta-Baseline"); shapes of `prototype_logits`.

    Without a temperature: made for deciding, not for probabilities.
    """
    return F.normalize(queries, dim=-1) @ F.normalize(prototypes(support), dim=-1).mT
