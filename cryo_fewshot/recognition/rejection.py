"""Which particles to accept: error probabilities and q-values as proteomics has them, and a bound.

A particle is wrong if it is of an unknown class, or of another known class than said. The first is a mixture of two
(Efron 2008): p-values of unknown classes are uniform, and those of known ones pile up near 0. How many there are of
each, and how high the pile is, the user's own particles tell (Storey 2002; Strimmer 2008). The second is told by the
probability. Boxes of the user's own background are unknown for certain, and correct the p-values (target and decoy).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from .calibration import RATES, Promises, most_of

PRIOR = 10.0
"""Weight, in particles, of how the p-values of all are spread in that of one class."""
WIDTHS = np.diff([0.0, *RATES, 1.0])
"""Of the bins between RATES that p-values fall into."""
UNKNOWN_ABOVE = 0.1
"""p-values above which all particles count as unknown, those of known classes too.

Chosen among 0.1, 0.2, 0.35 and 0.5 on held-out classes, alone and as in cells, with many and with few known particles:
the one that holds a promised FDR of 10 % best where few are known. Modelling how p-values of known classes are spread,
or taking all classes together, kept fewer right ones at the same realised FDR.
"""
Q_VALUES = np.geomspace(0.002, 0.5, 60).round(4)
"""Thresholds that the report lets a user try."""


@dataclass(frozen=True)
class Errors:
    """What may be wrong with the answers, `(n,)` each, NaN where there is no answer.

    unknown : probability that the particle is of an unknown class, as its class tells or all together, whichever is
        higher: where unknown lookalikes of a class lie in a heap, it takes them for its own
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


def estimate_errors(
    p_value: np.ndarray, probability: np.ndarray, label: np.ndarray, counted: np.ndarray | None = None
) -> Errors:
    """From p-values, probabilities and classes `(n,)`, where a negative label has no answer.

    counted : `(n,)` False for particles that say nothing of the others, such as labelled ones; default all count
    """
    unknown, wrong, q_value = (np.full(len(label), np.nan) for _ in range(3))
    answered = label >= 0
    counted = answered if counted is None else answered & counted
    bins = np.searchsorted(np.array(RATES) * (1 + 1e-9), p_value)
    of_all = _spread(bins[counted], WIDTHS, 1.0)
    for name in np.unique(label[answered]):
        members = np.flatnonzero(label == name)
        of_class = _unknown(_spread(bins[members[counted[members]]], of_all, PRIOR))
        unknown[members] = np.maximum(of_class, _unknown(of_all))[bins[members]]
        wrong[members] = 1 - (1 - of_class[bins[members]]) * probability[members]
        order = members[np.argsort(wrong[members], kind="stable")]
        means = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
        # Equally likely wrong ones come in together.
        q_value[order] = means[np.searchsorted(wrong[order], wrong[order], side="right") - 1]
    return Errors(unknown, wrong, q_value)


def with_decoys(table: pd.DataFrame, decoys: pd.DataFrame) -> np.ndarray:
    """p-values `(n,)`, none below the share of the decoys that are taken for the same class with as high a score.

    Both have columns class, score and p_value; decoys are boxes of no class. An empty class is no answer.
    """
    decoys, corrected = decoys[decoys["class"] != ""], table["p_value"].to_numpy(copy=True)
    for name, its in decoys.groupby("class"):
        members, scores = np.flatnonzero(table["class"] == name), np.sort(its["score"])
        as_high = len(scores) - np.searchsorted(scores, table["score"].to_numpy()[members], side="left")
        corrected[members] = np.maximum(corrected[members], as_high / len(decoys))
    return corrected


def _spread(bins: np.ndarray, prior: np.ndarray, weight: float) -> np.ndarray:
    """Share of the particles in each bin, `(len(RATES) + 1,)`; prior : the same, as of so many more particles."""
    return (np.bincount(bins, minlength=len(WIDTHS)) + weight * prior) / (len(bins) + weight)


def _unknown(spread: np.ndarray) -> np.ndarray:
    """Probability of an unknown class in each bin, never less for a higher p-value.

    High p-values count as those of unknown classes; their mean density is that of unknown classes everywhere. Below,
    the density of all is not higher for a higher p-value.
    """
    high = np.array([*RATES, 1.0]) > UNKNOWN_ABOVE
    share = min(1.0, spread[high].sum() / WIDTHS[high].sum())
    density = isotonic_regression(spread / WIDTHS, weights=WIDTHS, increasing=False).x
    return np.where(high, 1.0, np.minimum(1, share / density))
