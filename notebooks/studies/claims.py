"""What holds over several class splits and training seeds, claim by claim."""

from collections.abc import Sequence

import pandas as pd
from scipy.stats import t as student

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.cells import Cell
from cryo_fewshot.reproduction.quoted import Claim
from cryo_fewshot.reproduction.tables import accuracies_by_cell, measure, paper_text, tidy_frame


def claim_values(cells: Sequence[Cell], entries: Sequence[dict], claims: Sequence[Claim]) -> pd.DataFrame:
    """The value of each claim in each run, a row per claim and run: claim, n_shot, split_seed, train_seed, value.

    A run is a class split with a training seed. Differences between methods are taken episode by episode, so the
    episodes' own difficulty cancels. A claim whose cells were not run is left out.
    """
    runs: dict[tuple[int, int], list[tuple[Cell, dict]]] = {}
    for cell, entry in zip(cells, entries, strict=True):
        encoder = cell.evaluation.encoder
        runs.setdefault((encoder.split_seed, encoder.seed), []).append((cell, entry))
    rows = []
    for (split_seed, train_seed), run in runs.items():
        accuracies = accuracies_by_cell(*zip(*run, strict=True))
        for number, claim in enumerate(claims):
            per_episode = measure(claim, accuracies)
            if per_episode is not None:
                value = per_episode.mean()
                rows.append((number, claim.words, claim.n_shot, split_seed, train_seed, value))
    return pd.DataFrame(rows, columns=["number", "claim", "n_shot", "split_seed", "train_seed", "value"])


def judged(values: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """Each claim with its mean over runs, the 95 % interval over class splits, and a verdict.

    Runs of one split share their test classes, so they are averaged first, and Student's t over the splits gives
    `low` to `high`: what another choice of classes would change.
    """
    rows = []
    for number, part in values.groupby("number"):
        claim, by_split = claims[number], part.groupby("split_seed")["value"].mean()
        if len(by_split) < 2:
            raise UserError("an interval over class splits needs two of them: run more splits")
        reach = student.ppf(0.975, len(by_split) - 1) * by_split.std(ddof=1) / len(by_split) ** 0.5
        mean = by_split.mean()
        rows.append(
            {
                "number": number,
                "claim": claim.words,
                "n_shot": claim.n_shot,
                "paper": paper_text(claim),
                "mean": mean,
                "low": mean - reach,
                "high": mean + reach,
                "n_splits": len(by_split),
                "n_runs": len(part),
                "verdict": verdict(claim, mean - reach, mean + reach),
            }
        )
    return pd.DataFrame(rows)


def verdict(claim: Claim, low: float, high: float) -> str:
    """What an interval says of a claim."""
    if low <= claim.paper <= high:
        return "cannot be told" if claim.at_least else "agrees"
    if claim.at_least:
        return "holds" if low > claim.paper else "does not hold"
    return "above" if low > claim.paper else "below"


def quotes_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """The paper's sentences, each with the claims that were read out of it."""
    found: dict[str, dict[str, list[str]]] = {}
    for claim in claims:
        found.setdefault(claim.quote, {}).setdefault(claim.words, []).append(f"{claim.n_shot}-shot")
    told = ["; ".join(f"{words}, {' and '.join(shots)}" for words, shots in of.items()) for of in found.values()]
    return pd.DataFrame({"the paper's sentence": [f"“{quote}”" for quote in found], "claims read out of it": told})


def seed_and_split_spread(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """How far accuracy moves from seed to seed of one split, and from split to split: standard deviations."""
    frame, tasks = tidy_frame(cells, entries), ["method", "n_shot", "snr"]
    frame = frame[frame["n_episodes"] == frame["n_episodes"].max()]
    by_split = frame.groupby([*tasks, "split_seed"], sort=False)["accuracy"].agg(["mean", "var"])
    by_task = by_split.groupby(tasks, sort=False)
    spread = {"between_seeds": by_task["var"].mean() ** 0.5, "between_splits": by_task["mean"].std(ddof=1)}
    return pd.DataFrame({"accuracy": by_task["mean"].mean(), **spread}).reset_index()
