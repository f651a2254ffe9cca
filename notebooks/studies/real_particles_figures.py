"""Tables and figures of the page on real particles; every number is read off a stored run."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.figures.volumes import slices_grid
from cryo_fewshot.recognition.benchmark import FILES, TOOL, UNFITTED

from .charts import labels_text

YEAST, PICKS = "all five", "all classes"
"""Tasks that tell the runs of the benchmark apart."""
_SHOWN = {
    TOOL: "classify",
    "all together": "features and embedding",
    "profile and power": "features alone",
    "nearest prototype": "embedding alone",
    UNFITTED: "classify --no-adapt",
}
"""Methods of the benchmark that its figure draws, as the figure names them."""
_TASKS = {YEAST: "all five classes", "without cytosol": "without the cytosol"}


def benchmark_rows(entries: list[dict], first_task: str = YEAST) -> pd.DataFrame:
    """Rows of the benchmark that holds a task, with the number of boxes as `attrs`; empty if it was not run."""
    for result in (entry["result"] for entry in entries if entry["spec"]["type"] == "RealBenchmark"):
        if first_task in result["tasks"]:
            rows = pd.DataFrame(result["rows"])
            rows.attrs = {"boxes": result["boxes"]}
            return rows
    return pd.DataFrame()


def yeast_slices_figure(entry: dict) -> Figure:
    """Boxes of a labelled tomogram, voxels of 2 nm: a row per class, on one grey scale."""
    slices = {name: np.array(found) for name, found in entry["result"]["slices"].items()}
    titles = [textwrap.fill(name.replace("_", " "), 12) for name in slices]
    return slices_grid(list(slices.values()), titles, voxel_sizes_nm=[2.0] * len(slices))


def benchmark_figure(rows: pd.DataFrame) -> Figure:
    """Accuracy against labels per class on the half to report on, a panel per task."""
    rows = rows[(rows["half"] == "odd") & rows["task"].isin(_TASKS) & rows["method"].isin(_SHOWN)]
    rows = rows.sort_values("method", key=lambda names: names.map(list(_SHOWN).index), kind="stable")
    return curves_figure(
        rows.assign(task=rows["task"].map(_TASKS), method=rows["method"].map(_SHOWN)),
        x="n_shot", curve="method", panel="task", x_label="labelled particles per class", panel_label="{}",
        chance=0, dashed=[_SHOWN["profile and power"]], log_x=True, bottom=0.5,
    )  # fmt: skip


def benchmark_finding(rows: pd.DataFrame, n_shot: int = 5) -> str:
    """The accuracy of the command on the half to report on, beside the other methods of the figure."""
    odd = rows[(rows["half"] == "odd") & (rows["n_shot"] == n_shot) & (rows["task"] == YEAST)].set_index("method")
    tool = odd.loc[TOOL]
    others = ", ".join(f"{shown} {odd.loc[name, 'accuracy']:.1%}" for name, shown in _SHOWN.items() if name != TOOL)
    return (
        f"**With {n_shot} labelled particles of each of five classes, `classify` recognises {tool['accuracy']:.1%} of "
        f"the other particles** (95 % interval {tool['low']:.1%} to {tool['high']:.1%}). On the same tasks: {others}."
    )


def benchmark_text(rows: pd.DataFrame) -> str:
    """Where another method is ahead of the command's default, in words, and how many boxes there are."""
    odd = rows[rows["half"] == "odd"].pivot_table(index=["task", "n_shot"], columns="method", values="accuracy")
    ahead = (odd.drop(columns=[TOOL, FILES]).max(axis=1) - odd[TOOL]).round(3)
    where = ", ".join(f"{task} with {labels_text(n)} ({by:.3f})" for (task, n), by in ahead[ahead > 0].items())
    classes = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in rows.attrs["boxes"]["odd"].items())
    return (
        f"On the odd half another method is ahead of the command in {(ahead > 0).sum()} of {len(ahead)} columns: "
        f"{where or 'none'}. Boxes in the odd half: {classes}."
    )


def benchmark_frame(rows: pd.DataFrame, half: str, background: bool = False) -> pd.DataFrame:
    """Accuracy on labelled tomograms: a row per task and method, a column per number of labels."""
    rows = rows[rows["half"] == half]
    rows = rows.assign(text=[f"{r.accuracy:.3f} ({r.low:.3f}–{r.high:.3f})" for r in rows.itertuples()])
    table = rows.pivot_table(index=["task", "method"], columns="n_shot", values="text", aggfunc="first", sort=False)
    table = table.fillna("–").rename(columns=labels_text).rename_axis(columns=None)
    if background:
        areas = rows.astype({"background_auroc": float}).groupby(["task", "method"])["background_auroc"].mean()
        table["AUROC, background"] = areas.map("{:.3f}".format).replace("nan", "–")
    half_name = {"odd": "odd half", "all": "all boxes"}[half]
    return table.reset_index().rename(columns={"task": f"Task, {half_name}", "method": "Method"})


def small_sets_frame(entries: list[dict]) -> pd.DataFrame:
    """Accuracy on the small sets, with 5 to 95 % of the draws."""
    found = pd.concat(
        pd.DataFrame(entry["result"]["rows"]).assign(
            Set=", ".join(f"{name} ({n})" for name, n in entry["result"]["boxes"].items())
        )
        for entry in entries
    )
    text = [f"{row.accuracy:.2f} ({row.low:.2f}–{row.high:.2f})" for row in found.itertuples()]
    names = {"n_shot": "Labels per class", "method": "Method", "text": "Accuracy (5 to 95 % of the draws)"}
    return found.assign(text=text)[["Set", *names]].rename(columns=names)
