"""All methods treated alike: trained until they stop improving, tuned with equal care, given equal time."""

from collections.abc import Sequence

import pandas as pd

from cryo_fewshot.reproduction.cells import Cell, at_lengths, classifier_heads, second_stages, table_1
from cryo_fewshot.reproduction.profiles import Profile, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, results_folder
from cryo_fewshot.reproduction.tables import (
    accuracy_of,
    differences_frame,
    plus_minus,
    stored_cells,
    stored_or_run,
    tidy_frame,
)

from .charts import labels_text
from .claims import over_splits

METHODS = ("baseline", "ProtoNet3D", "ProtoNet-CE")


def lengths_frame(
    runner: Runner, profile: Profile, *, epochs: Sequence[int], snr: float, shots: Sequence[int], run_missing: bool
) -> pd.DataFrame:
    """Test accuracy by length of training: method, n_shot, episodes, accuracy, ci95.

    The longest of each is the training that ran until it stopped improving.
    """
    cut = at_lengths(profile, epochs, snr=snr, shots=shots, methods=METHODS)
    whole = table_1(profile, snrs=[snr], shots=shots, methods=METHODS)
    episodes = {cell: n for n, cell in cut}
    cells, entries = stored_or_run(runner, [*episodes, *whole], run_missing)
    rows = []
    for cell, entry in zip(cells, entries, strict=True):
        encoder = cell.evaluation.encoder
        n_epochs = len(runner.store.get(encoder)["result"]["loss"])
        n_episodes = episodes.get(cell, n_epochs * encoder.schedule.steps_per_epoch)
        rows.append((cell.method, cell.evaluation.n_shot, n_episodes, *accuracy_of(entry)))
    return pd.DataFrame(rows, columns=["method", "n_shot", "episodes", "accuracy", "ci95"])


def against_first(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of each method of each split, and its paired difference to the first method on the same tasks.

    Columns of `tidy_frame`, and difference, difference_ci95; the first method's difference is NaN.
    """
    found, gains = tidy_frame(cells, entries), differences_frame(cells, entries, cells[0].method)
    found = found[found["n_episodes"] == found["n_episodes"].max()]
    gains = gains.rename(columns={"ci95": "difference_ci95"})
    task = ["method", "n_shot", "split_seed"]
    return found.merge(gains[[*task, "difference", "difference_ci95"]], how="left", on=task)


def methods_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`against_first` for reading, means over splits: a row per method, columns accuracy and difference per shots."""
    table = {}
    for (n_shot, method), part in frame.groupby(["n_shot", "method"], sort=False):
        gain = part["difference"].dropna()
        difference = plus_minus(*over_splits(gain), "+") if len(gain) else "–"
        for column, text in (("accuracy", f"{part['accuracy'].mean():.3f}"), ("difference", difference)):
            table.setdefault((f"{n_shot}-shot", column), {})[method] = text
    return pd.DataFrame(table).loc[frame["method"].unique()]


def alike_text(stages: pd.DataFrame, heads: pd.DataFrame) -> str:
    """What is left of the methods' differences, means over splits, of `against_first` of both tables of the page."""
    shots = sorted(stages["n_shot"].unique(), reverse=True)
    means = pd.concat([stages, heads]).groupby(["method", "n_shot"])["accuracy"].mean()
    by_split = stages.pivot(index=["n_shot", "split_seed"], columns="method", values="accuracy").dropna()
    attention = by_split["ProtoNet-CE, released code"] - by_split["ProtoNet3D, trained longer"]

    def accuracy(method: str) -> str:
        return " / ".join(f"{means[method, n_shot]:.3f}" for n_shot in shots)

    labels = " / ".join(labels_text(n_shot) for n_shot in shots)
    gains = " / ".join(plus_minus(*over_splits(attention[n_shot]), "+") for n_shot in shots)
    return (
        f"Mean accuracy over {by_split.index.unique('split_seed').size} splits, with {labels} per class:\n\n"
        f"- **ProtoNet3D**: {accuracy('ProtoNet3D')}; trained further, from the first rate again: "
        f"{accuracy('ProtoNet3D, trained longer')}.\n"
        f"- **The plain classifier's encoder**: nearest prototype by cosine, nothing fitted: "
        f"{accuracy('nearest prototype by cosine')}; linear layer as published: "
        f"{accuracy('linear layer, 100 steps at 1e-2')}.\n"
        f"- **Attention**, in the released code's form, against ProtoNet3D trained as long: {gains}."
    )


def treated_alike(snr: float = 0.1, n_splits: int = 5):
    """`alike_text` of the stored finished trainings, in Markdown."""
    from IPython.display import Markdown

    profile, store, frames = profile_named("finished"), Store(results_folder("finished")), []
    for cells_of in (second_stages, classifier_heads):
        cells = [cell for seed in range(n_splits) for cell in cells_of(profile, snr=snr, split_seed=seed)]
        at_hand, entries = stored_cells(store, cells)
        if not at_hand:
            return Markdown("Not run.")
        frames.append(against_first(at_hand, entries))
    return Markdown(alike_text(*frames))


def fits_frame(cells: Sequence[Cell], entries: Sequence[dict]) -> pd.DataFrame:
    """Accuracy of `linear_fits`: split_seed, n_shot, steps, rate, accuracy, ci95."""
    rows = [
        (cell.evaluation.encoder.split_seed, cell.evaluation.n_shot, *cell.evaluation.linear_fit, *accuracy_of(entry))
        for cell, entry in zip(cells, entries, strict=True)
    ]
    return pd.DataFrame(rows, columns=["split_seed", "n_shot", "steps", "rate", "accuracy", "ci95"])


def fits_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`fits_frame` for reading, the mean over splits: a row per number of steps, a column per shots and rate."""
    table = frame.pivot_table(index="steps", columns=["n_shot", "rate"], values="accuracy")
    table = table[sorted(table.columns, key=lambda column: (-column[0], column[1]))]
    best = table.max().groupby("n_shot").transform("max")
    shown = {
        column: [f"<b>{value:.3f}</b>" if value == best[column] else f"{value:.3f}" for value in table[column]]
        for column in table
    }
    columns = pd.MultiIndex.from_tuples([(f"{shot}-shot", f"rate {rate:g}") for shot, rate in table.columns])
    return pd.DataFrame(list(zip(*shown.values(), strict=True)), [f"{n} steps" for n in table.index], columns)
