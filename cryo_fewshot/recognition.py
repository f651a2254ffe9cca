"""From a few labelled embeddings to a class, a probability and an abstention for every particle.

No encoder and no files here: embeddings come computed, the encoder's `Calibration` with them. What a recogniser keeps
is a few numbers per class, so a million particles are no harder than a thousand.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest, norm

from .calibration import Calibration, ClassModel, class_model
from .errors import UserError
from .twocovariance import class_posteriors

UNKNOWN = -1
"""Label of a particle whose embedding is not finite."""


@dataclass(frozen=True)
class Recognition:
    """What is said of each of n particles; all arrays are `(n,)`.

    Parameters
    ----------
    label, runner_up : index into class_names of the most and second most probable class; UNKNOWN where not finite
    probability : of the class, given that the particle belongs to one of the classes
    distance : to the centre of the class, in standard deviations within a class (about 1 for a member)
    margin : how much farther the runner-up's centre is; negative where the classes' own uncertainty decided
    score : log ratio of the likelihood under the known classes and under a class never seen
    accepted : the score reaches the threshold of the promised false-accept rate and the class is no junk
    """

    class_names: tuple[str, ...]
    label: np.ndarray
    probability: np.ndarray
    runner_up: np.ndarray
    distance: np.ndarray
    margin: np.ndarray
    score: np.ndarray
    accepted: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def to_frame(self) -> pd.DataFrame:
        """One row per particle, classes by name; an empty name where the embedding was not finite."""
        names = np.array([*self.class_names, ""], dtype=object)  # UNKNOWN is -1: the last
        numbers = {name: getattr(self, name) for name in ("probability", "distance", "margin", "score", "accepted")}
        return pd.DataFrame({"class": names[self.label], "runner_up": names[self.runner_up], **numbers})


@dataclass(frozen=True)
class SupportCheck:
    """Leave-one-out over the labelled particles: each is classified by the others.

    Parameters
    ----------
    predicted : `(n,)` class when left out; probability : `(n,)` of that class
    tested : `(n,)` False where a particle is the only one of its class, so that nothing is left to find it by
    accuracy : of the tested ones, one shot short of what queries get; low, high : its 95 % Wilson interval
    warnings : plain sentences
    """

    predicted: np.ndarray
    probability: np.ndarray
    tested: np.ndarray
    accuracy: float
    low: float
    high: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Recogniser:
    """Made by `build_recogniser`."""

    class_names: tuple[str, ...]
    calibration: Calibration
    model: ClassModel
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

    def recognise_stream(self, batches: Iterable[torch.Tensor]) -> Iterator[Recognition]:
        """Recognise batches `(n, dim)` one after the other, in constant memory."""
        for batch in batches:
            yield self.recognise(batch)

    def _recognise(self, embeddings: torch.Tensor) -> tuple[np.ndarray, ...]:
        embeddings = embeddings.float().cpu()
        finite = torch.isfinite(embeddings).all(dim=1)
        projected = self.calibration.space.project(torch.where(finite[:, None], embeddings, 0.0))
        of_class = self.model.log_likelihoods(projected)
        probability, order = torch.softmax(of_class / self.temperature + self.log_frequencies, -1).topk(2, dim=-1)
        distances = self._distances(projected).gather(1, order)
        score = self.model.scores(projected, of_class)
        accepted = finite & (score >= self.threshold) & ~torch.from_numpy(self.junk)[order[:, 0]]
        order = torch.where(finite[:, None], order, UNKNOWN)
        numbers = probability[:, 0], distances[:, 0], distances[:, 1] - distances[:, 0], score
        probability, distance, margin, score = (torch.where(finite, part, torch.nan).numpy() for part in numbers)
        label, runner_up = order.T.numpy()
        return label, probability, runner_up, distance, margin, score, accepted.numpy()

    def _distances(self, projected: torch.Tensor) -> torch.Tensor:
        """Distance to each centre per axis, in standard deviations within a class: `(m, n_way)`."""
        return torch.cdist(projected, self.model.means) / (self.model.within * projected.shape[1]) ** 0.5

    @torch.no_grad()
    def adapted(self, embeddings: torch.Tensor, n_steps: int = 10, weight: float = 2.0) -> "Recogniser":
        """Transductive: let unlabelled particles take part, for classes of any frequencies.

        Expectation-maximisation as in `two_covariance_em_logits`, with a class of its own for what is new, so that
        outsiders do not pull on the known classes. Neither thresholds nor temperature were measured for adapted
        classes: from single shots the probabilities become too sure.

        Parameters
        ----------
        embeddings : `(m, dim)`, some thousands drawn at random from all particles are enough
        weight : the unlabelled particles of a class count at most so many times as much as its labelled ones
        """
        embeddings = torch.as_tensor(embeddings).float().cpu()
        projected = self.calibration.space.project(embeddings[torch.isfinite(embeddings).all(dim=1)])
        counts, sums = self.members.sum(0), self.members.T @ self.support
        n_way = len(counts)
        new = self.model.new_class(projected).unsqueeze(1)
        frequencies, model = torch.full((n_way + 1,), 1 / (n_way + 1)), self.model
        for _ in range(n_steps):
            both = torch.cat([model.log_likelihoods(projected), new], dim=1) / self.temperature
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
    false_accept_rate: float = 0.05,
    junk: Sequence[str] = (),
) -> Recogniser:
    """Learn the user's classes.

    Parameters
    ----------
    embeddings : `(n, dim)` of the labelled particles; labels : n class names, unequal numbers and single ones allowed
    calibration : of the encoder that made the embeddings
    false_accept_rate : at most this share of particles of no known class is to be accepted
    junk : classes of the support that stand for what nobody wants; their particles are never accepted

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
        raise UserError(f"junk class '{unknown[0]}' is not in the support; it has {', '.join(names)}")
    bad = np.flatnonzero(~torch.isfinite(embeddings).all(dim=1).numpy())
    if len(bad):
        raise UserError(f"labelled particle {bad[0]} has an embedding with NaN ({len(bad)} do): remove it")
    members = torch.from_numpy(labels[:, None] == np.array(names)).float()
    support = calibration.space.project(embeddings)
    model = class_model(calibration.space, support, members)
    # Harmonic mean: classes with few shots decide how far the whole can be trusted.
    n_shot = float(len(names) / (1 / members.sum(0)).sum())
    temperature = calibration.temperature(n_shot, len(names))
    return Recogniser(
        class_names=names,
        calibration=calibration,
        model=model,
        log_frequencies=torch.full((len(names),), -float(np.log(len(names)))),
        temperature=temperature,
        threshold=calibration.threshold(n_shot, false_accept_rate),
        junk=np.isin(names, list(junk)),
        support=support,
        members=members,
        check=check_support(embeddings, support, members, model, names, temperature),
    )


def check_support(
    embeddings: torch.Tensor,
    support: torch.Tensor,
    members: torch.Tensor,
    model: ClassModel,
    names: Sequence[str],
    temperature: float,
) -> SupportCheck:
    """Leave-one-out and warnings, from embeddings `(n, dim)`, the same projected `(n, n_axes)` and one-hot labels."""
    own = members.argmax(1)
    counts = members.sum(0)
    logits = model.log_likelihoods(support)
    # The own class without the particle; a class of one falls back to a class never seen.
    sums = (members.T @ support)[own] - support
    means, variances = class_posteriors(sums, counts[own] - 1, model.between, model.within)
    spread = variances + model.within
    left_out = -0.5 * ((support - means).square() / spread + spread.log()).sum(1)
    probabilities = torch.softmax(logits.scatter(1, own[:, None], left_out[:, None]) / temperature, dim=1)
    predicted = probabilities.argmax(1)
    tested = counts[own] > 1
    n_tested, n_right = int(tested.sum()), int((predicted == own)[tested].sum())
    interval = binomtest(n_right, n_tested).proportion_ci(method="wilson") if n_tested else (0.0, 1.0)
    probability = probabilities.amax(1).numpy()
    predicted, own, tested = predicted.numpy(), own.numpy(), tested.numpy()
    warnings = [
        *_too_few(counts.numpy(), names),
        *_duplicates(embeddings, own, names),
        *_mislabelled(predicted, own, tested & (probability > 0.9), probability, names),
        *_inseparable(model, counts.numpy(), names),
    ]
    if n_tested and float(interval[1]) < 0.5:
        warnings.append(
            f"left out, only {n_right} of {n_tested} labelled particles are found again: "
            "this support does not define its classes; label more particles or merge classes"
        )
    return SupportCheck(
        predicted=predicted,
        probability=probability,
        tested=tested,
        accuracy=n_right / n_tested if n_tested else float("nan"),
        low=float(interval[0]),
        high=float(interval[1]),
        warnings=tuple(warnings),
    )


def _too_few(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    few = [f"'{name}' has {count:.0f}" for name, count in zip(names, counts, strict=True) if count < 3]
    return [f"few labelled particles: {', '.join(few)}; with 3 to 5 of each class errors fall clearly"] if few else []


def _duplicates(embeddings: torch.Tensor, own: np.ndarray, names: Sequence[str]) -> list[str]:
    _, first, inverse = np.unique(embeddings.numpy(), axis=0, return_index=True, return_inverse=True)
    pairs = [(first[group], i) for i, group in enumerate(inverse.ravel()) if first[group] != i]
    contrary = [(i, j) for i, j in pairs if own[i] != own[j]]
    warnings = [
        f"labelled particles {i} ('{names[own[i]]}') and {j} ('{names[own[j]]}') are the same one: remove the wrong one"
        for i, j in contrary[:10]
    ]
    if len(pairs) > len(contrary):
        i, j = next(pair for pair in pairs if pair not in contrary)
        more = len(pairs) - len(contrary) - 1
        others = f" (and {more} more)" if more else ""
        warnings.append(f"labelled particles {i} and {j} are duplicates{others}: they count twice and teach nothing")
    return warnings


def _mislabelled(predicted, own, sure, probability, names) -> list[str]:
    odd = np.flatnonzero(sure & (predicted != own))
    worst_first = odd[np.argsort(-probability[odd])]
    warnings = [
        f"labelled particle {i} ('{names[own[i]]}') looks like '{names[predicted[i]]}' "
        f"(probability {probability[i]:.2f} when left out): mislabelled?"
        for i in worst_first[:10]
    ]
    return (
        [*warnings, f"{len(odd) - 10} more labelled particles look like another class"] if len(odd) > 10 else warnings
    )


def _inseparable(model: ClassModel, counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """Pairs whose centres lie so close that particles of equal frequency would be confused one time in five.

    Uncertain centres lie too far apart by their variances, which are taken off; below three particles that says little.
    """
    total = model.variances.sum(-1)
    squared = torch.cdist(model.means, model.means).square() - total[:, None] - total
    apart = (squared.clamp(min=0) / model.within).sqrt()
    confused = norm.sf(apart.numpy() / 2)
    pairs = sorted(zip(*np.triu_indices(len(names), k=1), strict=True), key=lambda pair: -confused[pair])
    pairs = [pair for pair in pairs if confused[pair] > 0.2 and counts[list(pair)].min() >= 3]
    warnings = [
        f"'{names[a]}' and '{names[b]}' are hard to tell apart (expected confusion {confused[a, b]:.0%}): "
        "label more particles of both, or merge them"
        for a, b in pairs[:5]
    ]
    if len(pairs) > 5:
        warnings.append(f"{len(pairs) - 5} more pairs of classes are hard to tell apart")
    return warnings
