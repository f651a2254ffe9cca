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
from .calibration import Calibration, ClassModel, class_model
from .domain import lifted
from .plda import PLDA, class_posteriors
from .support_check import SupportCheck, check_support

INVALID = -1
"""Label of a particle whose embedding is not finite."""


@dataclass(frozen=True)
class Recognition:
    """What is said of each of n particles; all arrays are `(n,)`.

    Parameters
    ----------
    label, runner_up : index into class_names of the most and second most probable class; INVALID where not finite
    probability : of the class, given that the particle belongs to one of the classes
    distance : to the centre of the class, in standard deviations within a class (about 1 for a member)
    margin : how much farther the runner-up's centre is; negative where the classes' own uncertainty decided
    score : log ratio of the likelihood under the known classes and under an unknown class
    accepted : the score reaches the threshold of the promised false-positive rate and the class is no junk
    """

    class_names: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    runner_up: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    score: np.ndarray
    accepted: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row per particle, classes by name; an empty name where the embedding was not finite."""
        names = np.array([*self.class_names, ""], dtype=object)  # INVALID is -1: the last
        numbers = {name: getattr(self, name) for name in ("probability", "distance", "margin", "score", "accepted")}
        return pd.DataFrame({"class": names[self.label], "runner_up": names[self.runner_up], **numbers})


@dataclass(frozen=True)
class Recogniser:
    """Made by `build_recogniser`.

    space, model : geometry and classes, that labels, probabilities and distances rest on
    reference : the encoder's own geometry and the classes in it, where thresholds were measured and scores count; None
        where it is `space`
    """

    class_names: tuple[str, ...]
    calibration: Calibration
    space: PLDA
    model: ClassModel
    reference: tuple[PLDA, ClassModel] | None
    log_frequencies: torch.Tensor
    temperature: float
    threshold: float
    junk: np.ndarray
    support: torch.Tensor
    members: torch.Tensor
    check: SupportCheck

    @torch.no_grad()
    def recognise(self, embeddings: torch.Tensor, chunk: int = 65_536) -> Recognition:
        """Recognise embeddings `(n, dim)`, so many at a time; nothing larger than `(chunk, n_way)` arises."""
        parts = [self._recognise(part) for part in torch.as_tensor(embeddings).split(chunk)]
        return Recognition(self.class_names, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _recognise(self, embeddings: torch.Tensor) -> tuple[np.ndarray, ...]:
        embeddings = embeddings.float().cpu()
        finite = torch.isfinite(embeddings).all(dim=1)
        embeddings = torch.where(finite[:, None], embeddings, 0.0)
        projected = self.space.project(embeddings)
        of_class = self.model.log_likelihoods(projected)
        probability, order = torch.softmax(of_class / self.temperature + self.log_frequencies, -1).topk(2, dim=-1)
        # Per axis, in standard deviations within a class.
        distances = torch.cdist(projected, self.model.means) / (self.model.within * projected.shape[1]) ** 0.5
        distances = distances.gather(1, order)
        score = self._scores(embeddings, projected, of_class)
        accepted = finite & (score >= self.threshold) & ~torch.from_numpy(self.junk)[order[:, 0]]
        order = torch.where(finite[:, None], order, INVALID)
        numbers = probability[:, 0], distances[:, 0], distances[:, 1] - distances[:, 0], score
        probability, distance, margin, score = (torch.where(finite, part, torch.nan).numpy() for part in numbers)
        label, runner_up = order.T.numpy()
        return label, probability, runner_up, distance, margin, score, accepted.numpy()

    def _scores(self, embeddings: torch.Tensor, projected: torch.Tensor, of_class: torch.Tensor) -> torch.Tensor:
        if self.reference is None:
            return self.model.scores(projected, of_class)
        space, model = self.reference
        own = space.project(embeddings)
        return model.scores(own, model.log_likelihoods(own))

    @torch.no_grad()
    def adapted(self, embeddings: torch.Tensor, n_steps: int = 10, weight: float = 2.0) -> "Recogniser":
        """Transductive: let unlabelled particles take part, for classes of any frequencies.

        Expectation-maximisation as in `plda_em_logits`, with one more class for all unknown ones, so that their
        particles do not pull on the known classes. Neither thresholds nor temperature were measured for adapted
        classes: from single shots the probabilities become overconfident.

        Parameters
        ----------
        embeddings : `(m, dim)`, some thousands drawn at random from all particles are enough
        weight : the unlabelled particles of a class count at most so many times as much as its labelled ones
        """
        embeddings = torch.as_tensor(embeddings).float().cpu()
        projected = self.space.project(embeddings[torch.isfinite(embeddings).all(dim=1)])
        counts, sums = self.members.sum(0), self.members.T @ self.support
        n_way = len(counts)
        unknown = self.model.unknown_class(projected).unsqueeze(1)
        frequencies, model = torch.full((n_way + 1,), 1 / (n_way + 1)), self.model
        for _ in range(n_steps):
            both = torch.cat([model.log_likelihoods(projected), unknown], dim=1) / self.temperature
            shares = torch.softmax(both + frequencies.log(), dim=1)
            found = shares.sum(0)
            frequencies = (found + 1) / (found + 1).sum()
            trust = (weight * counts / found[:n_way].clamp(min=1e-6)).clamp(max=1)
            shares = shares[:, :n_way] * trust
            means, variances = class_posteriors(
                sums + shares.T @ projected, counts + shares.sum(0), model.between, model.within
            )
            model = replace(model, means=means, variances=variances)
        known = frequencies[:n_way] / frequencies[:n_way].sum()
        return replace(self, model=model, log_frequencies=known.log())


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

    Raises
    ------
    UserError
        If there are fewer than two classes, an embedding is not finite, or a junk class is not in the support.
    """
    embeddings, labels = torch.as_tensor(embeddings).float().cpu(), np.asarray(labels, dtype=str)
    if embeddings.ndim != 2 or len(embeddings) != len(labels):
        raise UserError(f"{tuple(embeddings.shape)} embeddings, {len(labels)} labels: give one label per embedding")
    names = tuple(sorted(set(labels.tolist())))
    if len(names) < 2:
        raise UserError(f"support of {len(names)} class ({', '.join(names)}): give labelled particles of two or more")
    if unknown := [name for name in junk if name not in names]:
        raise UserError(f"junk class '{unknown[0]}' (--junk) is not in the support; it has {', '.join(names)}")
    bad = np.flatnonzero(~torch.isfinite(embeddings).all(dim=1).numpy())
    if len(bad):
        raise UserError(f"labelled particle {bad[0]} has an embedding with NaN ({len(bad)} do): remove it")
    members = torch.from_numpy(labels[:, None] == np.array(names)).float()
    own = lifted(calibration.space, embeddings.shape[1] - len(calibration.space.mean))
    own_model = class_model(own, own.project(embeddings), members)
    space = space or own
    support = space.project(embeddings)
    model = own_model if space is own else class_model(space, support, members)
    # Harmonic mean: classes with few shots decide how far the whole can be trusted.
    n_shot = float(len(names) / (1 / members.sum(0)).sum())
    temperature = calibration.temperature(n_shot, len(names))
    return Recogniser(
        class_names=names,
        calibration=calibration,
        space=space,
        model=model,
        reference=None if space is own else (own, own_model),
        log_frequencies=torch.full((len(names),), -float(np.log(len(names)))),
        temperature=temperature,
        threshold=calibration.threshold(n_shot, false_accept_rate),
        junk=np.isin(names, list(junk)),
        support=support,
        members=members,
        check=check_support(embeddings, support, members, model, names, temperature),
    )
