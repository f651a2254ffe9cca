"""From a user's labelled and unlabelled particles to classes, files and a report: what `cryo-fewshot classify` does."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .averaging import Refined, refine
from .calibration import Calibration
from .compute import default_device
from .embedding_cache import Embedded, embed_particles
from .errors import UserError
from .files import write_atomically
from .imaging import Microscope
from .particles import Particles, class_indices, duplicates
from .particles.mrc import write_mrc
from .particles.star import write_star
from .recognition import Recogniser, build_recogniser
from .report import Average, write_report
from .report import Particles as Shown
from .shipped import load_encoder

SHOWN = 3000
"""Particles on the report's map, drawn at random."""
ADAPT_TO = 5000
"""Particles that a transductive run adapts to, drawn at random."""


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


@dataclass(frozen=True)
class Outcome:
    """What a run found and wrote.

    table : a row per query particle, columns of `recognition.Recognition.to_frame` and `reason` (of a rejection, empty
    for none); counts : a row per class; averages : by class; written : all files
    """

    table: pd.DataFrame
    counts: pd.DataFrame
    recogniser: Recogniser
    averages: dict[str, Average]
    written: tuple[Path, ...]


def classify(
    support: Particles,
    query: Particles,
    out: Path,
    *,
    encoder_path: Path | None = None,
    settings: Settings | None = None,
    cache: Path | None = None,
    n_workers: int = 0,
    say: Callable[[str], object] = lambda line: None,
    progress: Callable[[int], object] = lambda n: None,
) -> Outcome:
    """Classify every particle of `query` by the labelled ones of `support`, and write all results to `out`.

    Written: `particles.star`, every input column with the classification's after it; `classes/<class>.star`, accepted
    particles of each class; `rejected.star`, all others; `unreadable.csv`, particles that could not be used, with the
    reason; `averages/<class>.mrc` with `<class>_fsc.csv`; `report.html`; `run.json`, all settings.

    Parameters
    ----------
    support, query : of `particles.open_particles`
    out : new, or of the same run before: finished work is not done again
    encoder_path : of `shipped.save_encoder`; default the shipped encoder
    cache : folder of embeddings, default `out/embeddings`; shared between runs, other supports cost nothing
    n_workers : processes that read files
    say : called with each line that a user should read; progress : with numbers of particles as they are done
    """
    settings = settings or Settings()
    encoder, card = load_encoder(encoder_path)
    calibration = _calibration(card)
    classes = class_indices(support)
    out = Path(out)
    _claim(out, _run_record(support, query, card, settings))
    for note in (*support.notes, *query.notes):
        say(note)
    cache = Path(cache) if cache else out / "embeddings"
    options = {"device": default_device(), "n_workers": n_workers, "turns": settings.turns}
    known = embed_particles(support, encoder, card, cache, **options)
    recogniser, kept = _recogniser(known, support, classes, calibration, settings, say)
    for warning in recogniser.check.warnings:
        say(f"support: {warning}")
    asked = embed_particles(query, encoder, card, cache, progress=progress, **options)
    sample, sample_embeddings = _sample(asked, max(SHOWN, ADAPT_TO), settings.seed)
    if settings.transductive:
        recogniser = recogniser.adapted(sample_embeddings[:ADAPT_TO])
    table = _recognised(recogniser, asked, query, support, kept, say)
    counts = _counts(table, recogniser.class_names)
    written = _write_tables(out, query, table, recogniser.class_names)
    averages = {}
    if settings.n_averaged:
        averages, files = _write_averages(out, query, table, recogniser.class_names, settings, say)
        written += files
    shown = _shown(query, table, card, sample[:SHOWN], sample_embeddings[:SHOWN])
    _write_report(out / "report.html", shown, counts, recogniser, averages, settings, card, len(query))
    return Outcome(table, counts, recogniser, averages, (*written, out / "report.html"))


def embed_shard(
    query: Particles,
    out: Path,
    shard: str,
    *,
    encoder_path: Path | None = None,
    cache: Path | None = None,
    n_workers: int = 0,
    turns: int = 1,
    progress: Callable[[int], object] = lambda n: None,
) -> Path:
    """Embed one share of the query's chunks, '3/8' the third of eight; returns the cache's folder.

    Once all shares are done, on however many machines, `classify` finds them and gives the result of one machine.
    """
    number, slash, n = shard.partition("/")
    if not (slash and number.isdecimal() and n.isdecimal() and 1 <= int(number) <= int(n)):
        raise UserError(f"shard '{shard}': give a share as in 3/8, the third of eight")
    encoder, card = load_encoder(encoder_path)
    cache = Path(cache) if cache else Path(out) / "embeddings"
    options = {"device": default_device(), "n_workers": n_workers, "turns": turns, "progress": progress}
    return embed_particles(query, encoder, card, cache, shard=(int(number), int(n)), **options).folder


def _calibration(card: dict) -> Calibration:
    if not card.get("calibration"):
        raise UserError("the encoder's card has no calibration: give one that `cryo-fewshot pretrain` or `train` wrote")
    return Calibration.from_json(card["calibration"])


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


def _recogniser(
    known: Embedded, support: Particles, classes: dict, calibration: Calibration, settings: Settings, say: Callable
) -> tuple[Recogniser, list[int]]:
    embeddings, rejected = known.all()
    for reason in rejected.values():
        say(f"support: {reason}")
    kept = [i for members in classes.values() for i in members if i not in rejected]
    lost = [name for name, members in classes.items() if all(i in rejected for i in members)]
    if lost:
        raise UserError(f"class {lost[0]} of the support has no particle that can be read; repair or remove it")
    labels = [support.labels[i] for i in kept]
    recogniser = build_recogniser(
        embeddings[kept], labels, calibration, false_accept_rate=settings.false_accept_rate, junk=settings.junk
    )
    return recogniser, kept


def _sample(asked: Embedded, count: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    """Some particles at random, and their embeddings, read chunk by chunk."""
    chosen = np.random.default_rng(seed).permutation(len(asked))[:count]
    embeddings = None
    for indices, part, _ in asked.chunks():
        if embeddings is None:
            embeddings = torch.empty(len(chosen), part.shape[1])
        here = (chosen >= indices[0]) & (chosen <= indices[-1])
        embeddings[torch.from_numpy(here)] = part[torch.from_numpy(chosen[here] - indices[0])]
    return chosen, embeddings


def _recognised(
    recogniser: Recogniser, asked: Embedded, query: Particles, support: Particles, kept: Sequence[int], say: Callable
) -> pd.DataFrame:
    frames = []
    for indices, embeddings, rejected in asked.chunks():
        frame = recogniser.recognise(embeddings).to_frame()
        frame["reason"] = [rejected.get(i, "") for i in indices.tolist()]
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    unusable = int((table["reason"] != "").sum())
    if unusable == len(table):
        raise UserError(f"none of the {len(table)} particles can be used; the first: {table['reason'].iloc[0]}")
    if unusable:
        say(f"{unusable} of {len(table)} particles cannot be used, see unreadable.csv; {table['reason'].max()}")
    used = set(kept)
    again = [q for s, q in duplicates(support, query) if s in used]
    table["labelled"] = False
    table.loc[again, "labelled"] = True
    if again:
        say(f"{len(again)} particles of the query are labelled ones as well; they are marked, and count in no rate")
    return table


def _counts(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    accepted = table[table["accepted"]]
    return pd.DataFrame(
        {
            "class": names,
            "most probable": [int((table["class"] == name).sum()) for name in names],
            "accepted": [int((accepted["class"] == name).sum()) for name in names],
            "mean probability": [accepted.loc[accepted["class"] == name, "probability"].mean() for name in names],
        }
    )


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
    microscope = Microscope(
        box=box,
        voxel_size_nm=nm,
        low_pass_nm=max(4.0, 2 * nm),
        tilt_min=settings.tilt_min,
        tilt_max=settings.tilt_max,
        tilt_increment=settings.tilt_increment,
    )
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
        refined = refine(usable, microscope, settings.seed)
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
