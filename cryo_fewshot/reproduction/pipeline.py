"""From nothing to a rendered book: train, evaluate, write the tables, run the notebooks, build the pages."""

import time
from pathlib import Path

import pandas as pd
import torch

from .book import STUDIES, book_notebooks, build_book
from .cells import SURROGATES, Cell, repeated_table_1, surrogate, table_1, table_2, table_3, table_4
from .crate import write_crate
from .notebooks import notebook_parameters, run_notebook
from .profiles import Profile, profile_named
from .quoted import quoted_real
from .runner import Runner, open_runner
from .store import Store, results_folder
from .tables import claims_frame, class_frame, precision_frame, tidy_frame, write_csv


def default_profile() -> str:
    """`paper` where a GPU is found, else `quick`."""
    return "paper" if torch.cuda.is_available() else "quick"


def reproduce(profile_name: str, with_book: bool = True, minutes: float | None = None) -> Path:
    """Run a profile, or what is missing of it, and return the rendered book (or the folder of results).

    With `minutes`, trainings and evaluations stop cleanly once that time is over, by `training.DeadlineReached`.

    Killed at any moment, it goes on where it was: finished results are read from the store, a training from its last
    epoch, with the same numbers in the end.
    """
    profile = profile_named(profile_name)
    runner = open_runner(
        profile.name, show_progress=True, deadline=None if minutes is None else time.monotonic() + 60 * minutes
    )
    print(f"Profile '{profile.name}' on {runner.device}, {profile.precision}: {profile.note}.")
    run = _reproduce_extended if profile.name == "extended" else _reproduce_paper
    frames = run(runner, profile)
    folder = results_folder(profile.name)
    for name, frame in frames.items():
        write_csv(frame, folder / "tables" / f"{name}.csv")
    print(f"Tables: {folder / 'tables'}")
    return build_profile_book(profile.name) if with_book else folder


def _reproduce_paper(runner: Runner, profile: Profile) -> dict[str, pd.DataFrame]:
    """Every table of the paper, by the name of its csv."""
    tables = {"table1": table_1(profile), "table2": table_2(profile), "table3": table_3(profile)}
    tables["table4"] = [
        cell for name in SURROGATES for cell in table_4(profile, surrogate(name, profile), quoted_real(name))
    ]
    _run(runner, [cell for cells in tables.values() for cell in cells])
    runs = {name: (cells, runner.run_cells(cells)) for name, cells in tables.items()}
    frames = {name: tidy_frame(*run) for name, run in runs.items()}
    first = runs["table1"]
    return frames | {
        "table_a": precision_frame(*first),
        "classes": class_frame(*first),
        "claims": claims_frame(*first),
    }


def _reproduce_extended(runner: Runner, profile: Profile) -> dict[str, pd.DataFrame]:
    """Table 1 on several splits and seeds; each study's notebook runs what it needs and writes its own tables."""
    cells = repeated_table_1(profile)
    frames = {"table1": tidy_frame(cells, _run(runner, cells))}
    for name in STUDIES:
        runner.check_time()
        print(f"Study: {name}", flush=True)
        run_notebook(name, {}, results_folder("notebooks") / f"{name}.ipynb", tables=_study_tables(name))
    return frames


def _run(runner: Runner, cells: list[Cell]) -> list[dict]:
    """The entries of cells; before the first training a line says how long all of them will take."""
    if missing := runner.missing(cell.evaluation for cell in cells):
        estimate = runner.estimated_seconds(missing) / 60
        print(f"{len(missing)} trainings to run, about {estimate:.0f} minutes here; stop and restart as you like.")
    return runner.run_cells(cells)


def _study_tables(notebook: str) -> Path | None:
    """Where a study's notebook writes its tables; the pipeline writes those of the paper itself."""
    return results_folder("extended") / "tables" if notebook in STUDIES else None


def _profile_parameter(notebook: str, profile: str) -> dict[str, str]:
    """A notebook's profile. The studies show the profile `extended` in every book but that of the tests."""
    default = notebook_parameters(notebook).get("profile")
    return {} if default is None or (default == "extended" and profile != "smoke") else {"profile": profile}


def build_profile_book(profile_name: str, publish_in: Path | None = None) -> Path:
    """Run the notebooks on a profile's results and build the book from them; returns its index.html.

    With `publish_in`, the executed notebooks are written there, results are published as parquet files, and nothing is
    built.
    """
    profile = profile_named(profile_name)
    folder = results_folder(profile.name)
    notebooks = publish_in or folder / "notebooks"
    started, names = time.perf_counter(), book_notebooks()
    for number, name in enumerate(names, 1):
        print(f"Notebook {number}/{len(names)}: {name}", flush=True)
        tables = _study_tables(name) if publish_in else None
        run_notebook(name, _profile_parameter(name, profile.name), notebooks / f"{name}.ipynb", tables=tables)
    if publish_in:
        for published in (profile.name, "extended", "paper"):
            Store(results_folder(published)).publish()
        write_crate(results_folder(profile.name).parent)
        return publish_in
    print(f"Notebooks ran in {time.perf_counter() - started:.0f} s. Building the pages ...", flush=True)
    return build_book(notebooks_dir=notebooks, output_dir=folder)
