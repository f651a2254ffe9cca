"""Figures of the studies beyond the paper, in the style of `figures.style`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH

_COLOURS = (*METHOD_COLOURS.values(), *OTHER_COLOURS)


def labels_text(n: int) -> str:
    """A number of labels in words: '1 label', '5 labels'."""
    return f"{n} label{'' if n == 1 else 's'}"


def claims_figure(values: pd.DataFrame, claims: pd.DataFrame, quoted: Sequence[float]) -> Figure:
    """A row per claim: every run as a dot (a colour per class split), the mean with its interval, the paper's number.

    values, claims : of `claims.claim_values` and `claims.judged`; quoted : the paper's number of each row of claims
    """
    labels = [f"{claim.claim}, {claim.n_shot}-shot".replace(": ", ":\n") for claim in claims.itertuples()]
    dots = values.assign(label=values["number"].map(dict(zip(claims["number"], labels, strict=True))))
    dots = dots.assign(split="split " + dots["split_seed"].astype(str))
    figure, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.42 * len(labels)))
    colours = list(_COLOURS[1 : 1 + dots["split"].nunique()])
    seaborn.stripplot(dots, x="value", y="label", hue="split", order=labels, palette=colours, dodge=True, jitter=False,
                      size=3, ax=ax)  # fmt: skip
    rows = np.arange(len(labels))
    reach = (claims["high"] - claims["mean"]).fillna(0)  # one split has no interval
    ax.errorbar(claims["mean"], rows - 0.48, xerr=reach, fmt="ko", markersize=4, capsize=3, label="mean, 95 %")
    ax.vlines(quoted, rows - 0.4, rows + 0.4, color="#CC79A7", linewidth=2.4, label="paper")
    ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    ax.set(xlabel="Difference in accuracy", ylabel="", ylim=(len(labels) - 0.4, -0.8))
    handles = ax.get_legend_handles_labels()
    ax.get_legend().remove()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    return figure
