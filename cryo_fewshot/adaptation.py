"""ProtoNet-CE: attention that adapts embeddings to an episode, and the combined distance (Equations 4 to 7).

Queries, keys and values are linear in the embedding, so each embedding is projected once, before episodes are drawn
from them, and the projection of a prototype is the mean of its support's projections. "Projected" below means
`[embedding | query | key | value]` along the last axis, `(..., 4 * dim)`.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .errors import UserError
from .protonet import prototypes, squared_distances

VARIANTS = ("inductive", "transductive")


class Adaptation(nn.Module):
    """One-head attention over prototypes and queries, added to the embedding (after FEAT, Ye et al. 2018).

    Parameters
    ----------
    dim : dimension of the embedding
    variant : 'inductive' attends over the prototypes and one query at a time (the released code; a prediction does
        not depend on other queries); 'transductive' over the prototypes and all queries of the episode (the text)
    layer_norm : normalise after the residual (the released code; the text does not name it)
    bias : of queries, keys and values (the released code; Equation 4 has none)
    """

    def __init__(self, dim: int, variant: str = "inductive", layer_norm: bool = False, bias: bool = False):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"attention variant '{variant}' is unknown: use one of {', '.join(VARIANTS)}")
        self.dim, self.variant = dim, variant
        self.to_query, self.to_key, self.to_value = (nn.Linear(dim, dim, bias=bias) for _ in range(3))
        self.output = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim) if layer_norm else None
        # Scale of FEAT: logits of order one at the start, whatever the dimension.
        for layer in (self.to_query, self.to_key, self.to_value):
            nn.init.normal_(layer.weight, std=dim**-0.5)
        nn.init.xavier_normal_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def project(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Equation 4 for each embedding: `(..., dim)` -> projected `(..., 4 * dim)`.

        The fully connected layer of Equation 6 is linear too and is applied to the values here; its bias is not.
        """
        values = F.linear(self.to_value(embeddings), self.output.weight)
        return torch.cat([embeddings, self.to_query(embeddings), self.to_key(embeddings), values], dim=-1)

    def attend(self, projected: torch.Tensor) -> torch.Tensor:
        """Equations 5 and 6: projected sets of tokens `(..., n_tokens, 4 * dim)` -> adapted `(..., n_tokens, dim)`."""
        tokens, asked, keys, values = projected.split(self.dim, dim=-1)
        adapted = tokens + F.scaled_dot_product_attention(asked, keys, values) + self.output.bias
        return adapted if self.norm is None else self.norm(adapted)

    def distances(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Squared distances d* in the adapted space.

        Projected support `(n_episodes, n_way, n_shot, 4 * dim)` and queries `(n_episodes, m, 4 * dim)` ->
        `(n_episodes, m, n_way)`.
        """
        centres = prototypes(support)
        n_way = centres.shape[-2]
        if self.variant == "transductive":
            adapted = self.attend(torch.cat([centres, queries], dim=-2))
            return squared_distances(adapted[..., n_way:, :], adapted[..., :n_way, :])
        if self.norm is None:
            return self._inductive_distances(centres, queries)
        shared = centres.unsqueeze(-3).expand(*queries.shape[:-1], *centres.shape[-2:])
        adapted = self.attend(torch.cat([shared, queries.unsqueeze(-2)], dim=-2))
        return (adapted[..., -1:, :] - adapted[..., :-1, :]).square().sum(-1)

    def _inductive_distances(self, centres: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Distances after attending to each set {prototypes, one query}, from scalar products alone.

        An adapted token is its embedding plus a weighted sum of the set's values, so the difference of two is the
        difference of embeddings plus `shift @ values`: its square needs the products of embeddings and values, of
        which there are few, and no adapted embedding per query and prototype.
        """
        c, c_asked, c_key, c_value = centres.split(self.dim, dim=-1)
        q, q_asked, q_key, q_value = queries.split(self.dim, dim=-1)
        n_way = c.shape[-2]

        def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a * b).sum(-1, keepdim=True)

        def per_query(of_centres: torch.Tensor, of_query: torch.Tensor) -> torch.Tensor:
            # (e, n_way, n_way) and (e, m, n_way) -> (e, m, n_way, n_way + 1)
            shared = of_centres.unsqueeze(-3).expand(*of_query.shape[:-1], n_way, n_way)
            return torch.cat([shared, of_query.unsqueeze(-1)], dim=-1)

        scale = self.dim**-0.5
        query_weights = torch.softmax(torch.cat([q_asked @ c_key.mT, dot(q_asked, q_key)], dim=-1) * scale, dim=-1)
        centre_weights = torch.softmax(per_query(c_asked @ c_key.mT, q_key @ c_asked.mT) * scale, dim=-1)
        shift = query_weights.unsqueeze(-2) - centre_weights  # (e, m, n_way, n_way + 1)

        query_on_values = torch.cat([q @ c_value.mT, dot(q, q_value)], dim=-1).unsqueeze(-2)
        on_values = query_on_values - per_query(c @ c_value.mT, q_value @ c.mT)
        own = torch.cat([q_value @ c_value.mT, dot(q_value, q_value)], dim=-1).unsqueeze(-2)
        products = torch.cat([per_query(c_value @ c_value.mT, q_value @ c_value.mT), own], dim=-2)
        return squared_distances(q, c) + (2 * shift * on_values).sum(-1) + ((shift @ products) * shift).sum(-1)


def both_distances(
    adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances d and d* from projected embeddings, each `(n_episodes, m, n_way)`."""
    dim = adaptation.dim
    plain = squared_distances(queries[..., :dim], prototypes(support[..., :dim]))
    return plain, adaptation.distances(support, queries)


def adapted_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Minus the distance d* in the adapted space alone, from projected embeddings: `(n_episodes, m, n_way)`."""
    return -adaptation.distances(support, queries)


def combined_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """ProtoNet-CE (Equation 7): minus the sum of the distances in both spaces, from projected embeddings."""
    plain, adapted = both_distances(adaptation, support, queries)
    return -(plain + adapted)


def weighted_logits(
    adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor, weight: float
) -> torch.Tensor:
    """Remark 1: minus (1 - weight) d + weight d*; 0 is ProtoNet3D, 0.5 decides as ProtoNet-CE does."""
    plain, adapted = both_distances(adaptation, support, queries)
    return -((1 - weight) * plain + weight * adapted)


def product_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Remark 1: minus the product d d*."""
    plain, adapted = both_distances(adaptation, support, queries)
    return -(plain.clamp(min=0) * adapted.clamp(min=0))  # rounding can push a distance of zero below it


def z_scored_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Minus the sum of both distances, each brought to mean 0 and variance 1 over the classes of a query."""

    def z_scored(distances: torch.Tensor) -> torch.Tensor:
        return (distances - distances.mean(-1, keepdim=True)) / (distances.std(-1, keepdim=True) + 1e-12)

    return -sum(map(z_scored, both_distances(adaptation, support, queries)))
