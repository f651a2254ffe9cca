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
from cryo_fewshot.reproduction.tables import accuracy_of, by_task, mean_over_seeds, plus_minus
from cryo_fewshot.simulation.datasets import EMPTY

from .bounds import Oracle, oracle_accuracy
from .open_world import Rejection, evaluated, paper_like, same_tasks
from .pretrained import Pretrained
from .transfer import Variation, variations_frame

PAPER_LIKE = "ProtoNet3D (mix)"
PRETRAINED = {"prototype": "pretrained, nearest prototype", "two-covariance": "pretrained, PLDA"}
UNKNOWN = {"unknown classes": (), "no macromolecule": (EMPTY,)}


# ---------------------------------------------------------------- tables


def rejection_frame(
    runner: Runner, pretrained: Pretrained, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]
) -> pd.DataFrame:
    """Known against unknown classes: strangers, n_shot, snr, method, auroc, ci95."""
    rows = []
    for (kind, unknown), n_shot, snr in product(UNKNOWN.items(), shots, snrs):
        evaluation = paper_like(profile, snr, n_shot)
        other, own = (
            runner(Rejection(strangers=unknown, **encoder, **same_tasks(evaluation)), pretrained)["result"]
            for encoder in ({"encoder": evaluation.encoder}, pretrained.digests)
        )
        scores = {f"{PAPER_LIKE}, distance": other["distance"]}
        scores |= {f"pretrained, {score}": own[score] for score in ("distance", "likelihood ratio")}
        rows += [(kind, n_shot, snr, method, *mean_and_interval(areas)) for method, areas in scores.items()]
    return pd.DataFrame(rows, columns=["strangers", "n_shot", "snr", "method", "auroc", "ci95"])


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
    """Tasks among `class_groups`: tasks, n_way, n_shot, snr, method, accuracy, ci95."""
    rows = []
    for (tasks, (n_way, classes)), n_shot, snr in product(groups.items(), shots, snrs):
        evaluation = paper_like(profile, snr, n_shot, n_way)
        found = {PAPER_LIKE: runner(evaluation)} if classes == evaluation.novel_classes else {}
        settings = {**same_tasks(evaluation), "classes": classes}
        found |= {name: evaluated(runner, pretrained, head, **settings) for head, name in PRETRAINED.items()}
        rows += [(tasks, n_way, n_shot, snr, method, *accuracy_of(entry)) for method, entry in found.items()]
    return pd.DataFrame(rows, columns=["tasks", "n_way", "n_shot", "snr", "method", "accuracy", "ci95"])


def surrogates_frame(runner: Runner, pretrained: Pretrained, profile: Profile, *, shots: Sequence[int]) -> pd.DataFrame:
    """All classes of the surrogate data sets at once, a row per set, shots and head.

    Columns set, n_way, n_shot, snr, method, accuracy, ci95, `later` and `later_spread` (what later work reports of the
    real set, NaN where it does not).
    """
    rows = []
    for (name, recipe), n_shot in product(SURROGATES.items(), shots):
        data = replace(recipe, n_per_class=profile.data.n_per_class)
        task = {"n_way": len(data.class_names), "n_shot": n_shot, "snr": data.snr}
        settings = {"n_query": profile.n_query, "n_episodes": profile.n_test_episodes, **task}
        settings |= {"data": data, "classes": data.class_names}
        later = LATER_REAL.get((name, n_shot), (np.nan, np.nan))
        for head, method in PRETRAINED.items():
            accuracy = accuracy_of(evaluated(runner, pretrained, head, **settings))
            rows.append((name, *task.values(), method, *accuracy, *later))
    columns = ["set", "n_way", "n_shot", "snr", "method", "accuracy", "ci95", "later", "later_spread"]
    return pd.DataFrame(rows, columns=columns)


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


# ---------------------------------------------------------------- what a reader sees


def show_by_task(frame: pd.DataFrame, group: str, value: str) -> Styler:
    """Methods under each value of the column `group`, by shots and SNR."""
    interval = "<br><small>±\u00a0" + frame["ci95"].map("{:.3f}".format) + "</small>"
    shown = frame[value].map("{:.3f}".format) + interval
    table = by_task(frame.assign(row=frame[group] + "\t" + frame["method"], shown=shown), "row", "shown")
    table.index = pd.MultiIndex.from_tuples([tuple(row.split("\t")) for row in table.index])
    return plain_style(table)


def show_surrogates_at_once(frame: pd.DataFrame) -> Styler:
    """All classes of a surrogate data set at once, and beside it what later work reports of the real set."""
    shown = pd.DataFrame(
        {
            "Surrogate": frame["set"].str.capitalize(),
            "Task": [f"{row.n_way}-way {row.n_shot}-shot" for row in frame.itertuples()],
            "method": frame["method"],
            "accuracy": list(map(plus_minus, frame["accuracy"], frame["ci95"])),
        }
    ).pivot_table("accuracy", ["Surrogate", "Task"], "method", aggfunc="first", sort=False)
    later = frame.drop_duplicates(["set", "n_shot"])
    shown[f"another data set: real particles, another method ({LATER_SOURCE})"] = [
        f"{row.later:g} ±\u00a0{row.later_spread:g}" if pd.notna(row.later) else "not quoted"
        for row in later.itertuples()
    ]
    return plain_style(shown.rename_axis(columns=None).reset_index()).hide(axis="index")
