"""Charts that several pages show: accuracies, confusion, training. Needs the extra [book]."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from ..errors import UserError
from .style import METHOD_COLOURS, OTHER_COLOURS, WIDTH, _method_rank, line_styles
from .web import FIXED

_COLOURS = (*METHOD_COLOURS.values(), *OTHER_COLOURS)
_MARKERS = "osD^vPX*"
_CHANCE = {"color": "#777777", "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 0}


def curves_figure(
    frame: pd.DataFrame,
    *,
    x: str,
    curve: str,
    panel: str,
    x_label: str,
    panel_label: str = "{}",
    chance: float,
    dashed: Sequence[str] = (),
    log_x: bool = False,
    joined: bool = True,
    bottom: float = 0.0,
) -> Figure:
    """Accuracy against a quantity, a line with intervals per `curve`, a panel per value of `panel`.

    Curves whose names agree up to a comma share a colour.

    frame : columns accuracy, ci95 (or low and high; NaN for none) and those named
    dashed : curves drawn with a dashed line, as bounds; joined : whether a line joins the dots of a curve
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
                linestyle=(0, (4, 2)) if name in dashed else "-" if joined else "none",
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
        ax.set_ylim(bottom, 1.03)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.set_xlabel(x_label)
        ax.set_title(panel_label.format(value))
    axes[0, 0].set_ylabel("Accuracy")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
    return figure


def accuracy_by_snr(table: pd.DataFrame) -> Figure:
    """Dots with 95 % intervals, a panel per number of shots, SNR from high to low; methods side by side.

    table : a row per dot; columns method, snr, n_shot, n_way, accuracy (0 to 1), ci95 (its half-width)
    """
    snrs, methods = (list(table[name].unique()) for name in ("snr", "method"))
    snrs.sort(reverse=True)
    methods.sort(key=_method_rank)
    step = min(0.8 / len(methods), 0.15)
    table = table.assign(rank=table["method"].map(methods.index)).sort_values(
        ["n_shot", "rank"], ascending=[False, True]
    )
    table["place"] = table["snr"].map(snrs.index) + step * (table["rank"] - (len(methods) - 1) / 2)
    n_way = table["n_way"].iloc[0]
    figure = curves_figure(
        table, x="place", curve="method", panel="n_shot", x_label="SNR (noisier to the right)",
        panel_label=f"{n_way}-way {{}}-shot", chance=1 / n_way, joined=False,
    )  # fmt: skip
    for ax in figure.axes:
        ax.set_xticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
        ax.set_xlim(-0.6, len(snrs) - 0.4)
    return figure


def rows_figure(frame: pd.DataFrame, x_label: str, chance: float | None = None) -> Figure:
    """A value and its interval in each row, a panel per value of `panel`, a colour per `curve`.

    frame : columns row, panel, curve, value, low, high; rows from top to bottom in their order
    chance : what guessing gives, as a line
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
        if chance is not None:
            ax.axvline(chance, label="chance", **_CHANCE)
        ax.set(title=panel, xlabel=x_label if len(panels) < 4 or panel == panels[len(panels) // 2] else "")
        ax.grid(axis="x", color="#e4e4e4", linewidth=0.7)
        ax.xaxis.set_major_locator(plt.MaxNLocator(3 if len(panels) > 3 else 5, steps=[1, 2, 4, 5, 10]))
    axes[0, 0].set_yticks(range(len(rows)), rows)
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix in percent of each true class.

    counts : `(n_classes, n_classes)`, row true class, column predicted class; a class never asked for stays grey
    """
    counts = np.asarray(counts, dtype=float)
    n_classes = len(class_names)
    if counts.shape != (n_classes, n_classes):
        raise UserError(f"confusion counts of shape {counts.shape}, {n_classes} class names: give one name per row")
    totals = counts.sum(axis=1, keepdims=True)
    percent = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    figure, ax = plt.subplots(figsize=(WIDTH, min(WIDTH, 1.6 + 0.47 * n_classes)))
    seaborn.heatmap(
        percent,
        ax=ax,
        cmap="Blues",
        vmin=0,
        vmax=100,
        square=True,
        annot=n_classes <= 12,
        fmt=".0f",
        xticklabels=class_names,
        yticklabels=class_names,
        cbar_kws={"shrink": 0.7, "label": "Percent of the true class"},
    )
    for artist in (*ax.collections, *ax.texts):
        artist.set_gid(FIXED)
    ax.set(facecolor="#d0d0d0", xlabel="Predicted class", ylabel="True class")
    ax.tick_params(length=0)
    ax.tick_params(axis="y", rotation=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    return figure


def training_figure(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss and validation accuracy by epoch.

    histories : name -> {'loss': per epoch, 'validation_accuracy': per epoch, 0 to 1}, as the results store holds them;
        a ring marks the best epoch, whose weights were kept
    """
    height = max(3.2, 2.6 + 0.22 * len(histories) / 2)  # the legend has two columns, below
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, height))
    styles = line_styles(list(histories))
    for name, history in histories.items():
        colour, _ = styles[name]
        for ax, key in zip(axes, ("loss", "validation_accuracy"), strict=True):
            values = np.asarray(history[key], dtype=float)
            ax.plot(np.arange(1, len(values) + 1), values, color=colour, label=name)
        if len(values):
            best = int(np.argmax(values))
            axes[1].plot(best + 1, values[best], "o", color=colour, markerfacecolor="white", markersize=6)
    for ax, label in zip(axes, ("Training loss", "Validation accuracy"), strict=True):
        ax.set_xlabel("Epoch")
        ax.set_ylabel(label)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    if histories:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2 if len(names) > 1 else 1)
    return figure
