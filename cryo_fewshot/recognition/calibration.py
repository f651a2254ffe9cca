"""What an encoder's makers measure once, on classes it never saw, so that users get honest numbers from few labels.

A `Calibration` holds the geometry of classes in general (`PLDA`), how noisy particles look to the encoder, and
`Promises`: a temperature that makes probabilities true, and thresholds that hold a promised false-positive rate on
unknown classes. Both depend on what is known of a user's run, its `Conditions`. All are numbers that fit into the
encoder's metadata; `calibration_fit` measures them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from ..errors import UserError
from .plda import PLDA, class_posteriors, gaussian_log_likelihoods

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""False-positive rates that thresholds are measured at; between them they are interpolated."""
PROMISED = (0.01, 0.2)
"""Rates that can be promised; the others tell how likely it is that a particle is of an unknown class."""
CROWDED = 0.5
"""Crowding from which particles are judged as particles in cells."""
PRIOR_WEIGHT = 10.0
"""Weight, in particles, of the prior that the user's classes scatter as those of the calibration do."""


def most_of(expected: np.ndarray | float) -> np.ndarray | float:
    """A count that one with this expectation (Poisson) exceeds in fewer than 5 of 100 cases."""
    return expected + 1.645 * np.sqrt(expected) + 1


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What is known of a run before any particle is judged.

    n_shot : labelled particles per class; n_way : classes; log_snr : log of the SNR of simulated particles that look as
    noisy to the encoder; crowding : 0 for particles that look alone in their boxes, 1 for those that look as in cells.
    Numbers, or arrays of one shape.
    """

    n_shot: float
    n_way: int
    log_snr: float | np.ndarray
    crowding: float | np.ndarray = 0.0

    def terms(self, limits: Mapping[str, tuple[float, float]]) -> np.ndarray:
        """What thresholds and temperatures are linear in, `(..., 9)`; beyond what was measured the nearest counts."""
        shot, way, snr, crowd = (
            np.clip(getattr(self, name), *limits.get(name, (0.0, 0.0)))
            for name in ("n_shot", "n_way", "log_snr", "crowding")
        )
        shot, way, snr, crowd = np.broadcast_arrays(shot, np.log(way), snr, crowd)
        alone = [np.ones_like(snr), np.log(shot), 1 / shot, way, snr, np.log(shot) * snr]
        return np.stack([*alone, crowd, crowd * np.log(shot), crowd * snr], axis=-1)

    def linear(self, factors: Sequence, limits: Mapping[str, tuple[float, float]]) -> np.ndarray:
        """Terms times their factors `(9,)` or `(n, 9)`; with 6, crowding does not count: `(...)` or `(..., n)`."""
        factors = np.asarray(factors)
        return self.terms(limits)[..., : factors.shape[-1]] @ factors.T


@dataclass(frozen=True, kw_only=True)
class Promises:
    """What holds on unknown classes under given `Conditions`, as factors of `Conditions.terms`.

    temperature : `(9,)` of the log temperature; thresholds : `(len(RATES), 9)` of the least score that is accepted
    adapted_temperature : the same as temperature, where unlabelled particles took part
    limits : lowest and highest n_shot, n_way, log_snr and crowding that were measured
    excess : how many times more often than promised eight unknown classes are accepted, at worst in 95 of 100 draws
    doubt : the same of wrong answers among known classes against what the probabilities say
    measured : by SNR, shots and whether in cells (`crowded`): accuracy, ece (calibration error), both also adapted,
        auroc of known against unknown, and at a promised 5 %: false_accepts, and kept, the recall
    by_class : false accepts at a promised 5 % of each class when unknown
    by_encoder : the mean over classes of one encoder, for each that was pooled: alike if their scores mean the same
    choices : mean false accepts at a promised 5 % on half of the families, thresholds measured on the other half;
        one for each random choice of halves
    """

    temperature: tuple[float, ...]
    adapted_temperature: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    limits: dict[str, tuple[float, float]]
    excess: float
    doubt: float
    measured: tuple[dict, ...]
    by_class: dict[str, float]
    choices: tuple[float, ...]
    by_encoder: tuple[float, ...] = ()

    def temperature_of(self, conditions: Conditions, adapted: bool = False) -> np.ndarray:
        """Divisor of log-likelihoods, and of the log frequencies that unlabelled particles tell: these err as well."""
        return np.exp(conditions.linear(self.adapted_temperature if adapted else self.temperature, self.limits))

    def thresholds_of(self, conditions: Conditions) -> np.ndarray:
        """Least scores to accept at each of RATES, `(..., len(RATES))`; a higher rate never asks for more."""
        return np.minimum.accumulate(conditions.linear(self.thresholds, self.limits), axis=-1)

    def threshold(self, conditions: Conditions, rate: float) -> float:
        """Least score to accept at a promised false-positive rate, interpolated in its logarithm."""
        if not PROMISED[0] <= rate <= PROMISED[1]:
            raise UserError(
                f"false_accept_rate={rate} (--false-accept-rate): thresholds are known for rates from "
                f"{PROMISED[0]} to {PROMISED[1]}; choose one of these"
            )
        return float(np.interp(np.log(rate), np.log(RATES), self.thresholds_of(conditions)))

    def p_values(self, scores: np.ndarray, conditions: Conditions) -> np.ndarray:
        """Conformal p-values `(n,)`: the promised rate at which a score is just accepted.

        At most a share p of particles of unknown classes has a p-value of p or less. Bates et al. 2021, with thresholds
        smoothed over conditions. None is below the lowest of RATES.
        """
        thresholds = self.thresholds_of(conditions)
        below = np.r_[thresholds[::-1][:1] - 2 * max(1.0, np.ptp(thresholds)), thresholds[::-1]]
        return np.exp(np.interp(scores, below, np.log(np.r_[1.0, RATES[::-1]])))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Plain numbers, from `calibration_fit.fit_calibration`.

    space : geometry of classes, of particles alone in their boxes
    noise : `(dim + 1,)`, log SNR of a particle from its embedding and 1
    n_classes : held-out classes that all this was measured on
    crowd : `(dim + 1,)`, likewise 0 for a particle alone in its box and 1 for one as in cells; None if not measured
    crowded_space : geometry of classes of particles as in cells, where measured
    reliability : of `promises_fit.reliability_rows`, to look at; stands on the card for itself
    """

    space: PLDA
    noise: np.ndarray
    promises: Promises
    n_classes: int
    crowd: np.ndarray | None = None
    crowded_space: PLDA | None = None
    reliability: tuple[dict, ...] = ()

    def suited(self, embeddings: torch.Tensor) -> "Calibration":
        """With the geometry of a run's particles `(m, dim)`: as in cells where they look more so than not."""
        if self.crowded_space is None:
            return self
        finite = embeddings[torch.isfinite(embeddings).all(dim=1)]
        return replace(self, space=self.crowded_space) if self.crowding(finite) >= CROWDED else self

    def log_snr(self, embeddings: torch.Tensor) -> torch.Tensor:
        """How noisy particles `(..., m, dim)` look to the encoder, on average: `(...)`, as the log of an SNR.

        Classes differ by a factor of 1.1; it takes particles of a few. Columns behind the embedding do not count.
        """
        return _mean_of(embeddings, self.noise)

    def crowding(self, embeddings: torch.Tensor) -> torch.Tensor:
        """How much particles `(..., m, dim)` look as in cells, on average: `(...)`, 0 where all are alone."""
        if self.crowd is None:
            return torch.zeros(embeddings.shape[:-2])
        return _mean_of(embeddings, self.crowd)

    def to_json(self) -> dict:
        """Plain lists and numbers, for metadata; all that an answer depends on."""
        plain = asdict(self)
        del plain["reliability"]
        return json.loads(json.dumps(plain, default=np.ndarray.tolist))

    def on_card(self) -> dict:
        return {"calibration": self.to_json(), "reliability": list(self.reliability)}

    @classmethod
    def from_json(cls, content: Mapping | None) -> "Calibration":
        """What `to_json` gave, as a card holds it; UserError where it is something else, or a card has none."""
        if not content:
            raise UserError(
                "the encoder's card has no calibration: give one that `cryo-fewshot pretrain` or `train` wrote"
            )
        try:
            promises = {name: tuples_of(value) for name, value in content["promises"].items() if name != "recall"}
            given = {name: value for name, value in content.items() if value is not None}
            looks = {name: np.asarray(given[name], dtype=np.float32) for name in ("noise", "crowd") if name in given}
            # A geometry that does not say so is of an earlier release, which calibrated on length 1 alone.
            spaces = {
                name: PLDA(**{"unit_columns": len(given[name]["mean"])} | given[name])
                for name in ("space", "crowded_space")
                if name in given
            }
            return cls(promises=Promises(**promises), n_classes=int(content["n_classes"]), **looks, **spaces)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"calibration: not readable ({error!r}); a file of an earlier release needs "
                "`cryo-fewshot calibrate`, else take one as `pretrain` or `train` wrote it"
            ) from error


def tuples_of(value: object) -> object:
    """Plain data with tuples in the place of lists, however deep."""
    if isinstance(value, dict):
        return {name: tuples_of(part) for name, part in value.items()}
    return tuple(map(tuples_of, value)) if isinstance(value, list) else value


def _mean_of(embeddings: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
    weights = torch.as_tensor(weights, dtype=torch.float32)
    return (embeddings[..., : len(weights) - 1] @ weights[:-1]).mean(-1) + weights[-1]


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
        """How much likelier a known class is than an unknown one, `(..., m)`.

        log of mean_c p(x | c) / p(x | unknown), less the same of a particle at the centre of a class that lies at the
        mean of all. So standardised, scores of encoders that part classes well and less well have like thresholds, and
        so have those of few and of many shots.
        """
        ratio = torch.logsumexp(of_class, dim=-1) - np.log(of_class.shape[-1]) - self.unknown_class(projected)
        at_centre = 0.5 * ((self.between + self.within) / (self.variances + self.within)).log().sum(-1).mean(-1)
        return ratio - at_centre.unsqueeze(-1)


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


def adapt(
    model: ClassModel,
    sums: torch.Tensor,
    counts: torch.Tensor,
    projected: torch.Tensor,
    temperature: torch.Tensor | float,
    *,
    n_steps: int = 10,
    weight: float = 2.0,
) -> tuple[ClassModel, torch.Tensor]:
    """Let unlabelled particles take part: the model and the log frequencies of its classes, `(..., n_way)`.

    Expectation-maximisation, with one more class for all unknown ones, so that their particles
    do not pull on the known classes.

    Parameters
    ----------
    sums : `(..., n_way, n_axes)` of projected support; counts : `(n_way,)`
    projected : `(..., m, n_axes)` of unlabelled particles
    temperature : number or `(..., 1, 1)`
    weight : the unlabelled particles of a class count at most so many times as much as its labelled ones
    """
    n_way = len(counts)
    unknown = model.unknown_class(projected).unsqueeze(-1)
    frequencies = torch.full((*sums.shape[:-2], n_way + 1), 1 / (n_way + 1))
    for _ in range(n_steps):
        both = torch.cat([model.log_likelihoods(projected), unknown], dim=-1) / temperature
        shares = torch.softmax(both + frequencies.log().unsqueeze(-2), dim=-1)
        found = shares.sum(-2)
        frequencies = (found + 1) / (found + 1).sum(-1, keepdim=True)
        trust = (weight * counts / found[..., :n_way].clamp(min=1e-6)).clamp(max=1)
        shares = shares[..., :n_way] * trust.unsqueeze(-2)
        means, variances = class_posteriors(
            sums + shares.mT @ projected, counts + shares.sum(-2), model.between, model.within
        )
        model = replace(model, means=means, variances=variances)
    known = frequencies[..., :n_way]
    return model, (known / known.sum(-1, keepdim=True)).log()
