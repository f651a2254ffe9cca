"""Figure 3: the networks, drawn from what their modules do in a forward pass. Needs the extra [book]."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon
from torch import nn

from ..adaptation import Adaptation
from ..encoder import Encoder3D
from .style import WIDTH


@dataclass(frozen=True)
class Stage:
    """One step of a network as it was run.

    name : of the module within the network; kind : its type; shape : of its output, without the batch;
    parameters : trainable numbers; multiply_adds : of convolutions and matrix products, for one input.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int = 0
    multiply_adds: int = 0


@torch.no_grad()
def trace_encoder(encoder: Encoder3D) -> list[Stage]:
    """Stages of one forward pass of an empty volume, from 'input' to 'embedding', read off by hooks."""
    volumes = torch.zeros(1, *(encoder.box,) * 3)
    first = encoder.blocks[0][0].in_channels
    stages, embedding = _traced(encoder, lambda: encoder(volumes))
    return [
        Stage("input", "subtomogram", (first, *volumes.shape[1:])),
        *stages,
        Stage("embedding", "Flatten", tuple(embedding.shape[1:])),
    ]


@torch.no_grad()
def trace_adaptation(adaptation: Adaptation, n_way: int, n_query: int = 1) -> list[Stage]:
    """Stages of the attention over `n_way` prototypes and `n_query` queries, from 'tokens' to 'adapted'.

    The layers are run one by one as in Equations 4 to 6, as a reader expects them; training merges some of them.
    """
    tokens = torch.zeros(1, n_way + n_query, adaptation.dim)
    products = []

    def forward() -> torch.Tensor:
        asked, keys, values = (layer(tokens) for layer in (adaptation.to_query, adaptation.to_key, adaptation.to_value))
        weights = torch.softmax(asked @ keys.mT / adaptation.dim**0.5, dim=-1)
        mixed = weights @ values
        n_weights = weights.numel()
        products.append(Stage("weights", "softmax", tuple(weights.shape[1:]), 0, n_weights * keys.shape[-1]))
        products.append(Stage("mixed", "weighted sum", tuple(mixed.shape[1:]), 0, n_weights * values.shape[-1]))
        adapted = tokens + adaptation.output(mixed)
        return adaptation.norm(adapted) if adaptation.norm else adapted

    layers, adapted = _traced(adaptation, forward)
    projections = [stage for stage in layers if stage.name.startswith("to_")]
    return [
        Stage("tokens", "prototypes and query", tuple(tokens.shape[1:])),
        *projections,
        *products,
        *(stage for stage in layers if stage not in projections),
        Stage("adapted", "residual sum", tuple(adapted.shape[1:])),
    ]


def _traced(network: nn.Module, forward) -> tuple[list[Stage], torch.Tensor]:
    stages, handles = [], []

    def record(name: str):
        def hook(module, inputs, output):
            parameters = sum(p.numel() for p in module.parameters())
            work = _multiply_adds(module, output)
            stages.append(Stage(name, _kind(module), tuple(output.shape[1:]), parameters, work))

        return hook

    for name, module in network.named_modules():
        if not list(module.children()):
            handles.append(module.register_forward_hook(record(name)))
    was_training = network.training
    network.eval()  # batch norm keeps its statistics
    try:
        output = forward()
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return stages, output


def _kind(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    size = " " + ("×".join(map(str, size)) if isinstance(size, tuple) else str(size)) if size else ""
    return type(module).__name__ + size


def _multiply_adds(module: nn.Module, output: torch.Tensor) -> int:
    """Each weight of a convolution or matrix is used once per output position."""
    if isinstance(module, nn.Conv3d):
        return module.weight.numel() * output[0, 0].numel()
    if isinstance(module, nn.Linear):
        return module.weight.numel() * (output[0].numel() // output.shape[-1])
    return 0


def stages_table(stages: Sequence[Stage]) -> pd.DataFrame:
    """Layers with shape, parameters and multiply-adds, and their totals in the last row."""
    rows = [
        (s.name, s.kind, shape_text(s.shape), f"{s.parameters:,}" if s.parameters else "", _millions(s.multiply_adds))
        for s in stages
    ]
    total = ("total", "", "", f"{sum(s.parameters for s in stages):,}", _millions(sum(s.multiply_adds for s in stages)))
    return pd.DataFrame([*rows, total], columns=["Name", "Layer", "Output", "Parameters", "Multiply-adds (million)"])


def shape_text(shape: Sequence[int]) -> str:
    """Shape for a reader: (64, 20, 20, 20) is '64 × 20³'."""
    if len(shape) == 4 and len(set(shape[1:])) == 1:
        return f"{shape[0]} × {shape[1]}³"
    return " × ".join(map(str, shape))


def _millions(number: int) -> str:
    return f"{number / 1e6:,.1f}" if number >= 1e5 else f"{number / 1e6:.4f}" if number else ""


def _short_millions(number: int) -> str:
    return f"{number / 1e6:,.0f} M" if number >= 2e6 else f"{number / 1e6:.2g} M"


def architecture_figure(encoder_stages: Sequence[Stage], adaptation_stages: Sequence[Stage], n_way: int) -> Figure:
    """Fig 3: the encoder as boxes, the attention and both distances below it; every number comes from the stages.

    Parameters
    ----------
    encoder_stages, adaptation_stages : from `trace_encoder` and `trace_adaptation`
    n_way : prototypes among the tokens
    """
    blocks: dict[str, list[Stage]] = {}
    for stage in encoder_stages[1:-1]:
        blocks.setdefault(stage.name.rpartition(".")[0], []).append(stage)
    n_columns = len(blocks) + 2
    width = max(WIDTH, 1.083 * n_columns)
    figure, ax = plt.subplots(figsize=(width, 6.55), layout="none")
    figure.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(0, width), ylim=(0, 6.55), aspect="equal")  # coordinates are inches
    ax.set_axis_off()
    _draw_encoder(ax, encoder_stages[0], list(blocks.values()), encoder_stages[-1], width / n_columns)
    _draw_attention(ax, {stage.name: stage for stage in adaptation_stages}, n_way, (width - WIDTH) / 2)
    return figure


def _draw_encoder(ax: Axes, start: Stage, blocks: list[list[Stage]], end: Stage, column: float) -> None:
    floor, top = 4.15, 6.43
    volumes = [start, *(block[-1] for block in blocks)]
    ax.text(0.1, top, "Encoder: one volume in, one vector out", fontsize=10.5, fontweight="bold", va="top")
    edges = [0.66 * (stage.shape[-1] / start.shape[-1]) ** 0.5 for stage in volumes]
    for i, (stage, edge) in enumerate(zip(volumes, edges, strict=True)):
        x = (i + 0.5) * column
        thick = 0.05 + 0.03 * np.log2(stage.shape[0])
        _cuboid(ax, x - (edge + thick) / 2, floor + 0.42 - edge / 2, edge, thick, "#d9d9d9" if i == 0 else "#a9d3ec")
        ax.text(x, floor - 0.15, shape_text(stage.shape), ha="center", va="top", fontweight="bold")
        if i:
            words = "\n".join(part.kind for part in blocks[i - 1])
            ax.text(x, top - 0.38, f"Block {i}", ha="center", va="top", fontweight="bold", color="#004c77")
            ax.text(x, top - 0.56, words, ha="center", va="top", linespacing=1.25)
            parameters = sum(part.parameters for part in blocks[i - 1])
            work = sum(part.multiply_adds for part in blocks[i - 1])
            numbers = f"{parameters:,}\n{_short_millions(work)}"
            ax.text(x, floor - 0.34, numbers, ha="center", va="top", color="#555555", linespacing=1.25)
            gap = ((edges[i - 1] + 0.23) / 2, (edge + 0.23) / 2)
            _arrow(ax, (x - column + gap[0] + 0.03, floor + 0.42), (x - gap[1] - 0.03, floor + 0.42))
    ax.text(0.5 * column, top - 0.38, "Input", ha="center", va="top", fontweight="bold", color="#555555")
    ax.text(
        0.5 * column, floor - 0.34, "parameters:\nmult.-adds:", ha="center", va="top", color="#555555", linespacing=1.25
    )
    x = (len(volumes) + 0.5) * column
    bar = _rectangle(x - 0.06, floor, 0.12, 0.84)
    ax.add_patch(Polygon(bar, facecolor="#a9d3ec", edgecolor="#444444", linewidth=0.8))
    _arrow(ax, (x - column + (edges[-1] + 0.23) / 2 + 0.03, floor + 0.42), (x - 0.1, floor + 0.42))
    ax.text(x, top - 0.38, "Embedding", ha="center", va="top", fontweight="bold", color="#004c77")
    ax.text(x, top - 0.56, end.kind, ha="center", va="top")
    ax.text(x, floor - 0.15, shape_text(end.shape), ha="center", va="top", fontweight="bold")
    inside = [part for block in blocks for part in block]
    total = f"{sum(s.parameters for s in inside):,}\n{_short_millions(sum(s.multiply_adds for s in inside))}"
    ax.text(x, floor - 0.34, total, ha="center", va="top", color="#555555", fontweight="bold", linespacing=1.25)


def _draw_attention(ax: Axes, stages: dict[str, Stage], n_way: int, left: float) -> None:
    tokens, weights, mixed = stages["tokens"], stages["weights"], stages["mixed"]
    n_query = tokens.shape[0] - n_way
    attention, plain, distance = "#fbd9bd", "#e9e9e9", "#cdebdf"
    ax.plot([0.1, ax.get_xlim()[1] - 0.1], [3.42, 3.42], color="#cccccc", linewidth=0.8)
    ax.text(0.1, 3.32, "Attention, and the two distances", fontsize=10.5, fontweight="bold", va="top")
    columns = [left + x for x in (0.8, 2.4, 4.08, 5.68)]

    queries = "1 query f(x)" if n_query == 1 else f"{n_query} queries f(x)"
    _box(ax, columns[0], 2.35, 1.3, 0.75, f"{n_way} prototypes c\n{queries}\n{shape_text(tokens.shape)}", plain)
    for name, letter, y in (("to_query", "Q", 2.85), ("to_key", "K", 2.35), ("to_value", "V", 1.85)):
        stage = stages[name]
        _box(ax, columns[1], y, 1.15, 0.4, f"{letter}: {stage.kind}\n{stage.parameters:,}", attention)
        _arrow(ax, (columns[0] + 0.65, 2.35), (columns[1] - 0.575, y))
    softmax = f"softmax(QKᵀ/√{stages['to_key'].shape[1]})\n{shape_text(weights.shape)}"
    _box(ax, columns[2], 2.6, 1.35, 0.58, softmax, attention)
    _box(ax, columns[2], 1.85, 1.35, 0.4, f"weighted sum of V\n{shape_text(mixed.shape)}", attention)
    _arrow(ax, (columns[1] + 0.575, 2.85), (columns[2] - 0.675, 2.68))
    _arrow(ax, (columns[1] + 0.575, 2.35), (columns[2] - 0.675, 2.52))
    _arrow(ax, (columns[1] + 0.575, 1.85), (columns[2] - 0.675, 1.85))
    _arrow(ax, (columns[2], 2.31), (columns[2], 2.05))
    output = stages["output"]
    _box(ax, columns[3], 1.95, 1.15, 0.58, f"FC: {output.kind}\n{output.parameters:,}", attention)
    _arrow(ax, (columns[2] + 0.675, 1.85), (columns[3] - 0.575, 1.85))

    # The residual: the tokens go round the attention and are added to what comes out of it.
    plus = (columns[3], 1.3)
    ax.plot([columns[0] + 0.3] * 2, [1.975, plus[1]], color="#444444", linewidth=1)
    _arrow(ax, (columns[0] + 0.3, plus[1]), (plus[0] - 0.12, plus[1]))
    ax.text((columns[1] + columns[2]) / 2, plus[1] + 0.04, "residual: the embedding itself", ha="center", va="bottom")
    ax.add_patch(Circle(plus, 0.12, facecolor="white", edgecolor="#444444", linewidth=1))
    ax.text(*plus, "+", ha="center", va="center", fontsize=11)
    _arrow(ax, (plus[0], 1.66), (plus[0], plus[1] + 0.12))

    adapted = f"adapted c*, f*(x)\n{shape_text(stages['adapted'].shape)}"
    if norm := [stage for stage in stages.values() if stage.name == "norm"]:
        adapted = f"{norm[0].kind}: {norm[0].parameters:,}\n{adapted}"
    _box(ax, columns[3], 0.55, 1.3, 0.62, adapted, plain)
    _arrow(ax, (plus[0], plus[1] - 0.12), (columns[3], 0.86))
    _box(ax, columns[2], 0.55, 1.35, 0.62, f"d* = ‖f*(x) − c*‖²\n{n_way} distances", distance)
    _arrow(ax, (columns[3] - 0.65, 0.55), (columns[2] + 0.675, 0.55))
    _box(ax, columns[0], 0.55, 1.3, 0.62, f"d = ‖f(x) − c‖²\n{n_way} distances", distance)
    _arrow(ax, (columns[0] - 0.3, 1.975), (columns[0] - 0.3, 0.86))
    _box(ax, columns[1], 0.55, 1.15, 0.62, "d + d*\nnearest class", distance, bold=True)
    _arrow(ax, (columns[0] + 0.65, 0.55), (columns[1] - 0.575, 0.55))
    _arrow(ax, (columns[2] - 0.675, 0.55), (columns[1] + 0.575, 0.55))


def _box(ax: Axes, x: float, y: float, width: float, height: float, words: str, colour: str, bold=False) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=colour,
            edgecolor="#444444",
            linewidth=0.8,
        )
    )
    ax.text(x, y, words, ha="center", va="center", fontweight="bold" if bold else "normal", linespacing=1.25)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    ax.annotate("", end, start, arrowprops=style)


def _rectangle(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _cuboid(ax: Axes, x: float, y: float, edge: float, thick: float, colour: str) -> None:
    """Front face of edge^2 with channels as its thickness, drawn to the upper right."""
    corner = np.array([thick, thick])
    a, b, c, d = (np.array(point) for point in _rectangle(x, y, edge, edge))
    faces = ((a, b, c, d), 1.0), ((d, c, c + corner, d + corner), 0.9), ((b, c, c + corner, b + corner), 0.75)
    for face, shade in faces:
        tint = tuple(shade * part for part in plt.matplotlib.colors.to_rgb(colour))
        ax.add_patch(Polygon(face, facecolor=tint, edgecolor="#444444", linewidth=0.8))
