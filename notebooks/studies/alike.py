"""All methods treated alike: trained until they stop improving, tuned with equal care, given equal time."""

from collections.abc import Sequence

import pandas as pd

from cryo_fewshot.reproduction.cells import Cell, at_lengths, table_1
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.tables import accuracy_of, paired_difference, stored_or_run

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

    Columns: split, n_shot, method, accuracy, ci95, difference, difference_ci95; the first method's difference is NaN.
    """
    rows, first = [], {}
    for cell, entry in zip(cells, entries, strict=True):
        evaluation = cell.evaluation
        task = evaluation.encoder.split_seed, evaluation.n_shot
        gain = paired_difference(entry, first[task]) if task in first else (float("nan"), float("nan"))
        first.setdefault(task, entry)
        rows.append((*task, cell.method, *accuracy_of(entry), *gain))
    columns = ["split", "n_shot", "method", "accuracy", "ci95", "difference", "difference_ci95"]
    return pd.DataFrame(rows, columns=columns)


def methods_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`against_first` for reading: a row per method, a column per shots and split."""
    shown = [
        f"{row.accuracy:.3f}" + ("" if pd.isna(row.difference) else f"<br><small>{row.difference:+.3f} ±\u00a0"
        f"{row.difference_ci95:.3f}</small>")
        for row in frame.itertuples()
    ]  # fmt: skip
    table = frame.assign(shown=shown).pivot(index="method", columns=["n_shot", "split"], values="shown")
    table = table.loc[frame["method"].unique(), sorted(table.columns, key=lambda column: (-column[0], column[1]))]
    table.columns = pd.MultiIndex.from_tuples([(f"{shot}-shot", f"split {split}") for shot, split in table.columns])
    return table.rename_axis(None).fillna("not run")
