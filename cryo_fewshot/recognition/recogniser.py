"""From a few labelled embeddings to a class, a probability and an abstention for every particle.

No encoder and no files here: embeddings come computed, the encoder's `Calibration` with them. A recogniser keeps
a few numbers per class, so a million particles need no more memory than a thousand.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ..errors import UserError
from .calibration import Calibration, ClassModel, Conditions, Promises, adapt, class_model
from .domain import lifted
from .plda import PLDA
from .support_check import SupportCheck, check_support

INVALID = -1
"""Label of a particle whose embedding is not finite."""


@dataclass(frozen=True)
class Recognition:
    """What is said of each of n particles; all arrays are `(n,)`.

    label, runner_up : index into class_names of the most and second most probable class; INVALID where not finite
    probability : of the class, given that the particle belongs to one of the classes
    distance : to the centre of the class, in standard deviations within a class (about 1 for a member)
    margin : how much farther the runner-up's centre is; negative where the classes' own uncertainty decided
    score : how much likelier a known class is than an unknown one, see `ClassModel.scores`
    p_value : share of particles of unknown classes that score as high, see `Promises.p_values`
    accepted : the p-value is at most the promised false-positive rate and the class is no junk
    """

    class_names: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    runner_up: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    score: np.ndarray
    p_value: np.ndarray
    accepted: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row per particle, classes by name; an empty name where the embedding was not finite."""
        names = np.array([*self.class_names, ""], dtype=object)  # INVALID is -1: the last
        numbers = {
            name: getattr(self, name) for name in ("probability", "distance", "margin", "score", "p_value", "accepted")
        }
        return pd.DataFrame({"class": names[self.label], "runner_up": names[self.runner_up], **numbers})


@dataclass(frozen=True)
class Recogniser:
    """Made by `build_recogniser`.

    own, labelled : the encoder's geometry, and the classes in it from the labelled particles alone: scores and
        acceptance rest on these, as promises were measured with them
    space, model : geometry of the user's data, where it was fitted to them, and the classes in it, from unlabelled
        particles as well where these took part: labels, probabilities and distances rest on these
    unfitted : why the geometry was not fitted though it was wanted, see `domain.reason_not_to_fit`
    """

    class_names: tuple[str, ...]
    calibration: Calibration
    conditions: Conditions
    false_accept_rate: float
    own: PLDA
    labelled: ClassModel
    space: PLDA
    model: ClassModel
    log_frequencies: torch.Tensor
    junk: np.ndarray
    support: torch.Tensor
    members: torch.Tensor
    check: SupportCheck
    transductive: bool = False
    unfitted: str = ""

    @property
    def promises(self) -> Promises:
        return self.calibration.promises

    @property
    def temperature(self) -> float:
        """Divisor, see `Promises.temperature_of`, and what the labelled particles say of it when left out."""
        measured = self.promises.temperature_of(self.conditions, adapted=self.transductive)
        return float(measured) * self.check.tempered

    @property
    def threshold(self) -> float:
        return self.promises.threshold(self.conditions, self.false_accept_rate)

    @torch.no_grad()
    def recognise(self, embeddings: torch.Tensor, chunk: int = 65_536) -> Recognition:
        """Recognise embeddings `(n, dim)`, so many at a time; nothing larger than `(chunk, n_way)` arises."""
        parts = [self._recognise(part) for part in torch.as_tensor(embeddings).split(chunk)]
        return Recognition(self.class_names, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _recognise(self, embeddings: torch.Tensor) -> tuple[np.ndarray, ...]:
        embeddings = embeddings.float().cpu()
        finite = torch.isfinite(embeddings).all(dim=1)
        embeddings = torch.where(finite[:, None], embeddings, torch.eye(1, embeddings.shape[1]))  # any of length 1
        projected = self.space.project(embeddings)
        of_class = self.model.log_likelihoods(projected)
        probability, order = torch.softmax((of_class + self.log_frequencies) / self.temperature, -1).topk(2, dim=-1)
        # Per axis, in standard deviations within a class.
        distances = torch.cdist(projected, self.model.means) / (self.model.within * projected.shape[1]) ** 0.5
        distances = distances.gather(1, order)
        own = self.own.project(embeddings)
        score = self.labelled.scores(own, self.labelled.log_likelihoods(own))
        accepted = finite & (score >= self.threshold) & ~torch.from_numpy(self.junk)[order[:, 0]]
        order = torch.where(finite[:, None], order, INVALID)
        numbers = probability[:, 0], distances[:, 0], distances[:, 1] - distances[:, 0], score
        probability, distance, margin, score = (torch.where(finite, part, torch.nan).numpy() for part in numbers)
        label, runner_up = order.T.numpy()
        p_value = self.promises.p_values(score, self.conditions)
        return label, probability, runner_up, distance, margin, score, p_value, accepted.numpy()

    def seeing(self, embeddings: torch.Tensor) -> "Recogniser":
        """With unlabelled particles `(m, dim)` beside the labelled ones, to tell how noisy and how crowded boxes are.

        Thresholds and probabilities depend on both.
        """
        embeddings = _finite(embeddings)
        if not len(embeddings):
            return self
        weights = [len(self.members), len(embeddings)]
        looks = {
            name: float(np.average([getattr(self.conditions, name), value], weights=weights))
            for name, value in _looks(self.calibration, embeddings).items()
        }
        return replace(self, conditions=replace(self.conditions, **looks))

    @torch.no_grad()
    def adapted(self, embeddings: torch.Tensor) -> "Recogniser":
        """Transductive: unlabelled particles `(m, dim)` take part, some thousands at random; see `calibration.adapt`.

        Classes and probabilities gain from it. Acceptance stays: adapted classes reach out for unknown ones' particles.
        """
        projected = self.space.project(_finite(embeddings))
        sums, counts = self.members.T @ self.support, self.members.sum(0)
        model, log_frequencies = adapt(self.model, sums, counts, projected, self.temperature)
        return replace(self, model=model, log_frequencies=log_frequencies, transductive=True)


def _looks(calibration: Calibration, embeddings: torch.Tensor) -> dict[str, float]:
    """How noisy and how crowded particles `(m, dim)` look, as fields of `Conditions`."""
    return {"log_snr": float(calibration.log_snr(embeddings)), "crowding": float(calibration.crowding(embeddings))}


def _finite(embeddings: torch.Tensor) -> torch.Tensor:
    embeddings = torch.as_tensor(embeddings).float().cpu()
    return embeddings[torch.isfinite(embeddings).all(dim=1)]


@torch.no_grad()
def build_recogniser(
    embeddings: torch.Tensor,
    labels: Sequence[str],
    calibration: Calibration,
    *,
    space: PLDA | None = None,
    false_accept_rate: float = 0.05,
    junk: Sequence[str] = (),
) -> Recogniser:
    """Learn the user's classes.

    Parameters
    ----------
    embeddings : `(n, dim)` of the labelled particles; labels : n class names, unequal numbers and single ones allowed
    calibration : of the encoder that made the embeddings
    space : geometry of classes in the user's data, see `domain.space_of_data`; default the encoder's own
    false_accept_rate : at most this share of particles of unknown classes is to be accepted
    junk : classes of the support that nobody wants; their particles are never accepted

    Raises UserError for fewer than two classes, an embedding that is not finite, or an unknown junk class.
    """
    embeddings, labels = torch.as_tensor(embeddings).float().cpu(), np.asarray(labels, dtype=str)
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise UserError(f"{tuple(embeddings.shape)} embeddings, {len(labels)} labels: give one label per embedding")
    names = tuple(sorted(set(labels.tolist())))
    if len(names) < 2:
        raise UserError(f"support of {len(names)} class ({', '.join(names)}): give labelled particles of at least two")
    if unknown := [name for name in junk if name not in names]:
        raise UserError(f"junk class '{unknown[0]}' (--junk) is not in the support; it has {', '.join(names)}")
    bad = np.flatnonzero(~torch.isfinite(embeddings).all(dim=1).numpy())
    if len(bad):
        raise UserError(f"labelled particle {bad[0]} has an embedding with NaN ({len(bad)} do): remove it")
    members = torch.from_numpy(labels[:, None] == np.array(names)).float()
    dim = len(calibration.space.mean)
    own = lifted(calibration.space, embeddings.shape[1] - dim)
    labelled = class_model(own, own.project(embeddings), members)
    space = space or own
    support = space.project(embeddings)
    model = labelled if space is own else class_model(space, support, members)
    conditions = Conditions(
        # Harmonic mean: classes with few shots decide how far the whole can be trusted.
        n_shot=float(len(names) / (1 / members.sum(0)).sum()),
        n_way=len(names),
        **_looks(calibration, embeddings),
    )
    left_out = float(calibration.promises.temperature_of(replace(conditions, n_shot=conditions.n_shot - 1)))
    calibration.promises.threshold(conditions, false_accept_rate)  # refused here if it cannot be promised
    return Recogniser(
        class_names=names,
        calibration=calibration,
        conditions=conditions,
        false_accept_rate=false_accept_rate,
        own=own,
        labelled=labelled,
        space=space,
        model=model,
        log_frequencies=torch.full((len(names),), -float(np.log(len(names)))),
        junk=np.isin(names, list(junk)),
        support=support,
        members=members,
        check=check_support(embeddings, support, members, model, names, left_out),
    )
