"""One HTML file that says what a classification found: it needs no network, no server and no other file.

The page is `report.html.j2`, which escapes all that it is given. Plotly's script is written into the file and makes up
4.8 MB of it.
"""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..averaging.averages import Refined
from ..evaluation import reliability
from ..files import write_atomically
from ..particles.base import Particles
from .calibration import CROWDED
from .output import Outcome, average_voxel_nm
from .recogniser import Recogniser
from .settings import Settings

FEWEST_LEFT_OUT = 3
"""Labels per class with which those left out in turn say something of the probabilities."""
MAX_TRIANGLES = 6_000
N_UNCERTAIN = 12
REJECTED_COLOUR = "#9a9a9a"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x")
GLYPHS = ("●", "◆", "■", "▲", "✖")


def write_report(
    path: Path,
    query: Particles,
    outcome: Outcome,
    sample: np.ndarray,
    embeddings: torch.Tensor,
    settings: Settings,
    card: dict,
    said: Sequence[str],
) -> None:
    """Write the report.

    Parameters
    ----------
    path : the HTML file; its folder is made
    sample : `(m,)` indices of the particles that are shown, if they can be read; embeddings : `(m, dim)` of these
    card : of the encoder; said : notes on the inputs
    """
    from plotly.offline import get_plotlyjs

    table, counts, averages, groups = outcome.table, outcome.counts, outcome.averages, outcome.groups
    usable = (table["reason"].iloc[sample] == "").to_numpy(copy=True)
    shown = sample[usable]
    particles = table.iloc[shown].assign(name=[query.names[i] for i in shown])
    volumes, _ = query.read(shown, card["box"], card["voxel_size_nm"])
    slices = volumes[:, volumes.shape[1] // 2].numpy()
    known = [*counts["class"].astype(str), *averages, *particles["class"].astype(str)]
    styles = {name: _style(i) for i, name in enumerate(dict.fromkeys(known))}
    how_many = f"{len(query):,} particles"
    if len(shown) < len(query):
        how_many = f"{len(shown):,} of {how_many}, drawn at random from those that can be read"
    on_map = {name: style for name, style in styles.items() if name not in groups}
    legend = {"rejected": {"colour": REJECTED_COLOUR, "symbol": "circle-open", "glyph": "○"}, **on_map}
    nm = average_voxel_nm(query, settings)
    data = {
        "map": _map(particles, embeddings[torch.from_numpy(usable)].numpy(), on_map, legend["rejected"]),
        "averages": {name: _average(name, refined, nm, styles[name]["colour"]) for name, refined in averages.items()},
        "atlas": _atlas(slices),
        "particles": [_particle_text(row) for row in particles.to_dict("records")],
        "points": list(outcome.points),
        "reliability": {name: rows for name, rows in _reliability(outcome.recogniser, card).items() if rows},
        "q_values": [round(q, 4) for q in particles["q_value"].fillna(2).tolist()],  # 2: never accepted
    }
    about = {"particles": len(query), "encoder": card.get("name", ""), "inputs": "; ".join(said)}
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
        title=f"Classification of {len(query):,} particles",
        support=outcome.recogniser.check,
        counts=counts.astype({"class": str}).to_dict("records"),
        columns=[column for column in counts.columns if column != "class"],
        styles=styles,
        legend=legend,
        how_many=how_many,
        data=data,
        uncertain=_tiles(particles, slices, _least_certain(particles)[:N_UNCERTAIN]),
        groups={name: len(members) for name, members in groups.items()},
        to_label=_tiles(particles, slices, [shown.tolist().index(row) for row in outcome.to_label]),
        settings=asdict(settings) | about,
        plotly=Markup(get_plotlyjs()),
    )
    write_atomically(Path(path), page.encode())


def _reliability(recogniser: Recogniser, card: dict) -> dict[str, list[dict]]:
    """Of the calibration in conditions as of this run, and of the labelled particles where classes have three."""
    conditions, check, found = recogniser.conditions, recogniser.check, {}
    crowded = conditions.crowding >= CROWDED
    rows = [row for row in card.get("reliability", ()) if row["crowded"] == crowded]
    if rows:
        n_shot = min((row["n_shot"] for row in rows), key=lambda n: abs(n - conditions.n_shot))
        name = f"calibration, {n_shot} labels a class, {'as in cells' if crowded else 'alone in the box'}"
        found[name] = [row for row in rows if row["n_shot"] == n_shot]
    if conditions.n_shot >= FEWEST_LEFT_OUT:
        of_tested = (part[check.tested] for part in (check.probability, check.right))
        found["your labelled particles, each left out"] = reliability(*of_tested, n_bins=5)
    return found


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
