"""One html file that says what a classification found: it needs no network, no server and no other file.

Inputs are plain arrays and tables. Plotly draws the pages of the book and this one; its script is written into the
file, which is 4.8 MB of it. Needs the packages that `pictures` needs.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import write_atomically

MAX_POINTS = 5_000
"""Particles on the map; more are drawn from at random."""
TILE = 24
"""Pixels along the edge of a slice on the map: 5,000 of them are some 2 MB."""
MAX_TRIANGLES = 6_000
REJECTED_COLOUR = "#9a9a9a"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
GLYPHS = ("●", "◆", "■", "▲", "✖")


@dataclass(frozen=True, kw_only=True)
class Average:
    """Average of a class.

    density : `(d, h, w)` zyx, protein positive; voxel_size_nm : edge of a voxel;
    frequencies_per_nm, fsc : `(k,)` Fourier shell correlation of the halves; resolution_nm : at 0.143, inf for none;
    n_particles : that went in
    """

    density: np.ndarray
    voxel_size_nm: float
    frequencies_per_nm: np.ndarray
    fsc: np.ndarray
    resolution_nm: float
    n_particles: int


@dataclass(frozen=True, kw_only=True)
class Particles:
    """Particles for the map and for looking at; all of one length n.

    names : what the user calls them; labels : class names; runner_up : class names; probability : `(n,)`;
    accepted : `(n,)` bool; embeddings : `(n, dim)`; slices : `(n, h, w)` central xy slices, or None
    """

    names: Sequence[str]
    labels: Sequence[str]
    runner_up: Sequence[str]
    probability: np.ndarray
    accepted: np.ndarray
    embeddings: np.ndarray
    slices: np.ndarray | None = None

    def __post_init__(self):
        parts = (self.labels, self.runner_up, self.probability, self.accepted, self.embeddings, self.slices)
        if any(len(part) != len(self.names) for part in parts if part is not None):
            raise UserError(f"report: {len(self.names)} particles, but a column of another length: give one value each")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: np.ndarray) -> "Particles":
        columns = {name: None if column is None else np.asarray(column)[chosen] for name, column in vars(self).items()}
        return Particles(**columns)


def write_report(
    path: Path,
    *,
    counts: pd.DataFrame,
    particles: Particles,
    averages: Mapping[str, Average] | None = None,
    support: Mapping | None = None,
    settings: Mapping | None = None,
    title: str = "Classification report",
    n_uncertain: int = 24,
    seed: int = 0,
) -> None:
    """Write the report.

    Parameters
    ----------
    path : the html file; its folder is made
    counts : a row per class, the class's name in column 'class', whatever else in the others
    particles : all of them or a sample; at most MAX_POINTS are shown on the map, drawn with `seed`
    averages : by class name
    support : accuracy, low, high (0 to 1), n_tested, warnings: of the labelled particles, left out one at a time
    settings : shown as they are
    n_uncertain : of the particles given, so many with the least probability are shown
    """
    if "class" not in counts.columns:
        columns = ", ".join(map(str, counts.columns))
        raise UserError(f"report: the table of counts has no column 'class', only {columns}: name one so")
    averages = dict(averages or {})
    known = [*counts["class"].astype(str), *averages, *map(str, particles.labels)]
    styles = {name: _style(i) for i, name in enumerate(dict.fromkeys(known))}
    shown = particles
    if len(particles) > MAX_POINTS:
        shown = particles[np.sort(np.random.default_rng(seed).choice(len(particles), MAX_POINTS, replace=False))]
    figures = {
        "map": _map_figure(shown, styles),
        "averages": {name: _average_figures(name, average, styles[name]) for name, average in averages.items()},
        "atlas": _atlas(shown.slices),
        "particles": [_particle_text(shown, i) for i in range(len(shown))],
    }
    sections = [
        _warnings_section(support),
        _section("Classes", _counts_table(counts, styles)),
        _section("Map of particles", _map_html(shown, len(particles), styles)),
        _section("Averages", _averages_html(averages)) if averages else "",
        _section("Least certain particles", _uncertain_html(particles, n_uncertain)),
        _section("Settings", _settings_table(settings)) if settings else "",
    ]
    from plotly.offline import get_plotlyjs

    page = _PAGE.format(
        title=html.escape(title), style=_STYLE, sections="\n".join(sections), plotly=get_plotlyjs(),
        data=_json(figures), script=_SCRIPT,
    )  # fmt: skip
    write_atomically(Path(path), page.encode())


def principal_map(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two principal axes: `(n, dim)` -> coordinates `(n, 2)` and the shares of variance `(2,)`."""
    x = np.nan_to_num(np.asarray(embeddings, dtype=np.float64))
    x = x - x.mean(axis=0)
    left, lengths, _ = np.linalg.svd(x, full_matrices=False)
    places = np.zeros((len(x), 2))
    kept = min(2, len(lengths))
    places[:, :kept] = left[:, :kept] * lengths[:kept]
    shares = np.zeros(2)
    shares[:kept] = lengths[:kept] ** 2 / max((lengths**2).sum(), 1e-12)
    return places, shares


# ---------------------------------------------------------------- figures


def _style(i: int) -> tuple[str, str, str]:
    """Colour, plotly symbol and glyph of the i-th class: the palette of `plots`, then other shapes."""
    from ..figures.style import METHOD_COLOURS as m
    from ..figures.style import OTHER_COLOURS as other

    # Grey means rejected here, and yellow is too light for dots.
    colours = (m["ProtoNet3D"], m["ProtoNet-CE"], *other[:2], m["ProtoNet-CE (mix)"], m["ProtoNet3D (mix)"], "#000000")
    shape = i // len(colours) % len(SYMBOLS)
    return colours[i % len(colours)], SYMBOLS[shape], GLYPHS[shape]


def _map_figure(particles: Particles, styles: Mapping) -> dict:
    places, shares = principal_map(particles.embeddings) if len(particles) else (np.zeros((0, 2)), np.zeros(2))
    labels, accepted = np.asarray(particles.labels, dtype=str), np.asarray(particles.accepted, dtype=bool)
    traces = []
    for name, (colour, symbol, _) in [("", (REJECTED_COLOUR, "circle-open", "")), *styles.items()]:
        chosen = np.flatnonzero(~accepted if name == "" else accepted & (labels == name))
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": places[chosen, 0].round(3).tolist(),
                "y": places[chosen, 1].round(3).tolist(),
                "customdata": chosen.tolist(),
                "hoverinfo": "none",
                "marker": {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.4 if name == "" else 0.75},
            }
        )
    axis = {"showticklabels": False, "zeroline": False, "gridcolor": "#e4e4e4", "fixedrange": True}
    words = [f"principal axis {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    layout = {
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "margin": {"l": 30, "r": 8, "t": 8, "b": 30},
        "xaxis": {**axis, "title": {"text": words[0]}},
        "yaxis": {**axis, "title": {"text": words[1]}},
        "plot_bgcolor": "white",
    }
    return {"data": traces, "layout": layout}


def _average_figures(name: str, average: Average, style: tuple[str, str, str]) -> dict:
    from ..figures.volumes import isosurface

    density = np.asarray(average.density, dtype=np.float32)
    # Above the bulk of solvent; a class average has no absolute scale.
    level = float(density.mean() + 2.5 * density.std())
    surface = None
    if density.min() < level < density.max():
        surface = json.loads(isosurface(density, level, average.voxel_size_nm, max_triangles=MAX_TRIANGLES).to_json())
        surface["layout"].pop("template", None)
    frequencies = np.asarray(average.frequencies_per_nm, dtype=float)
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "x+y"}
    ends = [0.0, float(frequencies[-1])] if len(frequencies) else [0.0, 1.0]
    curves = [
        {**line, "x": ends, "y": [0.143] * 2, "line": {"color": "#777777", "width": 1, "dash": "dash"}},
        {
            **line,
            "x": frequencies.round(4).tolist(),
            "y": np.nan_to_num(np.asarray(average.fsc, float)).round(4).tolist(),
            "line": {"color": style[0], "width": 2.5},
        },
    ]
    axis = {"fixedrange": True, "gridcolor": "#e4e4e4"}
    layout = {
        "showlegend": False,
        "dragmode": False,
        "height": 320,
        "margin": {"l": 48, "r": 10, "t": 10, "b": 44},
        "xaxis": {**axis, "title": {"text": "frequency (1/nm)"}},
        "yaxis": {**axis, "title": {"text": "FSC of halves"}, "range": [-0.1, 1.05]},
        "plot_bgcolor": "white",
    }
    found = np.isfinite(average.resolution_nm)
    resolution = f"{average.resolution_nm:.1f} nm at FSC 0.143" if found else "no resolution: the halves do not agree"
    words = f"{html.escape(name)}: {average.n_particles:,} particles, {resolution}"
    return {"surface": surface, "fsc": {"data": curves, "layout": layout}, "words": words}


# ---------------------------------------------------------------- pictures of slices


def _grey(slices: np.ndarray, n_levels: int) -> np.ndarray:
    """8-bit slices, each from its 1st to its 99th percentile, in so many steps: fewer steps pack smaller."""
    slices = np.nan_to_num(np.asarray(slices, dtype=np.float32))
    low, high = np.percentile(slices, [1, 99], axis=(-2, -1), keepdims=True)
    share = np.clip((slices - low) / np.maximum(high - low, 1e-12), 0, 1)
    return (np.round(share * (n_levels - 1)) * (255 // (n_levels - 1))).astype(np.uint8)


def _png(picture: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _small(slices: np.ndarray, edge: int) -> np.ndarray:
    """Slices of at most so many pixels along an edge, by averaging whole pixels."""
    step = -(-max(slices.shape[1:]) // edge)
    height, width = (n // step * step for n in slices.shape[1:])
    cut = np.asarray(slices, dtype=np.float32)[:, :height, :width]
    return cut.reshape(len(cut), height // step, step, width // step, step).mean(axis=(2, 4))


def _atlas(slices: np.ndarray | None) -> dict | None:
    """All slices of the map in one picture, row by row."""
    if slices is None or len(slices) == 0:
        return None
    tiles = _grey(_small(np.asarray(slices), TILE), 16)
    n, height, width = tiles.shape
    columns = int(np.ceil(n**0.5))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:n] = tiles
    picture = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return {"picture": _png(picture), "columns": columns, "rows": rows}


# ---------------------------------------------------------------- words


def _json(content) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{html.escape(heading)}</h2>\n{body}</section>"


def _particle_text(particles: Particles, i: int) -> str:
    label, other = html.escape(str(particles.labels[i])), html.escape(str(particles.runner_up[i]))
    state = "" if particles.accepted[i] else ", <em>rejected</em>"
    words = f"<b>{label}</b> {particles.probability[i]:.2f}{state}<br>then {other}"
    return f"{words}<br><small>{html.escape(str(particles.names[i]))}</small>"


def _warnings_section(support: Mapping | None) -> str:
    if not support:
        return ""
    tested = int(support["n_tested"])
    if tested:
        words = (
            f"<p><b class='big'>{support['accuracy']:.0%}</b> of {tested} labelled particles are found again when left "
            f"out (95 % interval {support['low']:.0%} to {support['high']:.0%})</p>"
        )
    else:
        words = "<p>No class has two labelled particles: the support cannot be checked against itself.</p>"
    warnings = list(support["warnings"])
    if not warnings:
        return _section("Labelled particles", words + "<p class='good'>Nothing looks wrong with them.</p>")
    items = "".join(f"<li>{html.escape(warning)}</li>" for warning in warnings)
    return _section("Labelled particles", f"{words}<ul class='warnings'>{items}</ul>")


def _value_text(value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)


def _counts_table(counts: pd.DataFrame, styles: Mapping) -> str:
    others = [column for column in counts.columns if column != "class"]
    head = "".join(f"<th>{html.escape(str(column))}</th>" for column in ["class", *others])
    rows = []
    for row in counts.to_dict("records"):
        name = str(row["class"])
        numbers = "".join(f"<td>{html.escape(_value_text(row[column]))}</td>" for column in others)
        rows.append(f"<tr><th>{_swatch(styles[name])} {html.escape(name)}</th>{numbers}</tr>")
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _swatch(style: tuple[str, str, str]) -> str:
    return f"<span style='color:{style[0]}'>{style[2]}</span>"


def _map_html(shown: Particles, n_particles: int, styles: Mapping) -> str:
    how_many = f"{len(shown):,} of {n_particles:,} particles, drawn at random" if len(shown) < n_particles else (
        f"{n_particles:,} particles"
    )  # fmt: skip
    entries = [("rejected", f"<span style='color:{REJECTED_COLOUR}'>○</span>")]
    entries += [(name, _swatch(style)) for name, style in styles.items()]
    buttons = "".join(
        f"<button type='button' aria-pressed='true' data-trace='{i}'>{swatch} {html.escape(name)}</button>"
        for i, (name, swatch) in enumerate(entries)
    )
    invitation = "Point at a particle, or tap it." if shown.slices is not None else "Point at a particle."
    return (
        f"<p>{how_many}. Close particles look alike to the encoder. A press on a class hides or shows it.</p>"
        f"<div class='legend'>{buttons}</div>"
        "<div class='beside'><div id='map'></div>"
        f"<div id='particle'><div id='tile'></div><p id='words'>{invitation}</p></div></div>"
    )


def _averages_html(averages: Mapping[str, Average]) -> str:
    options = "".join(f"<option>{html.escape(name)}</option>" for name in averages)
    return (
        f"<p><label>Class <select id='which'>{options}</select></label> <span id='average-words'></span></p>"
        "<div class='halves'><div id='surface'></div><div id='fsc'></div></div>"
    )


def _uncertain_html(particles: Particles, n: int) -> str:
    order = np.argsort(np.nan_to_num(np.asarray(particles.probability, float), nan=-1), kind="stable")[:n]
    cards = []
    for i in order:
        picture = ""
        if particles.slices is not None:
            tile = _grey(_small(np.asarray(particles.slices)[i : i + 1], 64), 64)[0]
            picture = f"<img alt='central slice' src='{_png(tile)}'>"
        cards.append(f"<figure>{picture}<figcaption>{_particle_text(particles, i)}</figcaption></figure>")
    return f"<p>Look at these first.</p><div class='cards'>{''.join(cards)}</div>"


def _settings_table(settings: Mapping) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(_value_text(value))}</td></tr>"
        for name, value in settings.items()
    )
    return f"<div class='wide'><table class='settings'>{rows}</table></div>"


_STYLE = """
body { margin: 0; background: #f5f6f8; color: #1c1e21; font: 16px/1.45 "DejaVu Sans", system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 12px; }
h1 { font-size: 1.5rem; margin: 12px 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 0 0 10px; }
section { background: white; border: 1px solid #dfe2e6; border-radius: 8px; padding: 14px; margin-bottom: 14px; }
p { margin: 0 0 10px; }
.big { font-size: 2rem; line-height: 1.2; font-weight: normal; color: #0072B2; }
#map, #surface, #fsc { min-width: 0; overflow: hidden; }
.good { color: #006b4f; }
.warnings { margin: 0; padding: 10px 10px 10px 28px; background: #fff4e5; border-left: 4px solid #E69F00; }
.warnings li { overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.92rem; }
th, td { padding: 5px 14px 5px 4px; border-bottom: 1px solid #e8eaed; text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: 600; }
.settings td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 6px; margin-bottom: 8px; }
button, select { font: inherit; font-size: 0.88rem; padding: 4px 9px; border: 1px solid #c8ccd2; border-radius: 14px;
  background: white; color: inherit; max-width: 100%; }
button[aria-pressed="false"] { opacity: 0.4; text-decoration: line-through; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr) 200px; gap: 12px; }
#map { height: 540px; }
#tile { width: 192px; height: 192px; background: #eceef1 no-repeat; border-radius: 6px; image-rendering: pixelated; }
#particle p { margin-top: 8px; font-size: 0.92rem; overflow-wrap: anywhere; }
.halves { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 12px; align-items: center; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 12px; }
figure { margin: 0; font-size: 0.85rem; overflow-wrap: anywhere; }
figure img { width: 100%; image-rendering: pixelated; border-radius: 6px; display: block; margin-bottom: 4px; }
small { color: #5c626b; }
@media (max-width: 700px) {
  .beside, .halves { grid-template-columns: minmax(0, 1fr); }
  #map { height: 380px; }
  #particle { display: flex; gap: 12px; } #tile { width: 120px; height: 120px; flex: none; }
  .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
"""
_SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent);
const quiet = {displayModeBar: false, responsive: true, scrollZoom: false};
Plotly.newPlot('map', data.map.data, data.map.layout, quiet).then(map => {
  const tile = document.getElementById('tile'), words = document.getElementById('words'), atlas = data.atlas;
  if (atlas) {
    tile.style.backgroundImage = 'url(' + atlas.picture + ')';
    tile.style.backgroundSize = atlas.columns * 100 + '% ' + atlas.rows * 100 + '%';
    tile.style.backgroundPosition = '-100% -100%';
  } else { tile.style.display = 'none'; }
  const show = event => {
    const i = event.points[0].customdata;
    words.innerHTML = data.particles[i];
    if (!atlas) return;
    const across = atlas.columns > 1 ? (i % atlas.columns) / (atlas.columns - 1) : 0;
    const down = atlas.rows > 1 ? Math.floor(i / atlas.columns) / (atlas.rows - 1) : 0;
    tile.style.backgroundPosition = across * 100 + '% ' + down * 100 + '%';
  };
  map.on('plotly_hover', show);
  map.on('plotly_click', show);
  const first = data.map.data.find(trace => trace.customdata.length && trace.marker.symbol != 'circle-open');
  if (first && atlas) show({points: [{customdata: first.customdata[0]}]});
});
document.querySelectorAll('.legend button').forEach(button => button.addEventListener('click', () => {
  const on = button.getAttribute('aria-pressed') != 'true';
  button.setAttribute('aria-pressed', on);
  Plotly.restyle('map', {visible: on}, [Number(button.dataset.trace)]);
}));
const which = document.getElementById('which');
if (which) {
  // One surface at a time: browsers hold few WebGL scenes.
  const draw = () => {
    const average = Object.values(data.averages)[which.selectedIndex];
    document.getElementById('average-words').innerHTML = average.words;
    Plotly.react('fsc', average.fsc.data, average.fsc.layout, quiet);
    if (average.surface) Plotly.react('surface', average.surface.data, average.surface.layout, quiet);
    else {
      Plotly.purge('surface');
      document.getElementById('surface').textContent = 'No surface: the average is flat.';
    }
  };
  which.addEventListener('change', draw);
  draw();
}
const fit = new ResizeObserver(entries => entries.forEach(entry => {
  if (entry.target.classList.contains('js-plotly-plot')) Plotly.Plots.resize(entry.target);
}));
['map', 'surface', 'fsc'].forEach(id => { const plot = document.getElementById(id); if (plot) fit.observe(plot); });
"""
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>
{sections}
</main>
<script>{plotly}</script>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body></html>
"""
