"""What `classify` writes: STAR files, averages, the report, the record of the run."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..averaging.alignment import TiltSeries
from ..averaging.averages import Refined, refine
from ..errors import UserError
from ..files import write_atomically
from ..particles.base import Particles
from ..particles.mrc import write_mrc
from ..particles.star import write_star
from .recogniser import Recogniser
from .report import Average, write_report
from .report import Particles as Shown

SHOWN = 3000
"""Particles on the report's map, drawn at random."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How particles are classified.

    false_accept_rate : at most this share of particles of no known class is to be accepted
    junk : classes of the support that are never accepted
    transductive : let the unlabelled particles take part
    turns : 1, 2 or 4 turns that keep the wedge, over which each embedding is the mean, at as many times the cost
    n_averaged : particles that go into a class average, the most probable ones; 0 for no averages
    tilt_min, tilt_max, tilt_increment : degrees, of the tilt series, for the averages' missing wedge
    average_voxel_nm : nm, of the averages; the files' own where that is larger
    seed : of everything that is drawn
    """

    false_accept_rate: float = 0.05
    junk: tuple[str, ...] = ()
    transductive: bool = False
    turns: int = 1
    n_averaged: int = 100
    tilt_min: float = -60.0
    tilt_max: float = 60.0
    tilt_increment: float = 3.0
    average_voxel_nm: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if self.n_averaged < 0 or 0 < self.n_averaged < 8:
            raise UserError(f"n_averaged={self.n_averaged}: averages need at least 8 particles; 0 for none")
        if self.turns not in (1, 2, 4):
            raise UserError(f"turns={self.turns}: use 1, 2, or for symmetric tilt series 4")
        if self.average_voxel_nm <= 0:
            raise UserError(f"average_voxel_nm={self.average_voxel_nm}: give a positive voxel size")


def _run_record(support: Particles, query: Particles, card: dict, settings: Settings) -> dict:
    return {
        "settings": asdict(settings),
        "support": {"n": len(support), "first": support.names[0], "last": support.names[-1]},
        "query": {"n": len(query), "first": query.names[0], "last": query.names[-1]},
        "encoder": {name: card.get(name) for name in ("name", "package_version", "architecture")},
    }


def _claim(out: Path, record: dict) -> None:
    """Make the output folder this run's; UserError where it is another's."""
    path = out / "run.json"
    text = json.dumps(record, indent=1, sort_keys=True)
    try:
        if path.exists():
            if path.read_text() != text:
                raise UserError(f"{out}: holds another run, or this one with other settings; give a new folder")
            return
        if out.exists() and (not out.is_dir() or any(part.name != "embeddings" for part in out.iterdir())):
            raise UserError(f"{out}: exists and holds something else; give a new folder")
    except OSError as error:
        raise UserError(f"{out}: cannot be read ({error.strerror}); give another folder") from error
    write_atomically(path, text.encode())


def file_names(names: Sequence[str]) -> dict[str, str]:
    """A file name without folder for each class name, each its own."""
    taken: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.+-]", "_", name).strip("._") or "class"
        while plain.casefold() in {other.casefold() for other in taken.values()}:
            plain += "_"
        taken[name] = plain
    return taken


def _write_tables(out: Path, query: Particles, table: pd.DataFrame, names: Sequence[str]) -> tuple[Path, ...]:
    columns = table.drop(columns=["reason", "labelled"])
    columns.columns = ["fewshot" + name.title().replace("_", "") for name in columns]
    columns["fewshotAccepted"] = table["accepted"].astype(int)
    columns["fewshotClass"] = table["class"].replace("", "unreadable")
    columns["fewshotRunnerUp"] = table["runner_up"].replace("", "unreadable")
    columns["fewshotLabelled"] = table["labelled"].astype(int)
    wanted = {out / "particles.star": np.arange(len(table))}
    wanted |= {
        out / "classes" / f"{file}.star": np.flatnonzero((table["accepted"] & (table["class"] == name)).to_numpy())
        for name, file in file_names(names).items()
    }
    wanted[out / "rejected.star"] = np.flatnonzero(~table["accepted"].to_numpy())
    for path, rows in wanted.items():
        write_star(path, query, columns.iloc[rows].reset_index(drop=True), rows)
    unreadable = np.flatnonzero((table["reason"] != "").to_numpy())
    listed = pd.DataFrame(
        {"particle": [query.names[i] for i in unreadable], "reason": table["reason"].iloc[unreadable]}
    )
    write_atomically(out / "unreadable.csv", listed.to_csv(index=False, lineterminator="\n").encode())
    return (*wanted, out / "unreadable.csv")


def _write_averages(
    out: Path, query: Particles, table: pd.DataFrame, names: Sequence[str], settings: Settings, say: Callable
) -> tuple[dict[str, Average], tuple[Path, ...]]:
    nm = max(query.voxel_size_nm, settings.average_voxel_nm)
    box = 2 * max(4, round(query.box * query.voxel_size_nm / nm / 2))
    angles = np.arange(settings.tilt_min, settings.tilt_max + 1e-6, settings.tilt_increment)
    tilt_series = TiltSeries(angles, box * nm)
    averages, written = {}, []
    for name, file in file_names(names).items():
        path = out / "averages" / f"{file}.mrc"
        members = table[table["accepted"] & (table["class"] == name)]
        chosen = members.sort_values("probability", ascending=False, kind="stable").index[: settings.n_averaged]
        if len(chosen) < 8:
            say(f"class {name}: {len(chosen)} accepted particles, too few to average")
            continue
        say(f"averaging {len(chosen)} particles of class {name}")
        volumes, rejected = query.read(chosen, box, nm)
        usable = volumes[[i not in rejected for i in chosen]]
        refined = refine(usable, tilt_series, settings.seed)
        averages[name] = _average(refined, nm, len(usable))
        written += _write_average(path, refined, nm)
    return averages, tuple(written)


def _average(refined: Refined, nm: float, n_particles: int) -> Average:
    return Average(
        density=-refined.average.density.numpy(),
        voxel_size_nm=nm,
        frequencies_per_nm=refined.frequencies_per_nm,
        fsc=refined.fsc,
        resolution_nm=refined.resolutions_nm[0.143],
        n_particles=n_particles,
    )


def _write_average(path: Path, refined: Refined, nm: float) -> list[Path]:
    """The average with protein bright, as ChimeraX shows maps; its half maps; the curve between these."""
    maps = {path: refined.average}
    maps |= {path.with_name(f"{path.stem}_half{i}.mrc"): half for i, half in enumerate(refined.half_maps, 1)}
    for file, average in maps.items():
        write_mrc(file, -average.density.numpy(), nm)
    table = pd.DataFrame({"frequency_per_nm": refined.frequencies_per_nm, "fsc": refined.fsc})
    curve = path.with_name(f"{path.stem}_fsc.csv")
    write_atomically(curve, table.round(5).to_csv(index=False, lineterminator="\n").encode())
    return [*maps, curve]


def _shown(query: Particles, table: pd.DataFrame, card: dict, chosen: np.ndarray, embeddings: torch.Tensor) -> Shown:
    """Some particles with their slices, for the report."""
    usable = (table["reason"].iloc[chosen] == "").to_numpy(copy=True)
    chosen, embeddings = chosen[usable], embeddings[torch.from_numpy(usable)]
    volumes, _ = query.read(chosen, card["box"], card["voxel_size_nm"])
    rows = table.iloc[chosen]
    return Shown(
        names=[query.names[i] for i in chosen],
        labels=rows["class"].tolist(),
        runner_up=rows["runner_up"].tolist(),
        probability=rows["probability"].to_numpy(),
        accepted=rows["accepted"].to_numpy(),
        embeddings=embeddings.numpy(),
        slices=volumes[:, volumes.shape[1] // 2].numpy(),
    )


def _write_report(
    path: Path,
    shown: Shown,
    counts: pd.DataFrame,
    recogniser: Recogniser,
    averages: dict[str, Average],
    settings: Settings,
    card: dict,
    n: int,
) -> None:
    check = recogniser.check
    write_report(
        path,
        counts=counts,
        particles=shown,
        averages=averages,
        support={
            "accuracy": check.accuracy,
            "low": check.low,
            "high": check.high,
            "n_tested": int(check.tested.sum()),
            "warnings": check.warnings,
        },
        settings={**asdict(settings), "particles": n, "encoder": card.get("name", "")},
        title=f"Classification of {n:,} particles",
        seed=settings.seed,
    )
