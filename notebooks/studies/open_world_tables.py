"""The study `open_world` as tidy tables, and in sentences whose numbers are read off them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.reproduction.cells import SURROGATES
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.quoted import LATER_REAL, LATER_SOURCE, SUPERVISED_22_WAY
from cryo_fewshot.reproduction.tables import accuracy_of, mean_over_seeds, paired_difference
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.structures import load_complex

from .bounds import Oracle, bounds_frame, oracle_accuracy
from .open_world import HEADS, PROMISED_RATE, OpenWorld, met, paper_like, same_tasks
from .transfer import Variation, variations_frame

PAPER_LIKE = "ProtoNet3D (mix)"
PRETRAINED = {"prototype": "shipped, nearest prototype", "two-covariance": "shipped, two-covariance"}
STRANGERS = {"never-met classes": (), "no macromolecule": (EMPTY,)}
Result = tuple[pd.DataFrame, list[dict]]
"""A tidy table and the stored entries that it was read off."""


# ---------------------------------------------------------------- tables


def rejection_frame(world: OpenWorld, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]) -> Result:
    """Members against strangers: strangers, n_shot, snr, method, auroc, ci95, difference, difference_ci95.

    difference : of the tool's score minus this one, task by task. In the rows of the tool's score also `kept`, `let_in`
    and `could_keep` of `OpenWorld.reject`.
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
                row |= {name: float(np.mean(own["result"][name])) for name in ("kept", "let_in", "could_keep")}
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
        found = {PRETRAINED[head]: world.evaluate(head, **settings) for head in HEADS}
        if classes == novel:
            found = {PAPER_LIKE: world.runner(evaluation), **found}
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
        found = {PAPER_LIKE: world.runner(evaluation)}
        found |= {PRETRAINED[head]: world.evaluate(head, **same_tasks(evaluation)) for head in HEADS}
        rows += _accuracy_rows(found, n_shot=n_shot, snr=snr)
        entries += found.values()
    bounds, behind = bounds_frame(
        world.runner, profile, snrs=snrs, oracle_snrs=snrs, samples=samples, n_per_class=n_per_class
    )
    bounds = bounds[bounds["method"].str.startswith(("supervised", "oracle"))]
    bounds = bounds.merge(pd.DataFrame({"n_shot": list(shots)}), how="cross")
    return pd.concat([pd.DataFrame(rows), bounds], ignore_index=True), entries + behind


def reliability_frame(world: OpenWorld, profile: Profile, *, snrs: Sequence[float], shots: Sequence[int]) -> Result:
    """Reliability diagrams: n_shot, snr, ece, ece_ci95, and per bin probability, accuracy, low, high, count.

    Bins of fewer than 30 answers are left out; the error counts them.
    """
    settings = list(product(shots, snrs))
    entries = [world.reliability(**same_tasks(paper_like(profile, snr, n_shot))) for n_shot, snr in settings]
    frames = [
        pd.DataFrame({"n_shot": n_shot, "snr": snr, **entry["result"]})
        for (n_shot, snr), entry in zip(settings, entries, strict=True)
    ]
    frame = pd.concat(frames)
    return frame[frame["count"] >= 30].reset_index(drop=True), entries


def surrogate_frames(world: OpenWorld, profile: Profile, *, shots: Sequence[int]) -> tuple[pd.DataFrame, Result]:
    """All classes of the stand-ins at once: a row per set, shots and head; and a row per class besides.

    The first has columns set, n_way, n_shot, method, accuracy, ci95, the differences, `later` and `later_spread` (what
    later work reports of the real set, NaN where it does not); the second set, class, what (that it stands for), met,
    n_way, n_shot, method, accuracy, low, high (Wilson's interval for the class's distinct subtomograms).
    """
    rows, classes, entries = [], [], []
    for (name, recipe), n_shot in product(SURROGATES.items(), shots):
        data = replace(recipe, n_per_class=profile.data.n_per_class)
        size = {"n_shot": n_shot, "n_way": len(data.class_names)}
        settings = {"n_query": profile.n_query, "n_episodes": profile.n_test_episodes, "snr": data.snr, **size}
        found = {
            PRETRAINED[head]: world.evaluate(head, data=data, classes=data.class_names, **settings) for head in HEADS
        }
        later, spread = LATER_REAL.get((name, n_shot), (np.nan, np.nan))
        rows += _accuracy_rows(found, set=name, snr=data.snr, later=later, later_spread=spread, **size)
        for method, entry in found.items():
            counts = np.array(entry["result"]["confusion"])
            for key, accuracy in zip(data.class_names, np.diag(counts) / counts.sum(axis=1), strict=True):
                n = data.count_of(key)
                interval = binomtest(round(accuracy * n), n).proportion_ci(0.95, "wilson")
                values = {"accuracy": accuracy, "low": interval.low, "high": interval.high, "method": method, **size}
                stands_for = data.description[key].removeprefix("stand-in for ").removeprefix("the ").split(":")[0]
                classes.append({"set": name, "class": key, "what": stands_for, "met": met(key, world.card), **values})
        entries += found.values()
    return pd.DataFrame(rows), (pd.DataFrame(classes), entries)


def conformations_frame(world: OpenWorld, variations: Sequence[Variation], n_per_class: int) -> Result:
    """Straight against bent, by three: complex, met, angle, snr, method, accuracy, ci95.

    variations : of `variations.conformations`; n_per_class : subtomograms that the oracle looks at
    """
    runner = world.runner
    entries = runner.run(variation.evaluation for variation in variations)
    frame = variations_frame(variations, entries)
    frame["complex"] = [variation.evaluation.novel_data.class_set for variation in variations]
    frame["angle"] = [variation.evaluation.novel_data.angles_degrees[1] for variation in variations]
    network = mean_over_seeds(frame, "complex", "angle", "snr")
    network = network.assign(method=PAPER_LIKE, ci95=1.96 * network.pop("error"))
    rows = []
    first_seed = variations[0].evaluation.encoder.seed
    for evaluation in (v.evaluation for v in variations if v.evaluation.encoder.seed == first_seed):
        shipped = world.evaluate("prototype", **same_tasks(evaluation))
        bound = runner(Oracle(evaluation=evaluation, n_per_class=n_per_class))
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


# ---------------------------------------------------------------- what a reader sees


def show_with_differences(frame: pd.DataFrame, rows: str, value: str) -> "pd.io.formats.style.Styler":
    """Methods under each value of the column `rows`, by shots and SNR; then the last method's gain over the others."""
    shown: dict[tuple[str, str], dict] = {}
    for kind, part in frame.groupby(rows, sort=False):
        for row in part.itertuples():
            number = f"{getattr(row, value):.3f}<br><small>±\u00a0{row.ci95:.3f}</small>"
            shown.setdefault((kind, row.method), {})[row.n_shot, row.snr] = number
        for row in part[part["method"] != part["method"].iloc[-1]].itertuples():
            number = f"{row.difference:+.3f}<br><small>±\u00a0{row.difference_ci95:.3f}</small>"
            shown.setdefault((kind, f"gain over {row.method}"), {})[row.n_shot, row.snr] = number
    columns = sorted({column for cells in shown.values() for column in cells}, reverse=True)
    table = pd.DataFrame(list(shown.values()), index=pd.MultiIndex.from_tuples(shown))[columns]
    table.columns = pd.MultiIndex.from_tuples([(f"{shot}-shot", f"SNR {snr:g}") for shot, snr in columns])
    return plain_style(table)


def rejection_text(frame: pd.DataFrame, world: OpenWorld, profile: Profile) -> str:
    """What the table of strangers says, and what the tool's threshold does."""
    never = frame[(frame["strangers"] == next(iter(STRANGERS)))].set_index(["method", "n_shot", "snr"])
    tool = never.xs("shipped, likelihood ratio")
    sentences = []
    for n_shot, part in tool.groupby(level="n_shot"):
        gaps = [never.xs(method).loc[part.index] for method in (f"{PAPER_LIKE}, distance", "shipped, distance")]
        paper, own = (f"{gap['difference'].min():+.3f} to {gap['difference'].max():+.3f}" for gap in gaps)
        sentences.append(
            f"With {_labels(n_shot)} per class, a member scores above a stranger of a never-met class "
            f"in {part['auroc'].min():.0%} to {part['auroc'].max():.0%} of the pairs; the tool's score gains {own} on "
            f"the distance in the same space, and {paper} on {PAPER_LIKE}."
        )
    sentences.append(
        f"At the tool's default threshold, which promises to let in at most {PROMISED_RATE:.0%} of the strangers, "
        f"{tool['let_in'].min():.1%} to {tool['let_in'].max():.1%} of these are let in, and "
        f"{tool['kept'].min():.0%} to {tool['kept'].max():.0%} of the members are accepted: "
        + ("the promise is kept" if tool["let_in"].max() <= PROMISED_RATE else "the promise is broken")
        + ". A threshold set on these very classes, to let in just the promised share, would accept "
        f"{tool['could_keep'].min():.0%} to {tool['could_keep'].max():.0%} of the members: the difference is the price "
        "of a promise for classes that nobody has seen. A member that is not accepted still gets its class and "
        "probability."
    )
    split = paper_like(profile, 0.1, 5).encoder.split
    role = "was trained on it" if EMPTY in split.base else "had its epoch selected with it"
    if EMPTY in world.card["training_classes"] and EMPTY in (*split.base, *split.validation):
        sentences.append(
            f"The class without a macromolecule is no stranger to either network: the shipped encoder was trained on "
            f"it, and {PAPER_LIKE} {role}. It shows how well empty boxes are kept out, not how well the unknown is."
        )
    return "\n".join(f"* {sentence}" for sentence in sentences)


def _labels(n: int) -> str:
    return f"{n} label" if n == 1 else f"{n} labels"


def ways_text(frame: pd.DataFrame) -> str:
    """What becomes of accuracy as classes are added."""
    best = frame[frame["method"] == PRETRAINED["two-covariance"]]
    sentences = []
    for (n_shot, snr), part in best.groupby(["n_shot", "snr"], sort=False):
        if n_shot == best["n_shot"].max():
            told = ", ".join(f"{row.accuracy:.3f} ({row.n_way}-way)" for row in part.itertuples())
            sentences.append(f"Two-covariance, {n_shot}-shot at SNR {snr:g}: {told}.")
    quoted = " and ".join(f"{accuracy:g} at SNR {snr:g}" for snr, accuracy in SUPERVISED_22_WAY.items())
    sentences.append(
        f"The paper mentions a supervised network with 500 samples of each class that tells 22 apart ({quoted}): "
        "other data and other volumes, so that only the order of magnitude compares."
    )
    return "  \n".join(sentences)


def shots_text(frame: pd.DataFrame) -> str:
    """What labels buy, and where the labelled examples of a supervised network are matched."""
    at = frame.set_index(["method", "snr", "n_shot"])["accuracy"].sort_index()
    tool, sentences = PRETRAINED["two-covariance"], []
    for snr in frame["snr"].unique():
        curve = at[tool, snr]
        few, many = curve.index.min(), curve.index.max()
        words = f"At SNR {snr:g} accuracy goes from {curve[few]:.3f} with {few} to {curve[many]:.3f} with {many} labels"
        for name in (name for name in frame["method"].unique() if name.startswith("supervised")):
            enough = curve.index[curve >= at[name, snr].iloc[0]]
            count = name.removeprefix("supervised, ")
            words += f"; the supervised network with {count} per class is matched by " + (
                _labels(enough.min()) if len(enough) else "no number of labels here"
            )
        sentences.append(words + f"; {PAPER_LIKE} reaches {at[PAPER_LIKE, snr][many]:.3f}.")
    return "  \n".join(sentences)


def reliability_text(frame: pd.DataFrame) -> str:
    """Whether the tool is too sure or not sure enough."""
    sentences = []
    for n_shot, part in frame.groupby("n_shot", sort=False):
        share = ((part["accuracy"] - part["probability"]) * part["count"]).groupby(part["snr"], sort=False).sum()
        share = share / part.groupby("snr", sort=False)["count"].sum()
        errors = part.drop_duplicates("snr").set_index("snr")
        told = ", ".join(
            f"{row.ece:.3f} ± {row.ece_ci95:.3f} at SNR {snr:g} ({share[snr]:+.3f})" for snr, row in errors.iterrows()
        )
        sentences.append(f"{n_shot}-shot: {told}.")
    return (
        "Calibration error, and in brackets by how much the share of right answers lies above the probability given "
        "(where positive, the tool is more often right than it says):  \n" + "  \n".join(sentences)
    )


def show_surrogates_at_once(frame: pd.DataFrame) -> "pd.io.formats.style.Styler":
    """All classes of a stand-in at once, and beside it what later work reports of the real set."""
    rows = []
    for (name, n_shot), part in frame.groupby(["set", "n_shot"], sort=False):
        row = {"Stand-in": name.capitalize(), "Task": f"{part['n_way'].iloc[0]}-way {n_shot}-shot"}
        for found in part.itertuples():
            row[found.method] = f"{found.accuracy:.3f} ±\u00a0{found.ci95:.3f}"
        first = part.iloc[0]
        row["difference"] = f"{first['difference']:+.3f} ±\u00a0{first['difference_ci95']:.3f}"
        row["chance"] = f"{1 / first['n_way']:.3f}"
        row[f"another data set: real particles, another method ({LATER_SOURCE})"] = (
            f"{first['later']:g} ±\u00a0{first['later_spread']:g}" if pd.notna(first["later"]) else "not quoted"
        )
        rows.append(row)
    return plain_style(pd.DataFrame(rows)).hide(axis="index")


def surrogate_text(classes: pd.DataFrame) -> str:
    """Accuracy of classes that the encoder has met beside that of classes it has not."""
    best = classes[(classes["method"] == PRETRAINED["two-covariance"]) & (classes["n_shot"] == classes["n_shot"].max())]
    sentences = []
    for name, part in best.groupby("set", sort=False):
        told = "; ".join(
            f"{role} {group['accuracy'].mean():.3f} ({', '.join(group['what'])})"
            for role, group in part.groupby("met", sort=False)
        )
        sentences.append(f"{name.capitalize()}, {part['n_shot'].iloc[0]}-shot: {told}.")
    return "  \n".join(sentences)


def conformation_text(frame: pd.DataFrame, enough: float = 0.75) -> str:
    """From which angle on each network tells two conformations."""
    sentences = []
    for (key, role), part in frame.groupby(["complex", "met"], sort=False):
        for snr, at_snr in part.groupby("snr", sort=False):
            told = []
            for method, curve in at_snr.groupby("method", sort=False):
                angles = curve.loc[curve["accuracy"] >= enough, "angle"]
                told.append(f"{method} {f'from {angles.min():g}°' if len(angles) else 'at no angle tried'}")
            sentences.append(f"{load_complex(key).name} ({role}), SNR {snr:g}: {', '.join(told)}.")
    return f"Right in {enough:.0%} of the cases:  \n" + "  \n".join(sentences)
