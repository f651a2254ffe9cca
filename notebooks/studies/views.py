"""Questions beside the tables, each a spec and the function that answers it, kept in the same store.

Notebooks then need no weights to draw what a trained network did.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch

from cryo_fewshot.protonet import prototypes, squared_distances
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.specs import Evaluation
from cryo_fewshot.simulation.imaging import simulate


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """One episode of an evaluation, seen from inside; `query` counts through all its queries, class by class."""

    evaluation: Evaluation
    number: int = 0
    query: int = 0


def view_episode(runner: Runner, view: EpisodeView) -> dict:
    """Positions of an episode in both embedding spaces, in the plane of the plain space's main spread.

    Result: `classes`; `support` and `query` as sample numbers within their class; `plain` and `adapted`, each with
    positions `(.., 2)` of support, prototypes and the query (adapted: of prototypes and query, as the attention adapts
    these) and the query's `distances` to each prototype; `right`, the way that the query belongs to.
    """
    return runner.store.compute(view, lambda: _view_episode(runner, view))


def _view_episode(runner: Runner, view: EpisodeView) -> tuple[dict, float, None]:
    started = time.perf_counter()
    evaluation = view.evaluation
    names, n_per_class = evaluation.novel_classes, evaluation.novel_data.n_per_class
    episode = runner.novel_episodes(evaluation)[view.number : view.number + 1]
    model = runner.adaptation(evaluation.adaptation)
    projected = model.project(runner.novel_embeddings(evaluation))
    support = projected[torch.from_numpy(episode.support)]
    query = projected[torch.from_numpy(episode.query)].flatten(1, 2)[:, view.query : view.query + 1]
    plain_support, plain_query = support[0, ..., : model.dim], query[0, :, : model.dim]
    centres = prototypes(support)
    adapted = model.attend(torch.cat([centres, query], dim=-2))[0]

    points = torch.cat([plain_support.flatten(0, 1), prototypes(plain_support), plain_query])
    middle = points.mean(dim=0)
    plane = torch.linalg.svd(points - middle, full_matrices=False).Vh[:2].T

    def place(embeddings: torch.Tensor) -> list:
        return ((embeddings - middle) @ plane).tolist()

    result = {
        "classes": [names[label] for label in episode.classes[0]],
        "support": (episode.support[0] % n_per_class).tolist(),
        "query": int(episode.query[0].flat[view.query] % n_per_class),
        "right": view.query // evaluation.n_query,
        "plain": {
            "support": place(plain_support),
            "prototypes": place(prototypes(plain_support)),
            "query": place(plain_query)[0],
            "distances": squared_distances(plain_query, prototypes(plain_support))[0].tolist(),
        },
        "adapted": {
            "prototypes": place(adapted[:-1]),
            "query": place(adapted[-1:])[0],
            "distances": model.distances(support, query)[0, 0].tolist(),
        },
    }
    return result, time.perf_counter() - started, None


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Subtomograms that one method recognises and another does not, on the same episodes."""

    right: Evaluation
    wrong: Evaluation


def disagreement(runner: Runner, spec: Disagreement) -> dict:
    """For each test subtomogram how often it was a query, and how often `right` alone and `wrong` alone were right.

    Result: `classes`; `n_queries`, `only_right` and `only_wrong`, each a list of counts per class and sample.
    """
    return runner.store.compute(spec, lambda: _disagreement(runner, spec))


def _disagreement(runner: Runner, spec: Disagreement) -> tuple[dict, float, None]:
    started = time.perf_counter()
    episodes = runner.novel_episodes(spec.right)
    names, n_per_class = spec.right.novel_classes, spec.right.novel_data.n_per_class
    truth = np.arange(spec.right.n_way)[:, None]
    first, second = (runner.predictions(evaluation) == truth for evaluation in (spec.right, spec.wrong))

    def counts(chosen: np.ndarray) -> list:
        per_sample = np.bincount(episodes.query[chosen], minlength=len(names) * n_per_class)
        return per_sample.reshape(len(names), n_per_class).tolist()

    result = {
        "classes": list(names),
        "n_queries": counts(np.ones_like(first)),
        "only_right": counts(first & ~second),
        "only_wrong": counts(second & ~first),
    }
    return result, time.perf_counter() - started, None


def sample_volume(evaluation: Evaluation, name: str, number: int, snr: float | None = None) -> np.ndarray:
    """The subtomogram of that number of a class of an evaluation, `(b, b, b)`; `snr` other than its own on request."""
    data = evaluation.novel_data
    seeds = data.sample_seeds(name, evaluation.snr, start=number, count=1)
    return simulate(data.beads_of(name, seeds), seeds, snr or evaluation.snr, data.microscope)[0].numpy()
