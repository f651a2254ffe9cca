"""Results of `open_world` as tidy tables, and as a reader sees them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.reproduction.cells import SURROGATES
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.quoted import LATER_REAL, LATER_SOURCE
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.tables import accuracy_of, by_task, mean_over_seeds, paired_difference
from cryo_fewshot.simulation.datasets import EMPTY

from .bounds import Oracle, oracle_accuracy
from .open_world import HEADS, Rejection, evaluated, paper_like, same_tasks
from .pretrained import Pretrained
from .transfer import Variation, variations_frame

PAPER_LIKE = "ProtoNet3D (mix)"
PRETRAINED = {"prototype": "shipped, nearest prototype", "two-covariance": "shipped, two-covariance"}
UNKNOWN = {"never-met classes": (), "no macromolecule": (EMPTY,)}
SHOWN = {
    "never-met classes": "unknown classes",
    "shipped, distance": "pretrained, distance",
    "shipped, likelihood ratio": "pretrained, likelihood ratio",
    "shipped, nearest prototype": "pretrained, nearest prototype",
    "shipped, two-covariance": "pretrained, PLDA",
}
"""What stored labels are called on the page."""


# ---------------------------------------------------------------- tables


def rejection_frame(
    runner: Runner, pretrained: Pretrained, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]
) -> pd.DataFrame:
    """Known against unknown classes: strangers, n_shot, snr, method, auroc, ci95, difference, difference_ci95.

    difference : of the tool's score minus this one, task by task
    """
    rows = []
    for (kind, unknown), n_shot, snr in product(UNKNOWN.items(), shots, snrs):
        evaluation = paper_like(profile, snr, n_shot)
        other, own = (
            runner(Rejection(strangers=unknown, **encoder, **same_tasks(evaluation)), pretrained)
            for encoder in ({"encoder": evaluation.encoder}, pretrained.digests)
        )
        tool = np.array(own["result"]["likelihood ratio"])
        scores = {
            f"{PAPER_LIKE}, distance": other["result"]["distance"],
            "shipped, distance": own["result"]["distance"],
            "shipped, likelihood ratio": tool,
        }
        for method, areas in scores.items():
            row = {"strangers": kind, "n_shot": n_shot, "snr": snr, "method": method}
            row["auroc"], row["ci95"] = mean_and_interval(areas)
            row["difference"], row["difference_ci95"] = mean_and_interval(tool - np.array(areas))
            rows.append(row)
    return pd.DataFrame(rows)


def class_groups(pretrained: Pretrained, profile: Profile) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Ways of a task and the classes that it is drawn from, few to many, by what they are called."""
    novel = paper_like(profile, 0.1, 5).novel_classes
    selection, trained = pretrained.card["held_out_classes"]["selection"], pretrained.card["training_classes"]
    everything = tuple(name for name in profile.data.class_names if name != EMPTY)
    n_trained, n_selection = (len(set(everything) & set(names)) for names in (trained, selection))
    named = {
        f"all {len(novel)} test classes": novel,
        f"test and {len(selection)} calibration classes": (*novel, *selection),
        f"the paper's {len(everything)}: {n_trained} trained on, {n_selection} calibrated on": everything,
    }
    return {f"5 of the {len(novel)} test classes": (5, novel)} | {name: (len(of), of) for name, of in named.items()}


def tasks_frame(
    runner: Runner,
    pretrained: Pretrained,
    profile: Profile,
    groups: dict[str, tuple[int, tuple[str, ...]]],
    *,
    snrs: Sequence[float],
    shots: Sequence[int],
) -> pd.DataFrame:
    """Tasks among `class_groups`: tasks, n_way, n_shot, snr, method, accuracy, ci95, difference, difference_ci95.

    difference : of the tool's classifier minus this method, task by task
    """
    rows = []
    for (tasks, (n_way, classes)), n_shot, snr in product(groups.items(), shots, snrs):
        evaluation = paper_like(profile, snr, n_shot, n_way)
        found = {PAPER_LIKE: runner(evaluation)} if classes == evaluation.novel_classes else {}
        settings = {**same_tasks(evaluation), "classes": classes}
        found |= {PRETRAINED[head]: evaluated(runner, pretrained, head, **settings) for head in HEADS}
        rows += _accuracy_rows(found, tasks=tasks, n_way=n_way, n_shot=n_shot, snr=snr)
    return pd.DataFrame(rows)


def surrogates_frame(runner: Runner, pretrained: Pretrained, profile: Profile, *, shots: Sequence[int]) -> pd.DataFrame:
    """All classes of the surrogate data sets at once, a row per set, shots and head.

    Columns set, n_way, n_shot, method, accuracy, ci95, the differences, `later` and `later_spread` (what later work
    reports of the real set, NaN where it does not).
    """
    rows = []
    for (name, recipe), n_shot in product(SURROGATES.items(), shots):
        data = replace(recipe, n_per_class=profile.data.n_per_class)
        size = {"n_shot": n_shot, "n_way": len(data.class_names)}
        settings = {"n_query": profile.n_query, "n_episodes": profile.n_test_episodes, "snr": data.snr, **size}
        settings |= {"data": data, "classes": data.class_names}
        found = {PRETRAINED[head]: evaluated(runner, pretrained, head, **settings) for head in HEADS}
        later, spread = LATER_REAL.get((name, n_shot), (np.nan, np.nan))
        rows += _accuracy_rows(found, set=name, snr=data.snr, later=later, later_spread=spread, **size)
    return pd.DataFrame(rows)


def conformations_frame(
    runner: Runner, pretrained: Pretrained, variations: Sequence[Variation], n_per_class: int
) -> pd.DataFrame:
    """Straight against bent, by three: complex, angle, snr, method, accuracy, ci95.

    variations : of `transfer.conformations`; n_per_class : subtomograms that the oracle looks at
    """
    entries = runner.run(variation.evaluation for variation in variations)
    frame = variations_frame(variations, entries)
    frame["complex"] = [variation.evaluation.novel_data.class_set for variation in variations]
    frame["angle"] = [variation.evaluation.novel_data.angles_degrees[1] for variation in variations]
    network = mean_over_seeds(frame, "complex", "angle", "snr")
    network = network.assign(method=PAPER_LIKE, ci95=1.96 * network.pop("error"))
    rows = []
    first_seed = variations[0].evaluation.encoder.seed
    for evaluation in (v.evaluation for v in variations if v.evaluation.encoder.seed == first_seed):
        prototype = evaluated(runner, pretrained, "prototype", **same_tasks(evaluation))
        oracle = runner(Oracle(evaluation=evaluation, n_per_class=n_per_class))
        data = evaluation.novel_data
        row = {"complex": data.class_set, "angle": data.angles_degrees[1], "snr": evaluation.snr}
        found = {"pretrained": accuracy_of(prototype), "oracle": oracle_accuracy(oracle["result"]["scores"], 2)}
        rows += [{**row, "method": method, "accuracy": a, "ci95": c} for method, (a, c) in found.items()]
    return pd.concat([network.drop(columns="n_seeds"), pd.DataFrame(rows)], ignore_index=True)


def _accuracy_rows(found: dict[str, dict], **labels) -> list[dict]:
    """A row per method, with the paired difference of the last method, the tool's classifier, minus it."""
    *_, tool = found.values()
    rows = []
    for method, entry in found.items():
        accuracy, interval = accuracy_of(entry)
        difference, difference_interval = paired_difference(tool, entry)
        values = {"accuracy": accuracy, "ci95": interval}
        values |= {"difference": difference, "difference_ci95": difference_interval}
        rows.append({**labels, "method": method, **values})
    return rows


# ---------------------------------------------------------------- what a reader sees


def show_by_task(frame: pd.DataFrame, group: str, value: str) -> Styler:
    """Methods under each value of the column `group`, by shots and SNR."""
    frame = frame.replace(SHOWN)
    interval = "<br><small>±\u00a0" + frame["ci95"].map("{:.3f}".format) + "</small>"
    shown = frame[value].map("{:.3f}".format) + interval
    table = by_task(frame.assign(row=frame[group] + "\t" + frame["method"], shown=shown), "row", "shown")
    table.index = pd.MultiIndex.from_tuples([tuple(row.split("\t")) for row in table.index])
    return plain_style(table)


def show_surrogates_at_once(frame: pd.DataFrame) -> Styler:
    """All classes of a surrogate data set at once, and beside it what later work reports of the real set."""
    rows = []
    for (name, n_shot), part in frame.replace(SHOWN).groupby(["set", "n_shot"], sort=False):
        first = part.iloc[0]
        row = {"Surrogate": name.capitalize(), "Task": f"{first['n_way']}-way {n_shot}-shot"}
        row |= {found.method: f"{found.accuracy:.3f} ±\u00a0{found.ci95:.3f}" for found in part.itertuples()}
        row["gain"] = f"{first['difference']:+.3f} ±\u00a0{first['difference_ci95']:.3f}"
        row["chance"] = f"{1 / first['n_way']:.3f}"
        row[f"another data set: real particles, another method ({LATER_SOURCE})"] = (
            f"{first['later']:g} ±\u00a0{first['later_spread']:g}" if pd.notna(first["later"]) else "not quoted"
        )
        rows.append(row)
    return plain_style(pd.DataFrame(rows)).hide(axis="index")
