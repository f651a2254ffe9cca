"""What holds over several class splits and training seeds, claim by claim."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import t as student

from cryo_fewshot.reproduction.cells import SURROGATES, surrogate, table_1, table_3, table_4
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import CLAIMS, Claim
from cryo_fewshot.reproduction.store import Store, results_folder
from cryo_fewshot.reproduction.tables import STILL_IMPROVING, claims_frame, paper_text, stored_cells, verdict
from cryo_fewshot.simulation.structures import class_keys, registry

FEWEST_SPLITS = 3
"""With two, Student's interval is wider than accuracy itself."""
TOO_FEW = "too few splits"


def judged(values: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """Each claim with its mean over runs, the 95 % interval over class splits, and a verdict.

    Runs of one split share their test classes, so they are averaged first, and Student's t over the splits gives
    `low` to `high`: what another choice of classes would change. Fewer than `FEWEST_SPLITS` have no interval and no
    verdict; nor has a claim that rests on a training that was still improving.
    """
    rows = []
    for number, part in values.groupby("number"):
        claim, by_split = claims[number], part.groupby("split_seed")["value"].mean()
        n_splits, mean = len(by_split), by_split.mean()
        reach = student.ppf(0.975, n_splits - 1) * by_split.std(ddof=1) / n_splits**0.5
        if n_splits < FEWEST_SPLITS:
            reach = np.nan
        if part["improving"].any():
            found = STILL_IMPROVING
        else:
            found = verdict(claim, mean - reach, mean + reach) if n_splits >= FEWEST_SPLITS else TOO_FEW
        rows.append(
            {
                "number": number,
                "claim": claim.words,
                "n_shot": claim.n_shot,
                "paper": paper_text(claim),
                "mean": mean,
                "low": mean - reach,
                "high": mean + reach,
                "n_splits": n_splits,
                "n_runs": len(part),
                "verdict": found,
            }
        )
    return pd.DataFrame(rows)


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


# ---------------------------------------------------------------- the paper's own size


def at_papers_size(claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """`claims_frame` of what was run at the paper's own size."""
    store = Store(results_folder("paper"))
    return claims_frame(*stored_cells(store, table_1(profile_named("paper"))), store, claims)


def conclusions():
    """What can be concluded about the paper, in Markdown; every number is read off the runs of its own size."""
    from IPython.display import Markdown

    return Markdown(_conclusions(at_papers_size(), *_networks()))


def _networks() -> tuple[int, int]:
    """Encoders that the tables need at the paper's size, and how many of them were trained."""
    profile, store = profile_named("paper"), Store(results_folder("paper"))
    cells = table_1(profile) + table_3(profile)
    for name in SURROGATES:
        cells += table_4(profile, surrogate(name, profile))
    needed = {cell.evaluation.encoder for cell in cells}
    return len(needed), sum(store.get(encoder) is not None for encoder in needed)


def _conclusions(found: pd.DataFrame, n_needed: int, n_trained: int) -> str:
    keys = class_keys("paper22")
    n_substitutes = int((registry().loc[list(keys), "fidelity"] == "substitute").sum())
    sentences = [
        f"{n_trained} of the {n_needed} networks behind its tables are trained at its own size (40³, 100 subtomograms "
        "of each class and SNR), on one split of the classes. On that split:\n"
    ]
    pairs = {
        "Mix training against training on one SNR": "ProtoNet3D (mix) minus ProtoNet3D",
        "ProtoNet3D against the finetuned baseline": "ProtoNet3D minus baseline",
        "ProtoNet-CE against ProtoNet3D": "ProtoNet-CE minus ProtoNet3D",
    }
    for words, start in pairs.items():
        part = found[found["claim"].str.startswith(start)]
        if len(part):
            n = part["verdict"].value_counts()
            others = n.drop("holds", errors="ignore")
            others = ", ".join(f"{_SHORT.get(verdict, verdict)} in {count}" for verdict, count in others.items())
            sentences.append(
                f"- **{words}**: from {_signed(part['this_work'].min())} to {_signed(part['this_work'].max())} in "
                f"accuracy; the claim ({part['paper'].iloc[0]}) holds in {n.get('holds', 0)} of {len(part)} "
                f"columns{_after(others)}."
            )
    best = found[found["claim"].str.startswith("best method")]
    levels = [f"{row.this_work:.3f} in {row.n_shot}-shot (paper {row.paper})" for row in best.itertuples()]
    if levels:
        sentences.append(f"- **Best accuracy at SNR 0.1**: {' and '.join(levels)}.")
    sentences.append(
        f"\nLevels cannot be compared: {n_substitutes} of the {len(keys)} structures are substitutes, the paper does "
        "not say which classes it tested on, and SNR has several meanings. Differences between methods can, on this "
        "split. To conclude more takes further splits at this size, and the authors' subtomograms, which were not "
        "released."
    )
    return "\n".join(sentences)


_SHORT = {"does not hold": "not met", STILL_IMPROVING: "no verdict, as a training was still improving,"}


def _signed(gain: float) -> str:
    return f"{round(gain, 3) + 0.0:+.3f}"  # no minus before a zero


def _after(others: str) -> str:
    return f" ({others})" if others else ""
