"""Tables and figures of the page on real particles; every number is read off a stored run."""

import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import METHOD_COLOURS, OTHER_COLOURS, WIDTH
from cryo_fewshot.recognition.benchmark import FILES, TOOL, UNFITTED

from .charts import curves_figure, labels_text
from .real_particles import FILED, READ

LEFT_OUT = ("embeddings centred", "by tilt", "per class", "CTF left in; shells matched")
"""Parts of the names of stored corrections that no longer belong to the study."""
YEAST, PICKS = "all five", "all classes"
"""Tasks that tell the runs of the benchmark apart."""
_LINES = {
    FILED: {"color": METHOD_COLOURS["ProtoNet-CE"], "linestyle": (0, (4, 2))},
    READ: {"color": METHOD_COLOURS["ProtoNet3D"], "linestyle": "-"},
    "simulated": {"color": "#000000", "linestyle": "-"},
    "training": {"color": OTHER_COLOURS[2], "linestyle": (0, (1, 1.5))},
}


def corrections_of(entry: dict) -> dict[str, dict]:
    """What was found with each correction that the page shows, by its name."""
    found = entry["result"]["tried"]
    return {name: found[name] for name in sorted(found) if not any(part in name for part in LEFT_OUT)}


def correction_frame(entry: dict) -> pd.DataFrame:
    """A row per correction: how the family fared, and the control on simulated classes where it applies to them."""
    snrs, control = [f"{snr:g}" for snr in entry["spec"]["snrs"]], entry["result"]["unharmed"]
    rows = []
    for name, found in corrections_of(entry).items():
        accuracies = control.get(name, {})
        row = {
            "Correction": name,
            "Median rank": f"{found['median_rank']:.0f}",
            "Likeliest": f"{found['first']:.0%}",
            "Rank of all together": f"{found['rank_together']:.0f}",
        }
        rows.append(row | {f"Control, SNR {s}": f"{accuracies[s][0]:.3f}" if s in accuracies else "–" for s in snrs})
    return pd.DataFrame(rows)


def decoy_frame(entry: dict) -> pd.DataFrame:
    """Shares of particles and decoys told apart: a row per kind of particle, the real ones first."""
    found = entry["result"]["twins"]
    kinds = sorted(found, key=lambda kind: (not kind.startswith("real"), kind))
    return pd.DataFrame(
        {
            "Particles": [kind.replace("empty", "noise alone") for kind in kinds],
            "Told apart": [f"{found[kind]['right']:.0%}" for kind in kinds],
            "5 to 95 % of the draws": [f"{found[kind]['low']:.0%} to {found[kind]['high']:.0%}" for kind in kinds],
        }
    )


def benchmark_frame(entries: list[dict], half: str, first_task: str = YEAST) -> pd.DataFrame:
    """Accuracy on labelled tomograms: a row per task and method, a column per number of labels; empty if not run."""
    rows = _benchmark_rows(entries, first_task)
    if rows.empty:
        return rows
    rows = rows[rows["half"] == half]
    rows = rows.assign(text=[f"{r.accuracy:.3f} ({r.low:.3f}–{r.high:.3f})" for r in rows.itertuples()])
    table = rows.pivot_table(
        index=["task", "method"], columns="n_shot", values="text", aggfunc="first", sort=False
    ).fillna("–")
    half_name = {"odd": "odd half", "all": "all boxes"}[half]
    table.columns = [labels_text(n) for n in table.columns]
    if first_task == PICKS:
        areas = rows.astype({"background_auroc": float}).groupby(["task", "method"])["background_auroc"].mean()
        table["AUROC, background"] = areas.map("{:.3f}".format).replace("nan", "–")
    return table.reset_index().rename(columns={"task": f"Task, {half_name}", "method": "Method"})


_SHOWN = {
    TOOL: "classify",
    "all together": "features and embedding",
    "profile and power": "features alone",
    "nearest prototype": "embedding alone",
    UNFITTED: "classify --no-adapt",
}
"""Methods of the benchmark that its figure draws, as the figure names them."""
_TASKS = {YEAST: "all five classes", "without cytosol": "without the cytosol"}


def benchmark_figure(entries: list[dict]) -> Figure | None:
    """Accuracy against labels per class on the half to report on, a panel per task; None if not run."""
    rows = _benchmark_rows(entries)
    if rows.empty:
        return None
    rows = rows[(rows["half"] == "odd") & rows["task"].isin(_TASKS) & rows["method"].isin(_SHOWN)]
    rows = pd.concat([rows[rows["method"] == name] for name in _SHOWN])
    return curves_figure(
        rows.assign(task=rows["task"].map(_TASKS), method=rows["method"].map(_SHOWN)),
        x="n_shot", curve="method", panel="task", x_label="labelled particles per class", panel_label="{}",
        chance=0, dashed=[_SHOWN["profile and power"]], log_x=True, bottom=0.5,
    )  # fmt: skip


def benchmark_finding(entries: list[dict], n_shot: int = 5) -> str:
    """The accuracy of the command on the half to report on, beside the other methods of the figure."""
    rows = _benchmark_rows(entries)
    if rows.empty:
        return "Not run with this encoder."
    odd = rows[(rows["half"] == "odd") & (rows["n_shot"] == n_shot) & (rows["task"] == YEAST)].set_index("method")
    tool = odd.loc[TOOL]
    others = {name: odd.loc[name, "accuracy"] for name in _SHOWN if name != TOOL and name in odd.index}
    return (
        f"**With {n_shot} labelled particles of each of five classes, `classify` recognises {tool['accuracy']:.1%} of "
        f"the other particles** (95 % interval {tool['low']:.1%} to {tool['high']:.1%}). On the same tasks: "
        f"{', '.join(f'{_SHOWN[name]} {accuracy:.1%}' for name, accuracy in others.items())}."
    )


def yeast_slices_figure(entry: dict) -> Figure:
    """Boxes of a labelled tomogram: a row per class, on one grey scale."""
    slices = {name: np.array(found) for name, found in entry["result"]["slices"].items()}
    low, high = np.percentile(np.concatenate(list(slices.values())), [0.5, 99.5])
    n = max(map(len, slices.values()))
    figure, axes = plt.subplots(len(slices), n, figsize=(WIDTH, len(slices) * WIDTH / (n + 1)), squeeze=False)
    for row, (name, pictures) in zip(axes, slices.items(), strict=True):
        for ax, picture in zip(row, pictures, strict=False):
            ax.imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
        for ax in row:
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(textwrap.fill(name.replace("_", " "), 12), rotation=0, ha="right", va="center")
    return figure


def benchmark_text(entries: list[dict]) -> str:
    """How far the command's default is from each other method, in words."""
    rows = _benchmark_rows(entries)
    if rows.empty:
        return "Not run with this encoder."
    odd = rows[rows["half"] == "odd"].pivot_table(index=["task", "n_shot"], columns="method", values="accuracy")
    odd = odd.round(3)
    others = odd.drop(columns=[TOOL, FILES])
    behind = odd.index[others.max(axis=1) > odd[TOOL]]
    where = "; ".join(
        f"{task}, {labels_text(n)}: {others.loc[(task, n)].idxmax()}, by "
        f"{others.loc[(task, n)].max() - odd.loc[(task, n), TOOL]:.3f}"
        for task, n in behind
    )
    counts = next(found["boxes"] for found in _benchmark_results(entries) if YEAST in found["tasks"])
    classes = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in counts["odd"].items())
    return (
        f"On the odd half no other method is ahead of the command in {len(odd) - len(behind)} of {len(odd)} columns"
        f"{f'; the others are {where}' if where else ''}. Boxes in the odd half: {classes}."
    )


def small_sets_frame(entries: list[dict]) -> pd.DataFrame:
    """Accuracy on the small sets, with 5 to 95 % of the draws; empty if not run."""
    rows = [
        {"Set": ", ".join(f"{name} ({n})" for name, n in entry["result"]["boxes"].items()), **row}
        for entry in entries
        if entry["spec"]["type"] == "RealBoxes"
        for row in pd.DataFrame(entry["result"]["rows"]).to_dict("records")
    ]
    if not rows:
        return pd.DataFrame()
    found = pd.DataFrame(rows)
    text = [f"{row.accuracy:.2f} ({row.low:.2f}–{row.high:.2f})" for row in found.itertuples()]
    names = {"n_shot": "Labels per class", "method": "Method", "text": "Accuracy (5 to 95 % of the draws)"}
    return found.assign(text=text)[["Set", *names]].rename(columns=names)


def _benchmark_results(entries: list[dict]) -> list[dict]:
    return [entry["result"] for entry in entries if entry["spec"]["type"] == "RealBenchmark"]


def _benchmark_rows(entries: list[dict], first_task: str = YEAST) -> pd.DataFrame:
    found = [result["rows"] for result in _benchmark_results(entries) if first_task in result["tasks"]]
    return pd.DataFrame(found[0]) if found else pd.DataFrame()


def spectra_figure(entry: dict) -> Figure:
    """Mean power per frequency against the wavelength, each kind relative to its own mean."""
    power, width = entry["result"]["power"], entry["result"]["width_nm"]
    figure, ax = plt.subplots(figsize=(WIDTH, 3.2))
    shells = np.arange(1, 1 + len(power[READ]))
    for kind, values in power.items():
        ax.plot(shells / width, values, "o", markersize=4, label=kind, **_LINES[kind])
    ax.set_yscale("log")
    ax.set_yticks([0.1, 0.2, 0.5, 1, 2, 5], ["0.1", "0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.set_xticks(shells / width, [f"{width / shell:.3g}" for shell in shells])
    ax.set(xlabel="wavelength (nm)", ylabel="power, relative to the mean")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def particles_figure(entry: dict) -> Figure:
    """Middles of some particles, a row per kind, each on its own grey scale."""
    pictures = entry["result"]["pictures"]
    n = len(pictures[READ])
    figure, axes = plt.subplots(len(pictures), n, figsize=(WIDTH, 3.8), squeeze=False)
    for row, (kind, slices) in zip(axes, pictures.items(), strict=True):
        low, high = np.percentile(slices, [1, 99])
        for ax, values in zip(row, slices, strict=True):
            ax.imshow(values, cmap="gray", vmin=low, vmax=high, origin="lower", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind.replace(", ", ",\n"))
    return figure
