"""Figures of the book: one style, one colour per method. Needs the extra [book]; the core never imports this module."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..errors import UserError
from .style import METHOD_COLOURS, OTHER_COLOURS, WIDTH, _method_rank, _styles


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
    styles = _styles(methods)
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
            )
        ax.axhline(1 / n_way, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
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
    ax.axvline(
        1 / frame["n_way"].iloc[0], color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0, label="chance"
    )
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
    colours = plt.get_cmap("Blues").with_extremes(bad="#d0d0d0")
    picture = ax.imshow(percent, cmap=colours, vmin=0, vmax=100)
    if n_classes <= 12:
        for row, column in np.argwhere(np.isfinite(percent)):
            value = percent[row, column]
            ink = "white" if value > 55 else "black"
            ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink)
    ax.set_xticks(range(n_classes), class_names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(n_classes), class_names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    bar = figure.colorbar(picture, ax=ax, shrink=0.7, label="Percent of the true class")
    bar.outline.set_visible(False)
    return figure


def training_figure(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss and validation accuracy by epoch.

    Parameters
    ----------
    histories : name -> {'loss': per epoch, 'validation_accuracy': per epoch, 0 to 1}, as the results store holds them;
        a ring marks the best epoch, whose weights were kept
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    styles = _styles(list(histories))
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


def episode_figure(view: dict, supports: Sequence[Sequence[np.ndarray]], query: np.ndarray) -> Figure:
    """Figure 1: one episode from its subtomograms to the decision.

    Parameters
    ----------
    view : what `studies.view_episode` returns as its result
    supports : per class and shot, a volume `(b, b, b)`; query : `(b, b, b)`
    """
    names, colours = view["classes"], _way_colours(len(view["classes"]))
    n_way, n_shot = len(names), len(supports[0])
    figure = plt.figure(figsize=(WIDTH, 7.6), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.15, 1.25, 0.9])

    axes = top.subplots(n_way, n_shot + 1, squeeze=False)
    low, high = np.percentile([*np.ravel(supports), *query.ravel()], [1, 99])
    for way, row in enumerate(axes):
        for shot, ax in enumerate(row):
            volume = query if shot == n_shot else supports[way][shot]
            if shot < n_shot or way == 0:
                ax.imshow(volume[len(volume) // 2], cmap="gray", vmin=low, vmax=high, origin="lower")
            ax.set(xticks=[], yticks=[])
            colour = "#000000" if shot == n_shot else colours[way]
            for spine in ax.spines.values():
                spine.set(visible=shot < n_shot or way == 0, color=colour, linewidth=2)
        row[0].set_ylabel(names[way], color=colours[way], fontweight="bold")
    axes[0, 0].set_title("support", loc="left")
    axes[0, n_shot].set_title("query")

    panels = middle.subplots(1, 2)
    for ax, space, title in zip(panels, ("plain", "adapted"), ("encoder's space", "adapted to this task"), strict=True):
        places = view[space]
        for way in range(n_way):
            if space == "plain":
                ax.scatter(*np.transpose(places["support"][way]), s=22, color=colours[way], alpha=0.6)
            ax.scatter(*places["prototypes"][way], marker="*", s=170, color=colours[way], edgecolor="white", zorder=3)
            ends = np.transpose([places["query"], places["prototypes"][way]])
            ax.plot(*ends, color=colours[way], linewidth=1, linestyle=(0, (3, 2)), zorder=1)
        ax.scatter(*places["query"], marker="D", s=42, color="#000000", zorder=4)
        ax.set(title=title, xlabel="first direction of spread", xticks=[], yticks=[])
    panels[0].set_ylabel("second direction")

    panels = bottom.subplots(1, 3)
    plain, adapted = (np.array(view[space]["distances"]) for space in ("plain", "adapted"))
    for ax, distances, title in zip(panels, (plain, adapted, plain + adapted), ("d", "d*", "d + d*"), strict=True):
        bars = ax.barh(range(n_way), distances, color=colours)
        bars[int(distances.argmin())].set(edgecolor="#000000", linewidth=1.8)
        ax.set(yticks=range(n_way), yticklabels=names if ax is panels[0] else [], xlabel=f"{title} (squared)")
        ax.invert_yaxis()
        ax.locator_params(axis="x", nbins=4)
    return figure


def _way_colours(n_way: int) -> list[str]:
    colours = [METHOD_COLOURS["ProtoNet3D"], METHOD_COLOURS["ProtoNet-CE"], *OTHER_COLOURS]
    return [colours[way % len(colours)] for way in range(n_way)]


def speed_figure(frame: pd.DataFrame) -> Figure:
    """Time of the package beside the reference's, on a logarithmic scale; a row per path that has a reference.

    frame : columns path, unit, reference_ms, package_ms, ratio
    """
    rows = frame[frame["ratio"].notna()].iloc[::-1]
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(rows)))
    places = np.arange(len(rows))
    ax.hlines(places, rows["package_ms"], rows["reference_ms"], color="#bbbbbb", linewidth=2, zorder=1)
    ax.scatter(rows["reference_ms"], places, color="#000000", marker="x", label="plain reference", zorder=2)
    ax.scatter(rows["package_ms"], places, color=METHOD_COLOURS["ProtoNet3D"], label="this package", zorder=2)
    for place, row in zip(places, rows.itertuples(), strict=True):
        middle = (row.package_ms * row.reference_ms) ** 0.5
        ax.annotate(f"{row.ratio:.1f}×", (middle, place), xytext=(0, 3), textcoords="offset points", ha="center")
    ax.set_xscale("log")
    ax.set(yticks=places, yticklabels=rows["path"], xlabel="Milliseconds per unit (further left is faster)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
