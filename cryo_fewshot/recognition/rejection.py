"""Which particles to accept: p-values, error probabilities and q-values as proteomics has them, and a bound.

A particle is wrong if it is of an unknown class, or of another known class than said. How many unknown ones there are
among the user's particles, the particles' own p-values tell (Storey 2002); how likely another known class is, the
probability tells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from .calibration import Promises, most_of

HALF = 0.5
"""P-values above it are taken for those of unknown classes, which have as many below it."""


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
        expected = promises.excess * unknown.sum(), promises.doubt * (wrong - unknown).sum()
        return min(int(accepted.sum()), int(sum(map(most_of, expected))))


def estimate_errors(p_value: np.ndarray, probability: np.ndarray, label: np.ndarray) -> Errors:
    """Class by class, from p-values, probabilities and classes `(n,)`; a negative label has no answer."""
    unknown, wrong, q_value = (np.full(len(label), np.nan) for _ in range(3))
    for name in np.unique(label[label >= 0]):
        members = np.flatnonzero(label == name)
        unknown[members] = unknown_probability(p_value[members])
        wrong[members] = 1 - (1 - unknown[members]) * probability[members]
        order = members[np.argsort(wrong[members], kind="stable")]
        means = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
        # Equally likely wrong ones come in together.
        last = np.searchsorted(wrong[order], wrong[order], side="right") - 1
        q_value[order] = means[last]
    return Errors(unknown, wrong, q_value)


def unknown_probability(p_value: np.ndarray) -> np.ndarray:
    """Probability `(n,)` that a particle with this p-value among these is of an unknown class (local FDR).

    P-values of unknown classes are uniform or larger. The density of all p-values is the steepest falling one
    (Grenander), by isotonic regression.
    """
    n_unknown = min(len(p_value), ((p_value > HALF).sum() + 1) / (1 - HALF))
    order = np.argsort(p_value, kind="stable")
    steps = np.diff(p_value[order], prepend=0.0)
    found = np.empty(len(p_value))
    found[order] = isotonic_regression(n_unknown * steps).x
    # Ties come in together, so that the order of particles changes nothing.
    _, inverse, counts = np.unique(p_value, return_inverse=True, return_counts=True)
    return np.minimum(1, np.bincount(inverse, found) / counts)[inverse]
