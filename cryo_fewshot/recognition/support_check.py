"""Leave-one-out over the labelled particles, and warnings about them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binomtest, norm

from .calibration import ClassModel
from .plda import class_posteriors

TEMPERED_BY = 0.15
"""Spread, in the logarithm, of the temperatures that users' particles are expected to need beside the calibration's.

Chosen among 0, 0.15, 0.3 and 0.6: the largest that changes nothing for the worse on calibration classes; on real
particles it makes promised error rates hold.
"""


@dataclass(frozen=True)
class SupportCheck:
    """Leave-one-out over the labelled particles: each is classified by the others.

    probability : `(n,)` of the class when left out; right : `(n,)` whether that is its own
    tested : `(n,)` False where a particle is the only one of its class, so that its class is unknown without it
    accuracy : of the tested ones, one shot short of what queries get; low, high : its 95 % Wilson interval
    tempered : factor on the temperature with which probabilities fit these particles better, 1 where none is tested
    warnings : plain sentences
    """

    probability: np.ndarray
    right: np.ndarray
    tested: np.ndarray
    accuracy: float
    low: float
    high: float
    tempered: float
    warnings: tuple[str, ...]

    @property
    def n_tested(self) -> int:
        return int(self.tested.sum())


def check_support(
    embeddings: torch.Tensor,
    support: torch.Tensor,
    members: torch.Tensor,
    model: ClassModel,
    names: Sequence[str],
    temperature: float,
) -> SupportCheck:
    """Leave-one-out and warnings, from embeddings `(n, dim)`, the same projected `(n, n_axes)` and one-hot labels.

    temperature : of a support with one shot less
    """
    own = members.argmax(1)
    counts = members.sum(0)
    logits = model.log_likelihoods(support)
    # The own class without the particle; a class of one is then as wide as an unknown class.
    sums = (members.T @ support)[own] - support
    means, variances = class_posteriors(sums, counts[own] - 1, model.between, model.within)
    spread = variances + model.within
    left_out = -0.5 * ((support - means).square() / spread + spread.log()).sum(1)
    logits = logits.scatter(1, own[:, None], left_out[:, None]) / temperature
    probabilities = torch.softmax(logits, dim=1)
    predicted = probabilities.argmax(1)
    tested = counts[own] > 1
    tempered = _tempered(logits[tested].double().numpy(), own[tested].numpy())
    n_tested, n_right = int(tested.sum()), int((predicted == own)[tested].sum())
    interval = binomtest(n_right, n_tested).proportion_ci(method="wilson") if n_tested else (0.0, 1.0)
    probability = probabilities.amax(1).numpy()
    predicted, own, tested = predicted.numpy(), own.numpy(), tested.numpy()
    warnings = [
        *_too_few(counts.numpy(), names),
        *_duplicates(embeddings, own, names),
        *_mislabelled(predicted, own, tested & (probability > 0.9), probability, names),
        *_inseparable(model, counts.numpy(), names),
    ]
    if n_tested and float(interval[1]) < 0.5:
        warnings.append(
            f"left out, only {n_right} of {n_tested} labelled particles are assigned to their own class: "
            "this support does not define its classes; label more particles or merge classes"
        )
    return SupportCheck(
        probability=probability,
        right=predicted == own,
        tested=tested,
        accuracy=n_right / n_tested if n_tested else float("nan"),
        low=float(interval[0]),
        high=float(interval[1]),
        tempered=tempered,
        warnings=tuple(warnings),
    )


def _tempered(logits: np.ndarray, own: np.ndarray) -> float:
    """The factor that makes logits `(n, n_way)` divided by it most likely, with a prior for 1."""

    def cost(log_factor: float) -> float:
        scaled = logits / np.exp(log_factor)
        unlikely = (logsumexp(scaled, axis=1) - scaled[np.arange(len(own)), own]).sum()
        return float(unlikely + 0.5 * (log_factor / TEMPERED_BY) ** 2)

    return float(np.exp(minimize_scalar(cost, bounds=(-1.5, 1.5), method="bounded").x)) if len(own) else 1.0


def _too_few(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    few = ", ".join(f"'{name}' has {count:.0f}" for name, count in zip(names, counts, strict=True) if count < 3)
    return [f"few labelled particles: {few}; with 3 to 5 of each class there are clearly fewer errors"] if few else []


def _duplicates(embeddings: torch.Tensor, own: np.ndarray, names: Sequence[str]) -> list[str]:
    _, first, inverse = np.unique(embeddings.numpy(), axis=0, return_index=True, return_inverse=True)
    pairs = [(first[group], i) for i, group in enumerate(inverse.ravel()) if first[group] != i]
    alike, contrary = ([(i, j) for i, j in pairs if (own[i] == own[j]) == same] for same in (True, False))
    warnings = [
        f"labelled particles {i} ('{names[own[i]]}') and {j} ('{names[own[j]]}') are identical: remove the wrong one"
        for i, j in contrary[:10]
    ]
    if alike:
        (i, j), others = alike[0], f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        warnings.append(
            f"labelled particles {i} and {j} are duplicates{others}: a duplicate counts twice and adds nothing"
        )
    return warnings


def _mislabelled(predicted, own, sure, probability, names) -> list[str]:
    odd = np.flatnonzero(sure & (predicted != own))
    warnings = [
        f"labelled particle {i} ('{names[own[i]]}') looks like '{names[predicted[i]]}' "
        f"(probability {probability[i]:.2f} when left out): mislabelled?"
        for i in odd[np.argsort(-probability[odd])]
    ]
    return _at_most(10, warnings, "labelled particles look like another class")


def _at_most(n: int, warnings: list[str], what: str) -> list[str]:
    """The first of some warnings, and how many more there are."""
    return warnings[:n] + ([f"{len(warnings) - n} more {what}"] if len(warnings) > n else [])


def _inseparable(model: ClassModel, counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """Pairs whose centres lie so close that particles of equal frequency would be confused one time in five.

    Uncertain centres lie too far apart by their variances, which are taken off; below three particles that says little.
    """
    total = model.variances.sum(-1)
    squared = torch.cdist(model.means, model.means).square() - total[:, None] - total
    apart = (squared.clamp(min=0) / model.within).sqrt()
    confused = norm.sf(apart.numpy() / 2)
    pairs = sorted(zip(*np.triu_indices(len(names), k=1), strict=True), key=lambda pair: -confused[pair])
    pairs = [pair for pair in pairs if confused[pair] > 0.2 and counts[list(pair)].min() >= 3]
    warnings = [
        f"'{names[a]}' and '{names[b]}' are hard to tell apart (expected confusion {confused[a, b]:.0%}): "
        "label more particles of both, or merge them"
        for a, b in pairs
    ]
    return _at_most(5, warnings, "pairs of classes are hard to tell apart")
