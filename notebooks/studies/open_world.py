"""The encoder that ships, asked as in practice: particles of no known class, more classes, more labels, other data.

Its tasks are those of the paper's methods, episode by episode, so that differences are paired. Its scores and
probabilities are those that `cryo-fewshot classify` writes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from cryo_fewshot.episodes import Episodes
from cryo_fewshot.evaluation import area_under_roc, confusion, correct_counts, expected_calibration_error, predict
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration, ClassModel, class_model
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.plda import PLDA
from cryo_fewshot.reproduction.cells import encoder_run, evaluation_of
from cryo_fewshot.reproduction.evaluations import Evaluation
from cryo_fewshot.reproduction.profiles import Profile, mix_100
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.trainings import EncoderRun
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.surrogates import DOUBLE_CAPPED, SINGLE_CAPPED
from cryo_fewshot.weights import AnyEncoder

HEADS = ("prototype", "two-covariance")
N_BINS = 15
PROMISED_RATE = 0.05
"""Share of strangers that the tool promises to let in at most, by default."""
_MADE_OF = {SINGLE_CAPPED: "4CR2", DOUBLE_CAPPED: "4CR2"}


# ---------------------------------------------------------------- what is run


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Few-shot tasks among simulated classes, as of `experiments.Evaluation`, for an encoder of any origin.

    encoder : a training of the laboratory, or the digest of weights that come from elsewhere
    calibration : digest of the calibration, None where it plays no part
    """

    encoder: str | EncoderRun
    calibration: str | None = None
    data: SimulatedData
    classes: tuple[str, ...]
    snr: float
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_episodes: int = 600
    episode_seed: int = 0

    @property
    def novel_data(self) -> SimulatedData:
        """Where the subtomograms come from."""
        return self.data

    @property
    def novel_classes(self) -> tuple[str, ...]:
        """The classes that tasks are drawn from."""
        return self.classes

    episodes = Evaluation.episodes


@dataclass(frozen=True, kw_only=True)
class ShippedEvaluation(Tasks):
    """Accuracy of 'prototype' (the nearest one) or 'two-covariance' (the tool's classifier)."""

    head: str

    def run(self, runner: Runner, world: "OpenWorld") -> dict:
        """See `OpenWorld.evaluate`."""
        return world._evaluate(self)


@dataclass(frozen=True, kw_only=True)
class Rejection(Tasks):
    """How well members of a task's classes are told from strangers.

    strangers : classes whose particles are to be rejected; none for the classes that a task leaves out
    """

    strangers: tuple[str, ...] = ()

    def run(self, runner: Runner, world: "OpenWorld") -> dict:
        """See `OpenWorld.reject`."""
        return world._reject(self)


@dataclass(frozen=True, kw_only=True)
class Reliability(Tasks):
    """Whether the tool is right as often as it says. n_resamples : of the tasks, for intervals (bootstrap)."""

    n_resamples: int = 1000

    def run(self, runner: Runner, world: "OpenWorld") -> dict:
        """See `OpenWorld.reliability`."""
        return world._reliability(self)


def paper_like(profile: Profile, snr: float, n_shot: int, n_way: int = 5) -> Evaluation:
    """ProtoNet3D (mix) of class split 0, trained on 5-shot tasks, on its test classes with any number of labels."""
    encoder = encoder_run(profile, mix_100(profile), n_shot=5)
    return evaluation_of(profile, encoder, "prototype", snr, n_shot, n_way=n_way)


def same_tasks(evaluation: Evaluation) -> dict:
    """The tasks of an evaluation, as fields of `Tasks`."""
    names = ("snr", "n_way", "n_shot", "n_query", "n_episodes", "episode_seed")
    settings = {name: getattr(evaluation, name) for name in names}
    return {"data": evaluation.novel_data, "classes": evaluation.novel_classes, **settings}


# ---------------------------------------------------------------- how it is run


class OpenWorld:
    """Runs the study of one encoder and keeps what came out in a laboratory's store.

    Parameters
    ----------
    encoder, card : of `shipped.load_encoder`
    """

    def __init__(self, runner: Runner, encoder: AnyEncoder, card: dict):
        self.runner, self.encoder, self.card = runner, encoder.to(runner.device), card
        self.calibration = Calibration.from_json(card["calibration"])
        self.weights = digest_of(*encoder.state_dict().values())
        text = json.dumps(card["calibration"], sort_keys=True)
        self.calibration_digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._embeddings: dict[tuple, torch.Tensor] = {}

    def embeddings(self, tasks: Tasks) -> torch.Tensor:
        """Embeddings of all subtomograms of the tasks' classes, `(n, dim)`, class by class; of length 1 by our own."""
        if isinstance(tasks.encoder, EncoderRun):
            return self.runner.embedded(
                tasks.encoder, tasks.data, tasks.classes, ((tasks.snr, tasks.data.n_per_class),)
            ).cpu()
        key = tasks.data, tasks.classes, tasks.snr
        if key not in self._embeddings:
            device = self.runner.device
            subtomograms = tasks.data.subtomograms({tasks.snr: tasks.data.n_per_class}, tasks.classes, device)
            volumes = fitted(subtomograms.volumes, tasks.data.voxel_size_nm, self.card).to(device)
            self._embeddings[key] = unit_embeddings(self.encoder, volumes).cpu()
        return self._embeddings[key]

    def evaluate(self, head: str, **tasks) -> dict:
        """Accuracy of a head on the shipped encoder; the stored entry, as of `Laboratory.evaluate`."""
        calibration = None if head == "prototype" else self.calibration_digest
        spec = ShippedEvaluation(encoder=self.weights, calibration=calibration, head=head, **tasks)
        return self.runner(spec, self)

    def _evaluate(self, spec: ShippedEvaluation) -> dict:
        episodes = spec.episodes()
        head = {"prototype": prototype_logits, "two-covariance": partial(tool_logits, calibration=self.calibration)}
        predictions = predict(self.embeddings(spec), episodes, head[spec.head])
        return {
            "n_queries": int(episodes.query[0].size),
            "n_correct": correct_counts(predictions).tolist(),
            "episodes": episodes.digest,
            "classes": list(spec.classes),
            "confusion": confusion(predictions, episodes, len(spec.classes)).tolist(),
        }

    def reject(self, encoder: EncoderRun | None, strangers: tuple[str, ...], **tasks) -> dict:
        """Members against strangers, by a laboratory's encoder or (None) the shipped one; the stored entry.

        Result, one number per task: `distance`, the area under the ROC curve of the distance to the nearest prototype;
        of the shipped encoder also `likelihood ratio`, the same of the tool's score, and at its default threshold
        `kept`, the share of members that are accepted, and `let_in`, that of strangers; `episodes`. And one number,
        `could_keep`: members accepted by the threshold that lets in just the promised share, over all tasks.
        """
        calibration = self.calibration_digest if encoder is None else None
        spec = Rejection(encoder=encoder or self.weights, calibration=calibration, strangers=strangers, **tasks)
        return self.runner(spec, self)

    def _reject(self, spec: Rejection) -> dict:
        episodes = spec.episodes()
        everyone = replace(spec, classes=(*spec.classes, *spec.strangers))
        counts = [spec.data.count_of(name, spec.data.n_per_class) for name in everyone.classes]
        outside = range(len(spec.classes), len(everyone.classes)) if spec.strangers else None
        drawn = draw_strangers(episodes, np.repeat(np.arange(len(counts)), counts), outside, spec.n_query)
        embeddings = self.embeddings(everyone)
        support, members, strangers = (embeddings[part] for part in (episodes.support, episodes.query, drawn))
        members = members.flatten(1, 2)
        distances = [prototype_logits(support, asked).amax(-1) for asked in (members, strangers)]
        result = {"episodes": episodes.digest, "distance": _areas(*distances)}
        if spec.calibration is not None:
            ratios = [likelihood_ratios(support, asked, self.calibration.space) for asked in (members, strangers)]
            least = self.calibration.threshold(spec.n_shot, PROMISED_RATE)
            kept, let_in = ((ratio >= least).float().mean(1).tolist() for ratio in ratios)
            result |= {"likelihood ratio": _areas(*ratios), "kept": _rounded(kept), "let_in": _rounded(let_in)}
            best = np.quantile(ratios[1].numpy(), 1 - PROMISED_RATE)
            result["could_keep"] = round(float((ratios[0] > float(best)).float().mean()), 4)
        return result

    def reliability(self, **tasks) -> dict:
        """Probabilities of the tool against how often it is right; the stored entry.

        Result: `ece` (expected calibration error) and `ece_ci95`; per bin of probability, empty ones left out,
        `probability` (mean), `accuracy`, its 95 % interval `low` to `high`, and `count`.
        """
        spec = Reliability(encoder=self.weights, calibration=self.calibration_digest, **tasks)
        return self.runner(spec, self)

    def _reliability(self, spec: Reliability) -> dict:
        episodes, embeddings = spec.episodes(), self.embeddings(spec)
        support, queries = embeddings[episodes.support], embeddings[episodes.query].flatten(1, 2)
        probabilities = torch.softmax(tool_logits(support, queries, calibration=self.calibration), dim=-1)
        probability, found = (part.numpy() for part in probabilities.max(-1))
        right = found == np.repeat(np.arange(spec.n_way), spec.n_query)
        return reliability_bins(probability, right, spec.n_resamples)


def fitted(volumes: torch.Tensor, voxel_size_nm: float, card: dict) -> torch.Tensor:
    """Volumes `(n, b, b, b)` in the box and at the voxel size of an encoder's card, as the tool brings them there."""
    box, wanted_nm = card["box"], card["voxel_size_nm"]
    if volumes.shape[-1] == box and voxel_size_nm == wanted_nm:
        return volumes
    parts = [
        resample(volume, voxel_size_nm, box, wanted_nm, "a subtomogram") for volume in volumes.cpu().double().numpy()
    ]
    return band_limited(torch.stack(parts))


def tool_model(support: torch.Tensor, space: PLDA) -> ClassModel:
    """The tool's model of the classes of each episode, from support `(e, n_way, n_shot, dim)`."""
    n_way, n_shot = support.shape[1:3]
    return class_model(space, space.project(support).flatten(1, 2), torch.eye(n_way).repeat_interleave(n_shot, 0))


def tool_logits(support: torch.Tensor, queries: torch.Tensor, *, calibration: Calibration) -> torch.Tensor:
    """A head as in `heads`, whose softmax are the probabilities that the tool writes: `(e, m, n_way)`."""
    n_way, n_shot = support.shape[1:3]
    likelihoods = tool_model(support, calibration.space).log_likelihoods(calibration.space.project(queries))
    return likelihoods / calibration.temperature(n_shot, n_way)


def likelihood_ratios(support: torch.Tensor, queries: torch.Tensor, space: PLDA) -> torch.Tensor:
    """The tool's score of each query, known classes against a new one: `(e, m)`."""
    model, projected = tool_model(support, space), space.project(queries)
    return model.scores(projected, model.log_likelihoods(projected))


def draw_strangers(
    episodes: Episodes, labels: np.ndarray, outside: Sequence[int] | None, n_query: int, seed: int = 0
) -> np.ndarray:
    """Indices of strangers to each episode, `n_query` of each class outside it: `(n_episodes, m)`.

    labels : `(n,)`; outside : labels of the strangers; None for all that an episode leaves out
    """
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    rng = np.random.default_rng(seed_from("strangers", seed))
    drawn = []
    for classes in episodes.classes:
        left_out = np.setdiff1d(np.arange(len(members)), classes) if outside is None else outside
        drawn.append(np.concatenate([rng.choice(members[label], n_query, replace=False) for label in left_out]))
    return np.array(drawn)


def _areas(members: torch.Tensor, strangers: torch.Tensor) -> list[float]:
    """Area under the ROC curve in each episode, of scores `(e, m)` that are higher for members."""
    return _rounded(area_under_roc(*pair) for pair in zip(members.numpy(), strangers.numpy(), strict=True))


def _rounded(values) -> list[float]:
    return [round(float(value), 4) for value in values]


def reliability_bins(probability: np.ndarray, right: np.ndarray, n_resamples: int, seed: int = 0) -> dict:
    """Reliability diagram and calibration error from `(n_episodes, m)` probabilities of the answers, right or not.

    Intervals come from drawing the episodes again, with replacement: queries of one episode share their support.
    """
    n_episodes = len(probability)
    bins = np.minimum((probability * N_BINS).astype(int), N_BINS - 1) + N_BINS * np.arange(n_episodes)[:, None]

    def sums(weights: np.ndarray | None) -> np.ndarray:
        weights = None if weights is None else weights.ravel()
        return np.bincount(bins.ravel(), weights, minlength=n_episodes * N_BINS).reshape(n_episodes, N_BINS)

    per_episode = np.stack([sums(None), sums(probability), sums(right.astype(float))])
    rng = np.random.default_rng(seed_from("resamples", seed))
    weights = rng.multinomial(n_episodes, np.full(n_episodes, 1 / n_episodes), size=n_resamples)
    counts, said, true = weights @ per_episode
    errors = np.abs(true - said).sum(axis=1) / counts.sum(axis=1)
    count, said, found = per_episode.sum(axis=1)
    shown = np.flatnonzero(count)
    accuracies = np.divide(true, counts, out=np.full(true.shape, np.nan), where=counts > 0)[:, shown]
    low, high = np.nanpercentile(accuracies, [2.5, 97.5], axis=0)
    return {
        "ece": round(expected_calibration_error(probability.ravel(), right.ravel(), N_BINS), 4),
        "ece_ci95": round(1.96 * float(errors.std(ddof=1)), 4),
        "count": count[shown].astype(int).tolist(),
        "probability": _rounded(said[shown] / count[shown]),
        "accuracy": _rounded(found[shown] / count[shown]),
        "low": _rounded(low),
        "high": _rounded(high),
    }


def met(name: str, card: dict) -> str:
    """How a class, or a relative of it, took part in the making of an encoder."""
    roles = {"trained on": card["training_classes"], "calibrated on": card["held_out_classes"]["selection"]}
    origin = _MADE_OF.get(name, name)
    for role, names in roles.items():
        if origin in names:
            return role
    for role, names in roles.items():
        if homologous_family(origin) in map(homologous_family, names):
            return f"relative {role}"
    return "never met"
