"""From what many small tasks came to, to temperatures and thresholds that hold: `Promises`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
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
N_CHOICES = 20
"""Of halves of the families, see `Promises.choices`."""


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


def fit_promises(trials: Sequence[Trials]) -> Promises:
    """Temperature, thresholds, and how well they hold; see `Promises`."""
    limits = {
        "n_shot": _ends([trial.conditions.n_shot for trial in trials]),
        "n_way": _ends([trial.conditions.n_way for trial in trials]),
        "log_snr": _ends(np.log(np.concatenate([trial.snrs for trial in trials]))),
        "crowding": (0.0, float(any(trial.crowded.any() for trial in trials))),
    }
    temperature = _temperature(trials, limits)
    unknown, terms = _unknown_particles(trials, limits)
    thresholds = _thresholds(unknown, terms, RATES)
    accepted = unknown["score"].to_numpy()[:, None] >= terms @ thresholds.T
    by_class = {name: accepted[members].mean(0) for name, members in unknown.groupby("name").indices.items()}
    at = RATES.index(PROMISE)
    encoders = unknown.groupby("encoder").indices.values()
    return Promises(
        temperature=temperature,
        adapted_temperature=temperature,
        thresholds=tuple(tuple(map(float, row)) for row in thresholds),
        limits=limits,
        excess=_excess(np.stack([*by_class.values()])),
        doubt=_doubt(trials, temperature, limits),
        measured=tuple(_measured(trials, temperature, thresholds[at], limits)),
        by_class={name: float(rates[at].round(4)) for name, rates in by_class.items()},
        choices=tuple(_halves(unknown, terms)),
        by_encoder=tuple(round(float(_mean_over_classes(accepted[own, at], unknown.iloc[own])), 4) for own in encoders),
    )


def with_adapted(promises: Promises, trials: Sequence[Trials]) -> Promises:
    """The promises with what trials say in which unlabelled particles took part; acceptance is left as it is."""
    temperature = _temperature(trials, promises.limits)
    measured = tuple(
        row | {"adapted_accuracy": adapted["accuracy"], "adapted_ece": adapted["ece"]}
        for row, adapted in zip(promises.measured, _accuracies(trials, temperature, promises.limits), strict=True)
    )
    doubt = max(promises.doubt, _doubt(trials, temperature, promises.limits))
    return replace(promises, adapted_temperature=temperature, doubt=doubt, measured=measured)


def reliability_rows(trials: Sequence[Trials], promises: Promises) -> list[dict]:
    """Bins of `evaluation.reliability` by n_shot and whether in cells (`crowded`), all SNRs and numbers of classes.

    Without bins that hold less than one answer in a thousand: these say nothing.
    """
    rows = []
    for (crowded, n_shot), parts in sorted(_cells(trials, "crowded", "n_shot").items()):
        told = zip(*(_answers(*part, promises.temperature, promises.limits) for part in parts), strict=True)
        found = reliability(*(np.concatenate([part.ravel() for part in of_all]) for of_all in told))
        fewest = sum(row["n"] for row in found) / 1000
        rows += [{"crowded": crowded, "n_shot": n_shot, **row} for row in found if row["n"] >= fewest]
    return rows


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _cells(trials: Sequence[Trials], *by: str) -> dict[tuple, list[tuple[Trials, np.ndarray]]]:
    """Trials, and which of their tasks, by some of n_shot, n_way, (true) snr and crowded."""
    cells: dict[tuple, list] = {}
    for trial in trials:
        for snr, crowded in sorted(set(zip(trial.snrs.tolist(), trial.crowded.tolist(), strict=True))):
            chosen = (trial.snrs == snr) & (trial.crowded == crowded)
            kind = {**vars(trial.conditions), "snr": snr, "crowded": crowded}
            cells.setdefault(tuple(kind[name] for name in by), []).append((trial, chosen))
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

    cells = list(_cells(trials, "n_shot", "n_way", "snr", "crowded").values())
    design = np.stack(
        [np.concatenate([trial.conditions.terms(limits)[chosen] for trial, chosen in parts]).mean(0) for parts in cells]
    )
    found = np.linalg.lstsq(design, np.array([best(parts) for parts in cells]), rcond=1e-6)[0]
    return tuple(map(float, found))


def _unknown_particles(trials: Sequence[Trials], limits: dict) -> tuple[pd.DataFrame, np.ndarray]:
    """A row per particle of an unknown class with its score, class, family, encoder and cell; and terms `(n, 9)`."""
    tasks = [
        pd.DataFrame(
            {
                "name": str(trial.unknown),
                "family": str(trial.family),
                "encoder": trial.encoder,
                "n_shot": trial.conditions.n_shot,
                "n_way": trial.conditions.n_way,
                "snr": trial.snrs,
                "crowded": trial.crowded,
                "score": list(trial.unknown_scores),
                "terms": list(trial.conditions.terms(limits)),
            }
        )
        for trial in trials
    ]
    particles = pd.concat(tasks, ignore_index=True).explode("score", ignore_index=True).astype({"score": float})
    cells = particles.groupby(["n_shot", "n_way", "snr", "crowded"]).ngroup()
    return particles.assign(cell=cells), np.stack(particles["terms"])


def _thresholds(unknown: pd.DataFrame, terms: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """From particles of unknown classes, as in `Promises`: `(len(rates), 9)`.

    Quantiles of each cell, a least-squares fit through them, then a constant that makes the promise hold.
    """
    scores, cells = unknown["score"].to_numpy(), unknown.groupby("cell").indices.values()
    design = np.stack([terms[group].mean(0) for group in cells])
    quantiles = np.stack([np.quantile(scores[group], 1 - np.array(rates)) for group in cells])
    found = np.linalg.lstsq(design, quantiles, rcond=1e-6)[0].T
    for row, rate in zip(found, rates, strict=True):
        left = scores - terms @ row
        row[0] += threshold_for([left[own] for own in unknown.groupby("name").indices.values()], rate, CONFIDENCE)
    return found


def _halves(unknown: pd.DataFrame, terms: np.ndarray) -> Iterable[float]:
    """Mean false accepts at the promise on half of the families, thresholds from the other half."""
    rng = np.random.default_rng(seed_from("halved families", 0))
    families = np.unique(unknown["family"].to_numpy(str))
    for _ in range(N_CHOICES):
        half = unknown["family"].isin(rng.permutation(families)[: len(families) // 2]).to_numpy()
        least = terms @ _thresholds(unknown[half], terms[half], [PROMISE])[0]
        rate = _mean_over_classes((unknown["score"].to_numpy() >= least)[~half], unknown[~half])
        yield float(rate.round(4))


def _mean_over_classes(accepted: np.ndarray, unknown: pd.DataFrame) -> np.floating:
    classes = unknown.groupby("name").indices.values()
    return np.mean([accepted[members].mean() for members in classes])


def _excess(by_class: np.ndarray) -> float:
    """See `Promises.excess`, of three classes; by_class : false accepts `(n_classes, len(RATES))`."""
    rng = np.random.default_rng(seed_from("unknown classes", 0))
    drawn = by_class[rng.integers(len(by_class), size=(2000, 3))].mean(1)
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
    cells = _cells(trials, "crowded", "snr", "n_shot")
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
