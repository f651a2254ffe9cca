"""The comparison with peers as tables and one figure."""

import json

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.style import WIDTH, line_styles
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store

from .open_world import Pretrained
from .peers import (
    ACRYO,
    CLASSIFY,
    CONDITIONS,
    EACH,
    INVERTED,
    LABELLED,
    METHODS,
    NEIGHBOURS,
    NETWORK,
    OTHER_SHAPE,
    PLAIN,
    PROTOTYPE,
    TRUE_MAP,
    PeerChoice,
    accuracy,
    difference,
    n_answered,
    peer,
    test_classes,
)

TRAINED = ("ProtoNet3D", "ProtoNet3D (mix)", "ProtoNet-CE", "ProtoNet-CE (mix)")
"""Networks of the paper, as the profile `finished` trained them until they stopped improving."""
SHOWN = (TRUE_MAP, EACH, "PCA, RBF SVM", "shell powers", PROTOTYPE, CLASSIFY)
"""Methods of the figure."""
SHOWN_AT = {"snr": 0.03, "n_shot": 5}
_OF_TOOL = ("classify", "classify, boxes normalised one by one", "classify --no-adapt")
ON_TOMOGRAM = (*METHODS, *_OF_TOOL, "nearest prototype", "three grey values", "all together")
"""Methods of the tomogram's table: the peers, and of `real_benchmark` what the tool answers and what is plainest."""
TILTS, OFF_CENTRE = "tilts of ±40°", "picks off by up to 8 nm"
FIRST_ANSWERS = (100, 10_000, 1_000_000)
READING = "reading MRC files"
SPEED = {
    "reading": READING,
    "template_structure": TRUE_MAP,
    "template_labelled": LABELLED,
    "acryo": ACRYO,
    "svm": "PCA, RBF SVM",
    "shells": "shell powers",
    "harmonics": "harmonic powers",
    "network": "residual network on the labels",
    "prototype": PROTOTYPE,
    "classify": CLASSIFY,
}


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
                result = entry["result"]
                gain = (float("nan"),) * 2 if name == CLASSIFY else _gain(ours and ours["result"], result)
                known = METHODS[name].known if name in METHODS else "labels, a trained network"
                rows.append((name, known, snr, n_shot, *accuracy(result), *n_answered(result), *gain))
                entries.append(entry)
    columns = ["method", "known", "snr", "n_shot", "accuracy", "ci95", "n_tasks", "n_queries", "gain", "gain_ci95"]
    return pd.DataFrame(rows, columns=columns), entries


def _trained(snr: float, n_shot: int) -> dict[str, dict | None]:
    """Stored entries of the networks of the paper; their tasks begin with the very tasks of the peers."""
    profile = profile_named("finished")
    cells = table_1(profile, snrs=[snr], shots=[n_shot], methods=list(TRAINED))
    store = Store(REPOSITORY / "results" / profile.name)
    return {cell.method: store.get(cell.evaluation) for cell in cells}


def simulated_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`simulated_frame` for reading: accuracy, and below it what `classify` gains over the method on the same tasks."""
    column = [f"{row.n_shot} label{'s' * (row.n_shot > 1)}, SNR {row.snr:g}" for row in frame.itertuples()]
    table = frame.assign(text=_text(frame), column=column).pivot(index="method", columns="column", values="text")
    order = [name for name in (*METHODS, *TRAINED) if name in table.index]
    table = table.loc[order, list(dict.fromkeys(column))].fillna("not run")
    table.insert(0, "needs", frame.groupby("method")["known"].first())
    return table.rename_axis(index=None, columns=None)


def accuracy_figure(frame: pd.DataFrame) -> Figure:
    """Accuracy of each method with one and with five labels, a mark per SNR; the best at the lowest SNR on top."""
    hardest = frame[(frame["snr"] == min(PAPER_SNRS)) & (frame["n_shot"] == max(PAPER_SHOTS))]
    order = hardest.sort_values("accuracy")["method"].tolist()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.24 * len(order) + 1), sharex=True, sharey=True)
    for ax, n_shot in zip(axes, sorted(PAPER_SHOTS), strict=True):
        for snr, colour in zip(PAPER_SNRS, ("#56B4E9", "#0072B2", "#000000"), strict=True):
            part = frame[(frame["snr"] == snr) & (frame["n_shot"] == n_shot) & frame["method"].isin(order)]
            places = part["method"].map(order.index)
            ax.errorbar(part["accuracy"], places, xerr=part["ci95"], fmt="o", color=colour, markersize=4,
                        elinewidth=1, label=f"SNR {snr:g}")  # fmt: skip
        ax.axvline(0.2, color="#777777", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        ax.grid(axis="y", color="#e4e4e4", linewidth=0.7)
        ax.set(xlabel="Accuracy", xlim=(0.15, 1.02), title=f"{n_shot} label{'s' * (n_shot > 1)} per class")
    axes[0].set_yticks(range(len(order)), order)
    for label in axes[0].get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in (CLASSIFY, PROTOTYPE) else "normal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def conditions_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> tuple[pd.DataFrame, list[dict]]:
    """Accuracy under every condition: method, condition, accuracy, ci95, gain, gain_ci95; and the entries."""
    rows, entries = [], []
    for condition in CONDITIONS:
        found = {}
        for name in SHOWN:
            n = METHODS[name].n_episodes if METHODS[name].is_dear else 60
            tasks = {"classes": test_classes(), "condition": condition, "n_episodes": n, **SHOWN_AT}
            if entry := peer(runner, pretrained, name, run_missing, **tasks):
                found[name] = entry["result"]
                entries.append(entry)
        for name, result in found.items():
            gain = (float("nan"),) * 2 if name == CLASSIFY else _gain(found.get(CLASSIFY), result)
            rows.append((name, condition, *accuracy(result), *gain))
    return pd.DataFrame(rows, columns=["method", "condition", "accuracy", "ci95", "gain", "gain_ci95"]), entries


def _gain(ours: dict | None, result: dict) -> tuple[float, float]:
    return difference(ours, result) if ours else (float("nan"),) * 2


def _text(frame: pd.DataFrame) -> list[str]:
    """Accuracy with its interval, and in small what `classify` gains over it."""
    return [
        f"{row.accuracy:.3f} ±\u00a0{row.ci95:.3f}"
        + ("" if pd.isna(row.gain) else f"<br><small>{row.gain:+.3f} ±\u00a0{row.gain_ci95:.3f}</small>")
        for row in frame.itertuples()
    ]


def conditions_figure(simulated: pd.DataFrame, frame: pd.DataFrame) -> Figure:
    """Accuracy against SNR, then a panel per condition; a dash stands where the method is as simulated."""
    conditions = [name for name in CONDITIONS if name != PLAIN]
    styles, handles = line_styles(list(SHOWN)), {}
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


def conditions_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`conditions_frame` for reading, a row per condition."""
    table = frame.assign(text=_text(frame)).pivot(index="condition", columns="method", values="text").fillna("not run")
    return table.loc[frame["condition"].unique(), frame["method"].unique()].rename_axis(index=None, columns=None)


def choices_frame(runner: Runner) -> pd.DataFrame:
    """The setting of every method that was chosen, and its accuracy on the validation classes."""
    rows = []
    for name, how in METHODS.items():
        for n_shot in PAPER_SHOTS if len(how.grid) > 1 else ():
            entry = runner.store.get(PeerChoice(method=name, n_shot=n_shot, n_episodes=how.n_choice))
            if entry is not None:
                found = entry["result"]
                best = ", ".join(f"{key} {value}" for key, value in found["best"].items())
                rows.append((name, n_shot, len(how.grid), best, f"{max(found['accuracies']):.3f}"))
    return pd.DataFrame(rows, columns=["Method", "Labels", "Tried", "Chosen", "Accuracy on validation classes"])


# ---------------------------------------------------------------- the tomogram, and time


def real_frame(store: Store, pretrained: Pretrained) -> pd.DataFrame:
    """Rows of the peers and of this encoder's `real_benchmark`: task, half, n_shot, method, accuracy, low, high."""
    benchmarks = [
        entry
        for entry in store.entries("realbenchmark")
        if entry["spec"]["encoder"] == pretrained.digests["encoder"] and "all five" in entry["result"]["tasks"]
    ]
    newest = sorted(benchmarks, key=lambda entry: entry["spec"].get("version", 1))[-1:]
    boxes = {entry["spec"]["boxes"] for entry in newest}
    peers = [entry for entry in store.entries("realpeers") if not boxes or entry["spec"]["boxes"] in boxes]
    parts = [pd.DataFrame(entry["result"]["rows"]) for entry in [*newest, *peers]]
    frame = pd.concat([pd.DataFrame(columns=["half", "n_shot", "task", "method", "accuracy", "low", "high"]), *parts])
    return frame[(frame["half"] == "odd") & frame["n_shot"].isin((1, 5, 10)) & frame["method"].isin(ON_TOMOGRAM)]


def real_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`real_frame` for reading: a row per method, a column per task and number of labels."""
    text = [f"{row.accuracy:.2f}<br><small>{row.low:.2f} to {row.high:.2f}</small>" for row in frame.itertuples()]
    table = frame.assign(text=text).pivot_table(
        index="method", columns=["task", "n_shot"], values="text", aggfunc="first", sort=False
    )
    return table.rename_axis(index=None).fillna("–")


def speed_frame(box: int) -> pd.DataFrame:
    """Of the newest measurement: method, processor ms a particle, peak memory in GB; empty where there is none."""
    rows = []
    for path in sorted((REPOSITORY / "results" / "bench" / "peers").glob("*.json"))[-1:]:
        results = json.loads(path.read_bytes())["results"]
        for name, method in SPEED.items():
            found = results.get(f"peer_{name}_{box}", {})
            if "cpu_seconds" in found:
                rows.append((method, found["cpu_seconds"] * 1e3, found["peak_gb"]))
    return pd.DataFrame(rows, columns=["method", "ms", "gb"]).set_index("method")


def speed_table() -> pd.DataFrame:
    """Milliseconds a particle at 20^3 and 40^3, how many times those of `classify`, and peak memory."""
    small, large = speed_frame(20), speed_frame(40)
    ratio = small["ms"] / small["ms"].get(CLASSIFY, float("nan"))
    columns = {"20³ (ms)": small["ms"], "times classify": ratio, "peak (GB)": small["gb"], "40³ (ms)": large["ms"]}
    return pd.DataFrame(columns).reindex(small.index).rename_axis("Method").reset_index()


def first_answer_table() -> pd.DataFrame:
    """Time until so many particles are classified, reading counted."""
    found = speed_frame(20)["ms"]
    each = (found.drop(READING, errors="ignore") + found.get(READING, 0.0)) / 1e3
    table = pd.DataFrame({f"{n:,} particles": (each * n).map(duration) for n in FIRST_ANSWERS})
    return table.rename_axis("Method").reset_index()


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


# ---------------------------------------------------------------- sentences


def _of(frame: pd.DataFrame, method: str, **tasks) -> float:
    chosen = frame[(frame["method"] == method) & (frame[list(tasks)] == pd.Series(tasks)).all(axis=1)]
    return float(chosen["accuracy"].iloc[0]) if len(chosen) else float("nan")


def finding_text(frame: pd.DataFrame, conditions: pd.DataFrame) -> str:
    """The finding in a few sentences, their numbers read off the runs."""
    if frame.empty:
        return "**Not run.**"
    names = (TRUE_MAP, LABELLED, EACH, CLASSIFY, PROTOTYPE)
    one, five = (
        {name: f"{_of(frame, name, snr=0.03, n_shot=n):.1%}".replace("nan%", "(not run)") for name in names}
        for n in (1, 5)
    )
    crowded = {name: f"{_of(conditions, name, condition=NEIGHBOURS):.0%}" for name in names}
    others = frame[(frame["snr"] == 0.03) & (frame["n_shot"] == 5) & ~frame["method"].isin((*names, *TRAINED))]
    best = others.loc[others["accuracy"].idxmax()]
    return (
        f"At SNR 0.03, template matching with the true structures is right in {five[TRUE_MAP]}, without any label. "
        f"With one labelled particle of each class as template it reaches {one[LABELLED]}, with each of five "
        f"{five[EACH]}, with their aligned mean {five[LABELLED]}. `classify` reaches {one[CLASSIFY]} and "
        f"{five[CLASSIFY]}, the nearest prototype of the encoder {one[PROTOTYPE]} and {five[PROTOTYPE]}. The best of "
        f"the rest, with five labels: {best['method']}, {best['accuracy']:.1%}. Among neighbours in the box, with five "
        f"labels: the true structures {crowded[TRUE_MAP]}, each labelled particle as a template {crowded[EACH]}, "
        f"`classify` {crowded[CLASSIFY]}."
    )


def advice_text(simulated: pd.DataFrame, conditions: pd.DataFrame, real: pd.DataFrame) -> str:
    """Which to take, with the numbers of the runs."""
    ms = speed_frame(20)["ms"]

    def pair(frame: pd.DataFrame, method: str, **tasks) -> str:
        numbers = [_of(frame, name, **tasks) for name in (method, CLASSIFY)]
        return " against ".join("(not run)" if pd.isna(number) else f"{number:.2f}" for number in numbers)

    real = real.replace({"method": {"classify": CLASSIFY}})
    structure = {condition: pair(conditions, TRUE_MAP, condition=condition) for condition in CONDITIONS}
    labelled = {condition: pair(conditions, EACH, condition=condition) for condition in CONDITIONS}
    return (
        "All pairs of numbers: the method against `classify`, where each breaks at SNR 0.03 with five labels.\n\n"
        f"**Template matching, where the structures are known** and classes are few: {structure[PLAIN]}; among "
        f"neighbours, which its mask shuts out, {structure[NEIGHBOURS]}; in another conformation "
        f"{structure[OTHER_SHAPE]}. Contrast and picks have to be right: {structure[INVERTED]} inverted, "
        f"{structure[OFF_CENTRE]} where picks are off farther than it looks. Each particle takes "
        f"{ms.get(TRUE_MAP, float('nan')) / ms.get(CLASSIFY, float('nan')):.0f} times as long, for five classes.\n\n"
        f"**Labelled particles as templates, in crowded boxes** and where time does not matter: {labelled[NEIGHBOURS]} "
        f"among neighbours, {labelled[PLAIN]} without, {labelled[TILTS]} with tilts of ±40°, and on the tomogram, "
        f"all five classes, five labels, {pair(real, EACH, task='all five', n_shot=5)}.\n\n"
        f"**A supervised network, where there are hundreds of labels** of each class: on five it reaches "
        f"{pair(simulated, NETWORK, snr=0.1, n_shot=5)} at SNR 0.1. The page on bounds has 100 and 500.\n\n"
        "**`classify`, for the rest**: no structures, few labels, classes that are no complexes, many particles or "
        "classes that come and go. It alone says how likely each answer is and refuses unknown ones."
    )
