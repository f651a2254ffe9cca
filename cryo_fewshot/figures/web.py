"""A matplotlib figure as SVG for a page: colours for light and dark, a description, and its numbers as csv."""

import colorsys
import hashlib
import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.category import StrCategoryLocator
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

FIXED = "fixed"
"""Group id (`artist.set_gid`) of what keeps its colours in the dark, such as the cells of a heat map."""
_SVG = "{http://www.w3.org/2000/svg}"
ElementTree.register_namespace("", _SVG[1:-1])
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def figure_svg(figure: Figure) -> str:
    """The figure as SVG. The same figure gives the same text on every machine.

    Ink and pastel colours follow the page's theme; pictures of volumes stay as they are. `<title>` holds the figure's
    label (`figure.set_label`) or else what `describe` says, `<metadata>` its numbers from `figure_data` as csv.
    """
    buffer = io.StringIO()
    # Letters stay letters, so that a page can measure and read them.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cryo_fewshot"}):
        figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(root.find(f"{_SVG}metadata"))
    root.remove(root.find(f"{_SVG}defs"))  # a style sheet that would be the whole page's
    _follow_theme(root)
    root.set("style", f"fill: {_themed('#000000')}; stroke-linejoin: round; stroke-linecap: butt")
    root.set("width", "100%")
    root.attrib.pop("height")
    title, data = ElementTree.Element(f"{_SVG}title"), ElementTree.Element(f"{_SVG}metadata")
    title.text = figure.get_label() or describe(figure)
    data.text = figure_data(figure).to_csv(index=False, lineterminator="\n", float_format="%.6g")
    root[:0] = [title, data]
    return _with_steady_names(ElementTree.tostring(root, encoding="unicode"))


def _with_steady_names(svg: str) -> str:
    """Clip paths and markers by number in the place of matplotlib's hashes, which follow rounding errors."""
    pattern = r'( id="|#)([a-z][0-9a-f]{10})\b'
    names = list(dict.fromkeys(name for _, name in re.findall(pattern, svg)))
    numbered = re.sub(pattern, lambda match: f"{match[1]}@{names.index(match[2])}", svg)
    digest = hashlib.sha256(numbered.encode()).hexdigest()[:8]  # figures of one page do not share names
    return re.sub(r'( id="|#)@(\d+)', rf"\1f{digest}-\2", numbered)


def _follow_theme(element: ElementTree.Element) -> None:
    """Colours for both themes in an element and below; drops names that nothing refers to."""
    if element.get("id", "").startswith(FIXED):
        return
    if element.tag == f"{_SVG}g":
        element.attrib.pop("id", None)
    if style := element.get("style"):
        element.set("style", re.sub(r"(fill|stroke): (#[0-9a-f]{6})", _both_colours, style))
    for child in element:
        _follow_theme(child)


def _both_colours(match: re.Match) -> str:
    name, colour = match.groups()
    return f"{name}: {colour}; {name}: {_themed(colour)}"  # the first for readers that know no light-dark()


def _themed(colour: str) -> str:
    """`light-dark()` of a colour: greys are turned over, pastels darkened, dark colours lightened, others stay."""
    hue, light, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    if saturation == 0:
        light = 0.9 - 0.82 * light
    elif light > 0.75:
        light = 1.1 - light
    elif light < 0.305:
        light = 0.62
    else:
        return colour
    dark = "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))
    return f"light-dark({colour}, #{dark})"


def describe(figure: Figure) -> str:
    """What is drawn, in words for those who cannot see it: panels, axes with their range, series."""
    sentences = []
    for ax in figure.axes:
        name = ax.get_title() or ax.get_title(loc="left")
        words = [f"{side} {label}" for side, label in (("x:", ax.get_xlabel()), ("y:", ax.get_ylabel())) if label]
        kind = "picture" if ax.images else "panel"
        if name or words:
            sentences.append(f"{kind} {name}".strip() + (f" ({'; '.join(words)})" if words else ""))
    data = figure_data(figure)
    series = list(dict.fromkeys(data["series"])) if len(data) else []
    if series:
        values = pd.to_numeric(data["y"], errors="coerce")
        values = pd.to_numeric(data["x"], errors="coerce") if values.isna().any() else values
        sentences.append(f"series {', '.join(series)}; values from {values.min():.3g} to {values.max():.3g}")
    text = " ".join(". ".join(dict.fromkeys(sentences)).split())
    return f"Figure: {text}." if text else "Figure."


def figure_data(figure: Figure) -> pd.DataFrame:
    """The numbers drawn: columns panel, series, x, y, low, high (NaN without an interval); empty for pictures.

    Read off the figure: error bars, named lines and dots, bars, cells of heat maps. Where an axis has names for its
    places, the name stands in the place of the number; what has no name has that of its colour in the legend.
    low, high : ends of the bar, along y or, where only that is drawn, along x
    """
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    legend = {
        to_hex(handle.get_color()): text.get_text()
        for shown in legends
        for handle, text in zip(shown.legend_handles, shown.get_texts(), strict=False)
        if isinstance(handle, Line2D)
    }
    rows = [
        {
            "panel": ax.get_title() or str(number),
            "series": " ".join(name.split()),
            "x": _named(ax.xaxis, x),
            "y": y if any(isinstance(marks, QuadMesh) for marks in ax.collections) else _named(ax.yaxis, y),
            "low": low,
            "high": high,
        }
        for number, ax in enumerate(figure.axes, 1)
        if ax.get_label() != "<colorbar>"
        for name, values in _series(ax, legend)
        if not name.startswith("_")  # matplotlib's own names, of what the figure does not name
        for x, y, low, high in values
    ]
    return pd.DataFrame(rows, columns=["panel", "series", "x", "y", "low", "high"])


def _ends(segment: np.ndarray, axis: int) -> np.ndarray:
    """Both ends of an error bar; NaN where nothing was drawn, as for an interval that is NaN."""
    return segment[:, axis] if len(segment) == 2 else np.full(2, np.nan)


def _series(ax: Axes, legend: dict[str, str]):
    """Name and `(n, 4)` values x, y, low, high of all that carries numbers. legend : name by colour"""
    taken = set()
    for container in ax.containers:
        if isinstance(container, ErrorbarContainer) and container.lines[0] is not None:
            line, _, bars = container.lines
            taken.add(line)
            axis = int(container.has_yerr)
            ends = [np.array([_ends(segment, axis) for segment in bar.get_segments()]) for bar in bars]
            places = np.array(line.get_data(), float).T
            yield container.get_label(), np.c_[places, ends[-1] if ends else np.full_like(places, np.nan)]
        elif isinstance(container, BarContainer):
            upright = container.orientation != "horizontal"
            places = [(b.get_x() + b.get_width() / 2, b.get_height()) if upright else
                      (b.get_width(), b.get_y() + b.get_height() / 2) for b in container]  # fmt: skip
            yield container.get_label(), _without_interval(places)
    for line in ax.lines:
        if line not in taken:
            name, places = line.get_label(), np.array(line.get_data(), float).T
            if name.startswith("_") and len(places) > 2:  # no mere rule
                name = legend.get(to_hex(line.get_color()), name)
            yield name, _without_interval(places)
    for marks in ax.collections:
        if isinstance(marks, PathCollection) and len(marks.get_offsets()):
            yield marks.get_label(), _without_interval(np.asarray(marks.get_offsets(), float))
        elif isinstance(marks, QuadMesh) and ax.get_yticklabels():
            names = [label.get_text() for label in ax.get_yticklabels()]
            grid = np.ma.filled(marks.get_array(), np.nan).reshape(-1, marks.get_coordinates().shape[1] - 1)
            for row, values in zip(names, grid, strict=False):
                yield row, _without_interval(np.c_[np.arange(len(values)) + 0.5, values])


def _without_interval(places) -> np.ndarray:
    places = np.asarray(places, float).reshape(-1, 2)
    return np.c_[places, np.full_like(places, np.nan)]


def _named(axis: Axis, place: float):
    """The name of the nearest tick where ticks have names that are not their own place, else the number."""
    ticks = axis.get_majorticklocs()
    if not isinstance(axis.get_major_locator(), FixedLocator | StrCategoryLocator) or not len(ticks):
        return place
    nearest = int(np.abs(ticks - place).argmin())
    name = " ".join(axis.get_major_formatter().format_ticks(ticks)[nearest].split())
    return place if name in ("", f"{ticks[nearest]:g}") else name
