"""Picks of a copick project as a table of coordinates, with the tomogram of each; copick is an optional extra."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .mrc import SAME_PIXEL, first_line
from .tomograms import Tomogram, tomogram_at


def copick_table(
    path: Path, tomogram: str | None, picks: str | None, file_voxel_size_nm: float | None
) -> tuple[pd.DataFrame, list[Tomogram]]:
    """Every pick of a project, and the tomogram of each.

    Parameters
    ----------
    path : the project's json
    tomogram : type and voxel size in angstrom of the tomograms to cut from, as in wbp@10.0
    picks : whose, as user or user/session; None where no object of a run has picks of two

    Returns
    -------
    A DataFrame of texts with copickRun, copickObject, copickUser, copickSession, x_nm, y_nm, z_nm; and a list with the
    `tomograms.Tomogram` of each row. Raises UserError.
    """
    try:
        import copick
    except ImportError:
        raise UserError(f"{path}: reading it needs the package copick; run pip install copick") from None
    kind, _, size_a = (str(tomogram) if tomogram is not None else "").partition("@")
    try:
        size_a = float(size_a)
    except ValueError:
        remedy = "give tomogram (--tomogram) as type@voxel size in angstrom, as in wbp@10.0"
        raise UserError(
            f"{path}: tomogram {tomogram} does not name the tomograms of a copick project; {remedy}"
        ) from None
    rows, tomograms = [], []
    try:
        project = copick.from_file(str(path))
        for run in project.runs:
            found_picks = [
                (pick, location_of(point.location, getattr(point, "transformation_", None)))
                for pick in run.picks
                if _is_of(pick, picks)
                for point in pick.points or ()
            ]
            if not found_picks:
                continue
            _check_one_author(path, run.name, [pick for pick, _ in found_picks])
            spacing = run.get_voxel_spacing(size_a)
            found = spacing.get_tomograms(kind) if spacing is not None else []
            if not found:
                raise UserError(f"{path}: run {run.name} has no tomogram {tomogram}; give another type or voxel size")
            where = Path(getattr(found[0], "static_path", None) or getattr(found[0], "overlay_path", ""))
            one = tomogram_of_spacing(where, size_a, file_voxel_size_nm)
            for pick, at in found_picks:
                who = (run.name, pick.pickable_object_name, pick.user_id, str(pick.session_id))
                rows.append((*who, repr(at.x / 10), repr(at.y / 10), repr(at.z / 10)))
                tomograms.append(one)
    except UserError:
        raise
    except Exception as error:  # a damaged project raises anything
        raise UserError(f"{path}: not a copick project ({first_line(error)}); correct it") from error
    if not rows:
        of = f" of {picks} (--picks)" if picks else ""
        raise UserError(f"{path}: the project has no picks{of}; add some")
    columns = ["copickRun", "copickObject", "copickUser", "copickSession", "x_nm", "y_nm", "z_nm"]
    return pd.DataFrame(rows, columns=columns, dtype=str), tomograms


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


def tomogram_of_spacing(path: Path, size_a: float, file_voxel_size_nm: float | None) -> Tomogram:
    """A tomogram of a copick project; UserError where its file states another voxel size than its folder."""
    one = tomogram_at(path, file_voxel_size_nm)
    if not file_voxel_size_nm and abs(10 * one.voxel_size_nm / size_a - 1) > SAME_PIXEL:
        both = f"voxels of {one.voxel_size_nm:.4g} nm in the file, of {size_a / 10:.4g} nm by the folder's VoxelSpacing"
        raise UserError(f"{path}: {both}; give the right one as file_voxel_size_nm (--voxel-size-nm)")
    return one


def location_of(location, transformation):
    """The location of a pick; ValueError for one that its transformation `(4, 4)` moves, which programs do not add."""
    if transformation is not None and np.any(np.asarray(transformation, dtype=float)[:3, 3]):
        raise ValueError("transformation_ of a pick moves it: add that to its location")
    return location


def _is_of(pick, picks: str | None) -> bool:
    user, _, session = (picks or "").partition("/")
    return user in ("", pick.user_id) and session in ("", str(pick.session_id))


def _check_one_author(path: Path, run: str, points: list) -> None:
    """UserError where an object of a run was picked by several users or in several sessions: one of them counts."""
    authors = Counter((pick.pickable_object_name, f"{pick.user_id}/{pick.session_id}") for pick in points)
    for name in dict.fromkeys(name for name, _ in authors):
        counts = [f"{author} ({n})" for (of, author), n in authors.items() if of == name]
        if len(counts) > 1:
            several = f"{name} of run {run} was picked several times: {', '.join(counts)}"
            raise UserError(f"{path}: {several}; give picks (--picks), the user/session whose picks are meant")
