"""Tomograms and picks as copick lays them out: a project's json, or its folder, as of the CZII challenge.

ExperimentRuns/<run>/VoxelSpacing10.000/<type>.zarr     or .mrc
ExperimentRuns/<run>/Picks/<user>_<session>_<object>.json, or <object>.json, in angstrom

The layout is read here, without the package copick, which asks for an older zarr than this one.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .exchange import is_eman
from .mrc import SAME_PIXEL, reading
from .tomograms import Tomogram, tomogram_at

COLUMNS = ("copickRun", "copickObject", "copickUser", "copickSession", "x_nm", "y_nm", "z_nm")
AS_IN = "as type@voxel size in angstrom, as in wbp@10.0"


def is_copick(path: Path) -> bool:
    """Whether a path is a project's json, or a folder that holds runs with picks."""
    if path.is_dir():
        return any(path.glob("**/ExperimentRuns/*/Picks"))
    return path.suffix.lower() == ".json" and not is_eman(path)


def copick_table(
    path: Path, tomogram: str | None, picks: str | None, file_voxel_size_nm: float | None
) -> tuple[pd.DataFrame, list[Tomogram]]:
    """Every pick of a project, and the tomogram of each.

    path : the project's json, or the folder
    tomogram : type and voxel size in angstrom of the tomograms to cut from, as in wbp@10.0; may be left out where each
        run has one
    picks : whose, as user or user/session; None where no object of a run has picks of two

    Returns a DataFrame of texts with COLUMNS; and a list with the `tomograms.Tomogram` of each row. Raises UserError.
    """
    # The folders are looked for once: below them lie all chunks of all tomograms.
    roots = [found for root in _roots(path) for found in sorted(root.glob("**/ExperimentRuns"))]
    rows = [(file.parent.parent.name, *row) for file in _glob(roots, "*/Picks/*.json") for row in _picks_of(file)]
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=str).sort_values("copickRun", kind="stable")
    for column, wanted in zip(("copickUser", "copickSession"), (picks or "").split("/"), strict=False):
        table = table[table[column] == wanted] if wanted else table
    if table.empty:
        of = f" of {picks} (--picks)" if picks else ""
        raise UserError(f"{path}: no picks{of} in the project; add some")
    authors = table["copickUser"] + "/" + table["copickSession"]
    for (run, name), of_object in authors.groupby([table["copickRun"], table["copickObject"]]):
        counts = of_object.value_counts(sort=False)
        if len(counts) > 1:
            several = ", ".join(f"{author} ({n})" for author, n in counts.items())
            remedy = "give picks (--picks), the user/session whose picks are meant"
            raise UserError(f"{path}: {name} of run {run} was picked several times: {several}; {remedy}")
    runs = table["copickRun"]
    found = {run: _tomogram_of(path, roots, run, tomogram, file_voxel_size_nm) for run in runs.unique()}
    return table.reset_index(drop=True), runs.map(found).tolist()


def picks_files(table: pd.DataFrame, objects: Sequence[str], scores: Sequence[float]) -> Iterator[tuple[str, bytes]]:
    """Paths within a copick overlay, and contents, of picks of the rows of `copick_table`: a file per run and object.

    objects, scores : what each row is, and its probability; the user is cryo-fewshot, session 0 is copick's for tools
    """
    rows = table.assign(object=[re.sub(r"[^\w.+-]|_", "-", name) for name in objects], score=list(scores))
    for (run, name), members in rows.groupby(["copickRun", "object"]):
        centres = members[["x_nm", "y_nm", "z_nm"]].astype(float).to_numpy() * 10
        points = [
            {"location": dict(zip("xyz", at, strict=True)), "instance_id": 0, "score": float(score)}
            for at, score in zip(centres.tolist(), members["score"], strict=True)
        ]
        who = {"pickable_object_name": name, "user_id": "cryo-fewshot", "session_id": "0", "run_name": run}
        content = {**who, "unit": "angstrom", "trust_orientation": False, "points": points}
        yield f"ExperimentRuns/{run}/Picks/cryo-fewshot_0_{name}.json", json.dumps(content).encode()


def _roots(path: Path) -> list[Path]:
    """The folders of a project, which hold ExperimentRuns or a folder with it."""
    if path.is_dir():
        return [path]
    with reading(path, "a copick project", "correct it"):
        project = json.loads(path.read_bytes())
        named = [project[key] for key in ("static_root", "overlay_root") if project.get(key)]
        kind = project.get("config_type", "filesystem")
    if kind != "filesystem" or not named:
        what = f"a copick project of type {kind}" if kind != "filesystem" else "neither static_root nor overlay_root"
        raise UserError(f"{path}: {what}; give a copick project of files on this machine, see also fetch-portal")
    roots = []
    for name in named:
        scheme, _, rest = name.rpartition("://")
        root = path.absolute().parent / rest
        if scheme not in ("", "local", "file") or not root.is_dir():
            raise UserError(f"{path}: {name} is not a folder on this machine; copy it here and correct the roots")
        roots.append(root)
    return roots


def _glob(roots: Sequence[Path], pattern: str) -> list[Path]:
    """What lies in folders of runs, each file once, in the order of names."""
    found = {file.resolve(): file for root in roots for file in sorted(root.glob(pattern))}
    return list(found.values())


def _tomogram_of(
    path: Path, roots: list[Path], run: str, tomogram: str | None, file_voxel_size_nm: float | None
) -> Tomogram:
    kind, _, size = (tomogram or "").partition("@")
    if size and np.isnan(_angstrom(size)):
        said = f"tomogram {tomogram} names no tomograms of a copick project"
        raise UserError(f"{path}: {said}; give it {AS_IN}")
    found = [file for file in _glob(roots, f"{run}/VoxelSpacing*/*") if file.suffix in (".zarr", ".mrc")]
    fitting = [file for file in found if kind in ("", file.stem)]
    if size:
        fitting = [file for file in fitting if abs(_angstrom(file.parent.name) - _angstrom(size)) < 1e-3]
    if len(fitting) != 1:
        there = ", ".join(f"{file.stem}@{file.parent.name.removeprefix('VoxelSpacing')}" for file in found) or "none"
        asked = f"{len(fitting)} are {tomogram}" if tomogram else "which one is meant is not said"
        raise UserError(f"{path}: tomograms of run {run}: {there}; {asked}; give tomogram (--tomogram) {AS_IN}")
    found, by_folder = tomogram_at(fitting[0], file_voxel_size_nm), _angstrom(fitting[0].parent.name)
    if not file_voxel_size_nm and abs(10 * found.voxel_size_nm / by_folder - 1) > SAME_PIXEL:
        both = f"voxels of {found.voxel_size_nm:.4g} nm in the file, of {by_folder / 10:.4g} nm by the folder's name"
        raise UserError(f"{fitting[0]}: {both}; give the right one as file_voxel_size_nm (--voxel-size-nm)")
    return found


def _angstrom(name: str) -> float:
    """Voxel size that the name of a tomogram's folder says; NaN where it says none."""
    return float(pd.to_numeric(name.removeprefix("VoxelSpacing"), errors="coerce"))


def _picks_of(path: Path) -> list[tuple[str, ...]]:
    """Object, user, session, x, y and z in nm of each pick of a file."""
    with reading(path, "picks of copick", "write it again"):
        content = json.loads(path.read_bytes())
        if content.get("unit", "angstrom") != "angstrom":
            raise ValueError(f"unit {content['unit']}")
        who = [str(content.get(key, "")) for key in ("pickable_object_name", "user_id", "session_id")]
        who[0] = who[0] or path.stem
        rows = []
        for point in content["points"]:
            moved = point.get("transformation_")
            if moved is not None and np.any(np.asarray(moved, dtype=float)[:3, 3]):
                raise ValueError("transformation_ of a pick moves it: add that to its location")
            rows.append((*who, *(repr(float(point["location"][axis]) / 10) for axis in "xyz")))
    return rows
