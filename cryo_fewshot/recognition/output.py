"""What `classify` writes: STAR files, averages, the report, the record of the run."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..averaging.alignment import TiltSeries
from ..averaging.averages import Refined, refine
from ..averaging.spectra import MASK_SHARE
from ..errors import UserError
from ..files import write_atomically
from ..hashing import spec_digest
from ..particles.base import Particles
from ..particles.coordinates import overlapping
from ..particles.copick_projects import picks_files
from ..particles.exchange import write_dynamo, write_peet
from ..particles.mrc import write_mrc
from ..particles.star import write_star
from ..particles.tomograms import Boxes
from .recogniser import Recogniser
from .settings import MIN_AVERAGED, Settings


@dataclass(frozen=True)
class Outcome:
    """What a run found.

    table : a row per query particle, columns of `Recognition.to_frame`, `q_value` (see `rejection.Errors`), `reason`
        (why a particle cannot be used, else empty) and `labelled` (whether it is in the support as well)
    counts : a row per class
    averages : by class, or group of rejected ones
    points : of `rejection.operating_points`
    groups, to_label : groups of rejected particles by name, and those to label next, as rows of the table
    background : a row per box of the background that is a decoy, see `background`; None where there is none
    """

    table: pd.DataFrame
    counts: pd.DataFrame
    recogniser: Recogniser
    averages: dict[str, Refined]
    points: Sequence[dict]
    groups: Mapping[str, np.ndarray]
    to_label: np.ndarray
    background: pd.DataFrame | None = None


def run_record(support: Particles, query: Particles, card: dict, settings: Settings) -> dict:
    return {
        "settings": {**asdict(settings), "junk": list(settings.junk)},
        "support": {**_input_record(support), "labels": spec_digest(support.labels)},
        "query": _input_record(query),
        "encoder": {name: card.get(name) for name in ("name", "package_version", "architecture")},
    }


def _input_record(particles: Particles) -> dict:
    """Which particles, and how their files are read."""
    centres = getattr(particles.source, "centres", None)
    return {
        "particles": spec_digest([list(particles.names), None if centres is None else np.nan_to_num(centres).tolist()]),
        "n": len(particles),
        "first": particles.names[0],
        "last": particles.names[-1],
        "voxel_size_nm": particles.voxel_size_nm,
        "box": particles.box,
        "dark_protein": particles.dark_protein,
        "mirror": particles.mirror,
        "said": list(particles.notes),
    }


@contextmanager
def claimed(out: Path, record: dict) -> Iterator[None]:
    """For all that may still refuse a run, after which the folder is this run's, without what it wrote before.

    Files may have changed since, and a class or group that is gone must not stay. UserError at once where the folder
    is another's; a run that is refused leaves nothing there.
    """
    is_new = _check_folder(out, record)
    before = set(out.iterdir()) if out.exists() else None
    try:
        yield
    except UserError:
        for made in [out] if before is None else set(out.iterdir()) - before:
            shutil.rmtree(made, ignore_errors=True)
        raise
    for path in (p for pattern in ("classes/*", "averages/*", "rejected_group_*") for p in out.glob(pattern)):
        path.unlink()
    if is_new:
        write_atomically(out / "run.json", json.dumps(record, indent=1, sort_keys=True).encode())


def _check_folder(out: Path, record: dict) -> bool:
    """Whether the output folder is nobody's; UserError where it is another run's."""
    path = out / "run.json"
    try:
        if path.exists():
            if not _holds(path, record):
                raise UserError(f"{out}: contains another run, or this one with other settings; give a new folder")
            return False
        if out.exists() and (not out.is_dir() or any(part.name != "embeddings" for part in out.iterdir())):
            raise UserError(f"{out}: already contains something else; give a new folder")
    except OSError as error:
        raise UserError(f"{out}: cannot be read ({error.strerror}); give another folder") from error
    return True


def _holds(path: Path, record: dict) -> bool:
    """Whether a file holds a record but for notes on the inputs, which name files as they were given."""

    def without_notes(part: dict) -> dict:
        return {name: value for name, value in part.items() if name != "said"}

    try:
        earlier = json.loads(path.read_bytes(), object_hook=without_notes)
    except ValueError:
        return False
    return earlier == json.loads(json.dumps(record), object_hook=without_notes)


def file_names(names: Sequence[str]) -> dict[str, str]:
    """A file name without folder for each class name, no two alike."""
    taken: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.+-]", "_", name).strip("._") or "class"
        while plain.casefold() in {other.casefold() for other in taken.values()}:
            plain += "_"
        taken[name] = plain
    return taken


def write_tables(
    out: Path, query: Particles, table: pd.DataFrame, names: Sequence[str], chosen: Mapping[str, np.ndarray]
) -> None:
    """Every particle, those accepted in each class, those rejected, and a list of the unreadable ones.

    chosen : rows of further STAR files in `out`, in their order, by name
    """
    columns = table.drop(columns=["reason", "labelled"])
    columns.columns = ["fewshot" + name.title().replace("_", "") for name in columns]
    columns["fewshotAccepted"] = table["accepted"].astype(int)
    for name, column in (("fewshotClass", "class"), ("fewshotRunnerUp", "runner_up")):
        columns[name] = table[column].replace("", "unreadable")
    columns["fewshotLabelled"] = table["labelled"].astype(int)
    wanted = {out / "particles.star": np.full(len(table), True)}
    wanted |= {
        out / "classes" / f"{file}.star": table["accepted"] & (table["class"] == name)
        for name, file in file_names(names).items()
    }
    wanted[out / "rejected.star"] = ~table["accepted"]
    files = {path: np.flatnonzero(rows) for path, rows in wanted.items()}
    files |= {out / f"{file_names([name])[name]}.star": rows for name, rows in chosen.items()}
    for path, rows in files.items():
        write_star(path, query, columns.iloc[rows].reset_index(drop=True), rows)
    _write_for_other_programs(out, query, table, names, files)
    reasons = table.loc[table["reason"] != "", "reason"]
    listed = pd.DataFrame({"particle": [query.names[i] for i in reasons.index], "reason": reasons})
    _write_csv(out / "unreadable.csv", listed)


def _write_for_other_programs(
    out: Path, query: Particles, table: pd.DataFrame, names: Sequence[str], files: Mapping[Path, np.ndarray]
) -> None:
    """Beside each STAR file a .tbl where the coordinates came from one, a model and motive list where they came from a
    model; and picks where they are a copick project's."""
    columns = set() if query.table is None else set(query.table)
    numbers = table["class"].map({name: i for i, name in enumerate(names, 1)}).fillna(0).astype(int).to_numpy()
    for path, rows in files.items() if isinstance(query.source, Boxes) else ():
        centres = query.source.centres[rows]
        if "dynamoClass" in columns:
            write_dynamo(path.with_suffix(".tbl"), centres, query.source.which[rows] + 1, numbers[rows])
        if "imodObject" in columns:
            write_peet(path.with_suffix(".mod"), centres, table["probability"].to_numpy()[rows], numbers[rows])
    if {"copickRun", "x_nm"} <= columns:
        accepted = table[table["accepted"]]
        rows = query.table.iloc[accepted.index]
        for path, content in picks_files(rows, accepted["class"], accepted["probability"]):
            write_atomically(out / "copick" / path, content)


def write_averages(
    out: Path,
    query: Particles,
    table: pd.DataFrame,
    names: Sequence[str],
    groups: Mapping[str, np.ndarray],
    settings: Settings,
    say: Callable,
) -> dict[str, Refined]:
    """Average the most probable accepted particles of each class, and groups of rejected ones; by class or group."""
    if not settings.n_averaged:
        return {}
    nm = average_voxel_nm(query, settings)
    box = 2 * max(4, round(query.box * query.voxel_size_nm / nm / 2))
    angles = np.arange(settings.tilt_min, settings.tilt_max + 1e-6, settings.tilt_increment)
    averages = {}
    for name, file in file_names([*names, *groups]).items():
        what = name if name in groups else f"class {name}"
        members = table[table["accepted"] & (table["class"] == name)]
        chosen = members.sort_values("probability", ascending=False, kind="stable").index
        chosen = np.asarray(groups.get(name, chosen))[: settings.n_averaged]
        if len(chosen) < MIN_AVERAGED:
            say(f"{what}: {len(chosen)} accepted particles, too few to average")
            continue
        say(f"averaging {len(chosen)} particles of {what}")
        volumes, rejected = query.read(chosen, box, nm)
        usable = np.array([i not in rejected for i in chosen])
        chain = overlapping(query, chosen[usable], MASK_SHARE * box * nm)
        try:
            averages[name] = refine(volumes[usable], TiltSeries(angles, box * nm), settings.seed, groups=chain)
        except UserError as error:
            say(f"{what}: not averaged: {error}")
            continue
        say(f"{what}: {averages[name].resolution_text}")
        _write_average(out / "averages" / f"{file}.mrc", averages[name], nm)
    return averages


def average_voxel_nm(query: Particles, settings: Settings) -> float:
    """Edge of an average's voxels in nm: never finer than the files'."""
    return max(query.voxel_size_nm, settings.average_voxel_nm)


def _write_average(path: Path, refined: Refined, nm: float) -> None:
    """The average with protein bright, as ChimeraX shows maps; its half maps; the curve between these."""
    maps = {path: refined.average}
    maps |= {path.with_name(f"{path.stem}_half{i}.mrc"): half for i, half in enumerate(refined.half_maps, 1)}
    for file, average in maps.items():
        write_mrc(file, -average.density.numpy(), nm)
    curves = {"frequency_per_nm": refined.frequencies_per_nm, "fsc": refined.corrected_fsc, "fsc_masked": refined.fsc}
    curve = pd.DataFrame(curves).round(5)
    _write_csv(path.with_name(f"{path.stem}_fsc.csv"), curve)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_atomically(path, table.to_csv(index=False, lineterminator="\n").encode())
