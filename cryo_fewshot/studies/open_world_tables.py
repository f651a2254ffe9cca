"""The study `open_world` as tidy tables, and in sentences whose numbers are read off them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ..dataset import EMPTY
from ..evaluation import mean_and_interval
from ..experiments import STAND_INS, Profile
from ..paper import LATER_REAL
from ..tables import accuracy_of, mean_over_seeds, paired_difference, variations_frame
from .ceiling import Oracle, bounds_frame, oracle, oracle_accuracy
from .open_world import HEADS, OpenWorld, met, paper_like, same_tasks
from .variations import Variation

PAPER_LIKE = "ProtoNet3D (mix)"
SHIPPED = {"prototype": "shipped, nearest prototype", "two-covariance": "shipped, two-covariance"}
STRANGERS = {"never-met classes": (), "no macromolecule": (EMPTY,)}

Result = tuple[pd.DataFrame, list[dict]]
"""A tidy table and the stored entries that it was read off."""

# ---------------------------------------------------------------- tables


def rejection_frame(world: OpenWorld, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]) -> Result:
    """Members against strangers: strangers, n_shot, snr, method, auroc, ci95, difference, difference_ci95.

    difference : of the tool's score minus this one, task by task. In the rows of the tool's score also `kept` and
    `let_in`, shares of members and of strangers that its default threshold accepts.
    """
    rows, entries = [], []
    for (kind, strangers), n_shot, snr in product(STRANGERS.items(), shots, snrs):
        evaluation = paper_like(profile, snr, n_shot)
        encoders = evaluation.encoder, None
        other, own = (world.reject(encoder, strangers, **same_tasks(evaluation)) for encoder in encoders)
        entries += [other, own]
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
            if areas is tool:
                row |= {name: float(np.mean(own["result"][name])) for name in ("kept", "let_in")}
            rows.append(row)
    return pd.DataFrame(rows), entries


def ways_frame(world: OpenWorld, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]) -> Result:
    """Tasks of more and more classes: tasks, n_way, n_shot, snr, method, accuracy, ci95, difference, difference_ci95.

    difference : of the tool's classifier minus this method, task by task
    """
    novel = paper_like(profile, snrs[0], shots[0]).novel_classes
    selection, trained = world.card["held_out_classes"]["selection"], world.card["training_classes"]
    everything = tuple(name for name in profile.data.class_names if name != EMPTY)
    n_trained, n_selection = (len(set(everything) & set(names)) for names in (trained, selection))
    groups = [
        (f"5 of the {len(novel)} test classes", 5, novel),
        (f"all {len(novel)} test classes", len(novel), novel),
        (f"test and {len(selection)} calibration classes", len(novel) + len(selection), (*novel, *selection)),
        (
            f"the paper's {len(everything)}: {n_trained} trained on, {n_selection} calibrated on",
            len(everything),
            everything,
        ),
    ]
    rows, entries = [], []
    for (tasks, n_way, classes), n_shot, snr in product(groups, shots, snrs):
        evaluation = paper_like(profile, snr, n_shot, min(n_way, len(novel)))
        settings = {**same_tasks(evaluation), "n_way": n_way, "classes": classes}
        found = {SHIPPED[head]: world.evaluate(head, **settings) for head in HEADS}
        if classes == novel:
            found = {PAPER_LIKE: world.laboratory.evaluate(evaluation), **found}
        rows += _accuracy_rows(found, tasks=tasks, n_way=n_way, n_shot=n_shot, snr=snr)
        entries += found.values()
    return pd.DataFrame(rows), entries


def shots_frame(
    world: OpenWorld,
    profile: Profile,
    *,
    snrs: Sequence[float],
    shots: Sequence[int],
    samples: Sequence[int],
    n_per_class: int,
) -> Result:
    """5-way accuracy against labels per class, with bounds: n_shot, snr, method, accuracy, ci95, and the differences.

    samples, n_per_class : of `ceiling.bounds_frame`; the bounds do not depend on n_shot and have a row for each
    """
    rows, entries = [], []
    for n_shot, snr in product(shots, snrs):
        evaluation = paper_like(profile, snr, n_shot)
        found = {PAPER_LIKE: world.laboratory.evaluate(evaluation)}
        found |= {SHIPPED[head]: world.evaluate(head, **same_tasks(evaluation)) for head in HEADS}
        rows += _accuracy_rows(found, n_shot=n_shot, snr=snr)
        entries += found.values()
    bounds, behind = bounds_frame(
        world.laboratory, profile, snrs=snrs, oracle_snrs=snrs, samples=samples, n_per_class=n_per_class
    )
    bounds = bounds[bounds["method"].str.startswith(("supervised", "oracle"))]
    bounds = bounds.merge(pd.DataFrame({"n_shot": list(shots)}), how="cross")
    return pd.concat([pd.DataFrame(rows), bounds], ignore_index=True), entries + behind


def reliability_frame(world: OpenWorld, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]) -> Result:
    """Reliability diagrams: n_shot, snr, ece, ece_ci95, and per bin probability, accuracy, low, high, count."""
    settings = list(product(shots, snrs))
    entries = [world.reliability(**same_tasks(paper_like(profile, snr, n_shot))) for n_shot, snr in settings]
    frames = [
        pd.DataFrame({"n_shot": n_shot, "snr": snr, **entry["result"]})
        for (n_shot, snr), entry in zip(settings, entries, strict=True)
    ]
    return pd.concat(frames, ignore_index=True), entries


def stand_in_frames(world: OpenWorld, profile: Profile, *, shots: Sequence[int]) -> tuple[pd.DataFrame, Result]:
    """All classes of the stand-ins at once: a row per set, shots and head; and a row per class besides.

    The first has columns set, n_way, n_shot, method, accuracy, ci95, the differences, `later` and `later_spread` (what
    later work reports of the real set, NaN where it does not); the second set, class, what, met, n_way, n_shot,
    method, accuracy, low, high (Wilson's interval for the class's distinct subtomograms).
    """
    rows, classes, entries = [], [], []
    for (name, recipe), n_shot in product(STAND_INS.items(), shots):
        data = replace(recipe, n_per_class=profile.data.n_per_class)
        size = {"n_shot": n_shot, "n_way": len(data.class_names)}
        settings = {"n_query": profile.n_query, "n_episodes": profile.n_test_episodes, "snr": data.snr, **size}
        found = {SHIPPED[head]: world.evaluate(head, data=data, classes=data.class_names, **settings) for head in HEADS}
        later, spread = LATER_REAL.get((name, n_shot), (np.nan, np.nan))
        rows += _accuracy_rows(found, set=name, snr=data.snr, later=later, later_spread=spread, **size)
        for method, entry in found.items():
            counts = np.array(entry["result"]["confusion"])
            for key, accuracy in zip(data.class_names, np.diag(counts) / counts.sum(axis=1), strict=True):
                n = data.count_of(key)
                interval = binomtest(round(accuracy * n), n).proportion_ci(0.95, "wilson")
                values = {"accuracy": accuracy, "low": interval.low, "high": interval.high, "method": method, **size}
                what, role = data.description[key].removeprefix("stand-in for "), met(key, world.card)
                classes.append({"set": name, "class": key, "what": what, "met": role, **values})
        entries += found.values()
    return pd.DataFrame(rows), (pd.DataFrame(classes), entries)


def conformations_frame(world: OpenWorld, variations: Sequence[Variation], n_per_class: int) -> Result:
    """Straight against bent, by three: complex, met, angle, snr, method, accuracy, ci95.

    variations : of `variations.conformations`; n_per_class : subtomograms that the oracle looks at
    """
    laboratory = world.laboratory
    entries = laboratory.run(variation.evaluation for variation in variations)
    frame = variations_frame(variations, entries)
    frame["complex"] = [variation.evaluation.novel_data.class_set for variation in variations]
    frame["angle"] = [variation.evaluation.novel_data.angles_degrees[1] for variation in variations]
    network = mean_over_seeds(frame, "complex", "angle", "snr")
    network = network.assign(method=PAPER_LIKE, ci95=1.96 * network.pop("error"))
    rows = []
    first_seed = variations[0].evaluation.encoder.seed
    for evaluation in (v.evaluation for v in variations if v.evaluation.encoder.seed == first_seed):
        shipped = world.evaluate("prototype", **same_tasks(evaluation))
        bound = oracle(laboratory, Oracle(evaluation=evaluation, n_per_class=n_per_class))
        entries += [shipped, bound]
        data = evaluation.novel_data
        row = {"complex": data.class_set, "angle": data.angles_degrees[1], "snr": evaluation.snr}
        pairs = {"shipped": accuracy_of(shipped), "oracle": oracle_accuracy(bound["result"]["scores"], 2)}
        rows += [{**row, "method": method, "accuracy": a, "ci95": c} for method, (a, c) in pairs.items()]
    frame = pd.concat([network.drop(columns="n_seeds"), pd.DataFrame(rows)], ignore_index=True)
    return frame.assign(met=[met(name, world.card) for name in frame["complex"]]), entries


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
