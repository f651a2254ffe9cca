"""What holds over several class splits and training seeds, claim by claim."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy.stats import t as student

from cryo_fewshot.reproduction.cells import SURROGATES, repeated_table_1, surrogate, table_1, table_3, table_4
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import CLAIMS, Claim
from cryo_fewshot.reproduction.store import Store, results_folder
from cryo_fewshot.reproduction.tables import (
    STILL_IMPROVING,
    claim_values,
    claims_frame,
    paper_text,
    stored_cells,
    verdict,
)
from cryo_fewshot.simulation.structures import class_keys, registry

FEWEST_SPLITS = 3
"""With two, Student's interval is wider than accuracy itself."""
TOO_FEW = "too few splits"


def over_splits(by_split: pd.Series) -> tuple[float, float]:
    """Mean of a number of each class split, and the half-width of its 95 % interval by Student's t over the splits.

    Of fewer than `FEWEST_SPLITS`, the half-width is NaN.
    """
    n = len(by_split)
    if n < FEWEST_SPLITS:
        return by_split.mean(), np.nan
    return by_split.mean(), student.ppf(0.975, n - 1) * by_split.std(ddof=1) / n**0.5


def judged(values: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """Each claim with its mean over runs, the 95 % interval over class splits, and a verdict.

    Runs of one split share their test classes, so they are averaged first, and Student's t over the splits gives
    `low` to `high`: what another choice of classes would change. Fewer than `FEWEST_SPLITS` have no interval and no
    verdict; nor has a claim that rests on a training that was still improving.
    """
    rows = []
    for number, part in values.groupby("number"):
        claim, by_split = claims[number], part.groupby("split_seed")["value"].mean()
        n_splits, (mean, reach) = len(by_split), over_splits(by_split)
        if part["improving"].any():
            found = STILL_IMPROVING
        else:
            found = verdict(claim, mean - reach, mean + reach) if n_splits >= FEWEST_SPLITS else TOO_FEW
        interval = (mean, mean - reach, mean + reach)
        rows.append((number, claim.words, claim.n_shot, paper_text(claim), *interval, n_splits, len(part), found))
    columns = ["number", "claim", "n_shot", "paper", "mean", "low", "high", "n_splits", "n_runs", "verdict"]
    return pd.DataFrame(rows, columns=columns)


_OUTCOMES = {"holds": "hold", "agrees": "hold"} | dict.fromkeys(["cannot be told", TOO_FEW, STILL_IMPROVING], "open")
"""What a verdict comes to; with any other one a claim does not hold."""


def summary_frame(verdicts: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How many claims of each kind hold, do not hold, or are open: a row per kind and one for all, columns per size.

    verdicts : by size, with columns claim and verdict
    """
    counts = {}
    for size, frame in verdicts.items():
        kind = frame["claim"].str.split(", SNR").str[0]  # one claim at several SNRs
        outcome = frame["verdict"].map(_OUTCOMES).fillna("do not")
        table = pd.crosstab(kind, outcome).reindex(
            index=kind.unique(), columns=["hold", "do not", "open"], fill_value=0
        )
        counts[size] = pd.concat([table, table.sum().rename("all").to_frame().T])
    return pd.concat(counts, axis=1).astype("Int64").rename_axis(columns=[None, None])


def summary_text(summary: pd.DataFrame) -> str:
    """The last row of `summary_frame` in words."""
    of_size = summary.loc["all"].unstack()
    return " ".join(
        f"**{size}**: of {row.sum()} claims {row['hold']} hold, {row['do not']} do not, and {row['open']} are open."
        for size, row in of_size.loc[summary.columns.unique(0)].iterrows()
    )


def quotes_table(claims: Sequence[Claim]) -> pd.DataFrame:
    """The paper's sentences, each with the claims that were read out of it."""
    found: dict[str, dict[str, list[str]]] = {}
    for claim in claims:
        found.setdefault(claim.quote, {}).setdefault(claim.words, []).append(f"{claim.n_shot}-shot")
    told = ["; ".join(f"{words}, {' and '.join(shots)}" for words, shots in of.items()) for of in found.values()]
    return pd.DataFrame({"the paper's sentence": [f"“{quote}”" for quote in found], "claims read out of it": told})


# ---------------------------------------------------------------- what can be concluded


def at_papers_size(claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """`claims_frame` of what was run at the paper's own size."""
    store = Store(results_folder("paper"))
    return claims_frame(*stored_cells(store, table_1(profile_named("paper"))), store, claims)


def validation_frame(every: int = 5) -> pd.DataFrame:
    """Accuracy on the validation classes while the networks of Table 1 were trained at the paper's size.

    Columns network, trained_on, episodes, accuracy, ci95 (unknown), a row for each `every` epochs and for the last.
    """
    store, rows = Store(results_folder("paper")), []
    for run in dict.fromkeys(cell.evaluation.encoder for cell in table_1(profile_named("paper"))):
        if (entry := store.get(run)) is None:
            continue
        found = entry["result"]["validation_accuracy"]
        network = "baseline" if run.objective == "classes" else f"ProtoNet3D, {run.n_shot}-shot"
        trained_on = "all SNRs" if len(run.snr_counts) > 1 else f"SNR {run.snr_counts[0][0]:g}"
        epochs = sorted({*range(every, len(found) + 1, every), 1, len(found)})
        rows += [(network, trained_on, n * run.schedule.steps_per_epoch, found[n - 1]) for n in epochs]
    frame = pd.DataFrame(rows, columns=["network", "trained_on", "episodes", "accuracy"])
    return frame.sort_values("network", key=lambda name: name != "baseline", kind="stable").assign(ci95=np.nan)


def over_stored_splits(profile: str, claims: Sequence[Claim] = CLAIMS, n_splits: int = 5) -> pd.DataFrame:
    """`judged` of the trainings of a profile that were run, claims with enough splits for a verdict."""
    store = Store(results_folder(profile))
    every = repeated_table_1(profile_named(profile), splits=range(n_splits), seeds=[0])
    verdicts = judged(claim_values(*stored_cells(store, every), store, claims), claims)
    return verdicts[verdicts["n_splits"] >= FEWEST_SPLITS]


def by_size(one_split: pd.DataFrame, full: pd.DataFrame, reduced: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Claims under the names of their sizes: the paper's on one class split and over several, and 20^3 over several.

    Sizes of which nothing was run are left out.
    """
    over_splits = {"Paper's size": full, "20³": reduced}
    found = {"Paper's size, one split": one_split} | {
        f"{size}, {frame['n_splits'].max()} splits": frame for size, frame in over_splits.items()
    }
    return {size: frame for size, frame in found.items() if len(frame)}


def networks_text() -> str:
    """What was trained at the paper's size, in a sentence."""
    profile, store = profile_named("paper"), Store(results_folder("paper"))
    cells = table_1(profile) + table_3(profile)
    for name in SURROGATES:
        cells += table_4(profile, surrogate(name, profile))
    needed = {cell.evaluation.encoder for cell in cells}
    n_trained = sum(store.get(encoder) is not None for encoder in needed)
    return (
        f"{'All' if n_trained == len(needed) else f'{n_trained} of the'} {len(needed)} networks behind its tables are "
        "trained at its own size: 40³, 100 subtomograms of each class and SNR."
    )


_PAIRS = {
    "mix training minus one SNR": "ProtoNet3D (mix) minus ProtoNet3D",
    "ProtoNet3D minus baseline": "ProtoNet3D minus baseline",
    "ProtoNet-CE minus ProtoNet3D": "ProtoNet-CE minus ProtoNet3D",
}


def conclusions_table(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What can be concluded about the paper: a row per kind of claim, a column per size.

    found : by size, columns claim, n_shot, paper, gain, verdict
    Cells: the range of the gains over the columns of Table 1, and in how many of them the claim holds.
    """
    rows = {}
    for words, start in _PAIRS.items():
        parts = {size: frame[frame["claim"].str.startswith(start)] for size, frame in found.items()}
        rows[words] = {"paper": _quoted(parts)} | {size: _gains_text(part) for size, part in parts.items()}
    for n_shot, labels in ((5, "5 labels"), (1, "1 label")):
        parts = {
            size: frame[frame["claim"].str.startswith("best method") & (frame["n_shot"] == n_shot)]
            for size, frame in found.items()
        }
        best = {size: f"{part['gain'].item():.3f}" if len(part) else "not run" for size, part in parts.items()}
        rows[f"best accuracy at SNR 0.1, {labels}"] = {"paper": _quoted(parts)} | best
    return pd.DataFrame(rows).T


_READING = "Ranges: over the columns of Table 1. Open: the interval cannot tell, or a training was still improving."


def conclusions() -> Styler:
    """`conclusions_table` of what is stored, for reading."""
    claims = by_size(at_papers_size(), over_stored_splits("paper"), over_stored_splits("finished"))
    gains = {size: frame.rename(columns={"this_work": "gain", "mean": "gain"}) for size, frame in claims.items()}
    return plain_style(conclusions_table(gains)).set_caption(f"{networks_text()} {_READING}")


def _quoted(parts: Mapping[str, pd.DataFrame]) -> str:
    return next((part["paper"].iloc[0] for part in parts.values() if len(part)), "–")


def _gains_text(part: pd.DataFrame) -> str:
    if not len(part):
        return "not run"
    low, high = (f"{round(gain, 3) + 0.0:+.3f}" for gain in (part["gain"].min(), part["gain"].max()))  # no minus zero
    counts = part["verdict"].map(_OUTCOMES).fillna("do not").value_counts()
    others = "".join(f", {counts[outcome]} {outcome}" for outcome in ("do not", "open") if outcome in counts)
    return f"{low} to {high}<br><small>{counts.get('hold', 0)} of {len(part)} hold{others}</small>"


def substitutes_text() -> str:
    """Why levels cannot be compared, in a sentence."""
    keys = class_keys("paper22")
    n_substitutes = int((registry().loc[list(keys), "fidelity"] == "substitute").sum())
    return (
        f"Levels cannot be compared: {n_substitutes} of the {len(keys)} structures are substitutes, the paper does not "
        "say which classes it tested on, and SNR has several meanings. Differences between methods can. To conclude "
        "more takes further splits at the paper's size, and the authors' subtomograms, which were not released."
    )
