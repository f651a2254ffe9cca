"""Intervals that count the data: which classes and which particles were at hand, not only which tasks were drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cryo_fewshot.evaluation import mean_and_interval, predict
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.weights import AnyEncoder


@dataclass(frozen=True, kw_only=True)
class QueryCounts:
    """How often each test subtomogram was asked for in the tasks of an evaluation, and how often named correctly.

    encoder : digest of another encoder's weights, whose unit embeddings are used in the place of the evaluation's own
    """

    evaluation: Evaluation
    encoder: str = ""

    def run(self, runner, encoder: AnyEncoder | None = None) -> dict:
        """Result: `classes`; `asked` and `right`, counts per class and sample; `by_task`, accuracy of each task."""
        evaluation = self.evaluation
        episodes, names, n = evaluation.episodes(), evaluation.novel_classes, evaluation.novel_data.n_per_class
        if encoder is None:
            predictions = evaluation.predictions(runner)
        else:
            volumes = evaluation.novel_data.subtomograms({evaluation.snr: n}, names, runner.device).volumes
            predictions = predict(unit_embeddings(encoder, volumes.cpu()), episodes, prototype_logits)
        right = predictions == np.arange(evaluation.n_way)[:, None]

        def counts(queries: np.ndarray) -> list:
            return np.bincount(queries, minlength=len(names) * n).reshape(len(names), n).tolist()

        return {
            "classes": list(names),
            "asked": counts(episodes.query.ravel()),
            "right": counts(episodes.query[right]),
            "by_task": right.mean(axis=(1, 2)).round(6).tolist(),
        }


def two_stage_interval(
    right: np.ndarray, asked: np.ndarray, *, redraw_classes: bool = True, n_draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the accuracy when particles, and classes before them, are drawn again with replacement.

    right, asked : `(n_classes, n_particles)` counts over tasks. The labelled particles of a task stay as they were.
    """
    rng = np.random.default_rng(seed)
    n_classes, n_particles = asked.shape
    shares = np.full(n_particles, 1 / n_particles)
    particles = rng.multinomial(n_particles, shares, size=(n_draws, n_classes))
    of_right, of_asked = ((particles * counts).sum(-1) for counts in (right, asked))
    if redraw_classes:
        classes = rng.multinomial(n_classes, np.full(n_classes, 1 / n_classes), size=n_draws)
        of_right, of_asked = of_right * classes, of_asked * classes
    low, high = np.quantile(of_right.sum(-1) / of_asked.sum(-1), [0.025, 0.975])
    return float(low), float(high)


def intervals_frame(results: Mapping[tuple[str, float], dict]) -> pd.DataFrame:
    """A row per method and SNR of `results` of `QueryCounts`: accuracy and the half-width of each kind of interval."""
    rows = []
    for (method, snr), result in results.items():
        right, asked = np.array(result["right"]), np.array(result["asked"])
        accuracy, over_tasks = mean_and_interval(np.array(result["by_task"]))
        of_particles = two_stage_interval(right, asked, redraw_classes=False)
        of_both = two_stage_interval(right, asked)
        widths = [over_tasks, *((high - low) / 2 for low, high in (of_particles, of_both))]
        rows.append([method, snr, accuracy, *widths, *of_both])
    columns = ["method", "snr", "accuracy", "over_tasks", "over_particles", "over_classes_and_particles", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
