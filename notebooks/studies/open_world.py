"""The pretrained encoder asked as in practice: unknown classes, more classes, more labels, other data.

Its tasks are those of the paper's methods, episode by episode, so that differences are paired. Its scores and
probabilities are those that `cryo-fewshot classify` writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch

from cryo_fewshot.episodes import Episodes
from cryo_fewshot.evaluation import area_under_roc, predict
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration, ClassModel, Conditions, class_model
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.plda import PLDA
from cryo_fewshot.reproduction.cells import encoder_run, evaluation_of
from cryo_fewshot.reproduction.evaluation_specs import Evaluation, answers_of
from cryo_fewshot.reproduction.profiles import Profile, mix_100
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.datasets import SimulatedData

from .pretrained import Pretrained
from .transfer import OwnClasses

# ---------------------------------------------------------------- what is run


@dataclass(frozen=True, kw_only=True)
class Tasks(OwnClasses):
    """Few-shot tasks among simulated classes, those of `Evaluation`, for an encoder of any origin.

    encoder : a training of this project, or the digest of the pretrained encoder's weights
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

    episodes = Evaluation.episodes

    def embeddings(self, runner: Runner, pretrained: Pretrained, more: tuple[str, ...] = ()) -> torch.Tensor:
        """Embeddings of all subtomograms of the tasks' classes and of `more`, `(n, dim)`, class by class.

        Those of the pretrained encoder have length 1.
        """
        classes = (*self.classes, *more)
        if isinstance(self.encoder, EncoderRun):
            return runner.embedded(self.encoder, self.data, classes, ((self.snr, self.data.n_per_class),)).cpu()
        return _unit_embeddings(runner, pretrained, self.data, classes, self.snr)


@lru_cache(maxsize=32)  # heads and shots share them
def _unit_embeddings(
    runner: Runner, pretrained: Pretrained, data: SimulatedData, classes: tuple[str, ...], snr: float
) -> torch.Tensor:
    subtomograms = data.subtomograms({snr: data.n_per_class}, classes, runner.device)
    volumes = fitted(subtomograms.volumes, data.voxel_size_nm, pretrained.card).to(runner.device)
    return unit_embeddings(pretrained.encoder.to(runner.device), volumes).cpu()


@dataclass(frozen=True, kw_only=True)
class ShippedEvaluation(Tasks):
    """Accuracy of the pretrained encoder: 'prototype' (the nearest one) or 'two-covariance' (the tool's PLDA)."""

    head: str

    def run(self, runner: Runner, pretrained: Pretrained) -> dict:
        """Correct answers per episode and confusion, as of `Evaluation.run`."""
        episodes = self.episodes()
        heads = {  # an encoder without a calibration has the first alone
            "prototype": lambda: prototype_logits,
            "two-covariance": lambda: partial(tool_logits, calibration=pretrained.calibration),
        }
        predictions = predict(self.embeddings(runner, pretrained), episodes, heads[self.head]())
        return answers_of(predictions, episodes, self.classes)


@dataclass(frozen=True, kw_only=True)
class Rejection(Tasks):
    """How well particles of a task's classes are told from those of unknown classes.

    strangers : the unknown classes; if none are named, the test classes that a task leaves out
    """

    strangers: tuple[str, ...] = ()

    def run(self, runner: Runner, pretrained: Pretrained) -> dict:
        """One number per task: `distance`, the area under the ROC curve of the distance to the nearest prototype; with
        a calibration also `likelihood ratio`, that of the tool's score. `episodes` is the digest of the tasks.
        """
        episodes, names = self.episodes(), (*self.classes, *self.strangers)
        labels = np.repeat(np.arange(len(names)), [self.data.count_of(name, self.data.n_per_class) for name in names])
        unknown = range(len(self.classes), len(names)) if self.strangers else None
        drawn = draw_unknown(episodes, labels, unknown, self.n_query)
        embeddings = self.embeddings(runner, pretrained, more=self.strangers)
        support = embeddings[episodes.support]
        asked = embeddings[episodes.query].flatten(1, 2), embeddings[drawn]
        distances = [prototype_logits(support, queries).amax(-1) for queries in asked]
        result = {"episodes": episodes.digest, "distance": _areas(*distances)}
        if self.calibration is not None:
            space = pretrained.calibration.space
            result["likelihood ratio"] = _areas(*(likelihood_ratios(support, queries, space) for queries in asked))
        return result


def paper_like(profile: Profile, snr: float, n_shot: int, n_way: int = 5) -> Evaluation:
    """ProtoNet3D (mix) of class split 0, trained on 5-shot tasks, on its test classes with any number of labels."""
    encoder = encoder_run(profile, mix_100(profile), n_shot=5)
    return evaluation_of(profile, encoder, "prototype", snr, n_shot, n_way=n_way)


def same_tasks(evaluation: Evaluation) -> dict:
    """The tasks of an evaluation, as fields of `Tasks`."""
    names = ("snr", "n_way", "n_shot", "n_query", "n_episodes", "episode_seed")
    settings = {name: getattr(evaluation, name) for name in names}
    return {"data": evaluation.novel_data, "classes": evaluation.novel_classes, **settings}


def evaluated(runner: Runner, pretrained: Pretrained, head: str, **tasks) -> dict:
    """The entry of a head of the pretrained encoder on some tasks; the nearest prototype needs no calibration."""
    digests = pretrained.digests | ({"calibration": None} if head == "prototype" else {})
    return runner(ShippedEvaluation(head=head, **digests, **tasks), pretrained)


# ---------------------------------------------------------------- how it is run


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
    likelihoods = tool_model(support, calibration.space).log_likelihoods(calibration.space.project(queries))
    n_way, n_shot = support.shape[1:3]
    seen = torch.cat([support.flatten(1, 2), queries], dim=1)
    log_snr, crowding = calibration.log_snr(seen).numpy(), calibration.crowding(seen).numpy()
    conditions = Conditions(n_shot=n_shot, n_way=n_way, log_snr=log_snr, crowding=crowding)
    temperatures = calibration.promises.temperature_of(conditions)
    return likelihoods / torch.from_numpy(temperatures).float()[:, None, None]


def likelihood_ratios(support: torch.Tensor, queries: torch.Tensor, space: PLDA) -> torch.Tensor:
    """The tool's score of each query, known classes against a new one: `(e, m)`."""
    model, projected = tool_model(support, space), space.project(queries)
    return model.scores(projected, model.log_likelihoods(projected))


def draw_unknown(
    episodes: Episodes, labels: np.ndarray, unknown: Sequence[int] | None, n_query: int, seed: int = 0
) -> np.ndarray:
    """Indices of particles of unknown classes for each episode, `n_query` of each class: `(n_episodes, m)`.

    labels : `(n,)`; unknown : labels of the unknown classes; None for all that an episode leaves out
    """
    members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    rng = np.random.default_rng(seed_from("strangers", seed))
    drawn = []
    for classes in episodes.classes:
        left_out = np.setdiff1d(np.arange(len(members)), classes) if unknown is None else unknown
        drawn.append(np.concatenate([rng.choice(members[label], n_query, replace=False) for label in left_out]))
    return np.array(drawn)


def _areas(known: torch.Tensor, unknown: torch.Tensor) -> list[float]:
    """Area under the ROC curve in each episode, of scores `(e, m)` that are higher for known classes."""
    return [round(float(area_under_roc(*pair)), 4) for pair in zip(known.numpy(), unknown.numpy(), strict=True)]


def role(name: str, card: dict) -> str:
    """How a class took part in the making of an encoder."""
    roles = {"trained on": card["training_classes"], "calibrated on": card["held_out_classes"]["selection"]}
    return next((role for role, names in roles.items() if name in names), "held out")
