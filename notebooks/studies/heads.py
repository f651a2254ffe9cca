"""Heads beyond the prototype, vectorised over episodes, on embeddings that were computed once.

Each takes support `(e, n_way, n_shot, dim)` and queries `(e, m, dim)`, any m, and returns logits `(e, m, n_way)`
whose softmax are probabilities. Embeddings come prepared: as the encoder gives them, `normalised`, or by
`PLDA.project`. On unit vectors the squared distance is 2 - 2 cos. A `scale` multiplies squared distances, so
it is an inverse temperature: 1/2 where within-class variance is one per axis, about 10 on unit vectors.

Inductive heads score a query by the support alone; transductive ones use all queries of the episode together.
"""

import torch
from torch.nn import functional as F

from cryo_fewshot.protonet import prototypes, squared_distances
from cryo_fewshot.recognition.plda import PLDA, class_posteriors, gaussian_log_likelihoods


def normalised(embeddings: torch.Tensor, centre: torch.Tensor | None = None) -> torch.Tensor:
    """Embeddings `(..., dim)`, centred where a centre `(dim,)` is given, at unit length (SimpleShot, Wang et al. 2019).

    SimpleShot centres on the mean of the base classes: z = (x - centre) / |x - centre|.
    """
    return F.normalize(embeddings if centre is None else embeddings - centre, dim=-1)


# ---------------------------------------------------------------- inductive


def scaled_prototype_logits(support: torch.Tensor, queries: torch.Tensor, *, scale: float = 10.0) -> torch.Tensor:
    """-scale |q - c_k|^2; with `normalised` embeddings this is SimpleShot's nearest centroid."""
    return -scale * squared_distances(queries, prototypes(support))


# ---------------------------------------------------------------- transductive


def tim_logits(
    support: torch.Tensor,
    queries: torch.Tensor,
    *,
    scale: float = 10.0,
    alpha: float = 1.0,
    conditional_weight: float = 0.1,
    support_weight: float = 0.1,
    n_steps: int = 100,
    learning_rate: float = 0.02,
) -> torch.Tensor:
    """TIM (Boudiaf et al. 2020): prototypes that maximise the information between queries and labels.

    Adam minimises support_weight CE(support) - H(mean_q p_q) + conditional_weight mean_q H(p_q) over the prototypes
    w_k, p_q = softmax(-scale |q - w_k|^2), from the means of the support.

    Parameters
    ----------
    alpha : 1 is Shannon's entropy, -sum p log p, whose marginal term H(mean p) draws to equal class sizes. Above 1 it
        is Tsallis', (1 - sum p^alpha) / (alpha - 1), which tolerates unbalanced queries (alpha-TIM, Veilleux et al.
        2021, which bends the cross entropy too; here it stays Shannon's)
    learning_rate : in units of the spread of an episode's prototypes
    """

    def entropy(p: torch.Tensor) -> torch.Tensor:
        if alpha == 1:
            return -(p * torch.log(p.clamp(min=1e-12))).sum(-1)
        return (1 - p.clamp(min=1e-12).pow(alpha).sum(-1)) / (alpha - 1)

    support, queries = support.detach(), queries.detach()
    n_way, n_shot = support.shape[1:3]
    start = prototypes(support)
    unit = (start - start.mean(1, keepdim=True)).square().mean((1, 2), keepdim=True).sqrt()
    moved = torch.zeros_like(start, requires_grad=True)
    labels = torch.arange(n_way, device=support.device).repeat_interleave(n_shot).expand(len(support), -1)
    optimizer = torch.optim.Adam([moved], lr=learning_rate)
    with torch.enable_grad():
        for _ in range(n_steps):
            centres = start + unit * moved
            of_support = -scale * squared_distances(support.flatten(1, 2), centres)
            p = torch.softmax(-scale * squared_distances(queries, centres), dim=-1)
            information = entropy(p.mean(1)) - conditional_weight * entropy(p).mean(1)
            # Sum over episodes of the mean over an episode: episodes do not meet.
            fit = F.cross_entropy(of_support.mT, labels, reduction="none").mean(1)
            loss = (support_weight * fit - information).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return -scale * squared_distances(queries, (start + unit * moved).detach())


def alpha_tim_logits(
    support: torch.Tensor,
    queries: torch.Tensor,
    *,
    alpha: float = 7.0,
    conditional_weight: float = 1.0,
    support_weight: float = 1.0,
    **settings,
) -> torch.Tensor:
    """`tim_logits` with Tsallis' entropy: for queries whose classes are unequally frequent, or partly absent."""
    weights = {"conditional_weight": conditional_weight, "support_weight": support_weight}
    return tim_logits(support, queries, alpha=alpha, **weights, **settings)


def plda_logits(support: torch.Tensor, queries: torch.Tensor, *, model: PLDA) -> torch.Tensor:
    """log p(q | support of class k), inductive, from embeddings as the encoder gives them."""
    return plda_em_logits(support, queries, model=model, n_steps=0)


def plda_em_logits(
    support: torch.Tensor,
    queries: torch.Tensor,
    *,
    model: PLDA,
    n_steps: int = 10,
    concentration: float = 5.0,
) -> torch.Tensor:
    """Transductive: queries join the classes by their probability, class frequencies are estimated along.

    Expectation-maximisation: r_qk ~ pi_k p(q | class k), then pi_k ~ concentration + sum_q r_qk and the posterior of
    each centre from support and weighted queries. Frequencies are free, so unbalanced queries do no harm.

    concentration : pseudo-queries of each class, which hold the frequencies of few queries near equal
    """
    support, queries = model.project(support), model.project(queries)
    between = torch.from_numpy(model.between).to(queries.device)
    counts = torch.full(support.shape[:2], float(support.shape[2]), device=queries.device)
    sums = support.sum(2)
    means, variances = class_posteriors(sums, counts, between)
    logits = gaussian_log_likelihoods(queries, means, variances + 1)
    for _ in range(n_steps):
        shares = torch.softmax(logits, dim=-1)
        found = shares.sum(1)
        frequencies = torch.log_softmax(torch.log(concentration + found), dim=-1)
        means, variances = class_posteriors(sums + shares.mT @ queries, counts + found, between)
        logits = gaussian_log_likelihoods(queries, means, variances + 1) + frequencies.unsqueeze(1)
    return logits
