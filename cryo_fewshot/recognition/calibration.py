"""What an encoder's makers measure once, on classes it never saw, so that users get honest numbers from few labels.

Held-out classes play the user's support, queries and unknown classes in turn. The result is the geometry of classes in
general (`PLDA`), a temperature that makes probabilities true, and thresholds that hold a promised false-positive rate
on unknown classes; all are numbers that fit into the encoder's metadata.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import t as student

from ..errors import UserError
from ..evaluation import area_under_roc, expected_calibration_error
from .plda import PLDA, class_posteriors, fit_plda, gaussian_log_likelihoods

RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""False-positive rates that thresholds are measured at; between them they are interpolated."""
PRIOR_WEIGHT = 10.0
"""Weight, in particles, of the prior that the user's classes scatter as those of the calibration do."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Plain numbers, from `fit_calibration`.

    Parameters
    ----------
    space : geometry of classes
    temperature_terms : log temperature = sum of terms * (1, log n_shot, log n_way)
    shots : `(n,)` numbers of labelled particles per class that thresholds were measured at
    thresholds : `(n, len(RATES))` least score that is accepted, by shots and promised rate
    measured : per number of shots: accuracy, ece, auroc of known against unknown, and kept, the recall at 5 % FPR
    n_classes : held-out classes that all this was measured on
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
        """Least score to accept at a false-positive rate, interpolated in the logarithms of shots and rate."""
        if not RATES[0] <= false_accept_rate <= RATES[-1]:
            raise UserError(
                f"false_accept_rate={false_accept_rate} (--false-accept): thresholds are known for rates from "
                f"{RATES[0]} to {RATES[-1]}; choose one of these"
            )
        of_rate = [np.interp(np.log(false_accept_rate), np.log(RATES), row) for row in self.thresholds]
        return float(np.interp(np.log(n_shot), np.log(self.shots), of_rate))

    def to_json(self) -> dict:
        """Plain lists and numbers, for metadata."""
        plain = asdict(self)
        return {**plain, "space": {name: values.tolist() for name, values in plain["space"].items()}}

    @classmethod
    def from_json(cls, content: Mapping) -> "Calibration":
        """What `to_json` gave."""
        try:
            tuples = {name: tuple(content[name]) for name in ("temperature_terms", "shots", "measured")}
            thresholds = tuple(map(tuple, content["thresholds"]))
            space = PLDA(**content["space"])
            return cls(space=space, thresholds=thresholds, n_classes=int(content["n_classes"]), **tuples)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"calibration: not readable ({error!r}); take an encoder file as `pretrain` or `train` wrote it"
            ) from error


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

    def unknown_class(self, projected: torch.Tensor) -> torch.Tensor:
        """log p(x | unknown class), a class drawn as all others are: `(..., m)`."""
        spread = (self.between + self.within).expand(*self.means.shape[:-2], 1, len(self.between))
        return gaussian_log_likelihoods(projected, torch.zeros_like(spread), spread)[..., 0]

    def scores(self, projected: torch.Tensor, of_class: torch.Tensor) -> torch.Tensor:
        """log of mean_c p(x | c) / p(x | unknown), `(..., m)`: how much likelier a known class is than an unknown one.

        If the model holds, this ratio is 1 on average for particles of an unknown class, whatever the number of ways.
        Where the model is not exact, the measured thresholds make up for it.
        """
        return torch.logsumexp(of_class, dim=-1) - np.log(of_class.shape[-1]) - self.unknown_class(projected)


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

    Each held-out class is the unknown one in turn; the geometry used against it is fitted without its family.

    Parameters
    ----------
    embeddings : `(n, dim)`; labels : `(n,)`, at least four classes, the more the better
    groups : `(n,)` such as the SNR; an episode stays within one. Default one group
    families : `(n,)` such as 'ribosome'; a class is never the unknown one among classes of its own family, as a close
        relative of a labelled class is no class of its own. Default each class its own
    background : embeddings `(k, dim)` and labels of the classes the encoder was trained on; they help to know how
        classes scatter, and are never asked for
    shots : labelled particles per class; each class needs n_shot + n_query per group
    n_episodes : per unknown class and number of shots, over all groups
    confidence : that unknown classes drawn as these were meet the promise on average; a Student interval over classes
    """
    embeddings, labels = torch.as_tensor(embeddings, dtype=torch.float32), np.asarray(labels)
    groups = np.zeros(len(labels), int) if groups is None else np.asarray(groups)
    families = labels if families is None else np.asarray(families)
    family_of = dict(zip(labels.tolist(), families.tolist(), strict=True))
    classes, group_names = sorted(family_of), np.unique(groups)
    others = {unknown: [c for c in classes if family_of[c] != family_of[unknown]] for unknown in classes}
    members = {(g, c): np.flatnonzero((groups == g) & (labels == c)) for g in group_names for c in classes}
    fewest_others = min(map(len, others.values()))
    _check_enough(len(classes), min(map(len, members.values())), max(shots) + n_query, fewest_others)

    def space_of(chosen: np.ndarray) -> PLDA:
        x, y = embeddings[torch.from_numpy(chosen)], np.unique(labels[chosen], return_inverse=True)[1]
        if background is not None:
            seen = np.unique(background[1], return_inverse=True)[1]
            x, y = torch.cat([x, background[0].float()]), np.r_[y, y.max() + 1 + seen]
        return fit_plda(x, y, n_axes=n_axes)

    ways = sorted({min(3, fewest_others), min(fewest_others, 8)})
    n_drawn = -(-n_episodes // (len(group_names) * len(ways)))
    rng = np.random.default_rng(seed)
    rows = []
    for unknown in classes:
        space = space_of(families != family_of[unknown])
        projected = space.project(embeddings)
        for n_shot, group, n_way in product(shots, group_names, ways):
            pools = [members[group, c] for c in others[unknown]]
            drawn = _draw(pools, members[group, unknown], n_way, n_shot, n_query, n_drawn, rng)
            rows.append((n_shot, n_way, group, unknown, *_log_likelihoods_and_scores(space, projected, drawn)))

    columns = ["n_shot", "n_way", "group", "unknown", "log_likelihoods", "scores", "unknown_scores"]
    episodes = pd.DataFrame(rows, columns=columns)
    cells = _cells(episodes, n_query)
    terms = _temperature_terms(cells)
    thresholds, measured = [], []
    for n_shot in shots:
        of_shot = episodes[episodes["n_shot"] == n_shot]
        by_group = [[*_joined(part, "unknown", "unknown_scores").values()] for _, part in of_shot.groupby("group")]
        # The promise holds in every group, not on average over them.
        row = tuple(max(threshold_for(scores, rate, confidence) for scores in by_group) for rate in RATES)
        known = np.concatenate(of_shot["scores"].tolist())
        measured.append(
            {
                "n_shot": int(n_shot),
                **_accuracy_and_error({cell: part for cell, part in cells.items() if cell[0] == n_shot}, terms),
                "auroc": area_under_roc(known, np.concatenate([*chain(*by_group)])),
                "kept": float((known >= row[RATES.index(0.05)]).mean()),
            }
        )
        thresholds.append(row)
    return Calibration(
        space=space_of(np.full(len(labels), True)),
        temperature_terms=terms,
        shots=tuple(map(int, shots)),
        thresholds=tuple(thresholds),
        measured=tuple(measured),
        n_classes=len(classes),
    )


def _check_enough(n_classes: int, n_particles: int, n_needed: int, n_others: int) -> None:
    if n_classes < 4:
        raise UserError(f"{n_classes} held-out classes: calibration needs at least 4, hold back more")
    if n_particles < n_needed:
        raise UserError(f"{n_particles} particles in a held-out class: n_shot + n_query = {n_needed} are needed")
    if n_others < 3:
        raise UserError(f"{n_others} held-out classes of other families than some class: hold back more families")


def _draw(pools, of_unknown, n_way, n_shot, n_query, n_episodes, rng) -> tuple[np.ndarray, ...]:
    """Indices of support `(e, n_way, n_shot)`, queries `(e, n_way, n_query)` and unknown particles `(e, n_query)`."""
    known, unknown = [], []
    for _ in range(n_episodes):
        chosen = rng.choice(len(pools), n_way, replace=False)
        known.append([rng.choice(pools[i], n_shot + n_query, replace=False) for i in chosen])
        unknown.append(rng.choice(of_unknown, n_query, replace=False))
    known = np.array(known)
    return known[..., :n_shot], known[..., n_shot:], np.array(unknown)


def _log_likelihoods_and_scores(space, projected, drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-likelihoods `(e m, n_way)` and scores `(e m,)` of the queries; scores of particles of the unknown class."""
    support, query, unknown = (projected[torch.from_numpy(part)] for part in drawn)
    n_way, n_shot = support.shape[1:3]
    model = class_model(space, support.flatten(1, 2), torch.eye(n_way).repeat_interleave(n_shot, 0))
    query = query.flatten(1, 2)
    of_query, of_unknown = model.log_likelihoods(query), model.log_likelihoods(unknown)
    return (
        of_query.flatten(0, 1).numpy(),
        model.scores(query, of_query).flatten().numpy(),
        model.scores(unknown, of_unknown).flatten().numpy(),
    )


def _joined(episodes: pd.DataFrame, by: str | list[str], column: str) -> dict[object, np.ndarray]:
    """The arrays of a column in one, for each value of `by`, these in the order in which they appear."""
    return {key: np.concatenate(arrays.tolist()) for key, arrays in episodes.groupby(by, sort=False)[column]}


def _cells(episodes: pd.DataFrame, n_query: int) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Log-likelihoods of queries and their true classes, by number of shots and of classes."""
    joined = _joined(episodes, ["n_shot", "n_way"], "log_likelihoods")
    return {cell: (logits, np.arange(len(logits)) // n_query % cell[1]) for cell, logits in joined.items()}


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
    """Least threshold with a false-positive rate of at most `rate`, on average over unknown classes like these.

    The bound is mean + t sd / sqrt(n) of the rates of the n classes (Student, one-sided).
    """
    candidates = np.quantile(np.concatenate(scores_by_class), 1 - np.geomspace(2 * rate, 1e-4, 200))
    accepted = np.stack([(scores[:, None] >= candidates).mean(0) for scores in scores_by_class])
    n_classes = len(accepted)
    margin = student.ppf(confidence, n_classes - 1) * accepted.std(0, ddof=1) / n_classes**0.5
    fits = np.flatnonzero(accepted.mean(0) + margin <= rate)
    return float(candidates[fits[0]] if len(fits) else np.max(np.concatenate(scores_by_class)))
