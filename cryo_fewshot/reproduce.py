"""From nothing to a rendered book: train, evaluate, write the tables, run the notebooks, build the pages."""

import time
from pathlib import Path

import pandas as pd
import torch

from .book import BOOK_NOTEBOOKS, build_book, notebook_parameters, run_notebook
from .experiments import (
    PAPER_SHOTS,
    PAPER_SNRS,
    STAND_INS,
    Evaluation,
    Profile,
    profile_named,
    repeated_table_1,
    stand_in,
    table_1,
    table_2,
    table_3,
    table_4,
)
from .laboratory import Laboratory, open_laboratory
from .paper import CLAIMS_IN_WORDS, TABLE_1_CLAIMS, quoted_real
from .pretraining import shipped_spec
from .results import results_folder
from .shipped import load_encoder
from .studies.ceiling import bounds_frame
from .studies.heads_compared import INDUCTIVE, TRANSDUCTIVE, heads_frame
from .studies.ladder import ladder_frame, taken_back_frame
from .studies.open_world import OpenWorld
from .studies.open_world_tables import rejection_frame, stand_in_frames, ways_frame
from .studies.repeats import claim_values, judged
from .studies.variations import TILT_INCREMENTS, TILT_RANGES, conformations, tilt_geometries, training_ways
from .tables import claims_frame, class_frame, precision_frame, tidy_frame, variations_frame, write_csv


def default_profile() -> str:
    """`paper` where a GPU is found, else `quick`."""
    return "paper" if torch.cuda.is_available() else "quick"


def reproduce(profile_name: str, with_book: bool = True, minutes: float | None = None) -> Path:
    """Run a profile, or what is missing of it, and return the rendered book (or the folder of results).

    With `minutes`, trainings and evaluations stop cleanly once that time is over, by `laboratory.OutOfTime`.

    Killed at any moment, it goes on where it was: finished results are read from the store, a training from its last
    epoch, with the same numbers in the end.
    """
    profile = profile_named(profile_name)
    laboratory = open_laboratory(
        profile.name, show_progress=True, deadline=None if minutes is None else time.monotonic() + 60 * minutes
    )
    print(f"Profile '{profile.name}' on {laboratory.device}, {profile.precision}: {profile.note}.")
    run = _reproduce_extended if profile.name == "extended" else _reproduce_paper
    frames = run(laboratory, profile)
    folder = results_folder(profile.name)
    for name, frame in frames.items():
        write_csv(frame, folder / "tables" / f"{name}.csv")
    print(f"Tables: {folder / 'tables'}")
    return build_profile_book(profile.name) if with_book else folder


def _reproduce_paper(laboratory: Laboratory, profile: Profile) -> dict[str, pd.DataFrame]:
    """Every table of the paper, by the name of its csv."""
    tables = {"table1": table_1(profile), "table2": table_2(profile), "table3": table_3(profile)}
    tables["table4"] = [
        cell for name in STAND_INS for cell in table_4(profile, stand_in(name, profile), quoted_real(name))
    ]
    evaluations = [cell.evaluation for cells in tables.values() for cell in cells]
    _announce(laboratory, evaluations)
    laboratory.run(evaluations)
    runs = {name: (cells, laboratory.run_cells(cells)) for name, cells in tables.items()}
    frames = {name: tidy_frame(*run) for name, run in runs.items()}
    first = runs["table1"]
    return frames | {
        "table_a": precision_frame(*first),
        "classes": class_frame(*first),
        "claims": claims_frame(*first),
    }


def _reproduce_extended(laboratory: Laboratory, profile: Profile) -> dict[str, pd.DataFrame]:
    """Table 1 on several splits and seeds, and the studies, by the name of the csv."""
    cells = repeated_table_1(profile)
    studies = {
        "training_ways": training_ways(profile),
        "tilt_ranges": tilt_geometries(profile, TILT_RANGES),
        "tilt_increments": tilt_geometries(profile, TILT_INCREMENTS),
        "conformations": conformations(profile),
    }
    evaluations = [cell.evaluation for cell in cells]
    evaluations += [variation.evaluation for variations in studies.values() for variation in variations]
    _announce(laboratory, evaluations)
    laboratory.run(evaluations)
    entries, claims = laboratory.run_cells(cells), [*TABLE_1_CLAIMS, *CLAIMS_IN_WORDS]
    frames = {"table1": tidy_frame(cells, entries), "claims": judged(claim_values(cells, entries, claims), claims)}
    frames["bounds"] = bounds_frame(laboratory, profile)[0]
    frames["ladder"] = ladder_frame(laboratory, profile)[0]
    frames["ladder_taken_back"] = taken_back_frame(laboratory, profile)[0]
    tasks = [cell.evaluation for cell in table_1(profile, methods=["ProtoNet3D (mix)"])]
    frames["heads"] = heads_frame(laboratory, shipped_spec(), tasks, INDUCTIVE + TRANSDUCTIVE)[0]
    world = OpenWorld(laboratory, *load_encoder())
    frames["strangers"] = rejection_frame(world, profile, snrs=PAPER_SNRS, shots=PAPER_SHOTS)[0]
    frames["more_ways"] = ways_frame(world, profile, snrs=PAPER_SNRS, shots=PAPER_SHOTS)[0]
    frames["stand_ins"] = stand_in_frames(world, profile, shots=(5, 3, 1))[0]
    for name, variations in studies.items():
        frames[name] = variations_frame(variations, laboratory.run(v.evaluation for v in variations))
    return frames


def _announce(laboratory: Laboratory, evaluations: list[Evaluation]) -> None:
    missing = laboratory.missing(evaluations)
    if missing:
        estimate = laboratory.estimated_seconds(missing) / 60
        print(f"{len(missing)} trainings to run, about {estimate:.0f} minutes here; stop and restart as you like.")


def _profile_parameter(notebook: str, profile: str) -> dict[str, str]:
    """A notebook's profile. The studies show the profile `extended` in every book but that of the tests."""
    default = notebook_parameters(notebook).get("profile")
    return {} if default is None or (default == "extended" and profile != "smoke") else {"profile": profile}


def build_profile_book(profile_name: str, publish_in: Path | None = None) -> Path:
    """Run the notebooks on a profile's results and build the book from them; returns its index.html.

    With `publish_in`, the executed notebooks are written there and nothing is built.
    """
    profile = profile_named(profile_name)
    folder = results_folder(profile.name)
    notebooks = publish_in or folder / "notebooks"
    started = time.perf_counter()
    for number, name in enumerate(BOOK_NOTEBOOKS, 1):
        print(f"Notebook {number}/{len(BOOK_NOTEBOOKS)}: {name}", flush=True)
        run_notebook(name, _profile_parameter(name, profile.name), notebooks / f"{name}.ipynb")
    if publish_in:
        return publish_in
    print(f"Notebooks ran in {time.perf_counter() - started:.0f} s. Building the pages ...", flush=True)
    return build_book(notebooks_dir=notebooks, output_dir=folder)
