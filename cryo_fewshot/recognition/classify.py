"""From a user's labelled and unlabelled particles to classes, files and a report: what `cryo-fewshot classify` does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..device import default_device
from ..errors import UserError
from ..particles.base import Particles, class_indices, duplicates
from ..weights import load_encoder
from .calibration import Calibration
from .embedding_cache import Embedded, embed_particles
from .output import SHOWN, Settings, _claim, _run_record, _shown, _write_averages, _write_report, _write_tables
from .recogniser import Recogniser, build_recogniser
from .report import Average

ADAPT_TO = 5000
"""Particles that a transductive run adapts to, drawn at random."""


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
