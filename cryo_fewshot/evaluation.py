"""Accuracy of a head over episodes, on embeddings computed once; calibration error and area under the ROC curve."""

from collections.abc import Callable

import numpy as np
import torch

from .episodes import Episodes

Head = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""support `(e, n_way, n_shot, dim)`, queries `(e, m, dim)` -> logits `(e, m, n_way)`."""


@torch.no_grad()
def predict(embeddings: torch.Tensor, episodes: Episodes, head: Head, chunk: int = 32) -> np.ndarray:
    """Predicted way of each query: `(n_episodes, n_way, n_query)` int64, from embeddings `(n, dim)` of the whole set.

    `chunk` episodes are scored at once.
    """
    predictions = np.empty(episodes.query.shape, dtype=np.int64)
    for start in range(0, len(episodes), chunk):
        part = episodes[start : start + chunk]
        support = embeddings[torch.from_numpy(part.support).to(embeddings.device)]
        queries = embeddings[torch.from_numpy(part.query).to(embeddings.device)]
        logits = head(support, queries.flatten(1, 2))
        predictions[start : start + chunk] = logits.argmax(-1).cpu().numpy().reshape(part.query.shape)
    return predictions


def correct_counts(predictions: np.ndarray) -> np.ndarray:
    """Correct predictions in each episode, `(n_episodes,)`, from predictions `(n_episodes, n_way, n_query)`."""
    return (predictions == np.arange(predictions.shape[1])[:, None]).sum(axis=(1, 2))


def mean_accuracy(embeddings: torch.Tensor, episodes: Episodes, head: Head) -> float:
    """Accuracy over all episodes, between 0 and 1: what models and settings are selected by."""
    return float(correct_counts(predict(embeddings, episodes, head)).mean() / episodes.query[0].size)


def confusion(predictions: np.ndarray, episodes: Episodes, n_classes: int) -> np.ndarray:
    """Counts `(n_classes, n_classes)` over all episodes: row true class, column predicted class."""
    counts = np.zeros((n_classes, n_classes), dtype=np.int64)
    true = np.broadcast_to(episodes.classes[:, :, None], predictions.shape)
    predicted = np.take_along_axis(episodes.classes[:, :, None], predictions, axis=1)
    np.add.at(counts, (true, predicted), 1)
    return counts


def mean_and_interval(accuracies: np.ndarray) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval, 1.96 s / sqrt(n), as few-shot learning reports them.

    The interval is over episodes, for one trained model and one set of novel classes.
    """
    accuracies = np.asarray(accuracies, dtype=float)
    spread = accuracies.std(ddof=1) if len(accuracies) > 1 else float("nan")
    return float(accuracies.mean()), float(1.96 * spread / len(accuracies) ** 0.5)


def expected_calibration_error(probability: np.ndarray, correct: np.ndarray, n_bins: int = 15) -> float:
    """Mean of |accuracy - mean probability| over bins of equal width, weighted by their counts (Guo et al. 2017)."""
    bins = _bins(probability, n_bins)
    gaps = np.bincount(bins, np.asarray(correct, float) - probability, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(bins))


def reliability(probability: np.ndarray, correct: np.ndarray, n_bins: int = 10) -> list[dict[str, float]]:
    """Mean `probability`, `accuracy` and count `n` of the answers in each bin of equal width that has some."""
    bins = _bins(probability, n_bins)
    counts = np.bincount(bins, minlength=n_bins)
    means = (np.bincount(bins, of, minlength=n_bins) / np.maximum(counts, 1) for of in (probability, correct))
    return [
        {"probability": round(float(p), 4), "accuracy": round(float(a), 4), "n": int(n)}
        for p, a, n in zip(*means, counts, strict=True)
        if n
    ]


def _bins(probability: np.ndarray, n_bins: int) -> np.ndarray:
    """Number of each probability's bin, of equal width; 1 belongs to the last."""
    return np.minimum((np.asarray(probability) * n_bins).astype(int), n_bins - 1)


def area_under_roc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Area under the ROC curve: how often a score of `inside` is above one of `outside`; ties count half."""
    order = np.sort(outside)
    below, not_above = (np.searchsorted(order, inside, side=side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(outside)))
