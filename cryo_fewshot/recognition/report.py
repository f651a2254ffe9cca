"""One HTML file that says what a classification found: it needs no network, no server and no other file.

The page is `report.html.j2`, which escapes all that it is given. Plotly's script is written into the file and makes up
4.8 MB of it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..averaging.averages import Refined
from ..files import write_atomically
from .support_check import SupportCheck

MAX_TRIANGLES = 6_000
N_UNCERTAIN = 12
REJECTED_COLOUR = "#9a9a9a"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
GLYPHS = ("●", "◆", "■", "▲", "✖")


def write_report(
    path: Path,
    *,
    counts: pd.DataFrame,
    particles: pd.DataFrame,
    embeddings: np.ndarray,
    slices: np.ndarray,
    n_particles: int,
    averages: Mapping[str, Refined],
    average_voxel_nm: float,
    support: SupportCheck,
    points: Sequence[Mapping],
    reliability: Mapping[str, Sequence[Mapping]],
    settings: Mapping,
    groups: Mapping[str, int],
    to_label: Sequence[int],
) -> None:
    """Write the report.

    Parameters
    ----------
    path : the HTML file; its folder is made
    counts : a row per class, the class's name in column 'class', any other columns
    particles : a row for each that is shown, columns name, class, runner_up, probability, q_value and accepted
    embeddings, slices : `(n, dim)` and central xy slices `(n, h, w)` of these; n_particles : of which they are a sample
    averages : by class name, protein dark; average_voxel_nm : nm, edge of their voxels
    support : leave-one-out over the labelled particles
    points : of `rejection.operating_points`
    reliability : of `evaluation.reliability`, by what they were measured on; nothing is drawn without any
    settings : shown as they are
    groups : number of particles of each group of rejected ones; to_label : which to label next, as rows of particles
    """
    from plotly.offline import get_plotlyjs

    known = [*counts["class"].astype(str), *averages, *particles["class"].astype(str)]
    styles = {name: _style(i) for i, name in enumerate(dict.fromkeys(known))}
    how_many = f"{n_particles:,} particles"
    if len(particles) < n_particles:
        how_many = f"{len(particles):,} of {how_many}, drawn at random from those that can be read"
    on_map = {name: style for name, style in styles.items() if name not in groups}
    legend = {"rejected": {"colour": REJECTED_COLOUR, "symbol": "circle-open", "glyph": "○"}, **on_map}
    data = {
        "map": _map(particles, embeddings, on_map, legend["rejected"]),
        "averages": {
            name: _average(name, refined, average_voxel_nm, styles[name]["colour"])
            for name, refined in averages.items()
        },
        "atlas": _atlas(slices),
        "particles": [_particle_text(row) for row in particles.to_dict("records")],
        "points": list(points),
        "reliability": {name: list(rows) for name, rows in reliability.items() if rows},
        "q_values": [round(q, 4) for q in particles["q_value"].fillna(2).tolist()],  # 2: never accepted
    }
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,  # whatever the file is called: names of classes and files come from anywhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number_text
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}  # classes stay in their order
    page = environment.get_template("report.html.j2").render(
        title=f"Classification of {n_particles:,} particles",
        support=support,
        counts=counts.astype({"class": str}).to_dict("records"),
        columns=[column for column in counts.columns if column != "class"],
        styles=styles,
        legend=legend,
        how_many=how_many,
        data=data,
        uncertain=_tiles(particles, slices, _least_certain(particles)[:N_UNCERTAIN]),
        groups=groups,
        to_label=_tiles(particles, slices, to_label),
        settings=settings,
        plotly=Markup(get_plotlyjs()),
    )
    write_atomically(Path(path), page.encode())


def principal_map(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two principal axes: `(n, dim)` -> coordinates `(n, 2)` and the shares of variance `(2,)`.

    The same bits for the same input: an exact decomposition, whose largest loadings are positive.
    """
    from sklearn.decomposition import PCA

    x = np.nan_to_num(np.asarray(embeddings, dtype=np.float64))
    places, shares = np.zeros((len(x), 2)), np.zeros(2)
    if len(x) > 1 and np.ptp(x, axis=0).any():
        pca = PCA(min(2, *x.shape), svd_solver="full")
        found = pca.fit_transform(x)
        places[:, : found.shape[1]], shares[: found.shape[1]] = found, pca.explained_variance_ratio_
    return places, shares


def _style(i: int) -> dict[str, str]:
    """Colour, Plotly symbol and glyph of the i-th class: the palette of `figures.style`, then other shapes."""
    from ..figures.style import METHOD_COLOURS as m
    from ..figures.style import OTHER_COLOURS as other

    # Grey means rejected here, and yellow is too light for dots.
    colours = (m["ProtoNet3D"], m["ProtoNet-CE"], *other[:2], m["ProtoNet-CE (mix)"], m["ProtoNet3D (mix)"], "#8C564B")
    shape = i // len(colours) % len(SYMBOLS)
    return {"colour": colours[i % len(colours)], "symbol": SYMBOLS[shape], "glyph": GLYPHS[shape]}


def _map(particles: pd.DataFrame, embeddings: np.ndarray, styles: Mapping[str, Mapping], of_rejected: Mapping) -> dict:
    places, shares = principal_map(embeddings)
    labels, accepted = particles["class"].to_numpy(str), particles["accepted"].to_numpy(bool)
    groups = [(~accepted, of_rejected, 0.4), *((accepted & (labels == name), styles[name], 0.75) for name in styles)]
    traces = []
    for members, style, opacity in groups:
        chosen = np.flatnonzero(members)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": places[chosen, 0].round(3).tolist(),
                "y": places[chosen, 1].round(3).tolist(),
                "customdata": chosen.tolist(),
                "hoverinfo": "none",
                "marker": {"color": style["colour"], "symbol": style["symbol"], "size": 6, "opacity": opacity},
            }
        )
    titles = [f"principal axis {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1)]
    return {"data": traces, "titles": titles}


def _average(name: str, refined: Refined, voxel_size_nm: float, colour: str) -> dict:
    from ..figures.volumes import isosurface

    density = -np.asarray(refined.average.density, dtype=np.float32)  # protein positive
    # Above the bulk of solvent; a class average has no absolute scale.
    level = float(density.mean() + 2.5 * density.std())
    surface = None
    if density.min() < level < density.max():
        surface = json.loads(isosurface(density, level, voxel_size_nm, max_triangles=MAX_TRIANGLES).to_json())
        surface["layout"].pop("template", None)
    known = np.isfinite(refined.corrected_fsc)
    curves = {"x": refined.frequencies_per_nm, "y": refined.corrected_fsc}
    fsc = {axis: values[known].round(4).tolist() for axis, values in curves.items()}
    text = Markup("{}: {:,} particles, {}").format(name, len(refined.halves), refined.resolution_text)
    return {"surface": surface, "fsc": fsc, "colour": colour, "text": text}


def _grey(slices: np.ndarray, n_levels: int) -> np.ndarray:
    """8-bit slices, each from its 1st to its 99th percentile, in `n_levels` steps: fewer steps pack smaller."""
    slices = np.nan_to_num(np.asarray(slices, dtype=np.float32))
    low, high = np.percentile(slices, [1, 99], axis=(-2, -1), keepdims=True)
    share = np.clip((slices - low) / np.maximum(high - low, 1e-12), 0, 1)
    return (np.round(share * (n_levels - 1)) * (255 // (n_levels - 1))).astype(np.uint8)


def _png(picture: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _atlas(slices: np.ndarray) -> dict | None:
    """All slices of the map in one picture, row by row; None where not one particle of the sample can be read."""
    if not len(slices):
        return None
    tiles = _grey(slices, 16)
    n, height, width = tiles.shape
    columns = int(np.ceil(n**0.5))
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:n] = tiles
    picture = sheet.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    return {"picture": _png(picture), "columns": columns, "rows": rows}


def _particle_text(row: Mapping) -> str:
    state = "" if row["accepted"] else Markup(", <em>rejected</em>")
    text = Markup("<b>{class}</b> {probability:.2f}{state}<br>then {runner_up}<br><small>{name}</small>")
    return text.format(**row, state=state)


def _least_certain(particles: pd.DataFrame) -> np.ndarray:
    return np.argsort(particles["probability"].fillna(-1).to_numpy(float), kind="stable")


def _tiles(particles: pd.DataFrame, slices: np.ndarray, rows: Sequence[int]) -> list[tuple[str, str]]:
    pictures = [_png(_grey(tile, 64)) for tile in slices[list(rows)]]
    return list(zip(map(_particle_text, particles.iloc[list(rows)].to_dict("records")), pictures, strict=True))


def _number_text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if np.isfinite(value) else "–"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)
