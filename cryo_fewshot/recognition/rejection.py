"""Which particles to accept: error probabilities and q-values as proteomics has them, and a bound.

A particle is wrong if it is of an unknown class, or of another known class than said. The first is a mixture of two
(Efron 2008): p-values of unknown classes are uniform, those of known ones fall as they did when the encoder was
calibrated, and how many there are of each the user's own particles tell. The second is told by the probability.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from .calibration import RATES, Promises, most_of

PRIOR = 10.0
"""Weight, in particles, of the share of unknown ones among all in that of one class."""
Q_VALUES = np.geomspace(0.002, 0.5, 60).round(4)
"""Thresholds that the report lets a user try."""


@dataclass(frozen=True)
class Errors:
    """What may be wrong with the answers, `(n,)` each, NaN where there is no answer.

    unknown : probability that the particle is of an unknown class
    wrong : probability that the answer is wrong, by an unknown class or by another known one
    q_value : expected share of wrong ones among the particles of this class that are no more likely wrong
    """

    unknown: np.ndarray
    wrong: np.ndarray
    q_value: np.ndarray

    def at_most(self, accepted: np.ndarray, promises: Promises) -> int:
        """Most wrong ones among the accepted, 90 % sure, however these were chosen by their p- and q-values.

        5 % of doubt for unknown classes, three or more of them, and 5 % for confusion of known ones.
        """
        unknown, wrong = self.unknown[accepted], self.wrong[accepted]
        confused = np.maximum(wrong - unknown, 0)  # but for rounding
        expected = promises.excess * unknown.sum(), promises.doubt * confused.sum()
        return min(int(accepted.sum()), int(sum(map(most_of, expected))))


def operating_points(errors: Errors, accepted: np.ndarray, wanted: np.ndarray, promises: Promises) -> list[dict]:
    """What accepting at each of Q_VALUES would come to, and first what was accepted, without a `q_value`.

    wanted : `(n,)`, False for junk. Each: n, expected `wrong` ones, `at_most`, `precision`, and `recall`, the expected
    share of all right answers.
    """
    right = np.nan_to_num(1 - errors.wrong) * wanted
    choices = [(None, accepted), *((float(q), wanted & (errors.q_value <= q)) for q in Q_VALUES)]
    points = []
    for q_value, chosen in choices:
        n, n_right = int(chosen.sum()), float(right[chosen].sum())
        point = {
            "q_value": q_value,
            "n": n,
            "wrong": round(n - n_right, 1),
            "at_most": errors.at_most(chosen, promises),
        }
        precision, recall = n_right / max(n, 1) if n else 1.0, n_right / max(right.sum(), 1e-9)
        points.append({**point, "precision": round(precision, 4), "recall": round(recall, 4)})
    return points


def estimate_errors(p_value: np.ndarray, probability: np.ndarray, label: np.ndarray, recall: np.ndarray) -> Errors:
    """From p-values, probabilities and classes `(n,)`, where a negative label has no answer.

    recall : share of particles of known classes with a p-value of at most each of RATES, `Promises.recall_of`
    """
    unknown, wrong, q_value = (np.full(len(label), np.nan) for _ in range(3))
    answered = label >= 0
    share = unknown_share(p_value[answered], recall, 0.5, 1.0)
    for name in np.unique(label[answered]):
        members = np.flatnonzero(label == name)
        its_share = unknown_share(p_value[members], recall, share, PRIOR)
        unknown[members] = _unknown(its_share, _known_to_unknown(recall))[_bins(p_value[members])]
        wrong[members] = 1 - (1 - unknown[members]) * probability[members]
        order = members[np.argsort(wrong[members], kind="stable")]
        means = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
        # Equally likely wrong ones come in together.
        q_value[order] = means[np.searchsorted(wrong[order], wrong[order], side="right") - 1]
    return Errors(unknown, wrong, q_value)


def unknown_share(p_value: np.ndarray, recall: np.ndarray, prior: float, weight: float, n_steps: int = 100) -> float:
    """Most likely share of unknown classes among some particles, by expectation-maximisation.

    prior, weight : a share known beforehand, and as how many particles it counts
    """
    counts, ratio = np.bincount(_bins(p_value), minlength=len(RATES) + 1), _known_to_unknown(recall)
    share = prior
    for _ in range(n_steps):
        share = (counts @ _unknown(share, ratio) + weight * prior) / (counts.sum() + weight)
    return float(share)


def _bins(p_value: np.ndarray) -> np.ndarray:
    """Between which of RATES p-values lie."""
    return np.searchsorted(np.array(RATES) * (1 + 1e-9), p_value)


def _known_to_unknown(recall: np.ndarray) -> np.ndarray:
    """How much likelier each bin is for a known class, never more for a higher p-value: `(len(RATES) + 1,)`."""
    of_unknown, of_known = (np.diff(np.r_[0.0, part, 1.0]) for part in (RATES, recall))
    return isotonic_regression(of_known / of_unknown, weights=of_unknown, increasing=False).x


def _unknown(share: float, ratio: np.ndarray) -> np.ndarray:
    """Probability of an unknown class in each bin."""
    return share / (share + (1 - share) * ratio)
