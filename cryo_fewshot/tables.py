"""Stored results as tidy tables, and as what a reader of the book sees."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .evaluation import mean_and_interval
from .experiments import PROFILES, TABLE_1_METHODS, Cell
from .files import write_atomically
from .paper import NOT_QUOTED, TABLE_1_CLAIMS, Claim
from .results import Store

PAPER_EPISODES = 100


def table_1_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Tidy Table 1: a row per cell and number of episodes, the paper's 100 and all that were run.

    The column `paper` is NaN throughout: the paper's text quotes no cell of this table. What it does quote is in
    `claims_frame`.
    """
    rows = []
    for cell, entry in zip(cells, entries, strict=True):
        evaluation, result = cell.evaluation, entry["result"]
        accuracies = np.array(result["n_correct"]) / result["n_queries"]
        for n_episodes in dict.fromkeys((min(PAPER_EPISODES, len(accuracies)), len(accuracies))):
            accuracy, interval = mean_and_interval(accuracies[:n_episodes])
            rows.append(
                {
                    "method": cell.method,
                    "snr": evaluation.snr,
                    "n_way": evaluation.n_way,
                    "n_shot": evaluation.n_shot,
                    "n_query": evaluation.n_query,
                    "n_episodes": n_episodes,
                    "accuracy": accuracy,
                    "ci95": interval,
                    "class_set": evaluation.encoder.data.class_set,
                    "split_seed": evaluation.encoder.split_seed,
                    "train_seed": evaluation.encoder.seed,
                    "paper": float("nan"),
                }
            )
    return pd.DataFrame(rows)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a tidy table; unknown numbers of the paper read 'not quoted'."""
    text = frame.round(6).to_csv(index=False, na_rep=NOT_QUOTED, lineterminator="\n")
    write_atomically(path, text.encode())


def claims_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Each number the paper quotes about Table 1, beside this run: claim, n_shot, paper, this_work, ci95, verdict.

    Differences between methods are paired: taken episode by episode, as all methods meet the same episodes. A claim
    whose cells were not run is left out.
    """
    accuracies = {
        (cell.method, cell.evaluation.snr, cell.evaluation.n_shot): np.array(entry["result"]["n_correct"])
        / entry["result"]["n_queries"]
        for cell, entry in zip(cells, entries, strict=True)
    }
    rows = []
    for claim in TABLE_1_CLAIMS:
        per_episode = _measure(claim, accuracies)
        if per_episode is not None:
            value, interval = mean_and_interval(per_episode)
            rows.append(
                {
                    "claim": claim.words,
                    "n_shot": claim.n_shot,
                    "paper": _paper_words(claim),
                    "this_work": value,
                    "ci95": interval,
                    "difference": value - claim.paper,
                    "verdict": _verdict(claim, value, interval),
                }
            )
    return pd.DataFrame(rows)


def _paper_words(claim: Claim) -> str:
    return f"≥ {claim.paper:g}" if claim.at_least else f"{claim.paper:g}"


def _measure(claim: Claim, accuracies: dict[tuple, np.ndarray]) -> np.ndarray | None:
    method, snr = claim.first
    if method is None:
        candidates = [accuracies[key] for key in accuracies if key[1:] == (snr, claim.n_shot)]
        return max(candidates, key=np.mean, default=None)
    first = accuracies.get((method, snr, claim.n_shot))
    if claim.second is None or first is None:
        return first
    second = accuracies.get((*claim.second, claim.n_shot))
    return None if second is None else first - second


def _verdict(claim: Claim, value: float, interval: float) -> str:
    gap = value - claim.paper
    if claim.at_least and gap >= interval:
        return "holds"
    if not claim.at_least and abs(gap) <= interval:
        return "agrees"
    if abs(gap) < interval:
        return "cannot be told"
    return "above" if gap > 0 else "below"


def show_table_1(frame: pd.DataFrame) -> "pd.io.formats.style.Styler":
    """Table 1 for reading: methods by shot and SNR with intervals, then the paper, and the difference of the best."""
    frame = frame[frame["n_episodes"] == frame["n_episodes"].max()]
    columns = sorted({(row.n_shot, row.snr) for row in frame.itertuples()}, reverse=True)
    shown: dict[str, dict] = {method: {} for method in TABLE_1_METHODS if method in set(frame["method"])}
    shown |= {"paper, each method": {}, "paper, best method": {}, "difference, best": {}}
    for n_shot, snr in columns:
        part = frame[(frame["n_shot"] == n_shot) & (frame["snr"] == snr)]
        best = part.loc[part["accuracy"].idxmax()]
        for row in part.itertuples():
            number = f"{row.accuracy:.3f}<br><small>±\u00a0{row.ci95:.3f}</small>"
            shown[row.method][n_shot, snr] = f"<strong>{number}</strong>" if row.Index == best.name else number
        quoted = [claim for claim in TABLE_1_CLAIMS if claim.first == (None, snr) and claim.n_shot == n_shot]
        shown["paper, each method"][n_shot, snr] = NOT_QUOTED
        shown["paper, best method"][n_shot, snr] = _paper_words(quoted[0]) if quoted else NOT_QUOTED
        gap = f"{best['accuracy'] - quoted[0].paper:+.3f}<br><small>±\u00a0{best['ci95']:.3f}</small>" if quoted else "–"
        shown["difference, best"][n_shot, snr] = gap
    table = pd.DataFrame.from_dict(shown, orient="index")[columns]
    table.columns = pd.MultiIndex.from_tuples([(f"{shot}-shot", f"SNR {snr:g}") for shot, snr in columns])
    return _plain_style(table)


def show_claims(frame: pd.DataFrame) -> "pd.io.formats.style.Styler":
    """The quoted numbers for reading: paper, this work with its interval, difference, verdict."""
    shown = pd.DataFrame(
        {
            "What the paper quotes": frame["claim"],
            "Shots": frame["n_shot"],
            "Paper": frame["paper"],
            "This work": [f"{v:.3f} ±\u00a0{c:.3f}" for v, c in zip(frame["this_work"], frame["ci95"], strict=True)],
            "Difference": [f"{d:+.3f}" for d in frame["difference"]],
            "Verdict": frame["verdict"],
        }
    )
    return _plain_style(shown).hide(axis="index")


def _plain_style(frame: pd.DataFrame) -> "pd.io.formats.style.Styler":
    # A fixed uuid: the same table has the same HTML at every run.
    return frame.style.set_uuid("table").set_table_styles(
        [{"selector": "th, td", "props": "text-align: left; padding: 0.3em 0.5em; min-width: 3.2em"}]
    )


def protocol_line(cells: Sequence[Cell], profile_note: str) -> str:
    """The protocol of a table in one line, printed before its numbers."""
    evaluation = cells[0].evaluation
    run, microscope = evaluation.encoder, evaluation.encoder.data.microscope
    shots = " and ".join(f"{n}-shot" for n in sorted({cell.evaluation.n_shot for cell in cells}, reverse=True))
    return (
        f"{evaluation.n_way}-way, {shots}, {evaluation.n_query} queries per class, {evaluation.n_episodes} test "
        f"episodes; class set {run.data.class_set}, {run.data.n_per_class} subtomograms per class and SNR, boxes of "
        f"{microscope.final_box}^3 at {microscope.final_voxel_size_nm:g} nm; "
        f"split {'/'.join(map(str, run.split_sizes))} with seed "
        f"{run.split_seed}, training seed {run.seed}, data seed {run.data.seed}, {run.precision}. "
        f"Profile: {profile_note}."
    )


def provenance_line(entries: Sequence[dict]) -> str:
    """Machines, dates and versions of the runs behind a table, in one line."""

    def several(name: str) -> str:
        return ", ".join(sorted({str(entry["provenance"][name]) for entry in entries}))

    dates = sorted(entry["provenance"]["date"] for entry in entries)
    return (
        f"Run between {dates[0]} and {dates[-1]} on {several('processor')}, {several('cores')} cores, "
        f"GPU: {several('gpu')}; torch {several('torch')}, structures {several('library')}."
    )


def training_seconds(store: Store, cells: Sequence[Cell]) -> float:
    """Seconds that all trainings behind a table took, each counted once."""
    runs = {run for cell in cells for run in (cell.evaluation.encoder, cell.evaluation.adaptation) if run is not None}
    entries = [store.get(run) for run in runs]
    return sum(entry["provenance"]["seconds"] for entry in entries if entry is not None)


def findings(table: pd.DataFrame, claims: pd.DataFrame, profile_note: str) -> str:
    """What a run of Table 1 found, in a few sentences of Markdown; every number is read off the run."""
    table = table[table["n_episodes"] == table["n_episodes"].max()]
    sentences = [f"*This run ({profile_note}).*"]
    for n_shot in sorted(table["n_shot"].unique(), reverse=True):
        part = table[table["n_shot"] == n_shot]
        top_snr = part["snr"].max()
        best = part.loc[part[part["snr"] == top_snr]["accuracy"].idxmax()]
        worst = part.loc[part[part["snr"] == part["snr"].min()]["accuracy"].idxmax()]
        examples = "one example" if n_shot == 1 else f"{n_shot} examples"
        sentences.append(
            f"With {examples} per class, the best method ({best['method']}) recognises "
            f"{best['accuracy']:.0%} of the subtomograms at SNR {top_snr:g}, and {worst['accuracy']:.0%} at SNR "
            f"{worst['snr']:g} ({worst['method']}); guessing gives {1 / best['n_way']:.0%}."
        )
    counts = claims["verdict"].value_counts()
    kept = int(counts.get("holds", 0) + counts.get("agrees", 0))
    unclear = int(counts.get("cannot be told", 0))
    sentences.append(
        f"Of {len(claims)} numbers that the paper quotes about its simulated data, {kept} hold or agree here, "
        f"{unclear} cannot be told apart at this size, and {len(claims) - kept - unclear} come out differently."
    )
    return " ".join(sentences)


def training_histories(store: Store) -> dict[str, dict]:
    """Loss and validation accuracy per epoch of each stored encoder training, by a name that says what it was."""
    return {_training_name(entry["spec"]): entry["result"] for entry in store.entries("EncoderRun")}


def show_trainings(store: Store) -> "pd.io.formats.style.Styler":
    """All stored trainings: what, selected epoch, validation accuracy, time."""
    rows = []
    for kind in ("EncoderRun", "AdaptationRun"):
        for entry in store.entries(kind):
            result, provenance = entry["result"], entry["provenance"]
            rows.append(
                {
                    "Training": _training_name(entry["spec"]),
                    "Selected epoch": f"{result['best_epoch'] + 1} of {len(result['loss'])}",
                    "Validation accuracy": f"{max(result['validation_accuracy']):.3f}",
                    "Time (s)": f"{provenance['seconds']:.0f}",
                    "Date": provenance["date"],
                }
            )
    return _plain_style(pd.DataFrame(rows).sort_values("Training")).hide(axis="index")


def show_evaluations(store: Store) -> "pd.io.formats.style.Styler":
    """All stored evaluations: how many episodes on which machine."""
    rows = [
        {
            "Head": entry["spec"]["head"],
            "Encoder": _training_name({"type": "EncoderRun", **entry["spec"]["encoder"]}),
            "SNR": f"{entry['spec']['snr']:g}",
            "Shots": entry["spec"]["n_shot"],
            "Episodes": entry["spec"]["n_episodes"],
            "Accuracy": f"{entry['result']['accuracy']:.3f} ± {entry['result']['ci95']:.3f}",
            "List of episodes": entry["result"]["episodes"],
        }
        for entry in store.entries("Evaluation")
    ]
    frame = pd.DataFrame(rows).sort_values(["Shots", "SNR", "Encoder", "Head"], ascending=[False, False, True, True])
    return _plain_style(frame).hide(axis="index")


def show_profiles(folder_of: Callable[[str], Path]) -> "pd.io.formats.style.Styler":
    """Every profile, what it stands for, and whether its Table 1 has been run."""
    rows = [
        {
            "Profile": name,
            "What it is": profile.note,
            "Table 1": "run" if (folder_of(name) / "tables" / "table1.csv").exists() else "not run",
        }
        for name, profile in PROFILES.items()
        if name != "smoke"
    ]
    return _plain_style(pd.DataFrame(rows)).hide(axis="index")


def _training_name(spec: dict) -> str:
    if spec["type"] == "AdaptationRun":
        return f"attention on: {_training_name({'type': 'EncoderRun', **spec['encoder']})}"
    snrs = [f"{snr:g}" for snr, _ in spec["snr_counts"]]
    words = "baseline encoder" if spec["objective"] == "classes" else f"ProtoNet3D, {spec['n_shot']}-shot"
    return f"{words}, {'SNR ' + snrs[0] if len(snrs) == 1 else 'mixed SNR'}"
