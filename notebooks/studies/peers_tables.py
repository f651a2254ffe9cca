"""The comparison with peers as tables and one figure."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import WIDTH, _styles
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, results_folder

from .open_world import Pretrained, paper_like
from .peers import (
    CLASSIFY,
    CONDITIONS,
    LABELLED,
    METHODS,
    PLAIN,
    PROTOTYPE,
    TRUE_MAP,
    accuracy,
    difference,
    n_answered,
    peer,
)

TRAINED = ("ProtoNet3D", "ProtoNet3D (mix)", "ProtoNet-CE", "ProtoNet-CE (mix)")
"""Networks of the paper, as the profile `finished` trained them until they stopped improving."""
SHOWN = (TRUE_MAP, LABELLED, "PCA, RBF SVM", "shell powers", PROTOTYPE, CLASSIFY)
"""Methods of the figure."""
SHOWN_AT = {"snr": 0.03, "n_shot": 5}
SPEED = {
    "template_structure": TRUE_MAP,
    "template_labelled": LABELLED,
    "acryo": "template: true structure, by acryo",
    "svm": "PCA, RBF SVM",
    "shells": "shell powers",
    "harmonics": "harmonic powers",
    "network": "residual network on the labels",
    "prototype": PROTOTYPE,
    "classify": CLASSIFY,
}


def test_classes() -> tuple[str, ...]:
    """The test classes of all tables of class split 0, which the pretrained encoder was not trained on either."""
    return paper_like(profile_named("finished"), 0.1, 5).novel_classes


def simulated_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> tuple[pd.DataFrame, list[dict]]:
    """A row per method, SNR and number of labels, and the entries.

    Columns: method, known, snr, n_shot, accuracy, ci95, n_tasks, n_queries (a task), gain, gain_ci95; the gain is that
    of `classify` over the method, paired.
    """
    rows, entries = [], []
    for n_shot in PAPER_SHOTS:
        for snr in PAPER_SNRS:
            tasks = {"classes": test_classes(), "snr": snr, "n_shot": n_shot}
            found = {name: peer(runner, pretrained, name, run_missing, **tasks) for name in METHODS}
            found |= _trained(snr, n_shot)
            ours = found[CLASSIFY]
            for name, entry in found.items():
                if entry is None:
                    continue
                result, gain = entry["result"], (float("nan"),) * 2
                if ours and name != CLASSIFY:
                    gain = difference(ours["result"], result)
                known = METHODS[name].known if name in METHODS else "labels, a trained network"
                rows.append((name, known, snr, n_shot, *accuracy(result), *n_answered(result), *gain))
                entries.append(entry)
    columns = ["method", "known", "snr", "n_shot", "accuracy", "ci95", "n_tasks", "n_queries", "gain", "gain_ci95"]
    return pd.DataFrame(rows, columns=columns), entries


def _trained(snr: float, n_shot: int) -> dict[str, dict | None]:
    """Stored entries of the networks of the paper; their tasks begin with the very tasks of the peers."""
    profile = profile_named("finished")
    cells = table_1(profile, snrs=[snr], shots=[n_shot], methods=list(TRAINED))
    store = Store(results_folder(profile.name))
    return {cell.method: store.get(cell.evaluation) for cell in cells}


def simulated_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`simulated_frame` for reading: accuracy, and below it what `classify` gains over the method on the same tasks."""
    text = [
        f"{row.accuracy:.3f} ±\u00a0{row.ci95:.3f}"
        + ("" if pd.isna(row.gain) else f"<br><small>{row.gain:+.3f} ±\u00a0{row.gain_ci95:.3f}</small>")
        for row in frame.itertuples()
    ]
    column = [f"{row.n_shot} label{'s' * (row.n_shot > 1)}, SNR {row.snr:g}" for row in frame.itertuples()]
    table = frame.assign(text=text, column=column).pivot(index="method", columns="column", values="text")
    table = table.loc[frame["method"].unique(), list(dict.fromkeys(column))].fillna("not run")
    table.insert(0, "needs", frame.groupby("method")["known"].first())
    return table.rename_axis(index=None, columns=None)


def conditions_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> tuple[pd.DataFrame, list[dict]]:
    """Accuracy under every condition: method, condition, accuracy, ci95, n_tasks; and the entries."""
    rows, entries = [], []
    for condition in CONDITIONS:
        for name in SHOWN:
            n = 12 if METHODS[name].is_dear else 60
            tasks = {"classes": test_classes(), "condition": condition, "n_episodes": n, **SHOWN_AT}
            if entry := peer(runner, pretrained, name, run_missing, **tasks):
                rows.append((name, condition, *accuracy(entry["result"]), n))
                entries.append(entry)
    return pd.DataFrame(rows, columns=["method", "condition", "accuracy", "ci95", "n_tasks"]), entries


def conditions_figure(simulated: pd.DataFrame, frame: pd.DataFrame) -> Figure:
    """Accuracy against SNR, then a panel per condition; a dash stands where the method is as simulated."""
    conditions = [name for name in CONDITIONS if name != PLAIN]
    styles, handles = _styles(list(SHOWN)), {}
    figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 4.4), sharey=True)
    part = simulated[(simulated["n_shot"] == SHOWN_AT["n_shot"]) & simulated["method"].isin(SHOWN)]
    for name, rows in part.groupby("method", sort=False):
        colour, marker = styles[name]
        axes[0, 0].plot(rows["snr"], rows["accuracy"], color=colour, marker=marker, markersize=4)
    axes[0, 0].set(xscale="log", xlim=(0.12, 0.025), title="SNR")
    axes[0, 0].set_xticks(PAPER_SNRS, [f"{snr:g}" for snr in PAPER_SNRS])
    axes[0, 0].minorticks_off()
    plain = frame[frame["condition"] == PLAIN].set_index("method")["accuracy"]
    for ax, condition in zip(axes.flat[1:], conditions, strict=True):
        for row in frame[frame["condition"] == condition].itertuples():
            x, (colour, marker) = SHOWN.index(row.method), styles[row.method]
            ax.plot([x - 0.4, x + 0.4], [plain[row.method]] * 2, color=colour, linewidth=1)
            drawn = ax.errorbar(x, row.accuracy, row.ci95, fmt=marker, color=colour, markersize=4.5, elinewidth=1)
            handles[row.method] = drawn
        ax.set_xticks([])
        ax.set_title(condition.replace("picks off by", "picks off by\n").replace("one label in", "one label in\n"))
    for ax in axes.flat:
        ax.axhline(0.2, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.title.set_fontsize(9)
    axes[0, 0].set_ylim(0, 1.03)
    for ax in axes[:, 0]:
        ax.set_ylabel("Accuracy")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


# ---------------------------------------------------------------- the tomogram, and time


def real_frame(stored: list[dict], benchmarks: list[dict]) -> pd.DataFrame:
    """Rows of the peers and of `real_benchmark` on the odd half: task, n_shot, method, accuracy, low, high."""
    parts = [pd.DataFrame(entry["result"]["rows"]) for entry in [*stored, *benchmarks]]
    frame = pd.concat(parts, ignore_index=True)
    return frame[(frame["half"] == "odd") & frame["n_shot"].isin((1, 5, 10))]


def speed_frame(path: Path, box: int) -> pd.DataFrame:
    """A row per method of a file of `bench.py`: method, processor ms a particle, ratio to `classify`, peak GB."""
    results = json.loads(path.read_bytes())["results"]
    rows = []
    for name, method in SPEED.items():
        found = results.get(f"peer_{name}_{box}", {})
        if "cpu_seconds" in found:
            rows.append((method, found["cpu_seconds"] * 1e3, found["peak_gb"]))
    return pd.DataFrame(rows, columns=["method", "ms", "peak_gb"])
