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
CELL = ["n_shot", "n_way", "snr", "crowded"]
"""What tasks of one kind have in common; SNR and whether they are as in cells are the true ones."""


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
    tasks, terms = _tasks(trials, limits)
    temperature = _temperature(trials, tasks, terms)
    unknown = _particles(tasks, score=[trial.unknown_scores for trial in trials])
    thresholds = _thresholds(unknown, terms, RATES)
    accepted = unknown["score"].to_numpy()[:, None] >= terms[unknown.index] @ thresholds.T
    by_class = {name: accepted[members].mean(0) for name, members in unknown.groupby("name").indices.items()}
    at = RATES.index(PROMISE)
    encoders = unknown.groupby("encoder").indices.values()
    answers = _answers(trials, tasks, limits, temperature)
    return Promises(
        temperature=temperature,
        adapted_temperature=temperature,
        thresholds=tuple(tuple(map(float, row)) for row in thresholds),
        limits=limits,
        excess=_excess(np.stack([*by_class.values()])),
        doubt=_doubt(answers),
        measured=tuple(_measured(answers, unknown, terms @ thresholds[at])),
        by_class={name: float(rates[at].round(4)) for name, rates in by_class.items()},
        choices=tuple(_halves(unknown, terms)),
        by_encoder=tuple(round(float(_mean_over_classes(accepted[own, at], unknown.iloc[own])), 4) for own in encoders),
    )


def with_adapted(promises: Promises, trials: Sequence[Trials]) -> Promises:
    """The promises with what trials say in which unlabelled particles took part; acceptance is left as it is."""
    tasks, terms = _tasks(trials, promises.limits)
    temperature = _temperature(trials, tasks, terms)
    answers = _answers(trials, tasks, promises.limits, temperature)
    measured = tuple(
        row | {"adapted_accuracy": adapted["accuracy"], "adapted_ece": adapted["ece"]}
        for row, adapted in zip(promises.measured, _accuracies(answers), strict=True)
    )
    return replace(
        promises, adapted_temperature=temperature, doubt=max(promises.doubt, _doubt(answers)), measured=measured
    )


def reliability_rows(trials: Sequence[Trials], promises: Promises) -> list[dict]:
    """Bins of `evaluation.reliability` by n_shot and whether in cells (`crowded`), all SNRs and numbers of classes.

    Without bins that hold less than one answer in a thousand: these say nothing.
    """
    answers = _answers(trials, _tasks(trials, promises.limits)[0], promises.limits, promises.temperature)
    rows = []
    for (crowded, n_shot), part in answers.groupby(["crowded", "n_shot"]):
        found = reliability(part["probability"], part["right"])
        rows += [{"crowded": crowded, "n_shot": n_shot, **row} for row in found if row["n"] >= len(part) / 1000]
    return rows


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return float(np.min(values)), float(np.max(values))


def _tasks(trials: Sequence[Trials], limits: dict) -> tuple[pd.DataFrame, np.ndarray]:
    """A row per task: its unknown class, family, encoder, and what makes its cell; and its terms, `(n_tasks, 9)`."""
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
            }
        )
        for trial in trials
    ]
    return pd.concat(tasks, ignore_index=True), np.concatenate([trial.conditions.terms(limits) for trial in trials])


def _particles(tasks: pd.DataFrame, **columns: Sequence[np.ndarray]) -> pd.DataFrame:
    """A row per particle, of the number of its task; columns : arrays `(e, m)` of each trial."""
    n_each = [n for part in next(iter(columns.values())) for n in [part.shape[1]] * len(part)]
    values = {name: np.concatenate([part.ravel() for part in parts]) for name, parts in columns.items()}
    return tasks.loc[tasks.index.repeat(n_each)].assign(**values)


def _answers(trials: Sequence[Trials], tasks: pd.DataFrame, limits: dict, temperature: Sequence[float]) -> pd.DataFrame:
    """Particles of known classes: the probability of the answer, whether it is right, and the score."""
    probability, right = [], []
    for trial in trials:
        divisors = np.exp(trial.conditions.linear(temperature, limits))[:, None, None]
        p = np.exp(log_softmax((trial.log_likelihoods + trial.log_frequencies) / divisors, axis=-1))
        probability.append(p.max(-1))
        right.append(p.argmax(-1) == trial.true)
    return _particles(tasks, probability=probability, right=right, score=[trial.scores for trial in trials])


def _temperature(trials: Sequence[Trials], tasks: pd.DataFrame, terms: np.ndarray) -> tuple[float, ...]:
    """Least squares through the best log temperature of each cell."""
    logits = [part for trial in trials for part in trial.log_likelihoods + trial.log_frequencies]
    true = [trial.true for trial in trials for _ in trial.snrs]

    def best(cell: np.ndarray) -> float:
        of_cell, own = np.concatenate([logits[i] for i in cell]), np.concatenate([true[i] for i in cell])

        def cost(log_temperature: float) -> float:
            scaled = of_cell / np.exp(log_temperature)
            return float((logsumexp(scaled, axis=-1) - scaled[np.arange(len(own)), own]).mean())

        return minimize_scalar(cost, bounds=(-3, 4), method="bounded", options={"xatol": 0.01}).x

    cells = tasks.groupby(CELL).indices.values()
    design = np.stack([terms[cell].mean(0) for cell in cells])
    return tuple(map(float, np.linalg.lstsq(design, np.array([best(cell) for cell in cells]), rcond=1e-6)[0]))


def _thresholds(unknown: pd.DataFrame, terms: np.ndarray, rates: Sequence[float]) -> np.ndarray:
    """From particles of unknown classes, as in `Promises`: `(len(rates), 9)`.

    Quantiles of each cell, a least-squares fit through them, then a constant that makes the promise hold.
    """
    scores, terms, cells = unknown["score"].to_numpy(), terms[unknown.index], unknown.groupby(CELL).indices.values()
    design = np.stack([terms[cell].mean(0) for cell in cells])
    quantiles = np.stack([np.quantile(scores[cell], 1 - np.array(rates)) for cell in cells])
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
        is_half = unknown["family"].isin(rng.permutation(families)[: len(families) // 2])
        half, others = unknown[is_half], unknown[~is_half]
        least = terms @ _thresholds(half, terms, [PROMISE])[0]
        rate = _mean_over_classes(others["score"].to_numpy() >= least[others.index], others)
        yield float(rate.round(4))


def _mean_over_classes(accepted: np.ndarray, unknown: pd.DataFrame) -> np.floating:
    classes = unknown.groupby("name").indices.values()
    return np.mean([accepted[members].mean() for members in classes])


def _excess(by_class: np.ndarray) -> float:
    """See `Promises.excess`, of three classes; by_class : false accepts `(n_classes, len(RATES))`."""
    rng = np.random.default_rng(seed_from("unknown classes", 0))
    drawn = by_class[rng.integers(len(by_class), size=(2000, 3))].mean(1)
    return float(np.quantile((drawn / RATES).max(1), 0.95))


def _doubt(answers: pd.DataFrame) -> float:
    """See `Promises.doubt`: the factor with which 95 of 100 tasks have no more wrong answers than `most_of` it."""
    by_task = pd.DataFrame({"wrong": ~answers["right"], "foreseen": 1 - answers["probability"]}).groupby(level=0).sum()
    factors = np.linspace(1, 4, 61)
    enough = [np.mean(by_task["wrong"] <= most_of(factor * by_task["foreseen"])) >= 0.95 for factor in factors]
    return float(factors[np.argmax(enough)] if any(enough) else factors[-1])


def _by_snr_and_shots(particles: pd.DataFrame) -> list[tuple[tuple[bool, float, int], pd.DataFrame]]:
    groups = particles.groupby(["crowded", "snr", "n_shot"])
    return sorted(groups, key=lambda group: (group[0][0], -group[0][1], group[0][2]))


def _accuracies(answers: pd.DataFrame) -> Iterable[dict]:
    for (crowded, snr, n_shot), part in _by_snr_and_shots(answers):
        ece = expected_calibration_error(part["probability"], part["right"])
        accuracy = round(float(part["right"].mean()), 4)
        yield {"crowded": crowded, "snr": snr, "n_shot": n_shot, "accuracy": accuracy, "ece": round(ece, 4)}


def _measured(answers: pd.DataFrame, unknown: pd.DataFrame, threshold: np.ndarray) -> Iterable[dict]:
    """See `Promises.measured`; threshold : `(n_tasks,)` of a promised 5 %."""
    groups = zip(_by_snr_and_shots(answers), _by_snr_and_shots(unknown), strict=True)
    for row, ((_, known), (_, strange)) in zip(_accuracies(answers), groups, strict=True):
        above, strange_above = (part["score"] - threshold[part.index] for part in (known, strange))
        yield {
            **row,
            "auroc": round(float(area_under_roc(above, strange_above)), 4),
            "false_accepts": round(float((strange_above >= 0).mean()), 4),
            "kept": round(float((above >= 0).mean()), 4),
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
