"""Figure 1: one episode, from its subtomograms to the decision."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH


def episode_figure(view: dict, supports: Sequence[Sequence[np.ndarray]], query: np.ndarray) -> Figure:
    """Figure 1: one episode from its subtomograms to the decision.

    Parameters
    ----------
    view : the result of `studies.views.view_episode`
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
            ax.patch.set_visible(False)
            colour = "#000000" if shot == n_shot else colours[way]
            for spine in ax.spines.values():
                spine.set(visible=shot < n_shot or way == 0, color=colour, linewidth=2)
        row[0].set_ylabel(names[way], color=colours[way], fontweight="bold", rotation=0, ha="right", va="center")
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
        bars = ax.barh(range(n_way), distances, color=colours, label=title)
        bars[int(distances.argmin())].set(edgecolor="#000000", linewidth=1.8)
        ax.set(yticks=range(n_way), yticklabels=names if ax is panels[0] else [], xlabel=f"{title} (squared)")
        ax.invert_yaxis()
        ax.locator_params(axis="x", nbins=4)
    return figure


def _way_colours(n_way: int) -> list[str]:
    colours = [METHOD_COLOURS["ProtoNet3D"], METHOD_COLOURS["ProtoNet-CE"], *OTHER_COLOURS]
    return [colours[way % len(colours)] for way in range(n_way)]
