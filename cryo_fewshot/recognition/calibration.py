"""What an encoder's makers measure once, on classes it never saw, so that users get honest numbers from few labels.

Held-out classes play the user's support, queries and outsiders in turn. Kept are the geometry of classes in general
(`PLDA`), a temperature that makes probabilities true, and thresholds that keep outsiders out at a promised
rate; all are numbers that fit into the encoder's metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import t as student

from ..errors import UserError
from ..evaluation import area_under_roc, expected_calibration_error
from .plda import PLDA, class_posteriors, fit_plda, gaussian_log_likelihoods

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""False-accept rates that thresholds are kept for; between them they are interpolated."""
PRIOR_WEIGHT = 10.0
"""Particles' worth of belief that the user's classes scatter as those of the calibration do."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Plain numbers, from `fit_calibration`.

    Parameters
    ----------
    space : geometry of classes
    temperature_terms : log temperature = sum of terms * (1, log n_shot, log n_way)
    shots : `(n,)` numbers of labelled particles per class that thresholds were measured at
    thresholds : `(n, len(RATES))` least score that is accepted, by shots and promised rate
    measured : per number of shots: accuracy, ece, auroc, kept (share of members accepted at 5 %)
    n_classes : held-out classes that all this rests on
    """

    space: PLDA
    temperature_terms: tuple[float, float, float]
    shots: tuple[int, ...]
    thresholds: tuple[tuple[float, ...], ...]
    measured: tuple[dict, ...]
    n_classes: int

    def temperature(self, n_shot: float, n_way: int) -> float:
        """Divisor of log-likelihoods; beyond the measured shots the nearest measured one counts."""
        n_shot = float(np.clip(n_shot, self.shots[0], self.shots[-1]))
        return float(np.exp(np.dot(self.temperature_terms, [1, np.log(n_shot), np.log(n_way)])))

    def threshold(self, n_shot: float, false_accept_rate: float) -> float:
        """Least score that keeps all but so many outsiders out, interpolated in the logarithms of shots and rate."""
        if not RATES[0] <= false_accept_rate <= RATES[-1]:
            raise UserError(
                f"false_accept_rate={false_accept_rate}: thresholds are known from {RATES[0]} to {RATES[-1]}"
            )
        of_rate = [np.interp(np.log(false_accept_rate), np.log(RATES), row) for row in self.thresholds]
        return float(np.interp(np.log(n_shot), np.log(self.shots), of_rate))

    def to_json(self) -> dict:
        """Plain lists and numbers, for metadata."""
        return {**asdict(self), "space": self.space.to_json()}

    @classmethod
    def from_json(cls, content: Mapping) -> "Calibration":
        """What `to_json` gave."""
        try:
            tuples = {name: tuple(content[name]) for name in ("temperature_terms", "shots", "measured")}
            thresholds = tuple(map(tuple, content["thresholds"]))
            space = PLDA.from_json(content["space"])
            return cls(space=space, thresholds=thresholds, n_classes=int(content["n_classes"]), **tuples)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"calibration: not readable ({error!r}); take the encoder's own metadata") from error


@dataclass(frozen=True)
class ClassModel:
    """Classes as Gaussians in projected space: centre, uncertainty of the centre, scatter within.

    means, variances : `(..., n_way, n_axes)` of the class centres; within : `(..., 1, 1)` or a number, as a multiple
    of the calibration's; between : `(n_axes,)`
    """

    means: torch.Tensor
    variances: torch.Tensor
    within: torch.Tensor | float
    between: torch.Tensor

    def log_likelihoods(self, projected: torch.Tensor) -> torch.Tensor:
        """log p(x | class) of projected `(..., m, n_axes)`: `(..., m, n_way)`."""
        return gaussian_log_likelihoods(projected, self.means, self.variances + self.within)

    def new_class(self, projected: torch.Tensor) -> torch.Tensor:
        """log p(x | a class never seen): `(..., m)`."""
        spread = (self.between + self.within).expand(*self.means.shape[:-2], 1, len(self.between))
        return gaussian_log_likelihoods(projected, torch.zeros_like(spread), spread)[..., 0]

    def scores(self, projected: torch.Tensor, of_class: torch.Tensor) -> torch.Tensor:
        """log of mean_c p(x | c) / p(x | new), `(..., m)`: how much likelier a known class is than a new one.

        A particle of a new class has this ratio 1 on average whatever the number of ways, if the model holds; what
        is not exact about the model, the measured thresholds make up for.
        """
        return torch.logsumexp(of_class, dim=-1) - np.log(of_class.shape[-1]) - self.new_class(projected)


def class_model(space: PLDA, support: torch.Tensor, members: torch.Tensor) -> ClassModel:
    """Model of classes from projected support `(..., n, n_axes)` and its one-hot labels `(n, n_way)`.

    The scatter within is the calibration's, corrected by the support's own where classes have more than one particle:
    noisier data scatter more than those that the calibration was fitted on.
    """
    between = torch.from_numpy(space.between).to(support.device)
    counts = members.sum(0)
    sums = members.mT @ support
    residuals = support - members @ (sums / counts.unsqueeze(-1))
    freedom = (len(members) - members.shape[1]) + PRIOR_WEIGHT
    scatter = residuals.square().mean(-1).sum(-1)[..., None, None]
    within = (scatter + PRIOR_WEIGHT) / freedom
    means, variances = class_posteriors(sums, counts.expand(sums.shape[:-1]), between, within)
    return ClassModel(means, variances, within, between)


def fit_calibration(
    embeddings: torch.Tensor,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    families: np.ndarray | None = None,
    background: tuple[torch.Tensor, np.ndarray] | None = None,
    shots: Sequence[int] = (1, 2, 3, 5, 10, 20),
    n_episodes: int = 100,
    n_query: int = 15,
    n_axes: int = 16,
    confidence: float = 0.9,
    seed: int = 0,
) -> Calibration:
    """Measure geometry, temperature and thresholds on classes that the encoder never saw.

    Each held-out class is the outsider in turn; the geometry used against it is fitted without its family.

    Parameters
    ----------
    embeddings : `(n, dim)`; labels : `(n,)`, at least four classes, the more the better
    groups : `(n,)` such as the SNR; an episode stays within one. Default one group
    families : `(n,)` such as 'ribosome'; classes of one family are never set against each other, as a close relative of
        a labelled class is no class of its own. Default each class its own
    background : embeddings `(k, dim)` and labels of the classes the encoder was trained on; they help to know how
        classes scatter, and are never asked for
    shots : labelled particles per class; each class needs n_shot + n_query per group
    n_episodes : per outsider class and number of shots, over all groups
    confidence : that outsider classes drawn as these were meet the promise on average; a Student interval over classes
    """
    embeddings = torch.as_tensor(embeddings, dtype=torch.float32)
    labels = np.asarray(labels)
    groups = np.zeros(len(labels), int) if groups is None else np.asarray(groups)
    families = labels if families is None else np.asarray(families)
    classes, n_groups = np.unique(labels), len(np.unique(groups))
    if len(classes) < 4:
        raise UserError(f"{len(classes)} held-out classes: calibration needs at least 4, hold back more")
    members = {(g, c): np.flatnonzero((groups == g) & (labels == c)) for g in np.unique(groups) for c in classes}
    fewest = min(map(len, members.values()))
    if fewest < max(shots) + n_query:
        raise UserError(f"{fewest} particles in a held-out class: n_shot + n_query = {max(shots) + n_query} are needed")

    family_of = dict(zip(labels.tolist(), families.tolist(), strict=True))
    fewest_others = min(sum(family_of[c] != family_of[o] for c in classes.tolist()) for o in classes.tolist())
    if fewest_others < 3:
        raise UserError(f"{fewest_others} held-out classes of other families than some class: hold back more families")

    def space_of(kept: np.ndarray) -> PLDA:
        x, y = embeddings[torch.from_numpy(kept)], np.unique(labels[kept], return_inverse=True)[1]
        if background is not None:
            seen = np.unique(background[1], return_inverse=True)[1]
            x, y = torch.cat([x, background[0].float()]), np.r_[y, y.max() + 1 + seen]
        return fit_plda(x, y, n_axes=n_axes)

    rng = np.random.default_rng(seed)
    ways = sorted({min(3, fewest_others), min(fewest_others, 8)})
    logits: dict[tuple[int, int], list] = {}
    inside: dict[int, list] = {n_shot: [] for n_shot in shots}
    outside: dict[int, dict] = {n_shot: {} for n_shot in shots}
    for outsider in classes:
        space = space_of(families != family_of[outsider])
        projected = space.project(embeddings)
        for n_shot in shots:
            for group, n_way in product(np.unique(groups), ways):
                of_group = {
                    label: indices
                    for (g, label), indices in members.items()
                    if g == group and (label == outsider or family_of[label] != family_of[outsider])
                }
                drawn = _draw(of_group, outsider, n_way, n_shot, n_query, -(-n_episodes // (n_groups * len(ways))), rng)
                known, score, score_outside = _episode_scores(space, projected, drawn)
                logits.setdefault((n_shot, n_way), []).append(known)
                inside[n_shot].append(score)
                outside[n_shot].setdefault((group, outsider), []).append(score_outside)

    cells = {}
    for (n_shot, n_way), parts in logits.items():
        known = np.concatenate(parts)
        of_episode = np.repeat(np.arange(n_way), n_query)
        cells[n_shot, n_way] = known, np.tile(of_episode, len(known) // len(of_episode))
    terms = _temperature_terms(cells)
    members_by_shot = {n_shot: np.concatenate(parts) for n_shot, parts in inside.items()}
    strangers = {
        n_shot: [
            [np.concatenate(parts) for (g, _), parts in outside[n_shot].items() if g == group]
            for group in np.unique(groups)
        ]
        for n_shot in shots
    }
    # The promise holds in every group, not on average over them.
    thresholds = tuple(
        tuple(max(threshold_for(of_group, rate, confidence) for of_group in strangers[n_shot]) for rate in RATES)
        for n_shot in shots
    )
    measured = [
        {
            "n_shot": int(n_shot),
            **_accuracy_and_error({cell: part for cell, part in cells.items() if cell[0] == n_shot}, terms),
            "auroc": area_under_roc(members_by_shot[n_shot], np.concatenate([*chain(*strangers[n_shot])])),
            "kept": float((members_by_shot[n_shot] >= row[RATES.index(0.05)]).mean()),
        }
        for n_shot, row in zip(shots, thresholds, strict=True)
    ]
    return Calibration(
        space=space_of(np.full(len(labels), True)),
        temperature_terms=terms,
        shots=tuple(map(int, shots)),
        thresholds=thresholds,
        measured=tuple(measured),
        n_classes=len(classes),
    )


def _draw(members, outsider, n_way, n_shot, n_query, n_episodes, rng) -> tuple[np.ndarray, ...]:
    """Indices of support `(e, n_way, n_shot)`, queries `(e, n_way, n_query)` and outsiders `(e, n_query)`."""
    others = [label for label in members if label != outsider]
    support, query, strangers = [], [], []
    for _ in range(n_episodes):
        chosen = [others[i] for i in rng.choice(len(others), n_way, replace=False)]
        drawn = np.stack([rng.choice(members[label], n_shot + n_query, replace=False) for label in chosen])
        support.append(drawn[:, :n_shot])
        query.append(drawn[:, n_shot:])
        strangers.append(rng.choice(members[outsider], n_query, replace=False))
    return np.array(support), np.array(query), np.array(strangers)


def _episode_scores(space, projected, drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-likelihoods `(e m, n_way)` and scores `(e m,)` of members, and scores of outsiders."""
    support, query, strangers = (projected[torch.from_numpy(part)] for part in drawn)
    n_way, n_shot = support.shape[1:3]
    model = class_model(space, support.flatten(1, 2), torch.eye(n_way).repeat_interleave(n_shot, 0))
    query = query.flatten(1, 2)
    of_members, of_strangers = model.log_likelihoods(query), model.log_likelihoods(strangers)
    return (
        of_members.flatten(0, 1).numpy(),
        model.scores(query, of_members).flatten().numpy(),
        model.scores(strangers, of_strangers).flatten().numpy(),
    )


def _temperature_terms(cells: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """Least squares through the best log temperature of each (n_shot, n_way)."""

    def best(logits: np.ndarray, true: np.ndarray) -> float:
        def cost(log_temperature: float) -> float:
            scaled = logits / np.exp(log_temperature)
            return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(true)), true]).mean())

        return minimize_scalar(cost, bounds=(-3, 4), method="bounded").x

    design = np.array([[1, np.log(n_shot), np.log(n_way)] for n_shot, n_way in cells])
    target = np.array([best(*cell) for cell in cells.values()])
    return tuple(map(float, np.linalg.lstsq(design, target, rcond=None)[0]))


def _accuracy_and_error(cells: Mapping[tuple[int, int], tuple[np.ndarray, np.ndarray]], terms) -> dict[str, float]:
    """Accuracy and expected calibration error over cells of one number of shots."""
    probability, correct = [], []
    for (n_shot, n_way), (logits, true) in cells.items():
        temperature = np.exp(np.dot(terms, [1, np.log(n_shot), np.log(n_way)]))
        p = np.exp(log_softmax(logits / temperature, axis=1))
        probability.append(p.max(1))
        correct.append(p.argmax(1) == true)
    probability, correct = np.concatenate(probability), np.concatenate(correct)
    return {"accuracy": float(correct.mean()), "ece": expected_calibration_error(probability, correct)}


def threshold_for(scores_by_class: Sequence[np.ndarray], rate: float, confidence: float) -> float:
    """Least threshold at which outsiders are accepted at most at `rate`, on average over classes like these.

    The bound is mean + t sd / sqrt(n) of the rates of the n classes (Student, one-sided).
    """
    candidates = np.quantile(np.concatenate(scores_by_class), 1 - np.geomspace(2 * rate, 1e-4, 200))
    accepted = np.stack([(scores[:, None] >= candidates).mean(0) for scores in scores_by_class])
    n_classes = len(accepted)
    margin = student.ppf(confidence, n_classes - 1) * accepted.std(0, ddof=1) / n_classes**0.5
    fits = np.flatnonzero(accepted.mean(0) + margin <= rate)
    return float(candidates[fits[0]] if len(fits) else np.max(np.concatenate(scores_by_class)))
