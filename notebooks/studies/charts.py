"""Figures of the studies beyond the paper, in the style of `figures.style`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH

_COLOURS = (*METHOD_COLOURS.values(), *OTHER_COLOURS)
_MARKERS = "osD^vPX*"


def curves_figure(
    frame: pd.DataFrame,
    *,
    x: str,
    curve: str,
    panel: str,
    x_label: str,
    panel_label: str,
    chance: float,
    dashed: Sequence[str] = (),
    log_x: bool = False,
    bottom: float = 0.0,
    top: float = 1.03,
) -> Figure:
    """Accuracy against a quantity, a line with intervals per `curve`, a panel per value of `panel`.

    Curves whose names agree up to a comma share a colour.

    frame : columns accuracy, ci95 and those named; dashed : curves drawn with a dashed line, as bounds
    """
    panels, curves = frame[panel].unique(), list(frame[curve].unique())
    things = list(dict.fromkeys(name.split(",")[0] for name in curves))
    free = OTHER_COLOURS if METHOD_COLOURS.keys() & set(things) else _COLOURS[1:]
    others = [name for name in things if name not in METHOD_COLOURS]
    colours = METHOD_COLOURS | {name: free[i % len(free)] for i, name in enumerate(others)}
    figure, axes = plt.subplots(1, len(panels), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for ax, value in zip(axes[0], panels, strict=True):
        for number, name in enumerate(curves):
            rows = frame[(frame[panel] == value) & (frame[curve] == name)].sort_values(x)
            ax.errorbar(
                rows[x],
                rows["accuracy"],
                yerr=rows["ci95"].fillna(0),
                color=colours[name.split(",")[0]],
                marker=_MARKERS[number % len(_MARKERS)],
                markersize=5,
                linestyle=(0, (4, 2)) if name in dashed else "-",
                label=name,
            )
        if chance > bottom:
            ax.axhline(chance, color="#777777", linewidth=1, linestyle=(0, (1, 2)), zorder=0)
            ax.annotate("chance", (0.98, chance), xycoords=("axes fraction", "data"), xytext=(0, -11), ha="right",
                        textcoords="offset points", color="#555555")  # fmt: skip
        if log_x:
            ax.set_xscale("log")
            ax.set_xticks(sorted(frame[x].unique()), [f"{tick:g}" for tick in sorted(frame[x].unique())])
            ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        ax.set_ylim(bottom, top)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.set_xlabel(x_label)
        ax.set_title(panel_label.format(value))
    axes[0, 0].set_ylabel("Accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    return figure


def reliability_figure(frame: pd.DataFrame) -> Figure:
    """How often an answer is right against the probability it was given, a panel per shots, a curve per SNR.

    frame : columns n_shot, snr, probability, accuracy, low, high, ece; a row per bin of probability
    """
    shots, snrs = frame["n_shot"].unique(), frame["snr"].unique()
    figure, axes = plt.subplots(1, len(shots), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for ax, n_shot in zip(axes[0], shots, strict=True):
        ax.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle=(0, (1, 2)), zorder=0)
        for number, snr in enumerate(snrs):
            rows = frame[(frame["n_shot"] == n_shot) & (frame["snr"] == snr)]
            spread = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
            ax.errorbar(
                rows["probability"],
                rows["accuracy"],
                yerr=np.abs(spread),
                color=_COLOURS[(1 + 2 * number) % len(_COLOURS)],
                marker=_MARKERS[number],
                markersize=5,
                label=f"SNR {snr:g}: error {rows['ece'].iloc[0]:.3f}",
            )
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability that the tool gives", title=f"{n_shot}-shot")
        ax.set_aspect("equal")
        ax.legend(loc="lower right")
    axes[0, 0].set_ylabel("Share of right answers")
    return figure


def claims_figure(values: pd.DataFrame, claims: pd.DataFrame, quoted: Sequence[float]) -> Figure:
    """A row per claim: every run as a dot (a colour per class split), the mean with its interval, the paper's number.

    values, claims : of `claims.claim_values` and `claims.judged`; quoted : the paper's number of each row of claims
    """
    numbers = sorted(values["number"].unique())
    figure, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.42 * len(numbers)))
    splits = sorted(values["split_seed"].unique())
    for row, (number, claim, paper) in enumerate(zip(numbers, claims.itertuples(), quoted, strict=True)):
        part = values[values["number"] == number]
        for place, split in enumerate(splits):
            dots = part.loc[part["split_seed"] == split, "value"]
            height = row + 0.24 - 0.1 * place
            ax.plot(dots, [height] * len(dots), ".", color=_COLOURS[1 + place], markersize=4, zorder=1)
        ax.errorbar(
            claim.mean,
            row - 0.32,
            xerr=[[claim.mean - claim.low], [claim.high - claim.mean]],
            fmt="o",
            color="black",
            markersize=4.5,
            capsize=3,
            zorder=3,
        )
        ax.plot([paper, paper], [row - 0.42, row + 0.34], color="#CC79A7", linewidth=2.4, zorder=2)
    ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    labels = [f"{claim.claim}, {claim.n_shot}-shot".replace(": ", ":\n") for claim in claims.itertuples()]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlabel("Accuracy, or difference in accuracy")
    handles = [
        plt.Line2D([], [], marker=".", linestyle="", color=_COLOURS[1 + place], label=f"split {split}")
        for place, split in enumerate(splits)
    ]
    handles += [
        plt.Line2D([], [], marker="o", color="black", markersize=4.5, label="mean, 95 %"),
        plt.Line2D([], [], color="#CC79A7", linewidth=2.4, label="paper"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def ablation_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy of each step from top to bottom, a colour per SNR, a panel per shots; a dot per class split.

    frame : of `ablation.ablation_frame`
    """
    steps, snrs = list(frame["step"].unique()), sorted(frame["snr"].unique(), reverse=True)
    shots = sorted(frame["n_shot"].unique(), reverse=True)
    heights = {step: height for height, step in enumerate(steps)}
    figure, axes = plt.subplots(1, len(shots), figsize=(WIDTH, 1.3 + 0.34 * len(steps)), sharey=True, squeeze=False)
    for ax, n_shot in zip(axes[0], shots, strict=True):
        for number, snr in enumerate(snrs):
            part = frame[(frame["n_shot"] == n_shot) & (frame["snr"] == snr)]
            mean = part.groupby("step", sort=False)["accuracy"].mean()
            colour, marker = _COLOURS[1:][2 * number % 7], _MARKERS[number]  # every other one: the nearest are alike
            ax.plot(mean, mean.index.map(heights), color=colour, marker=marker, markersize=5, label=f"SNR {snr:g}")
            ax.plot(part["accuracy"], part["step"].map(heights), ".", color=colour, markersize=3, alpha=0.6)
        ax.set_xlabel("Accuracy")
        ax.set_title(f"{n_shot}-shot")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(steps)), steps)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(snrs))
    return figure


def size_figure(frame: pd.DataFrame, n_named: int = 5) -> Figure:
    """Accuracy of each class against its diameter, a panel per shots; the worst are named.

    frame : of `encoder_limits.classes_frame`
    """
    shots = list(frame["n_shot"].unique())
    figure, axes = plt.subplots(1, len(shots), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for ax, n_shot in zip(axes[0], shots, strict=True):
        part = frame[frame["n_shot"] == n_shot]
        ax.plot(part["max_diameter_nm"], part["accuracy"], "o", color=_COLOURS[1], markersize=5)
        worst = part.nsmallest(n_named, "accuracy").set_index("class")[["max_diameter_nm", "accuracy"]]
        for number, (name, place) in enumerate(worst.iterrows()):
            side, offset = (("left", 6), ("right", -6))[number % 2]  # neighbours are often next in order
            ax.annotate(name, place, xytext=(offset, -4), textcoords="offset points", ha=side, color="#333333")
        ax.margins(x=0.14)
        ax.set_xlabel("largest diameter (nm)")
        ax.set_title(f"{n_shot}-shot")
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
    axes[0, 0].set_ylabel("Accuracy")
    return figure
