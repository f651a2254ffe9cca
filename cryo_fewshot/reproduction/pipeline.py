"""From nothing to a rendered book: train, evaluate, write the tables, run the notebooks, build the pages."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path

import torch

from .book import book_notebooks, build_book
from .cells import (
    SURROGATES,
    Cell,
    classifier_heads,
    linear_fits,
    repeated_table_1,
    second_stages,
    surrogate,
    table_1,
    table_2,
    table_3,
    table_4,
)
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
    tables = _tables(profile)
    _run(runner, [cell for cells in tables.values() for cell in cells])
    runs = {name: (cells, runner.run_cells(cells)) for name, cells in tables.items()}
    frames = {name: tidy_frame(*run) for name, run in runs.items()}
    if profile.name == "extended":
        _run_studies(runner)
    elif profile.name != "finished":
        first = runs["table1"]
        frames["table_a"], frames["classes"] = precision_frame(*first), class_frame(*first)
        frames["claims"] = claims_frame(*first, runner.store)
    folder = results_folder(profile.name)
    for name, frame in frames.items():
        write_csv(frame, folder / "tables" / f"{name}.csv")
    print(f"Tables: {folder / 'tables'}")
    return build_profile_book(profile.name) if with_book else folder


def _tables(profile: Profile) -> dict[str, list[Cell]]:
    """The tables of a profile by name: the paper's; or Table 1, its second stages and heads, on several splits."""

    def on_five_splits(table: Callable[..., list[Cell]]) -> list[Cell]:
        return [cell for seed in range(5) for cell in table(profile, snr=0.1, split_seed=seed)]

    if profile.name == "extended":
        return {"table1": repeated_table_1(profile)}
    if profile.name == "finished":
        others = {"second_stages": second_stages, "classifier_heads": classifier_heads, "linear_fits": linear_fits}
        repeated = {name: on_five_splits(table) for name, table in others.items()}
        return {"table1": repeated_table_1(profile, seeds=[0])} | repeated
    surrogates = (table_4(profile, surrogate(name, profile), quoted_real(name)) for name in SURROGATES)
    return {
        "table1": table_1(profile),
        "table2": table_2(profile),
        "table3": table_3(profile),
        "table4": [*chain(*surrogates)],
    }


def _run_studies(runner: Runner) -> None:
    """Each study's notebook runs what it needs and writes its own tables."""
    for name in filter(_own_profile, book_notebooks()):
        runner.check_time()
        print(f"Study: {name}", flush=True)
        run_notebook(name, {}, results_folder("notebooks") / f"{name}.ipynb", tables=_study_tables(name))


def _run(runner: Runner, cells: list[Cell]) -> None:
    """Run cells; before the first training a line says how long all of them will take."""
    if missing := runner.missing(cell.evaluation for cell in cells):
        # Simulation, embedding and evaluation lie between the steps: 1.3 times their time, measured on two cores.
        estimate = 1.3 * runner.estimated_seconds(missing) / 60
        print(
            f"{len(missing)} trainings to run, about {estimate:.0f} minutes here, then notebooks and pages, about four "
            "minutes on two cores; you can stop and restart at any time."
        )
    runner.run_cells(cells)


def _own_profile(notebook: str) -> str | None:
    """The profile that a study shows in every book but that of the tests; None for the pages of the paper."""
    parameters = notebook_parameters(notebook)
    profile = parameters.get("profile", parameters.get("store"))
    return profile if profile in ("extended", "finished") else None


def _study_tables(notebook: str) -> Path | None:
    """Where a study's notebook writes its tables; the pipeline writes those of the paper itself."""
    own = _own_profile(notebook)
    return results_folder(own) / "tables" if own else None


def _profile_parameter(notebook: str, profile: str) -> dict[str, str]:
    """What a notebook is told about the profile of the book."""
    is_fixed = profile != "smoke" and _own_profile(notebook)
    return {} if is_fixed or "profile" not in notebook_parameters(notebook) else {"profile": profile}


def build_profile_book(profile_name: str, publish_in: Path | None = None) -> Path:
    """Run the notebooks on a profile's results and build the book from them; returns its index.html.

    With `publish_in`, the executed notebooks are written there, results are published as parquet files, and nothing is
    built.
    """
    profile = profile_named(profile_name)
    folder = results_folder(profile.name)
    notebooks = publish_in or folder / "notebooks"
    started = time.perf_counter()

    def run(name: str, threads: int) -> None:
        tables = _study_tables(name) if publish_in else None
        parameters = _profile_parameter(name, profile.name)
        run_notebook(name, parameters, notebooks / f"{name}.ipynb", tables=tables, threads=threads)

    side_by_side(run, book_notebooks())
    if publish_in:
        for published in (profile.name, "extended", "finished", "paper"):
            Store(results_folder(published)).publish()
        write_crate(results_folder(profile.name).parent)
        return publish_in
    print(f"Notebooks ran in {time.perf_counter() - started:.0f} s. Building the pages ...", flush=True)
    return build_book(notebooks_dir=notebooks, output_dir=folder)


def side_by_side(run: Callable[[str, int], None], names: Sequence[str]) -> None:
    """`run(name, threads)` for each notebook, as many at once as half of the cores carry, at least two.

    Most of a notebook's time is one thread's: starting, importing, drawing. The first that fails ends the others that
    have not begun.
    """
    n_cores = os.cpu_count() or 1
    n_workers = max(2, min(8, n_cores // 2))
    with ThreadPoolExecutor(n_workers) as pool:
        running = {pool.submit(run, name, max(1, n_cores // n_workers)): name for name in names}
        try:
            for number, done in enumerate(as_completed(running), 1):
                done.result()
                print(f"Notebook {number}/{len(names)}: {running[done]}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)
