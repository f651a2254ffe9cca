"""One look for all figures: colours of methods, sizes, fonts."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .web import figure_svg

# Okabe and Ito's palette: told apart with any kind of colour vision. A mix variant has the lighter shade of its method.
METHOD_COLOURS = {
    "baseline": "#000000",
    "ProtoNet3D": "#0072B2",
    "ProtoNet3D (mix)": "#56B4E9",
    "ProtoNet-CE": "#D55E00",
    "ProtoNet-CE (mix)": "#E69F00",
}
METHOD_MARKERS = dict(zip(METHOD_COLOURS, "xoD^v", strict=True))
OTHER_COLOURS = ("#009E73", "#CC79A7", "#7F7F7F", "#F0E442")
WIDTH = 6.5
"""Width of a figure, inches: at this width no text is smaller than 9 points."""


def use_style() -> None:
    """Set matplotlib's defaults for all figures of the book; a notebook shows them as SVG for light and dark pages."""
    _show_as_svg()
    plt.rcParams.update(
        {
            "figure.dpi": 130,
            "savefig.dpi": 150,  # of pictures within a figure
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.labelsize": 9.5,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#888888",
            "axes.linewidth": 0.7,
            "xtick.color": "#444444",
            "ytick.color": "#444444",
            "axes.prop_cycle": plt.cycler(color=[*METHOD_COLOURS.values(), *OTHER_COLOURS][1:]),
            "lines.linewidth": 1.4,
        }
    )


def _show_as_svg() -> None:
    import IPython

    if shell := IPython.get_ipython():
        plt.switch_backend(plt.get_backend())  # the notebook's own backend sets its formats when it is loaded
        for kind in ("image/png", "image/jpeg"):
            shell.display_formatter.formatters[kind].pop(Figure, None)
        shell.display_formatter.formatters["image/svg+xml"].for_type(Figure, figure_svg)


def _method_rank(method: str) -> tuple[int, str]:
    known = list(METHOD_COLOURS)
    return (known.index(method) if method in known else len(known), method)


def line_styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name; names that are no method of the paper take the colours left."""
    others = [name for name in names if name not in METHOD_COLOURS]
    styles = {name: (METHOD_COLOURS[name], METHOD_MARKERS[name]) for name in names if name in METHOD_COLOURS}
    free = [*OTHER_COLOURS, *(colour for name, colour in METHOD_COLOURS.items() if name not in styles)]
    for i, name in enumerate(others):
        styles[name] = (free[i % len(free)], "sP*Xhd"[i % 6])
    return styles
