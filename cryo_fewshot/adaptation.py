"""ProtoNet-CE: attention that adapts embeddings to an episode, and the combined distance (Equations 4 to 7)."""

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
    """

    def __init__(self, dim: int, variant: str = "inductive", layer_norm: bool = False):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"attention variant '{variant}' is unknown: use one of {', '.join(VARIANTS)}")
        self.dim, self.variant = dim, variant
        self.to_query, self.to_key, self.to_value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.output = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim) if layer_norm else nn.Identity()
        # Scale of FEAT: logits of order one at the start, whatever the dimension.
        for layer in (self.to_query, self.to_key, self.to_value):
            nn.init.normal_(layer.weight, std=dim**-0.5)
        nn.init.xavier_normal_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def attend(self, tokens: torch.Tensor) -> torch.Tensor:
        """Adapt sets of tokens `(..., n_tokens, dim)`: Equations 4, 5 and 6 as they stand."""
        mixed = F.scaled_dot_product_attention(self.to_query(tokens), self.to_key(tokens), self.to_value(tokens))
        return self.norm(tokens + self.output(mixed))

    def distances(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Squared distances d* in the adapted space.

        support `(n_episodes, n_way, n_shot, dim)`, queries `(n_episodes, m, dim)` -> `(n_episodes, m, n_way)`.
        """
        centres = prototypes(support)
        n_way = centres.shape[-2]
        if self.variant == "transductive":
            adapted = self.attend(torch.cat([centres, queries], dim=-2))
            return squared_distances(adapted[..., n_way:, :], adapted[..., :n_way, :])
        adapted = self._attend_to_one_query_each(centres, queries)
        return (adapted[..., -1:, :] - adapted[..., :-1, :]).square().sum(-1)

    def _attend_to_one_query_each(self, centres: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """What `attend` gives for each set {prototypes, one query}: `(n_episodes, m, n_way + 1, dim)`.

        Every token is projected once, not once per set; the output layer acts on the values, as it is linear.
        """
        value_to_output = self.output.weight @ self.to_value.weight

        def sets(of_centres: torch.Tensor, of_queries: torch.Tensor) -> torch.Tensor:
            shared = of_centres.unsqueeze(-3).expand(*of_queries.shape[:-1], *of_centres.shape[-2:])
            return torch.cat([shared, of_queries.unsqueeze(-2)], dim=-2)

        asked, keys, values = (
            sets(F.linear(centres, weight), F.linear(queries, weight))
            for weight in (self.to_query.weight, self.to_key.weight, value_to_output)
        )
        mixed = F.scaled_dot_product_attention(asked, keys, values)
        return self.norm(sets(centres, queries) + mixed + self.output.bias)


def adapted_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Minus the distance d* in the adapted space alone, `(n_episodes, m, n_way)`."""
    return -adaptation.distances(support, queries)


def combined_logits(adaptation: Adaptation, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """ProtoNet-CE (Equation 7): minus the sum of the distances in both spaces, `(n_episodes, m, n_way)`."""
    return -(squared_distances(queries, prototypes(support)) + adaptation.distances(support, queries))
