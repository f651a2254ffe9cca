"""One episode seen from inside, and where two methods disagree: stored, so that drawing them needs no weights."""

from dataclasses import dataclass

import numpy as np
import torch

from cryo_fewshot.protonet import prototypes, squared_distances
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.simulation.imaging import simulate


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """One episode of an evaluation; `query` counts through all its queries, class by class."""

    evaluation: Evaluation
    number: int = 0
    query: int = 0

    def run(self, runner) -> dict:
        """Positions of an episode in both embedding spaces, in the plane of the plain space's main spread.

        Result: `classes`; `support` and `query` as sample numbers within their class; `plain` and `adapted`, each with
        positions `(.., 2)` of support, prototypes and the query (adapted: of prototypes and query, as the attention
        adapts these) and the query's `distances` to each prototype; `right`, the way that the query belongs to.
        """
        evaluation = self.evaluation
        names, n_per_class = evaluation.novel_classes, evaluation.novel_data.n_per_class
        episode = evaluation.episodes()[self.number : self.number + 1]
        model = runner.adaptation(evaluation.adaptation)
        projected = model.project(evaluation.embeddings(runner))
        support = projected[torch.from_numpy(episode.support)]
        query = projected[torch.from_numpy(episode.query)].flatten(1, 2)[:, self.query : self.query + 1]
        plain_support, plain_query = support[0, ..., : model.dim], query[0, :, : model.dim]
        centres = prototypes(support)
        adapted = model.attend(torch.cat([centres, query], dim=-2))[0]

        points = torch.cat([plain_support.flatten(0, 1), prototypes(plain_support), plain_query])
        middle = points.mean(dim=0)
        plane = torch.linalg.svd(points - middle, full_matrices=False).Vh[:2].T

        def place(embeddings: torch.Tensor) -> list:
            return ((embeddings - middle) @ plane).tolist()

        return {
            "classes": [names[label] for label in episode.classes[0]],
            "support": (episode.support[0] % n_per_class).tolist(),
            "query": int(episode.query[0].flat[self.query] % n_per_class),
            "right": self.query // evaluation.n_query,
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


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Subtomograms that one method recognises and another does not, on the same episodes."""

    right: Evaluation
    wrong: Evaluation

    def run(self, runner) -> dict:
        """For each test subtomogram how often it was a query, and how often `right` alone and `wrong` alone were right.

        Result: `classes`; `n_queries`, `only_right` and `only_wrong`, each a list of counts per class and sample.
        """
        episodes = self.right.episodes()
        names, n_per_class = self.right.novel_classes, self.right.novel_data.n_per_class
        truth = np.arange(self.right.n_way)[:, None]
        first, second = (evaluation.predictions(runner) == truth for evaluation in (self.right, self.wrong))

        def counts(chosen: np.ndarray) -> list:
            per_sample = np.bincount(episodes.query[chosen], minlength=len(names) * n_per_class)
            return per_sample.reshape(len(names), n_per_class).tolist()

        return {
            "classes": list(names),
            "n_queries": counts(np.ones_like(first)),
            "only_right": counts(first & ~second),
            "only_wrong": counts(second & ~first),
        }


def sample_volume(evaluation: Evaluation, name: str, number: int) -> np.ndarray:
    """The subtomogram of that number of a class of an evaluation, `(b, b, b)`."""
    data = evaluation.novel_data
    seeds = data.sample_seeds(name, evaluation.snr, start=number, count=1)
    return simulate(data.beads_of(name, seeds), seeds, evaluation.snr, data.microscope)[0].numpy()
