"""The first page: the method at a glance, all from the project's data, and three numbers with their meaning."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from scipy.spatial.transform import Rotation

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Acquisition, Microscope

from .averages import unpacked
from .pretrained import Pretrained

_COLOURS = (METHOD_COLOURS["ProtoNet3D"], METHOD_COLOURS["ProtoNet-CE"], OTHER_COLOURS[0])
_TOMOGRAM = Microscope(box=128, binning=1)


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What the picture on the first page shows beside the averages of a stored `Demonstration`.

    encoder : digest of its weights; classes : three of the demonstration's; data : of the subtomograms
    n_across : particles along each edge of the tomogram
    """

    encoder: str
    classes: tuple[str, ...] = ("1OEL", "3KUY", "3UWX")
    data: SimulatedData = field(default_factory=lambda: SimulatedData(microscope=Microscope(binning=2)))
    snr: float = 0.1
    n_labelled: int = 5
    n_particles: int = 40
    n_across: int = 5
    seed: int = 3

    def run(self, runner, pretrained: Pretrained) -> dict:
        """Result: `slab`, the mean of eleven slices of a small tomogram; `centres` in it, nm from the middle (y, x);
        `kinds`, their classes; `labelled`, middle slices by class; `places`, 2D by class, labelled particles first.
        """
        rng = np.random.default_rng(self.seed)
        grid = (np.arange(self.n_across) - (self.n_across - 1) / 2) * _TOMOGRAM.box / self.n_across
        centres = np.stack(np.meshgrid(0, grid, grid, indexing="ij"), -1).reshape(-1, 3)
        centres = centres + rng.uniform(-3.5, 3.5, centres.shape)
        kinds = rng.integers(len(self.classes), size=len(centres))
        positions, masses = [], []
        seeds = torch.arange(1) + self.seed
        for centre, kind in zip(centres, kinds, strict=True):
            beads, mass = self.data.beads_of(self.classes[kind], seeds)[0]
            positions.append(beads @ Rotation.random(random_state=rng).as_matrix().T + centre)
            masses.append(mass)
        still = Acquisition(np.array([[0.0, 0, 0, 1]]), np.zeros((1, 3)), np.array([3.0]))
        beads = [(np.concatenate(positions), np.concatenate(masses))]
        tomogram = simulate(beads, seeds, self.snr, _TOMOGRAM, acquisition=still)[0]
        slab = tomogram[_TOMOGRAM.box // 2 - 5 : _TOMOGRAM.box // 2 + 6].mean(0)
        volumes = self.data.subtomograms({self.snr: self.n_particles}, self.classes, "cpu").volumes
        projected = pretrained.calibration.space.project(unit_embeddings(pretrained.encoder, volumes)).double()
        centred = projected - projected.mean(0)
        places = centred @ torch.linalg.svd(centred, full_matrices=False)[2][:2].T
        by_class = volumes.view(len(self.classes), self.n_particles, *volumes.shape[1:])
        middle = volumes.shape[1] // 2
        return {
            "slab": slab.mul(100).round().int().tolist(),
            "centres": centres[:, 1:].round(2).tolist(),
            "kinds": kinds.tolist(),
            "labelled": by_class[:, : self.n_labelled, middle].mul(100).round().int().tolist(),
            "places": places.view(len(self.classes), self.n_particles, 2).mul(100).round().div(100).tolist(),
        }


def glance_figure(spec: dict, result: dict, averages: dict[str, dict], names: dict[str, str]) -> Figure:
    """Four steps in a row.

    spec, result : of a stored `Glance`; averages : of the `Demonstration`; names : of the classes
    """
    classes, n_labelled = spec["classes"], spec["n_labelled"]
    figure = plt.figure(figsize=(WIDTH, 2.35), layout="none")
    titles = ("1  a tomogram", "2  five labelled of each", "3  embedded", "4  sorted, averaged")
    lefts, widths = (0.005, 0.265, 0.535, 0.79), (0.235, 0.235, 0.22, 0.2)
    for left, title in zip(lefts, titles, strict=True):
        figure.text(left, 0.955, title, fontsize=9, fontweight="bold", va="center")
    for left in lefts[1:]:
        figure.add_artist(FancyArrowPatch((left - 0.028, 0.5), (left - 0.004, 0.5), arrowstyle="-|>",
                          mutation_scale=9, color="#444444", transform=figure.transFigure))  # fmt: skip

    ax = figure.add_axes((lefts[0], 0.1, widths[0], 0.8))
    slab = np.array(result["slab"])
    half = len(slab) / 2
    low, high = np.percentile(slab, [0.5, 99.5])
    ax.imshow(slab, cmap="gray", vmin=low, vmax=high, origin="lower", extent=(-half, half, -half, half))
    found = np.zeros(len(classes), int)
    for (y, x), kind in zip(result["centres"], result["kinds"], strict=True):
        if found[kind] < n_labelled:
            found[kind] += 1
            ax.add_patch(Circle((x, y), 12, fill=False, edgecolor=_COLOURS[kind], linewidth=1.6))

    for row, key in enumerate(classes):
        bottom = 0.9 - 0.8 * (row + 1) / len(classes)
        for column, picture in enumerate(np.array(result["labelled"][row])):
            ax = figure.add_axes((lefts[1] + column * widths[1] / n_labelled, bottom + 0.09,
                                  widths[1] / n_labelled * 0.94, 0.16))  # fmt: skip
            ax.imshow(picture, cmap="gray", origin="lower", aspect="auto")
            for spine in ax.spines.values():
                spine.set(visible=True, color=_COLOURS[row], linewidth=1.2)
        figure.text(
            lefts[1], bottom + 0.035, f"{names[key].split()[0]} ({key})", color=_COLOURS[row], fontsize=9, va="center"
        )
        ax = figure.add_axes((lefts[3], bottom, widths[3], 0.8 / len(classes)))
        _average(ax, unpacked(averages[key]["density"]), row, averages[key]["n_particles"])

    ax = figure.add_axes((lefts[2], 0.1, widths[2], 0.8))
    for row, places in enumerate(np.array(result["places"])):
        ax.scatter(*places[n_labelled:].T, s=9, color=_COLOURS[row], alpha=0.55, linewidth=0)
        ax.scatter(*places[:n_labelled].T, s=26, color=_COLOURS[row], edgecolor="#000000", linewidth=0.8)
        ax.scatter(*places[:n_labelled].mean(0), marker="*", s=190, color=_COLOURS[row], edgecolor="white")
    for ax in figure.axes:
        ax.set(xticks=[], yticks=[])
    figure.set_label(
        f"From left to right: a slice of a simulated tomogram with rings around labelled particles; {n_labelled} "
        f"labelled subtomograms each of {', '.join(names.values())}; their embeddings as three separate clouds with a "
        "star at the mean of the labelled ones; the average of the particles sorted into each class"
    )
    return figure


def _average(ax, volume: np.ndarray, row: int, n_particles: int) -> None:
    middle = volume[len(volume) // 2]
    edge = len(middle) // 6
    ax.imshow(middle[edge:-edge, edge:-edge], cmap="gray_r", origin="lower")
    ax.set_anchor("W")
    ax.spines[:].set_visible(False)
    ax.text(1.06, 0.5, f"mean of\n{n_particles}", color=_COLOURS[row], transform=ax.transAxes, va="center")


def three_numbers(table: pd.DataFrame, expected: Sequence[dict], demonstration: dict) -> str:
    """HTML: the paper's methods, the pretrained encoder, and what it rejects.

    table : tidy Table 1; expected : `expected_accuracy` of the encoder's card; demonstration : a stored entry
    """
    part = table[(table["n_episodes"] == table["n_episodes"].max()) & (table["n_shot"] == table["n_shot"].max())]
    part = part[part["snr"] == part["snr"].max()]
    best = part.loc[part["accuracy"].idxmax()]
    same = next(row for row in expected if (row["snr"], row["n_shot"]) == (best["snr"], best["n_shot"]))
    spec, result = demonstration["spec"], demonstration["result"]
    numbers = {
        f"of particles are assigned to the right one of {best['n_way']} classes by the best of the paper's methods "
        f"({best['method']}), run again at 20³: {best['n_shot']} labels per class, SNR {best['snr']:g}. Guessing gives "
        f"{1 / best['n_way']:.0%}.": best["accuracy"],
        "with the encoder that comes with the package, on the same particles and tasks. It was trained for longer, on "
        "other complexes, simulated on the fly.": same["accuracy"],
        f"of {len(spec['outsiders']) * spec['n_particles']} particles of unknown complexes were accepted in a run of "
        f"<code>classify</code> that promises at most {spec['false_accept_rate']:.0%}. It accepted "
        f"{result['kept']:.0%} of the known ones and left the rest for you to look at.": result["false_accepts"],
    }
    shown = "".join(f"<p><strong>{number:.0%}</strong> {meaning}</p>" for meaning, number in numbers.items())
    return f'<div class="big-numbers">{shown}</div>'
