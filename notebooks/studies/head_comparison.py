"""Heads beyond the prototype on the embeddings of one training, on the tasks of Table 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from cryo_fewshot.encoder import embed
from cryo_fewshot.episodes import Episodes
from cryo_fewshot.hashing import spec_dict
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.plda import PLDA, fit_plda
from cryo_fewshot.recognition.pretraining import Pretraining, new_encoder, progress_bar, spec_of, train
from cryo_fewshot.reproduction.evaluation_specs import Evaluation, keyword_defaults
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Trained
from cryo_fewshot.reproduction.tables import accuracy_of
from cryo_fewshot.simulation.on_the_fly import simulate_on_the_fly
from cryo_fewshot.weights import AnyEncoder, load_encoder

from . import heads
from .cell_trainings import FIRST

INDUCTIVE: dict[str, Callable] = {
    "nearest mean": prototype_logits,
    "unit length": heads.scaled_prototype_logits,
    "centred": heads.scaled_prototype_logits,
    "two covariances": heads.plda_logits,
}
TRANSDUCTIVE: dict[str, Callable] = {
    "TIM": heads.tim_logits,
    "alpha-TIM": heads.alpha_tim_logits,
    "two covariances, EM": heads.plda_em_logits,
}
LOGITS = INDUCTIVE | TRANSDUCTIVE
SHOWN_HEADS = {"two covariances": "PLDA", "two covariances, EM": "PLDA, EM"}
"""What the stored names of heads are called on the page."""
BACKGROUND_PER_CLASS = 30
UNEVENNESS = 2.0


@dataclass(frozen=True, kw_only=True)
class HeadEvaluation:
    """A head on the embeddings of a training, on the tasks of an evaluation.

    tasks : whose test subtomograms and episodes are used, not its network
    head : of INDUCTIVE or TRANSDUCTIVE
    n_turns : rotations that keep the missing wedge, 1 to 4; a subtomogram is embedded as the mean over them
    balanced : equally many queries of each class; otherwise the same total, in shares drawn from Dirichlet's
        distribution with parameter 2 (Veilleux et al. 2021)
    """

    training: Pretraining
    tasks: Evaluation
    head: str
    n_turns: int = 1
    balanced: bool = True

    @property
    def settings(self) -> dict[str, object]:
        """What the result depends on besides the fields."""
        unevenness = {} if self.balanced else {"unevenness": UNEVENNESS}
        return {"background_per_class": BACKGROUND_PER_CLASS, **unevenness, **keyword_defaults(LOGITS[self.head])}

    def run(self, runner: Runner) -> dict:
        """Result: `n_queries`, `n_correct` per episode, `episodes`."""
        tasks = self.tasks
        embeddings = _test_embeddings(
            runner, self.training, tasks.novel_data, tasks.novel_classes, tasks.snr, self.n_turns
        )
        prepare, head = prepared_head(self.head, _background(runner, self.training, self.n_turns))
        prepared, episodes = prepare(embeddings), tasks.episodes()
        query, truth = drawn_queries(tasks, episodes, self.balanced)
        found = np.concatenate(
            [
                head(prepared[episodes.support[part]], prepared[query[part]]).argmax(-1).cpu().numpy()
                for part in np.array_split(np.arange(len(episodes)), -(-len(episodes) // 32))
            ]
        )
        return {
            "n_queries": query.shape[1],
            "n_correct": (found == truth).sum(axis=1).tolist(),
            "episodes": episodes.digest,
        }


def heads_frame(
    runner: Runner, training: Pretraining, tasks: Sequence[Evaluation], names: Sequence[str]
) -> pd.DataFrame:
    """Heads on one embedding: head, balanced, snr, n_shot, accuracy, ci95.

    Inductive heads score each query by itself, so the shares of the classes do not matter to them: on unbalanced
    queries only transductive heads are run, and 'unit length' to compare them with.
    """
    specs = [
        HeadEvaluation(training=training, tasks=evaluation, head=head, balanced=balanced)
        for balanced in (True, False)
        for head in dict.fromkeys(["unit length", *names])
        for evaluation in tasks
        if balanced or head == "unit length" or head in TRANSDUCTIVE
    ]
    rows = []
    for spec in specs:
        name, task = SHOWN_HEADS.get(spec.head, spec.head), (spec.tasks.snr, spec.tasks.n_shot)
        rows.append((name, spec.balanced, *task, *accuracy_of(runner(spec))))
    return pd.DataFrame(rows, columns=["head", "balanced", "snr", "n_shot", "accuracy", "ci95"])


# ---------------------------------------------------------------- training and embedding


@lru_cache(maxsize=8)
def trained_encoder(runner: Runner, training: Pretraining) -> AnyEncoder:
    """The encoder of a training, in evaluation mode: one that the project keeps where it is that, or from the store."""
    for encoder, card in (load_encoder(), load_encoder(FIRST)):
        if spec_dict(spec_of(card)) == spec_dict(training):
            return encoder.to(runner.device).eval()
    entry = runner(training, run=_train, with_tensors=True)
    encoder = new_encoder(training)
    encoder.load_state_dict(entry["tensors"])
    return encoder.to(runner.device).eval().requires_grad_(False)


def _train(training: Pretraining, runner: Runner) -> Trained:
    checkpoint = runner.store.path(training, ".checkpoint")
    with progress_bar(training.cost, runner.show_progress) as bar:
        encoder, history = train(
            training,
            checkpoint,
            lambda n: bar.update(n * training.volumes_per_step),
            runner.check_time,
            runner.device,
        )
    checkpoint.unlink(missing_ok=True)
    result = {"selection_accuracy": history.accuracies, "loss": history.losses, "best_epoch": history.best_epoch}
    return Trained({**result, "volumes": training.cost}, encoder.state_dict(), history.seconds)


def _embedded(encoder: AnyEncoder, volumes: torch.Tensor, n_turns: int) -> torch.Tensor:
    return embed(encoder, volumes) if n_turns == 1 else unit_embeddings(encoder, volumes, rotations=n_turns)


@lru_cache(maxsize=64)  # heads and shots share them
def _test_embeddings(
    runner: Runner, training: Pretraining, data, names: tuple[str, ...], snr: float, n_turns: int
) -> torch.Tensor:
    subtomograms = data.subtomograms({snr: data.n_per_class}, names, runner.device)
    return _embedded(trained_encoder(runner, training), subtomograms.volumes, n_turns)


class Background(NamedTuple):
    """What is known of embeddings from the training classes: their mean, and the scatter between and within classes."""

    centre: torch.Tensor
    scatter: PLDA


@lru_cache(maxsize=32)
def _background(runner: Runner, training: Pretraining, n_turns: int) -> Background:
    rng = np.random.default_rng(seed_from("background", training.seed))
    n_per_class = min(BACKGROUND_PER_CLASS, training.n_selection_samples)
    labels = np.repeat(np.arange(len(training.classes)), n_per_class)
    names = [training.classes[label] for label in labels]
    volumes = simulate_on_the_fly(names, training.acquisitions, rng, training.group_size, runner.device)
    embeddings = _embedded(trained_encoder(runner, training), volumes, n_turns)
    unit = F.normalize(embeddings, dim=-1)
    return Background(embeddings.mean(0), fit_plda(unit.cpu(), labels))


# ---------------------------------------------------------------- heads


def prepared_head(name: str, background: Background) -> tuple[Callable, Callable]:
    """What a head does to embeddings `(n, dim)` first, and its logits."""
    prepare = {
        "nearest mean": lambda embeddings: embeddings,
        "centred": partial(heads.normalised, centre=background.centre),
    }
    scatter = {"model": background.scatter} if name.startswith("two covariances") else {}
    return prepare.get(name, heads.normalised), partial(LOGITS[name], **scatter)


def drawn_queries(tasks: Evaluation, episodes: Episodes, balanced: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Queries of each episode, `(e, m)` indices into the test set, and the way each belongs to, `(e, m)`.

    Unbalanced ones are drawn from all subtomograms of the episode's classes that are not in its support.
    """
    n_episodes, n_way, n_query = episodes.query.shape
    if balanced:
        truth = np.broadcast_to(np.arange(n_way).repeat(n_query), (n_episodes, n_way * n_query))
        return episodes.query.reshape(n_episodes, -1), truth
    data, names = tasks.novel_data, tasks.novel_classes
    counts = [data.count_of(name, data.n_per_class) for name in names]
    first = np.cumsum([0, *counts])
    n = min(n_way * n_query, min(counts) - tasks.n_shot)
    rng = np.random.default_rng(seed_from("unbalanced", tasks.episode_seed))
    query, truth = np.empty((2, n_episodes, n), dtype=np.int64)
    for episode in range(n_episodes):
        shares = rng.dirichlet(np.full(n_way, UNEVENNESS))
        truth[episode] = np.repeat(np.arange(n_way), rng.multinomial(n, shares))
        for way, label in enumerate(episodes.classes[episode]):
            free = np.setdiff1d(np.arange(first[label], first[label + 1]), episodes.support[episode, way])
            chosen = truth[episode] == way
            query[episode, chosen] = rng.choice(free, chosen.sum(), replace=False)
    return query, truth
