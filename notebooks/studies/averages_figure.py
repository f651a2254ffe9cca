"""Pictures and tables of Figure 4: averages of a class before and after classification."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import METHOD_COLOURS, WIDTH
from cryo_fewshot.figures.volumes import slices_grid
from cryo_fewshot.reproduction.display import plain_style

from .averages import unpacked

NAMES = {
    "single": "one particle",
    "mixture": "before",
    "assigned": "after",
    "members": "no mistakes",
    "truth": "simulated",
}
"""What the page calls each selection, and the density that was simulated."""
_STYLES = {
    "single": {"color": "#7F7F7F", "linestyle": (0, (1, 1.2)), "linewidth": 1.8},
    "mixture": {"color": METHOD_COLOURS["baseline"], "linestyle": (0, (5, 2))},
    "assigned": {"color": METHOD_COLOURS["ProtoNet-CE"], "linestyle": "solid", "linewidth": 2},
    "members": {"color": METHOD_COLOURS["ProtoNet3D"], "linestyle": (0, (6, 1.5, 1, 1.5))},
}
_TICKS_NM = (20, 10, 7, 5, 4, 3)
_SHOWN = 0.9  # of the box, along each edge


def densities(entries: Sequence[dict], truth: np.ndarray) -> dict[str, np.ndarray]:
    """Stored densities of one data set by selection, then the simulated one as 'truth'; without an average none."""
    found = {entry["spec"]["selection"]: entry["result"]["density"] for entry in entries}
    return {name: unpacked(density) for name, density in found.items() if density is not None} | {"truth": truth}


def slices_by_set(sets: Mapping[str, Mapping[str, np.ndarray]], voxel_sizes_nm: Mapping[str, float]) -> Figure:
    """The middle xy slice of each density: a row per data set, a column per selection, each on its own grey scale."""
    rows = [[_middle(of_set[name]) if name in of_set else None for name in NAMES] for of_set in sets.values()]
    voxels = [voxel_sizes_nm[name] for name in sets]
    return slices_grid(rows, _titles(sets), list(NAMES.values()), voxel_sizes_nm=voxels, one_scale=False)


def _middle(density: np.ndarray) -> np.ndarray:
    """The middle slice without the margin, beyond which averages are masked; voxel n // 2 stays the centre."""
    centre, half = len(density) // 2, int(len(density) * _SHOWN / 2)
    inner = slice(centre - half, centre + half)
    return density[centre, inner, inner]


def _titles(sets: Iterable[str]) -> list[str]:
    return [name.replace(" surrogate", "\nsurrogate") for name in sets]


def fsc_figure(entries: Mapping[str, Sequence[dict]]) -> Figure:
    """Fourier shell correlations, a row per data set: of the half maps on the left, with the truth on the right."""
    figure, axes = plt.subplots(
        len(entries), 2, figsize=(WIDTH, 0.8 + 1.45 * len(entries)), sharex=True, sharey=True, squeeze=False
    )
    handles = {}
    for row, title, of_set in zip(axes, _titles(entries), entries.values(), strict=True):
        row[0].set_ylabel(title)
        for ax, curve, threshold in zip(row, ("fsc_halves", "fsc_truth"), (0.143, 0.5), strict=True):
            for entry in of_set:
                selection, result = entry["spec"]["selection"], entry["result"]
                if result[curve] is not None:
                    (line,) = ax.plot(result["frequencies_per_nm"], result[curve], **_STYLES[selection])
                    handles[NAMES[selection]] = line
            ax.axhline(threshold, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
            ax.annotate(f"{threshold:g}", (1 / _TICKS_NM[-1], threshold), xytext=(-2, 2), textcoords="offset points",
                        ha="right", color="#555555")  # fmt: skip
            ax.set(xlim=(0, 1 / _TICKS_NM[-1]), ylim=(-0.1, 1.05), yticks=(0, 0.5, 1))
            ax.set_xticks([1 / length for length in _TICKS_NM], [f"{length}" for length in _TICKS_NM])
    axes[0, 0].set_title("two half maps")
    axes[0, 1].set_title("average and simulated density")
    for ax in axes[-1]:
        ax.set_xlabel("Resolution (nm), finer to the right")
    wanted = [name for name in NAMES.values() if name in handles]
    figure.legend([handles[name] for name in wanted], wanted, loc="outside lower center", ncols=4)
    return figure


def show_averages(table: pd.DataFrame) -> "pd.io.formats.style.Styler":
    """The table of averages for reading; the paper shows its own as pictures only."""
    single = table["selection"] == "single"
    purity, recall = (table[share].map("{:.0%}".format).where(~single, "–") for share in ("purity", "recall"))
    shown = pd.DataFrame(
        {
            "Data": (table["data_set"] + ": " + table["target"]).where(~table["data_set"].duplicated(), ""),
            "Average": table["selection"].map(NAMES),
            "Particles": table["n_particles"].where(~single, 1),
            "of the class": table["n_right"].where(~single, 1),
            "Purity": purity,
            "Recall": recall,
            "Half maps at 0.143 (nm)": table["halves_nm"].map(_length),
            "Simulated density at 0.5 (nm)": table["truth_nm"].map(_length),
        }
    )
    return plain_style(shown).hide(axis="index")


def _length(resolution_nm: float) -> str:
    if np.isnan(resolution_nm):
        return "–"
    return "none" if np.isinf(resolution_nm) else f"{resolution_nm:.1f}"


def averaging_findings(table: pd.DataFrame) -> str:
    """How often the average after classification is finer, and how often half maps alone would mislead."""
    wide = table.pivot(index="data_set", columns="selection")
    truth, halves = wide["truth_nm"], wide["halves_nm"]
    n = int(truth[["single", "mixture", "assigned"]].notna().all(axis=1).sum())
    if n == 0:
        return "No data set has enough particles for an average before and after classification."
    return (
        f"The average after classification agrees with the simulated density to a finer resolution than the average "
        f"before in {int((truth['assigned'] < truth['mixture']).sum())} of {n} data sets, and finer than one particle "
        f"in {int((truth['assigned'] < truth['single']).sum())}. The paper reports an improvement in all of its three. "
        f"In {int((halves['mixture'] < 0.8 * truth['mixture']).sum())} of {n} the half maps of the average before "
        "agree to a much finer resolution than it shares with the class: half maps alone would mislead."
    )
