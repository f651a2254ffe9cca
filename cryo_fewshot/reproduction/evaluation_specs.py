"""Evaluations as frozen data: which head on which encoder, on which episodes of classes never trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np
import torch

from ..adaptation import Adaptation
from ..baseline import baseline_logits
from ..episodes import Episodes, sample_episodes
from ..errors import UserError
from ..evaluation import Head, confusion, correct_counts, mean_accuracy, mean_and_interval, predict
from ..hashing import ADDED_LATER
from ..protonet import cosine_logits, prototype_logits
from ..randomness import seed_from
from ..subtomograms import DataSource
from .training_specs import ADAPTED_HEADS, AdaptationRun, EncoderRun

PLAIN_HEADS: dict[str, Head] = {
    "prototype": prototype_logits,
    "cosine": cosine_logits,
    "finetuned": baseline_logits,
}
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""Weights of d* that 'weighted' chooses from, on validation episodes."""
FITS = tuple(product((20, 50, 100, 200, 500), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)))
"""Steps and rates that 'tuned' chooses from, on validation episodes."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One cell of a table: a head on an encoder, on episodes of novel classes at one SNR.

    head : 'finetuned' (the baseline's linear layer), 'tuned' (the same, steps and rate chosen on validation classes),
    'prototype', 'cosine', 'adapted' (d* alone), 'combined' (d + d*), or one of Remark 1's other combinations,
    'product', 'weighted' and 'z-scored'
    linear_fit : steps and rate of 'finetuned'; None for the defaults of `baseline_logits`
    """

    encoder: EncoderRun
    adaptation: AdaptationRun | None = None
    head: str
    snr: float
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_episodes: int = 1000
    episode_seed: int = 0
    linear_fit: tuple[int, float] | None = field(default=None, metadata=ADDED_LATER)

    @property
    def settings(self) -> dict[str, object]:
        """What the result depends on besides the fields: the values of the head's own parameters."""
        if self.head == "tuned":
            return {"fits": FITS}
        return {"weights": WEIGHTS} if self.head == "weighted" else keyword_defaults(PLAIN_HEADS.get(self.head))

    @property
    def novel_data(self) -> DataSource:
        return self.encoder.data

    @property
    def novel_classes(self) -> tuple[str, ...]:
        return self.encoder.split.novel

    def episodes(self) -> Episodes:
        """The test episodes: seeded by the test's own size alone, so the same ones for every method and SNR."""
        data, names = self.novel_data, self.novel_classes
        return sample_episodes(
            np.repeat(np.arange(len(names)), [data.count_of(name, data.n_per_class) for name in names]),
            range(len(names)),
            n_way=self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_episodes=self.n_episodes,
            seed=seed_from("novel", self.episode_seed),
            class_names=names,
        )

    def embeddings(self, runner, encoder: EncoderRun | None = None) -> torch.Tensor:
        """All test subtomograms by the evaluation's encoder or another, `(n_classes * n_per_class, dim)`, by class."""
        data, adaptation = self.novel_data, self.adaptation
        own = adaptation if adaptation is not None and adaptation.encoder_too else self.encoder
        return runner.embedded(encoder or own, data, self.novel_classes, ((self.snr, data.n_per_class),))

    def predictions(self, runner) -> np.ndarray:
        """Predicted way of each query, `(n_episodes, n_way, n_query)`."""
        head, embeddings = self._head(runner, self.embeddings(runner))
        return predict(embeddings, self.episodes(), head)

    def run(self, runner) -> dict:
        """Accuracy and interval over all episodes; correct counts per episode; confusion."""
        answers = answers_of(self.predictions(runner), self.episodes(), self.novel_classes)
        accuracy, interval = mean_and_interval(np.array(answers["n_correct"]) / answers["n_queries"])
        return {"accuracy": accuracy, "ci95": interval, **answers}

    def _head(self, runner, embeddings: torch.Tensor) -> tuple[Head, torch.Tensor]:
        """The head, and the embeddings in the form that it takes."""
        if self.head == "tuned" or self.linear_fit is not None:
            return _fitted(self.linear_fit or self._best_of(FITS, runner, _fitted)), embeddings
        if self.head in PLAIN_HEADS:
            return PLAIN_HEADS[self.head], embeddings
        if self.head not in ADAPTED_HEADS:
            known = ", ".join([*PLAIN_HEADS, "tuned", *ADAPTED_HEADS])
            raise UserError(f"head '{self.head}' is unknown: use one of {known}")
        if self.adaptation is None:
            raise UserError(f"head '{self.head}' needs an adaptation: give one, or use {', '.join(PLAIN_HEADS)}")
        model = runner.adaptation(self.adaptation)
        head = partial(ADAPTED_HEADS[self.head], model)
        with torch.no_grad():
            if self.head == "weighted":
                best = self._best_of(WEIGHTS, runner, lambda weight: partial(head, weight=weight), model)
                head = partial(head, weight=best)
            return head, model.project(embeddings)

    def _best_of(self, settings: tuple, runner, head: Callable[..., Head], model: Adaptation | None = None):
        """The setting whose head is best on validation episodes of the test's shots; the first of equals."""
        embeddings = runner.embeddings(self.encoder, self.encoder.selection_role)
        embeddings = embeddings if model is None else model.project(embeddings)
        run = replace(self.encoder, n_shot=self.n_shot)
        checked = run.validation_episodes(runner.volumes(run, run.selection_role))
        scores = [mean_accuracy(embeddings, checked, head(setting)) for setting in settings]
        return settings[int(np.argmax(scores))]


def answers_of(predictions: np.ndarray, episodes: Episodes, names: Sequence[str]) -> dict:
    """What is stored of predictions `(n_episodes, n_way, n_query)`: right ones per episode, and the confusion."""
    return {
        "n_queries": int(episodes.query[0].size),
        "n_correct": correct_counts(predictions).tolist(),
        "episodes": episodes.digest,
        "classes": list(names),
        "confusion": confusion(predictions, episodes, len(names)).tolist(),
    }


def _fitted(steps_and_rate: tuple[int, float]) -> Head:
    n_steps, learning_rate = steps_and_rate
    return partial(baseline_logits, n_steps=n_steps, learning_rate=learning_rate)


def keyword_defaults(function: Callable | None) -> dict[str, object]:
    """Keyword-only parameters of a function with their defaults: settings that a result depends on."""
    return dict(function.__kwdefaults__ or {}) if function else {}
