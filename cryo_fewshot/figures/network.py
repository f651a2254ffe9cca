"""Figure 3: the networks, drawn from what their modules do in a forward pass. Needs the extra [book]."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..adaptation import Adaptation
from ..encoder import Encoder3D
from .style import WIDTH

_OUTLINE = {"edgecolor": "#444444", "linewidth": 0.8}


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
    """Stages of one forward pass of an empty volume, from 'input' to 'embedding'."""
    volumes = torch.zeros(1, *(encoder.box,) * 3)
    record = _Recorder(encoder)
    with record.flops:
        record("input", "subtomogram", volumes[:, None])
        record("embedding", "Flatten", record.network(volumes))
    return record.stages


@torch.no_grad()
def trace_adaptation(adaptation: Adaptation, n_way: int) -> list[Stage]:
    """Stages of the attention over `n_way` prototypes and one query, from 'tokens' to 'adapted'.

    The layers are run one by one as in Equations 4 to 6, as a reader expects them; training merges some of them.
    """
    record = _Recorder(adaptation)
    adaptation = record.network
    with record.flops:
        tokens = record("tokens", "prototypes and query", torch.zeros(1, n_way + 1, adaptation.dim))
        asked, keys, values = (layer(tokens) for layer in (adaptation.to_query, adaptation.to_key, adaptation.to_value))
        weights = record("weights", "softmax", torch.softmax(asked @ keys.mT / adaptation.dim**0.5, dim=-1))
        adapted = tokens + adaptation.output(record("mixed", "weighted sum", weights @ values))
        record("adapted", "residual sum", adaptation.norm(adapted) if adaptation.norm else adapted)
    return record.stages


class _Recorder:
    """Notes the stages of a network in the order in which they are computed."""

    def __init__(self, network: nn.Module):
        self.stages: list[Stage] = []
        self.flops = FlopCounterMode(display=False)
        # A copy, so that neither the mode nor the hooks have to be taken back.
        self.network = copy.deepcopy(network).eval()
        for name, layer in self.network.named_modules():
            if not list(layer.children()):
                self._watch(name, layer)

    def __call__(self, name: str, kind: str, output: torch.Tensor, parameters: int = 0) -> torch.Tensor:
        """Note a stage that has just been computed, and pass its output on."""
        # Torch counts a multiply-add as two operations. Those since the last stage are this one's.
        work = self.flops.get_total_flops() // 2 - sum(stage.multiply_adds for stage in self.stages)
        self.stages.append(Stage(name, kind, tuple(output.shape[1:]), parameters, work))
        return output

    def _watch(self, name: str, layer: nn.Module) -> None:
        parameters = sum(p.numel() for p in layer.parameters())
        layer.register_forward_hook(lambda _, inputs, output: self(name, _kind(layer), output, parameters))


def _kind(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    size = " " + ("×".join(map(str, size)) if isinstance(size, tuple) else str(size)) if size else ""
    return type(module).__name__ + size


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


def architecture_figure(encoder_stages: Sequence[Stage], adaptation_stages: Sequence[Stage], n_way: int) -> Figure:
    """Fig 3: the encoder as boxes, the attention and both distances below it; every number comes from the stages."""
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
    """A column per volume and one for the embedding: layers above, shape, parameters and multiply-adds below."""
    floor, top = 4.15, 6.43
    ax.text(0.1, top, "Encoder: one volume in, one vector out", fontsize=10.5, fontweight="bold", va="top")
    titles = ["Input", *(f"Block {number}" for number, _ in enumerate(blocks, 1)), "Embedding"]
    layers = [[], *blocks, [end]]
    volumes = [start, *(block[-1] for block in blocks)]
    numbers = ["parameters:\nmult.-adds:", *map(_work_text, blocks), _work_text([*chain(*blocks)])]
    edges = [0.66 * (stage.shape[-1] / start.shape[-1]) ** 0.5 for stage in volumes]
    margins = [*((edge + 0.23) / 2 + 0.03 for edge in edges), 0.1]
    for i, title in enumerate(titles):
        x, is_input, is_embedding = (i + 0.5) * column, i == 0, i == len(volumes)
        _label(ax, x, top - 0.38, title, fontweight="bold", color="#555555" if is_input else "#004c77")
        _label(ax, x, top - 0.56, "\n".join(layer.kind for layer in layers[i]))
        _label(ax, x, floor - 0.15, shape_text([*volumes, end][i].shape), fontweight="bold")
        _label(ax, x, floor - 0.34, numbers[i], color="#555555", fontweight="bold" if is_embedding else "normal")
        if is_embedding:
            ax.add_patch(Rectangle((x - 0.06, floor), 0.12, 0.84, facecolor="#a9d3ec", **_OUTLINE))
        else:
            edge, thick = edges[i], 0.05 + 0.03 * np.log2(volumes[i].shape[0])
            corner = (x - (edge + thick) / 2, floor + 0.42 - edge / 2)
            _cuboid(ax, *corner, edge, thick, "#d9d9d9" if is_input else "#a9d3ec")
        if not is_input:
            _arrow(ax, (x - column + margins[i - 1], floor + 0.42), (x - margins[i], floor + 0.42))


def _work_text(stages: Sequence[Stage]) -> str:
    parameters, work = sum(stage.parameters for stage in stages), sum(stage.multiply_adds for stage in stages)
    return f"{parameters:,}\n{work / 1e6:,.0f} M" if work >= 2e6 else f"{parameters:,}\n{work / 1e6:.2g} M"


def _label(ax: Axes, x: float, y: float, words: str, **style) -> None:
    ax.text(x, y, words, ha="center", va="top", linespacing=1.25, **style)


def _draw_attention(ax: Axes, stages: dict[str, Stage], n_way: int, left: float) -> None:
    tokens, weights, mixed = stages["tokens"], stages["weights"], stages["mixed"]
    attention, plain, distance = "#fbd9bd", "#e9e9e9", "#cdebdf"
    ax.plot([0.1, ax.get_xlim()[1] - 0.1], [3.42, 3.42], color="#cccccc", linewidth=0.8)
    ax.text(0.1, 3.32, "Attention, and the two distances", fontsize=10.5, fontweight="bold", va="top")
    columns = [left + x for x in (0.8, 2.4, 4.08, 5.68)]

    _box(ax, columns[0], 2.35, 1.3, 0.75, f"{n_way} prototypes c\n1 query f(x)\n{shape_text(tokens.shape)}", plain)
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
    corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.06"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, **_OUTLINE))
    ax.text(x, y, words, ha="center", va="center", fontweight="bold" if bold else "normal", linespacing=1.25)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": "#444444", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    ax.annotate("", end, start, arrowprops=style)


def _cuboid(ax: Axes, x: float, y: float, edge: float, thick: float, colour: str) -> None:
    """Front face of edge^2 with channels as its thickness, drawn to the upper right."""
    a, b, c, d = np.array([(x, y), (x + edge, y), (x + edge, y + edge), (x, y + edge)])
    faces = ((a, b, c, d), 1.0), ((d, c, c + thick, d + thick), 0.9), ((b, c, c + thick, b + thick), 0.75)
    for face, shade in faces:
        tint = tuple(shade * part for part in plt.matplotlib.colors.to_rgb(colour))
        ax.add_patch(Polygon(face, facecolor=tint, **_OUTLINE))
