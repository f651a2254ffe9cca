"""Pictures of volumes: isosurfaces, slices, galleries. Needs the extra [book]; the core never imports this module."""

from collections.abc import Sequence
from itertools import count, zip_longest

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.ndimage import binary_erosion, map_coordinates

from ..errors import UserError
from .style import WIDTH


def isosurface_picture(
    density: np.ndarray,
    level: float,
    voxel_size_nm: float,
    title: str = "",
    *,
    ax: Axes,
    scale_bar: bool = True,
) -> None:
    """Shaded picture of an isosurface seen along z (x to the right, y up), coloured by distance from the centre.

    density : `(d, h, w)` zyx; what is above the level is solid
    """
    height, width = density.shape[1:]
    extent = extent_nm(height, width, voxel_size_nm)
    ax.imshow(
        _shaded(density, level), origin="lower", interpolation="antialiased", interpolation_stage="rgba", extent=extent
    )
    _bare(ax)
    if scale_bar:
        draw_scale_bar(ax, height, width, voxel_size_nm)
    if title:
        ax.set_title(title)


def isosurface(density: np.ndarray, level: float, voxel_size_nm: float, max_triangles: int = 12_000):
    """Isosurface that the reader can turn, coloured by distance from the centre: a plotly figure with one Mesh3d.

    density : `(d, h, w)` zyx; the axes are in nm from its centre (voxel n // 2)
    max_triangles : the mesh is made on a coarser grid until it has no more; 12,000 are some 200 kB of HTML
    """
    import plotly.graph_objects as go
    from skimage.measure import marching_cubes

    if not density.min() < level < density.max():
        raise UserError(f"level {level:g} is outside the density's range: nothing to draw")
    for step in count(1):
        vertices, faces, _, _ = marching_cubes(density, level, step_size=step)
        if len(faces) <= max_triangles:
            break
    z, y, x = ((vertices - np.array(density.shape) // 2) * voxel_size_nm).astype(np.float32).T
    index = np.uint16 if len(vertices) < 2**16 else np.uint32
    corners = dict(zip("ijk", faces.astype(index).T, strict=True))
    radius = np.sqrt(x**2 + y**2 + z**2)
    nearest, farthest = (edge * voxel_size_nm for edge in _surface_radii(density, level))
    mesh = go.Mesh3d(
        **{"x": x, "y": y, "z": z, **corners},
        intensity=radius,
        cmin=nearest,
        cmax=farthest,
        colorscale="Viridis",
        showscale=False,
        hovertemplate="%{intensity:.1f} nm from the centre<extra></extra>",
        lighting={"ambient": 0.45, "diffuse": 0.8, "specular": 0.1, "roughness": 0.8},
        lightposition={"x": -2000, "y": 3000, "z": 5000},
    )
    axis = {"showbackground": False, "gridcolor": "#9a9a9a", "zeroline": False, "nticks": 6}
    layout = go.Layout(
        title={"text": "", "x": 0.5},
        height=420,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        paper_bgcolor="rgba(0,0,0,0)",  # on light and dark pages
        font={"color": "#808080"},
        scene={
            **{f"{name}axis": {**axis, "title": {"text": f"{name} (nm)"}} for name in "xyz"},
            "aspectmode": "data",
            "camera": {"eye": {"x": 1.1, "y": 1.1, "z": 1.7}, "up": {"x": 0, "y": 1, "z": 0}},
        },
    )
    return go.Figure(mesh, layout)


def turnable_html(figure, name: str) -> str:
    """HTML of a plotly figure without plotly itself, which the book puts beside its pages.

    `name` becomes the id of the element: the same figure gives the same bytes.
    """
    return figure.to_html(
        include_plotlyjs=False,
        full_html=False,
        div_id=name,
        config={"displayModeBar": False, "scrollZoom": False, "responsive": True},
    )


def slices_grid(
    rows: Sequence[Sequence[np.ndarray | None]],
    row_titles: Sequence[str],
    column_titles: Sequence[str] = (),
    *,
    voxel_sizes_nm: Sequence[float],
    one_scale: bool = True,
) -> Figure:
    """Slices, each `(h, w)`, a row per title; a scale bar at the right where the voxel size is another than above.

    rows : None where there is none to show; voxel_sizes_nm : of each row; one_scale : the grey scale of all slices, or
    each has its own
    """
    n_columns = max(map(len, rows))
    edge = (WIDTH - 0.35) / n_columns
    size = {"figsize": (WIDTH, len(rows) * edge + 0.3), "layout": "constrained"}
    figure, axes = plt.subplots(len(rows), n_columns, squeeze=False, **size)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    of_all = np.concatenate([piece.ravel() for pieces in rows for piece in pieces if piece is not None])
    for line, pieces, title, voxel in zip(axes, rows, row_titles, voxel_sizes_nm, strict=True):
        line[0].set_ylabel(title, color="black", linespacing=1.3)
        for ax, piece in zip_longest(line, pieces):
            _bare(ax)
            if piece is None:
                ax.text(0.5, 0.5, "none", ha="center", va="center", transform=ax.transAxes)
            else:
                low, high = np.percentile(of_all if one_scale else piece, [0.5, 99.5])
                placed = {"origin": "lower", "interpolation": "nearest", "extent": extent_nm(*piece.shape, voxel)}
                ax.imshow(piece, cmap="gray", vmin=low, vmax=high, **placed)
    for ax, title in zip(axes[0], column_titles, strict=False):
        ax.set_title(title)
    for line, pieces, voxel, above in zip(axes, rows, voxel_sizes_nm, [None, *voxel_sizes_nm], strict=False):
        if voxel != above:
            draw_scale_bar(line[-1], *pieces[-1].shape, voxel)
    return figure


def slices_figure(volumes: Sequence[np.ndarray], titles: Sequence[str], voxel_size_nm: float) -> Figure:
    """One row of five xy slices per volume, evenly spaced over the middle half of the box, on one grey scale.

    volumes : each `(d, h, w)` zyx, of one shape, standardised to mean 0 and variance 1
    """
    depth = len(volumes[0])
    chosen = np.unique(np.round(depth // 2 + np.linspace(-0.25, 0.25, 5) * depth).astype(int))
    heights = [
        f"z = {(index - depth // 2) * voxel_size_nm:+g} nm".replace("-", "−").replace("+0", "0") for index in chosen
    ]
    rows = [np.asarray(volume)[chosen] for volume in volumes]
    return slices_grid(rows, titles, heights, voxel_sizes_nm=[voxel_size_nm] * len(rows))


def gallery_figure(
    densities: Sequence[np.ndarray],
    levels: Sequence[float],
    titles: Sequence[str],
    voxel_size_nm: float,
    n_columns: int = 5,
    title_colours: Sequence[str] | None = None,
) -> Figure:
    """Isosurface pictures of densities, each `(d, h, w)` zyx of one shape, as small multiples on one scale."""
    n_rows = -(-len(densities) // n_columns)
    height = WIDTH / n_columns + 0.12 + 0.15 * max(title.count("\n") + 1 for title in titles)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(WIDTH, n_rows * height), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (ax, volume, level, title) in enumerate(zip(axes.flat, densities, levels, titles, strict=False)):
        isosurface_picture(volume, level, voxel_size_nm, ax=ax, scale_bar=i == len(densities) - 1)
        ax.set_title(title, fontsize=9, color=title_colours[i] if title_colours else "black")
    return figure


def contact_sheet(rows: Sequence[np.ndarray], titles: Sequence[str]) -> Figure:
    """Central slices as small multiples, a row for each array of `rows`, `(n, h, w)`, with its title."""
    n_columns = max([1, *map(len, rows)])
    edge = WIDTH / n_columns
    figure, axes = plt.subplots(len(rows), n_columns, figsize=(WIDTH, len(rows) * (edge + 0.25)), squeeze=False)
    for line, slices, title in zip(axes, rows, titles, strict=True):
        line[0].set_title(f"{title}: {len(slices)} shown" if len(slices) else f"{title}: none can be read", loc="left")
        for ax in line:
            ax.set_axis_off()
        for ax, piece in zip(line, slices, strict=False):
            ax.imshow(piece, cmap="gray", origin="lower")
    return figure


def _shaded(density: np.ndarray, level: float, per_voxel: int = 3) -> np.ndarray:
    """`(h, w, 4)` RGBA in 0 to 1 of the first surface that a ray from above (high z) meets."""
    density = density.astype(np.float32)
    depth, height, width = density.shape
    y, x = np.meshgrid(
        (np.arange(height * per_voxel) + 0.5) / per_voxel - 0.5,
        (np.arange(width * per_voxel) + 0.5) / per_voxel - 0.5,
        indexing="ij",
    )
    planes = np.stack([map_coordinates(plane, [y, x], order=1, mode="nearest") for plane in density[::-1]])
    solid = planes > level
    hit = solid.any(axis=0)
    first = np.maximum(solid.argmax(axis=0), 1)
    inside, outside = (np.take_along_axis(planes, at[None], axis=0)[0] for at in (first, first - 1))
    share = np.clip((level - outside) / np.where(inside > outside, inside - outside, 1), 0, 1)
    # Rays that miss pass the surface most closely where the density along them peaks: for a smooth outline.
    z = depth - 1 - np.where(hit, first - 1 + share, planes.argmax(axis=0))
    slope = np.stack([map_coordinates(part, [z, y, x], order=1, mode="nearest") for part in np.gradient(density)])
    steepness = np.maximum(np.linalg.norm(slope, axis=0), 1e-12)
    cover = np.where(hit, 1, np.clip(1 + (planes.max(axis=0) - level) * per_voxel / steepness, 0, 1))
    light = np.array([0.75, 0.5, -0.45]) / np.linalg.norm([0.75, 0.5, -0.45])  # zyx: from the upper left, behind you
    lambert = np.clip(np.tensordot(light, -slope / steepness, axes=1), 0, 1)
    centre = np.array([depth, height, width]) // 2
    radius = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    low, high = _surface_radii(density, level)
    colour = plt.get_cmap("viridis")((radius - low) / (high - low))[..., :3]
    return np.dstack([np.clip(colour * (0.42 + 0.66 * lambert)[..., None], 0, 1), cover])


def _surface_radii(density: np.ndarray, level: float) -> tuple[float, float]:
    """Least and largest distance of the surface from the centre, voxels: the ends of the colour scale."""
    solid = density > level
    places = np.argwhere(solid & ~binary_erosion(solid)) - np.array(density.shape) // 2
    radius = np.linalg.norm(places, axis=1) if len(places) else np.zeros(1)
    return float(radius.min()), float(radius.max()) + 0.5


def extent_nm(height: int, width: int, voxel_size_nm: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of a slice, nm from its centre (pixel n // 2)."""
    left, bottom = (-(n // 2) - 0.5 for n in (width, height))
    return tuple(edge * voxel_size_nm for edge in (left, left + width, bottom, bottom + height))


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def draw_scale_bar(ax: Axes, height: int, width: int, voxel_size_nm: float) -> None:
    """A bar of 5 or 10 nm at the lower right of a slice."""
    left, right, bottom, top = extent_nm(height, width, voxel_size_nm)
    length = 10 if right - left >= 24 else 5
    x, y = right - 0.1 * (right - left), bottom + 0.08 * (top - bottom)
    rim = [withStroke(linewidth=3, foreground="white")]
    ax.plot([x - length, x], [y, y], color="black", linewidth=2.5, solid_capstyle="butt", path_effects=rim)
    above = y + 0.02 * (top - bottom)
    words = {"ha": "center", "va": "bottom", "fontsize": 9, "path_effects": rim}
    ax.text(x - length / 2, above, f"{length} nm", **words)
