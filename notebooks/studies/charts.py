"""Figures of the studies beyond the paper, in the style of `figures.style`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH

_COLOURS = (*METHOD_COLOURS.values(), *OTHER_COLOURS)
_MARKERS = "osD^vPX*"


def labels_text(n: int) -> str:
    """A number of labels in words: '1 label', '5 labels'."""
    return f"{n} label{'' if n == 1 else 's'}"


def reliability_figure(frame: pd.DataFrame) -> Figure:
    """How often an answer is right against the probability it was given.

    frame : columns panel, curve, probability, accuracy, and ci95 or low and high; a row per bin of probability
    """
    figure = curves_figure(
        frame, x="probability", curve="curve", panel="panel", x_label="probability that the tool gives", chance=0
    )
    for ax in figure.axes:
        ax.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle=(0, (1, 2)), zorder=0)
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    figure.axes[0].set_ylabel("Share of right answers")
    return figure


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


def rows_figure(frame: pd.DataFrame, x_label: str) -> Figure:
    """A value and its interval in each row, a panel per value of `panel`, a colour per `curve`.

    frame : columns row, panel, curve, value, low, high; rows from top to bottom in their order
    """
    rows, panels, curves = (list(frame[name].unique()) for name in ("row", "panel", "curve"))
    height = 1.4 + 0.36 * len(rows)
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, height), sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        for number, curve in enumerate(curves):
            part = frame[(frame["panel"] == panel) & (frame["curve"] == curve)]
            place = [rows.index(name) + 0.26 * (number - (len(curves) - 1) / 2) for name in part["row"]]
            reach = [part["value"] - part["low"], part["high"] - part["value"]]
            ax.errorbar(part["value"], place, xerr=np.abs(reach), fmt=_MARKERS[number], markersize=4, capsize=0,
                        color=_COLOURS[1:][2 * number % 7], label=curve)  # fmt: skip
        if frame["low"].min() < 0:
            ax.axvline(0, color="#777777", linewidth=1, zorder=0)
        ax.set(title=panel, xlabel=x_label if len(panels) < 4 or panel == panels[len(panels) // 2] else "")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        ax.xaxis.set_major_locator(plt.MaxNLocator(3 if len(panels) > 3 else 5, steps=[1, 2, 4, 5, 10]))
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves))
    return figure
