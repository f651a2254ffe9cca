"""The comparison with peers as tables and two figures."""

import json
from collections.abc import Sequence
from itertools import product

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import WIDTH, line_styles
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store

from . import peers
from .charts import labels_text
from .peers import CLASSIFY, CONDITIONS, LABELLED, METHODS, PLAIN, PROTOTYPE, TRUE_MAP
from .peers_real import SHOTS, SHOWN_TASKS
from .peers_trained import tasks_of, trained_rows
from .pretrained import Pretrained, published_runner

OF_PAPER = ("ProtoNet3D", "ProtoNet3D (mix)", "ProtoNet-CE", "ProtoNet-CE (mix)")
"""Networks of the paper, as the profile `finished` trained them until they stopped improving."""
SHOWN = (TRUE_MAP, LABELLED, "PCA, RBF SVM", "shell powers", PROTOTYPE, CLASSIFY)
"""Methods of the figure of conditions."""
ON_TOMOGRAM = ("classify", "classify, boxes normalised one by one", "classify --no-adapt", "nearest prototype",
               "three grey values", "all together", *METHODS)  # fmt: skip
"""Rows of the tomogram's table: of `real_benchmark` what the tool answers and what is plainest, then the peers."""
READING = "reading MRC files"
NOT_RUN, FEW = float("nan"), 20


def simulated_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> pd.DataFrame:
    """A row per method, SNR and number of labels, see `_frame`."""
    stored, profile, cells = published_runner("finished").store, profile_named("finished"), []
    trained = trained_rows(runner.store)
    for n_shot, snr in product(PAPER_SHOTS, PAPER_SNRS):
        tasks = {"snr": snr, "n_shot": n_shot}
        found = {name: peers.peer(runner, pretrained, name, run_missing, **tasks) for name in METHODS}
        found |= {name: tasks_of(entry, snr, n_shot) for name, entry in trained.items()}
        for cell in table_1(profile, snrs=[snr], shots=[n_shot], methods=list(OF_PAPER)):
            found[cell.method] = stored.get(cell.evaluation)  # its tasks begin with the very tasks of the peers
        cells.append((tasks, found))
    return _frame(cells)


def conditions_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> pd.DataFrame:
    """A row per method of the figure and condition, at the lowest SNR with five labels, see `_frame`."""
    cells = []
    for condition in CONDITIONS:
        tasks, found = {"condition": condition, "snr": min(PAPER_SNRS), "n_shot": max(PAPER_SHOTS)}, {}
        for name in SHOWN:
            fewer = 60 if not METHODS[name].is_dear else 10 if condition != PLAIN else None
            found[name] = peers.peer(runner, pretrained, name, run_missing, fewer, **tasks)
        cells.append((tasks, found))
    return _frame(cells)


def _frame(cells: Sequence[tuple[dict, dict]]) -> pd.DataFrame:
    """A row per tasks and method, those that were run.

    Columns: those of the tasks, method, accuracy, ci95, n (of answers), gain, gain_ci95: of `classify` over the
    method, paired.
    """
    rows = []
    for tasks, found in cells:
        ours = found[CLASSIFY]
        for method, entry in found.items():
            if entry is None:
                continue
            is_compared = ours is not None and method != CLASSIFY
            gain = peers.difference(ours["result"], entry["result"]) if is_compared else (NOT_RUN, NOT_RUN)
            rows.append((*tasks.values(), method, *peers.accuracy(entry["result"]), *gain))
    columns = [*cells[0][0], "method", "accuracy", "ci95", "n", "gain", "gain_ci95"]
    return pd.DataFrame(rows, columns=columns)


def number(frame: pd.DataFrame, method: str, **tasks) -> str:
    """The accuracy in one row of a frame, for a sentence; in brackets what `classify` gains, where that is known."""
    chosen = frame[(frame["method"] == method) & (frame[list(tasks)] == pd.Series(tasks)).all(axis=1)]
    if chosen.empty:
        return "(not run)"
    row = chosen.iloc[0]
    gain = "" if pd.isna(row.get("gain")) else f" ({row['gain']:+.2f}\u00a0±\u00a0{row['gain_ci95']:.2f})"
    return f"{row['accuracy']:.2f}{gain}"


# ---------------------------------------------------------------- tables


def table(frame: pd.DataFrame, columns: Sequence, text: Sequence[str], order: Sequence[str]) -> pd.DataFrame:
    """A frame for reading: a row per method, in the given order, then the others; what was not run is said."""
    order = dict.fromkeys([*order, *frame["method"]])
    wide = frame.assign(column=columns, text=text).pivot(index="method", columns="column", values="text")
    wide = wide.loc[[name for name in order if name in wide.index], list(dict.fromkeys(columns))]
    return wide.fillna("not run").rename_axis(index=None, columns=None)


def simulated_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every method, and below it what `classify` gains over it on the same tasks."""
    text = []
    for row in frame.itertuples():
        few = row.n <= FEW  # an interval over a handful of tasks says nothing
        right = f"{row.accuracy:.3f} ±\u00a0{row.ci95:.3f}"
        if few or row.ci95 == 0:
            right = f"{row.accuracy * row.n:.0f} of {row.n}"
        gain = f"{row.gain:+.3f}" + ("" if few else f" ±\u00a0{row.gain_ci95:.3f}")
        text.append(right + ("" if pd.isna(row.gain) else f"<br><small>{gain}</small>"))
    columns = [f"{labels_text(row.n_shot)}, SNR {row.snr:g}" for row in frame.itertuples()]
    shown = table(frame, columns, text, METHODS)
    shown.insert(0, "needs", [METHODS[name].known if name in METHODS else "labels, an encoder" for name in shown.index])
    return shown


def choices_table(runner: Runner) -> pd.DataFrame:
    """The setting of every method that was chosen, the tasks that it was chosen on, and its accuracy there."""
    rows = {}
    for name, n_shot in product((name for name, how in METHODS.items() if len(how.grid) > 1), PAPER_SHOTS):
        if n_shot in METHODS[name].shots and (entry := peers.choice_of(runner.store.get, name, n_shot)):
            spec, found = entry["spec"], entry["result"]["accuracies"]
            best = ", ".join(f"{key} {value}" for key, value in entry["result"]["best"].items())
            tasks = f"{spec['n_episodes']}, SNR {spec['snr']:g}"
            rows[name, spec["n_shot"]] = tasks, len(found), best, f"{max(found):.3f}", f"{min(found):.3f}"
    columns = ["Method", "Labels", "Tasks", "Tried", "Chosen", "Accuracy there", "Worst setting"]
    return pd.DataFrame([(*key, *row) for key, row in rows.items()], columns=columns)


def real_frame(store: Store, pretrained: Pretrained) -> pd.DataFrame:
    """Rows of the peers and of this encoder's `real_benchmark` on the odd half, columns as of `benchmark`."""
    benchmarks = [
        entry
        for entry in store.entries("realbenchmark")
        if entry["spec"]["encoder"] == pretrained.digests["encoder"] and "all five" in entry["result"]["tasks"]
    ]
    newest = sorted(benchmarks, key=lambda entry: entry["spec"].get("version", 1))[-1:]
    boxes = {entry["spec"]["boxes"] for entry in newest}
    others = sorted(store.entries("realpeers"), key=lambda entry: entry["provenance"]["date"])
    others = [entry for entry in others if not boxes or entry["spec"]["boxes"] in boxes]
    frame = pd.concat([pd.DataFrame(entry["result"]["rows"]) for entry in [*newest, *others]])
    frame = frame[(frame["half"] == "odd") & frame["n_shot"].isin(SHOTS) & frame["method"].isin(ON_TOMOGRAM)]
    frame = frame.drop_duplicates(["method", "task", "n_shot"], keep="last")  # of several settings the newest
    return frame[frame["task"].isin(SHOWN_TASKS)]


def real_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`real_frame` for reading."""
    text = [f"{row.accuracy:.2f}<br><small>{row.low:.2f} to {row.high:.2f}</small>" for row in frame.itertuples()]
    columns = [f"{row.task}: {labels_text(row.n_shot)}" for row in frame.itertuples()]
    return table(frame, columns, text, ON_TOMOGRAM)


def speed_table() -> tuple[pd.DataFrame, str]:
    """The newest measurement: milliseconds of the processor, as multiples of `classify`, of a class more, peak memory,
    time to first answers; threads.
    """
    path = sorted((REPOSITORY / "results" / "bench" / "peers").glob("*.json"))[-1]
    results = json.loads(path.read_bytes())["results"].values()
    measured = pd.DataFrame([entry for entry in results if "seconds" in entry])
    threads, values = ", ".join(map(str, measured["threads"].unique())), ["cpu_seconds", "added_seconds", "peak_gb"]
    wide = measured.pivot(index="method", columns="box", values=values).loc[measured["method"].unique()]
    seconds, shown = wide["cpu_seconds"], {}
    for box in seconds:
        shown |= {f"{box}³ (ms)": seconds[box] * 1e3, f"{box}³, times classify": seconds[box] / seconds[box][CLASSIFY],
                  f"{box}³, a class more (ms)": wide["added_seconds"][box] * 1e3,
                  f"{box}³, peak (GB)": wide["peak_gb"][box]}  # fmt: skip
    each = seconds.iloc[:, 0].copy()
    each[each.index != READING] += each[READING]
    for n, unit, length in ((100, "s", 1), (10_000, "min", 60), (1_000_000, "h", 3600)):
        shown[f"{n:,} particles ({unit})"] = each * n / length
    return pd.DataFrame(shown).rename_axis("Method").reset_index(), threads


# ---------------------------------------------------------------- figures


def accuracy_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy of each method with one and with five labels, a mark per SNR; the best at the lowest SNR on top.

    Methods that answered few particles are left to the table.
    """
    frame = frame[frame["n"] > FEW]
    hardest = frame[(frame["snr"] == min(PAPER_SNRS)) & (frame["n_shot"] == max(PAPER_SHOTS))]
    order = hardest.sort_values("accuracy")["method"].tolist()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.24 * len(order) + 1), sharex=True, sharey=True)
    for ax, n_shot in zip(axes, sorted(PAPER_SHOTS), strict=True):
        for snr, colour in zip(PAPER_SNRS, ("#56B4E9", "#0072B2", "#000000"), strict=True):
            part = frame[(frame["snr"] == snr) & (frame["n_shot"] == n_shot) & frame["method"].isin(order)]
            ax.errorbar(part["accuracy"], part["method"].map(order.index), xerr=part["ci95"], fmt="o", color=colour,
                        markersize=4, elinewidth=1, label=f"SNR {snr:g}")  # fmt: skip
        ax.axvline(0.2, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set(xlabel="Accuracy", xlim=(0.15, 1.02), title=f"{labels_text(n_shot)} per class")
    axes[0].set_yticks(range(len(order)), order)
    for label in axes[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in (CLASSIFY, PROTOTYPE) else "normal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def conditions_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy under each condition, a panel each; a dash stands where the method is as simulated."""
    styles, plain = line_styles(list(SHOWN)), frame[frame["condition"] == PLAIN].set_index("method")["accuracy"]
    figure, axes = plt.subplots(2, 4, figsize=(WIDTH, 4.4), sharey=True)
    for ax, condition in zip(axes.flat, CONDITIONS, strict=True):
        for row in frame[frame["condition"] == condition].itertuples():
            x, (colour, marker) = SHOWN.index(row.method), styles[row.method]
            ax.plot([x - 0.4, x + 0.4], [plain[row.method]] * 2, color=colour, linewidth=1)
            ax.errorbar(x, row.accuracy, row.ci95, fmt=marker, color=colour, markersize=4.5, elinewidth=1,
                        label=row.method)  # fmt: skip
        ax.axhline(0.2, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set(xticks=[], xlim=(-0.6, len(SHOWN) - 0.4), ylim=(0, 1.03))
        ax.set_title(condition.replace("off by", "off by\n").replace("label in", "label in\n"), fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("Accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
