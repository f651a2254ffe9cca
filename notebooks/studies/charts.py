"""Figures of the studies beyond the paper, in the style of `figures.style`."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
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

    frame : columns accuracy, ci95 (or low and high) and those named
    dashed : curves drawn with a dashed line, as bounds
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
            reach = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]] if "low" in rows else rows["ci95"]
            ax.errorbar(
                rows[x],
                rows["accuracy"],
                yerr=np.nan_to_num(reach),
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


def ablation_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy of each step from top to bottom, a colour per SNR, a panel per shots; a dot per class split.

    frame : of `ablation.ablation_frame`
    """
    frame, shots = frame.assign(SNR=frame["snr"].map("SNR {:g}".format)), frame["n_shot"].unique()
    hues = list(frame["SNR"].unique())
    colours = [_COLOURS[1:][2 * number % 7] for number in range(len(hues))]  # every other one: the nearest are alike
    look = {"x": "accuracy", "y": "step", "hue": "SNR", "palette": colours}
    height = 1.3 + 0.34 * frame["step"].nunique()
    figure, axes = plt.subplots(1, len(shots), figsize=(WIDTH, height), sharey=True, squeeze=False)
    for ax, n_shot in zip(axes[0], shots, strict=True):
        part = frame[frame["n_shot"] == n_shot]
        seaborn.pointplot(part, **look, errorbar=None, markers=list(_MARKERS[: len(hues)]), linewidth=1.5, ax=ax)
        handles = ax.get_legend_handles_labels()
        seaborn.stripplot(part, **look, jitter=False, size=3, alpha=0.6, legend=False, ax=ax)
        ax.get_legend().remove()
        ax.set(xlabel="Accuracy", ylabel="", title=f"{n_shot}-shot")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    figure.legend(*handles, loc="outside lower center", ncols=len(hues))
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
