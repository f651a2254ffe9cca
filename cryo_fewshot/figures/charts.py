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

_CHANCE = {"color": "#777777", "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 0}


def accuracy_by_snr(table: pd.DataFrame) -> Figure:
    """Dots with 95 % intervals, one panel per task size, SNR from high to low.

    Parameters
    ----------
    table : one row per dot; columns method, snr, n_shot, n_way, accuracy (0 to 1), ci95 (its half-width; NaN for none)
    """
    missing = {"method", "snr", "n_shot", "n_way", "accuracy", "ci95"}.difference(table.columns)
    if missing:
        raise UserError(f"the table of accuracies lacks the columns {', '.join(sorted(missing))}")
    tasks = sorted(set(zip(table["n_way"], table["n_shot"], strict=True)), key=lambda task: (task[0], -task[1]))
    snrs = sorted(table["snr"].unique(), reverse=True)
    methods = sorted(table["method"].unique(), key=_method_rank)
    styles = line_styles(methods)
    is_one_way = len({n_way for n_way, _ in tasks}) == 1
    figure, axes = plt.subplots(1, len(tasks), figsize=(WIDTH, 3.6), sharey=is_one_way, squeeze=False)
    handles = {}
    for ax, (n_way, n_shot) in zip(axes[0], tasks, strict=True):
        panel = table[(table["n_way"] == n_way) & (table["n_shot"] == n_shot)]
        for i, method in enumerate(methods):
            rows = panel[panel["method"] == method]
            offset = (i - (len(methods) - 1) / 2) * min(0.8 / len(methods), 0.15)
            colour, marker = styles[method]
            handles[method] = ax.errorbar(
                [snrs.index(snr) + offset for snr in rows["snr"]],
                rows["accuracy"],
                yerr=rows["ci95"].fillna(0),
                fmt=marker,
                color=colour,
                markersize=5.5,
                markeredgewidth=1.6 if marker == "x" else 0,
                elinewidth=1.3,
                label=method,
            )
        ax.axhline(1 / n_way, **_CHANCE)
        ax.annotate(
            f"chance: 1 in {n_way}",
            (0.02, 1 / n_way),
            xycoords=("axes fraction", "data"),
            xytext=(0, -11),  # below the line: methods lie above it
            textcoords="offset points",
            color="#555555",
        )
        ax.set_xticks(range(len(snrs)), [f"{snr:g}" for snr in snrs])
        ax.set_xlim(-0.6, len(snrs) - 0.4)
        ax.set_ylim(0, 1)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.set_xlabel("SNR (noisier to the right)")
        ax.set_title(f"{n_way}-way {n_shot}-shot")
        if ax is axes[0, 0] or not is_one_way:
            ax.set_ylabel(f"Accuracy ({n_way}-way)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(handles)))
    return figure


def accuracy_by_class(frame: pd.DataFrame) -> Figure:
    """Accuracy of each class with its interval, the hardest at the bottom, a colour per number of shots.

    frame : columns class, n_shot, n_way, accuracy, low, high
    """
    order = frame.groupby("class")["accuracy"].mean().sort_values().index.tolist()
    figure, ax = plt.subplots(figsize=(WIDTH, 0.6 + 0.4 * len(order)))
    middle = (frame["n_shot"].nunique() - 1) / 2
    for number, (n_shot, part) in enumerate(frame.groupby("n_shot", sort=False)):
        rows = [order.index(name) + 0.24 * (middle - number) for name in part["class"]]
        spread = [part["accuracy"] - part["low"], part["high"] - part["accuracy"]]
        colour = (METHOD_COLOURS["ProtoNet-CE"], METHOD_COLOURS["ProtoNet3D"], *OTHER_COLOURS)[number]
        ax.errorbar(
            part["accuracy"], rows, xerr=np.abs(spread), fmt="os^D"[number], color=colour, label=f"{n_shot}-shot"
        )
    ax.axvline(1 / frame["n_way"].iloc[0], label="chance", **_CHANCE)
    ax.set_yticks(range(len(order)), order)
    ax.set(xlim=(0, 1.02), xlabel="Accuracy")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Heat map of a confusion matrix in percent of each true class.

    Parameters
    ----------
    counts : `(n_classes, n_classes)`, row true class, column predicted class; a class never asked for stays grey
    class_names : one per class
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

    Parameters
    ----------
    histories : name -> {'loss': per epoch, 'validation_accuracy': per epoch, 0 to 1}, as the results store holds them;
        a ring marks the best epoch, whose weights were kept
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
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
