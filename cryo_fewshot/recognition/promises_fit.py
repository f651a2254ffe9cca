"""From what many small tasks came to, to temperatures and thresholds that hold: `Promises`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import t as student

from ..evaluation import area_under_roc, expected_calibration_error, reliability
from ..randomness import seed_from
from .calibration import RATES, Conditions, Promises, most_of

PROMISE = 0.05
"""The rate that is looked at most closely."""
CONFIDENCE = 0.9
"""That unknown classes drawn as these were meet a promise on average."""


@dataclass(frozen=True)
class Trials:
    """What e tasks of one kind came to: n_way classes with n_shot labels each, and particles of one unknown class.

    conditions : as estimated, arrays of `(e,)`; snrs, crowded : `(e,)` true; log_likelihoods : `(e, m, n_way)`;
    log_frequencies : of classes, `(e, 1, n_way)`; scores : `(e, m)`; unknown_scores : `(e, n_query)`; true : `(m,)`
    class of each query; encoder : which of several
    """

    unknown: str
    family: str
    conditions: Conditions
    snrs: np.ndarray
    crowded: np.ndarray
    log_likelihoods: np.ndarray
    log_frequencies: np.ndarray
    scores: np.ndarray
    unknown_scores: np.ndarray
    true: np.ndarray
    encoder: int = 0

    @property
    def n_shot(self) -> int:
        """Labels per class."""
        return self.conditions.n_shot

    @property
    def n_way(self) -> int:
        """Classes."""
        return self.conditions.n_way


def fit_promises(trials: Sequence[Trials], n_choices: int = 20, seed: int = 0) -> Promises:
    """Temperature, thresholds, and how well they hold; see `Promises`."""
    limits = {
        "n_shot": _ends([trial.n_shot for trial in trials]),
        "n_way": _ends([trial.n_way for trial in trials]),
        "log_snr": _ends(np.log(np.concatenate([trial.snrs for trial in trials]))),
        "crowding": (0.0, float(any(trial.crowded.any() for trial in trials))),
    }
    temperature = _temperature(trials, limits)
    unknown = _Unknown(trials, limits)
    everywhere = np.full(len(unknown.scores), True)
    thresholds = unknown.thresholds(everywhere)
    accepted = unknown.scores[:, None] >= unknown.terms @ thresholds.T
    by_class = np.stack([accepted[unknown.classes == name].mean(0) for name in np.unique(unknown.classes)])
    at = RATES.index(PROMISE)
    return Promises(
        temperature=temperature,
        adapted_temperature=temperature,
        thresholds=_rows(thresholds),
        limits=limits,
        excess=_excess(by_class, seed),
        doubt=_doubt(trials, temperature, limits),
        measured=tuple(_measured(trials, temperature, thresholds[at], limits)),
        by_class=dict(zip(np.unique(unknown.classes).tolist(), by_class[:, at].round(4).tolist(), strict=True)),
        choices=tuple(unknown.halves(n_choices, seed)),
        by_encoder=tuple(_by_encoder(unknown, accepted[:, at])),
    )


def with_adapted(promises: Promises, trials: Sequence[Trials]) -> Promises:
    """The promises with what trials say in which unlabelled particles took part; acceptance is left as it is."""
    temperature = _temperature(trials, promises.limits)
    cells = {_name(row): row for row in _accuracies(trials, temperature, promises.limits)}
    measured = []
    for row in promises.measured:
        adapted = cells[_name(row)]
        measured.append({**row, "adapted_accuracy": adapted["accuracy"], "adapted_ece": adapted["ece"]})
    doubt = max(promises.doubt, _doubt(trials, temperature, promises.limits))
    return replace(promises, adapted_temperature=temperature, doubt=doubt, measured=tuple(measured))


def reliability_rows(trials: Sequence[Trials], promises: Promises) -> list[dict]:
    """Bins of `evaluation.reliability` by n_shot and whether in cells (`crowded`), all SNRs and numbers of classes.

    Without bins that hold less than one answer in a thousand: these say nothing.
    """
    cells: dict[tuple, list] = {}
    for (n_shot, _, _, crowded), parts in _by_cell(trials).items():
        cells.setdefault((bool(crowded), int(n_shot)), []).extend(parts)
    rows = []
    for (crowded, n_shot), parts in sorted(cells.items()):
        told = zip(*(_answers(*part, promises.temperature, promises.limits) for part in parts), strict=True)
        found = reliability(*(np.concatenate([part.ravel() for part in of_all]) for of_all in told))
        fewest = sum(row["n"] for row in found) / 1000
        rows += [{"crowded": crowded, "n_shot": n_shot, **row} for row in found if row["n"] >= fewest]
    return rows


def _name(row: dict) -> tuple:
    return row["crowded"], row["snr"], row["n_shot"]


def _rows(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in values)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _by_cell(trials: Sequence[Trials]) -> dict[tuple, list[tuple[Trials, np.ndarray]]]:
    """Trials, and which of their tasks, by number of shots, of classes, true SNR, and whether in cells."""
    cells: dict[tuple, list] = {}
    for trial in trials:
        for snr, crowded in sorted(set(zip(trial.snrs.tolist(), trial.crowded.tolist(), strict=True))):
            chosen = (trial.snrs == snr) & (trial.crowded == crowded)
            cells.setdefault((trial.n_shot, trial.n_way, snr, crowded), []).append((trial, chosen))
    return cells


def _answers(trial: Trials, chosen: np.ndarray, temperature: np.ndarray, limits: dict) -> tuple[np.ndarray, ...]:
    """Probability of each answer in some tasks of a trial, and whether it is right: `(e, m)`."""
    divisors = np.exp(trial.conditions.terms(limits)[chosen] @ temperature)[:, None, None]
    p = np.exp(log_softmax((trial.log_likelihoods[chosen] + trial.log_frequencies[chosen]) / divisors, axis=-1))
    return p.max(-1), p.argmax(-1) == trial.true


def _temperature(trials: Sequence[Trials], limits: dict) -> tuple[float, ...]:
    """Least squares through the best log temperature of each cell."""

    def best(parts) -> float:
        def cost(log_temperature: float) -> float:
            total, n = 0.0, 0
            for trial, chosen in parts:
                logits = (trial.log_likelihoods[chosen] + trial.log_frequencies[chosen]) / np.exp(log_temperature)
                total += float((logsumexp(logits, axis=-1) - logits[:, np.arange(len(trial.true)), trial.true]).sum())
                n += logits.shape[0] * logits.shape[1]
            return total / n

        return minimize_scalar(cost, bounds=(-3, 4), method="bounded", options={"xatol": 0.01}).x

    cells = list(_by_cell(trials).values())
    design = np.stack(
        [np.concatenate([trial.conditions.terms(limits)[chosen] for trial, chosen in parts]).mean(0) for parts in cells]
    )
    found = np.linalg.lstsq(design, np.array([best(parts) for parts in cells]), rcond=1e-6)[0]
    return tuple(map(float, found))


class _Unknown:
    """Scores of all particles of unknown classes `(n,)`, with class, family, cell and terms of each."""

    def __init__(self, trials: Sequence[Trials], limits: dict):
        sizes = [trial.unknown_scores.size for trial in trials]
        n_query = [trial.unknown_scores.shape[1] for trial in trials]
        self.scores = np.concatenate([trial.unknown_scores.ravel() for trial in trials])
        self.classes = np.repeat([str(trial.unknown) for trial in trials], sizes)
        self.encoders = np.repeat([trial.encoder for trial in trials], sizes)
        self.families = np.repeat([str(trial.family) for trial in trials], sizes)
        self.terms = np.concatenate(
            [np.repeat(trial.conditions.terms(limits), n, axis=0) for trial, n in zip(trials, n_query, strict=True)]
        )
        keys = np.concatenate(
            [
                np.repeat(
                    np.c_[np.full((len(trial.snrs), 2), (trial.n_shot, trial.n_way)), trial.snrs, trial.crowded],
                    n,
                    axis=0,
                )
                for trial, n in zip(trials, n_query, strict=True)
            ]
        )
        self.cells = np.unique(keys, axis=0, return_inverse=True)[1].ravel()

    def thresholds(self, chosen: np.ndarray, rates: Sequence[float] = RATES) -> np.ndarray:
        """From some of the particles, as in `Promises`: `(len(rates), 9)`.

        Quantiles of each cell, a least-squares fit through them, then a constant that makes the promise hold.
        """
        scores, cells, classes, terms = (part[chosen] for part in (self.scores, self.cells, self.classes, self.terms))
        groups = [np.flatnonzero(cells == cell) for cell in np.unique(cells)]
        design = np.stack([terms[group].mean(0) for group in groups])
        quantiles = np.stack([np.quantile(scores[group], 1 - np.array(rates)) for group in groups])
        found = np.linalg.lstsq(design, quantiles, rcond=1e-6)[0].T
        by_class = [np.flatnonzero(classes == name) for name in np.unique(classes)]
        for row, rate in zip(found, rates, strict=True):
            left = scores - terms @ row
            row[0] += threshold_for([left[group] for group in by_class], rate, CONFIDENCE)
        return found

    def halves(self, n_choices: int, seed: int) -> list[float]:
        """Mean false accepts at the promise on half of the families, thresholds from the other half."""
        rng = np.random.default_rng(seed_from("halved families", seed))
        families, rates = np.unique(self.families), []
        for _ in range(n_choices):
            half = np.isin(self.families, rng.permutation(families)[: len(families) // 2])
            least = self.terms @ self.thresholds(half, [PROMISE])[0]
            accepted, names = (self.scores >= least)[~half], self.classes[~half]
            rates.append(float(np.mean([accepted[names == name].mean() for name in np.unique(names)]).round(4)))
        return rates


def _by_encoder(unknown: _Unknown, accepted: np.ndarray) -> Iterable[float]:
    for encoder in np.unique(unknown.encoders):
        own = unknown.encoders == encoder
        names, its = unknown.classes[own], accepted[own]
        yield round(float(np.mean([its[names == name].mean() for name in np.unique(names)])), 4)


def _excess(by_class: np.ndarray, seed: int, n_classes: int = 3, n_draws: int = 2000) -> float:
    """See `Promises.excess`; by_class : false accepts `(n_classes, len(RATES))`."""
    rng = np.random.default_rng(seed_from("unknown classes", seed))
    drawn = by_class[rng.integers(len(by_class), size=(n_draws, n_classes))].mean(1)
    return float(np.quantile((drawn / RATES).max(1), 0.95))


def _doubt(trials: Sequence[Trials], temperature: np.ndarray, limits: dict) -> float:
    """See `Promises.doubt`: the factor with which 95 of 100 tasks have no more wrong answers than `most_of` it."""
    answers = [_answers(trial, slice(None), temperature, limits) for trial in trials]
    wrong = np.concatenate([(~right).sum(1) for _, right in answers])
    foreseen = np.concatenate([(1 - probability).sum(1) for probability, _ in answers])
    factors = np.linspace(1, 4, 61)
    enough = [np.mean(wrong <= most_of(factor * foreseen)) >= 0.95 for factor in factors]
    return float(factors[np.argmax(enough)] if any(enough) else factors[-1])


def _by_snr_and_shots(trials: Sequence[Trials]) -> dict[tuple[bool, float, int], list]:
    """As `_by_cell`, whatever the number of classes."""
    cells: dict[tuple, list] = {}
    for (n_shot, _, snr, crowded), parts in _by_cell(trials).items():
        cells.setdefault((crowded, float(snr), int(n_shot)), []).extend(parts)
    return dict(sorted(cells.items(), key=lambda item: (item[0][0], -item[0][1], item[0][2])))


def _accuracies(trials: Sequence[Trials], temperature: Sequence[float], limits: dict) -> Iterable[dict]:
    for (crowded, snr, n_shot), parts in _by_snr_and_shots(trials).items():
        answers = [_answers(*part, temperature, limits) for part in parts]
        probability, right = (np.concatenate([part.ravel() for part in found]) for found in zip(*answers, strict=True))
        ece = expected_calibration_error(probability, right)
        accuracy = round(float(right.mean()), 4)
        yield {"crowded": crowded, "snr": snr, "n_shot": n_shot, "accuracy": accuracy, "ece": round(ece, 4)}


def _measured(trials: Sequence[Trials], temperature, threshold, limits) -> Iterable[dict]:
    cells = _by_snr_and_shots(trials).values()
    for row, parts in zip(_accuracies(trials, temperature, limits), cells, strict=True):
        least = [(trial.conditions.terms(limits)[chosen] @ threshold)[:, None] for trial, chosen in parts]
        above = {
            name: np.concatenate(
                [
                    (getattr(trial, name)[chosen] - of_part).ravel()
                    for (trial, chosen), of_part in zip(parts, least, strict=True)
                ]
            )
            for name in ("scores", "unknown_scores")
        }
        yield {
            **row,
            "auroc": round(float(area_under_roc(*above.values())), 4),
            "false_accepts": round(float((above["unknown_scores"] >= 0).mean()), 4),
            "kept": round(float((above["scores"] >= 0).mean()), 4),
        }


def threshold_for(scores_by_class: Sequence[np.ndarray], rate: float, confidence: float) -> float:
    """Least threshold with a false-positive rate of at most `rate`, on average over unknown classes like these.

    The bound is mean + t sd / sqrt(n) of the rates of the n classes (Student, one-sided).
    """
    lowest, highest = min(1.0, 2 * rate), min(1e-4, rate / 10)
    candidates = np.quantile(np.concatenate(scores_by_class), 1 - np.geomspace(lowest, highest, 200))
    accepted = np.stack([1 - np.searchsorted(np.sort(part), candidates) / len(part) for part in scores_by_class])
    n_classes = len(accepted)
    margin = student.ppf(confidence, n_classes - 1) * accepted.std(0, ddof=1) / n_classes**0.5
    fits = np.flatnonzero(accepted.mean(0) + margin <= rate)
    return float(candidates[fits[0]] if len(fits) else np.max(np.concatenate(scores_by_class)))
