"""Stored results as tidy tables, one row per number."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ..errors import UserError
from ..evaluation import mean_and_interval
from ..files import write_atomically
from .cells import Cell
from .quoted import NOT_QUOTED, TABLE_1_CLAIMS, Claim
from .store import Store, results_folder
from .training_specs import AdaptationRun, EncoderRun

PAPER_EPISODES = 100


def stored_cells(store: Store, cells: Sequence[Cell]) -> tuple[list[Cell], list[dict]]:
    """Those of the cells whose result is at hand, and their entries."""
    entries = [store.get(cell.evaluation) for cell in cells]
    at_hand = [cell for cell, entry in zip(cells, entries, strict=True) if entry is not None]
    return at_hand, [entry for entry in entries if entry is not None]


def stored_at_papers_size(cells: Sequence[Cell]) -> tuple[list[Cell], list[dict]]:
    """`stored_cells` of what was run at the paper's own size."""
    return stored_cells(Store(results_folder("paper")), cells)


def stored_or_run(runner, cells: Sequence[Cell], run_missing: bool) -> tuple[list[Cell], list[dict]]:
    """Cells and their entries: all of them, or only those whose result is at hand; UserError where none is."""
    if run_missing:
        return list(cells), runner.run_cells(cells)
    at_hand, entries = stored_cells(runner.store, cells)
    if not at_hand:
        raise UserError(f"{runner.store.root} holds none of these results: rerun with train=True, or another profile")
    return at_hand, entries


def tidy_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """A tidy table of accuracies: a row per cell and number of episodes, the paper's 100 and all that were run.

    The column `paper` is NaN where the text of the paper does not quote the cell, which is so for all its tables of
    simulated data; what it does quote about those is in `claims_frame`.
    """
    rows = []
    for cell, entry in zip(cells, entries, strict=True):
        found = accuracies(entry)
        for n_episodes in dict.fromkeys((min(PAPER_EPISODES, len(found)), len(found))):
            accuracy, interval = mean_and_interval(found[:n_episodes])
            rows.append(_row(cell, n_episodes=n_episodes, accuracy=accuracy, ci95=interval))
    return pd.DataFrame(rows)


def precision_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Tidy Table A: macro-average precision, the mean over novel classes of right predictions among all of a class.

    Predictions of all episodes are pooled before the precision of a class is taken; the paper does not say how it
    averaged. A class that was never predicted counts as 0.
    """
    rows = []
    for cell, entry in zip(cells, entries, strict=True):
        counts = np.array(entry["result"]["confusion"])
        precision = np.diag(counts) / np.maximum(counts.sum(axis=0), 1)
        rows.append(_row(cell, n_episodes=cell.evaluation.n_episodes, precision=precision.mean()))
    return pd.DataFrame(rows)


def class_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of each novel class, a row per cell and class, with Wilson's 95 % interval `low` to `high`.

    The interval takes the class's distinct subtomograms as the sample size, as episodes draw the same ones again.
    """
    rows = []
    for cell, entry in zip(cells, entries, strict=True):
        counts, n = np.array(entry["result"]["confusion"]), cell.evaluation.encoder.data.n_per_class
        for name, accuracy in zip(entry["result"]["classes"], np.diag(counts) / counts.sum(axis=1), strict=True):
            interval = binomtest(round(accuracy * n), n).proportion_ci(0.95, "wilson")
            values = {"class": name, "accuracy": accuracy, "low": interval.low, "high": interval.high}
            rows.append(_row(cell, n_episodes=cell.evaluation.n_episodes, **values))
    return pd.DataFrame(rows)


def differences_frame(cells: Sequence[Cell], entries: Sequence[dict], against: str) -> pd.DataFrame:
    """Paired differences in accuracy of every method to the method `against`: difference, ci95, by task and run."""
    runs = [(*key_of(cell), cell.evaluation.encoder.split_seed, cell.evaluation.encoder.seed) for cell in cells]
    by_run, rows = dict(zip(runs, entries, strict=True)), []
    for cell, (method, *task), entry in zip(cells, runs, entries, strict=True):
        other = by_run.get((against, *task))
        if method != against and other is not None:
            difference, interval = paired_difference(entry, other)
            values = {"against": against, "difference": difference, "ci95": interval}
            rows.append(_row(cell, n_episodes=cell.evaluation.n_episodes, **values))
    if not rows:
        raise UserError(f"nothing to compare with '{against}': name it and at least one other method")
    return pd.DataFrame(rows)


def paired_difference(entry: dict, other: dict) -> tuple[float, float]:
    """Mean accuracy of one evaluation minus another's, with its interval, over the episodes that both met."""
    if entry["result"]["episodes"] != other["result"]["episodes"]:
        raise ValueError("the two evaluations used different episodes, so a paired difference means nothing")
    difference = np.array(entry["result"]["n_correct"]) - np.array(other["result"]["n_correct"])
    return mean_and_interval(difference / entry["result"]["n_queries"])


def _row(cell: Cell, *, n_episodes: int, **values: object) -> dict:
    evaluation = cell.evaluation
    return {
        "method": cell.method,
        "snr": evaluation.snr,
        "n_way": evaluation.n_way,
        "n_shot": evaluation.n_shot,
        "n_query": evaluation.n_query,
        "n_episodes": n_episodes,
        **values,
        "class_set": evaluation.encoder.data.class_set,
        "split_seed": evaluation.encoder.split_seed,
        "train_seed": evaluation.encoder.seed,
        "paper": cell.paper,
    }


def accuracies(entry: dict) -> np.ndarray:
    """Accuracy in each episode of a stored evaluation, `(n_episodes,)`."""
    return np.array(entry["result"]["n_correct"]) / entry["result"]["n_queries"]


def accuracy_of(entry: dict) -> tuple[float, float]:
    """Mean accuracy over the episodes of a stored evaluation, and the half-width of its 95 % interval."""
    return mean_and_interval(accuracies(entry))


def mean_over_seeds(frame: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean accuracy over training seeds and its standard error: columns `by`, accuracy, error, n_seeds."""
    groups = frame.groupby(list(by), sort=False)["accuracy"]
    return pd.DataFrame(
        {"accuracy": groups.mean(), "error": groups.std(ddof=1) / groups.size() ** 0.5, "n_seeds": groups.size()}
    ).reset_index()


def plus_minus(number: float, reach: float, sign: str = "") -> str:
    """A number with the half-width of its interval, for reading; without that where it is NaN. sign : "+" shows it"""
    return f"{number:{sign}.3f}" + ("" if np.isnan(reach) else f" ±\u00a0{reach:.3f}")


def by_task(frame: pd.DataFrame, row: str, value: str) -> pd.DataFrame:
    """A tidy table for reading: a row for each value of column `row`, a column per shots and SNR, in their order."""
    tasks = list(dict.fromkeys(zip(frame["n_shot"], frame["snr"], strict=True)))
    table = frame.pivot(index=row, columns=["n_shot", "snr"], values=value)
    table = table.loc[frame[row].unique(), tasks].rename_axis(None)
    table.columns = pd.MultiIndex.from_tuples([(f"{n_shot}-shot", f"SNR {snr:g}") for n_shot, snr in tasks])
    return table


def keep_table(frame: pd.DataFrame, name: str) -> None:
    """Write a notebook's table as csv where a whole profile is run or published; elsewhere nothing is written."""
    if folder := os.environ.get("CRYO_FEWSHOT_TABLES"):
        write_csv(frame, Path(folder) / f"{name}.csv")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table; unknown numbers of the paper read 'not quoted'."""
    text = frame.round(6).to_csv(index=False, na_rep=NOT_QUOTED, lineterminator="\n")
    write_atomically(path, text.encode())


def claim_values(cells: Sequence[Cell], entries: Sequence[dict], store: Store, claims: Sequence[Claim]) -> pd.DataFrame:
    """The value of each claim in each run: number, claim, n_shot, split_seed, train_seed, value, ci95, improving.

    A run is a class split with a training seed. Differences between methods are paired: taken episode by episode, so
    the episodes' own difficulty cancels, as in `ci95`, the interval over episodes. A claim whose cells were not run is
    left out; `improving` marks one that rests on a training whose best epoch was its last.
    """
    runs: dict[tuple[int, int], list[tuple[Cell, dict]]] = {}
    for cell, entry in zip(cells, entries, strict=True):
        encoder = cell.evaluation.encoder
        runs.setdefault((encoder.split_seed, encoder.seed), []).append((cell, entry))
    rows = []
    for seeds, run in runs.items():
        by_cell = {key_of(cell): accuracies(entry) for cell, entry in run}
        unfinished = still_improving(store, [cell for cell, _ in run])
        for number, claim in enumerate(claims):
            if found := measure(claim, by_cell):
                per_episode, keys = found
                improving = not unfinished.isdisjoint(keys)
                rows.append((number, claim.words, claim.n_shot, *seeds, *mean_and_interval(per_episode), improving))
    columns = ["number", "claim", "n_shot", "split_seed", "train_seed", "value", "ci95", "improving"]
    return pd.DataFrame(rows, columns=columns)


def claims_frame(
    cells: Sequence[Cell], entries: Sequence[dict], store: Store, claims: Sequence[Claim] = TABLE_1_CLAIMS
) -> pd.DataFrame:
    """Each claim of the paper about Table 1, beside one run: claim, n_shot, paper, this_work, ci95, verdict.

    A claim that rests on a training that was `still_improving` gets no verdict.
    """
    found = claim_values(cells, entries, store, claims)
    quoted = [claims[number] for number in found["number"]]
    verdicts = [
        STILL_IMPROVING if row.improving else verdict(claim, row.value - row.ci95, row.value + row.ci95)
        for claim, row in zip(quoted, found.itertuples(), strict=True)
    ]
    return found[["claim", "n_shot"]].assign(
        paper=list(map(paper_text, quoted)),
        this_work=found["value"],
        ci95=found["ci95"],
        difference=found["value"] - [claim.paper for claim in quoted],
        verdict=verdicts,
    )


def paper_text(claim: Claim) -> str:
    if claim.at_least and claim.paper == 0:
        return "> 0"
    return f"≥ {claim.paper:g}" if claim.at_least else f"{claim.paper:g}"


Key = tuple[str, float, int]
"""Method, SNR and shots: a cell of Table 1."""
STILL_IMPROVING = "still improving"


def key_of(cell: Cell) -> Key:
    return cell.method, cell.evaluation.snr, cell.evaluation.n_shot


def still_improving(store: Store, cells: Sequence[Cell]) -> set[Key]:
    """Cells whose encoder or attention was best in its last epoch: a longer training may well change them."""
    return {
        key_of(cell)
        for cell in cells
        if any(best_at_the_end(store, run) for run in (cell.evaluation.encoder, cell.evaluation.adaptation) if run)
    }


def best_at_the_end(store: Store, run: EncoderRun | AdaptationRun) -> bool:
    """Whether a training was best in its last epoch; False where it was not run."""
    entry = store.get(run)
    return entry is not None and entry["result"]["best_epoch"] == len(entry["result"]["loss"]) - 1


def measure(claim: Claim, by_cell: dict[Key, np.ndarray]) -> tuple[np.ndarray, list[Key]] | None:
    """What a claim is about, in each episode, and the cells that it rests on; None where one of them was not run."""
    method, snr = claim.first
    keys = [(*side, claim.n_shot) for side in (claim.first, claim.second) if side is not None]
    if method is None:
        best_first = sorted(by_cell, key=lambda key: -by_cell[key].mean())
        keys = [key for key in best_first if key[1:] == (snr, claim.n_shot)][:1]
    if not keys or not all(key in by_cell for key in keys):
        return None
    first, *second = (by_cell[key] for key in keys)
    return first - sum(second), keys


def verdict(claim: Claim, low: float, high: float) -> str:
    """What an interval says of a claim."""
    if low <= claim.paper <= high:
        return "cannot be told" if claim.at_least else "agrees"
    if claim.at_least:
        return "holds" if low > claim.paper else "does not hold"
    return "above" if low > claim.paper else "below"
