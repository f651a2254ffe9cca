"""From a user's labelled and unlabelled particles to classes, files and a report: what `cryo-fewshot classify` does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..device import default_device
from ..errors import UserError
from ..particles.base import Particles, class_indices, copies, duplicates, share_files
from ..particles.coordinates import near, overlapping
from ..weights import load_encoder
from .background import WITHOUT, against_background, background_of, background_text, with_background
from .calibration import CROWDED, Calibration
from .domain import reason_not_to_fit, space_of_data
from .embedding_cache import Embedded, embed_particles
from .follow_up import group_rejected, next_to_label
from .grey_scale import common_grey_scale
from .output import Outcome, claimed, run_record, write_averages, write_tables
from .recogniser import Recogniser, build_recogniser
from .rejection import Errors, estimate_errors, operating_points
from .report import write_report
from .settings import Settings

ADAPT_TO = 5000
"""Unlabelled particles that a run adapts to, drawn at random."""
NEAR = 0.1
"""Share of the box within which two particles of a tomogram are hardly two."""
SHOWN = 3000
"""Particles on the report's map, the first of these."""


def classify(
    support: Particles,
    query: Particles,
    out: Path,
    *,
    encoder_path: Path | None = None,
    settings: Settings | None = None,
    background: Particles | None = None,
    cache: Path | None = None,
    n_workers: int = 0,
    say: Callable[[str], object] = lambda line: None,
    progress: Callable[[int], object] = lambda n: None,
) -> Outcome:
    """Classify every particle of `query` by the labelled ones of `support`, and write all results to `out`.

    Written: `particles.star`, every input column with the classification's after it; `classes/<class>.star`, accepted
    particles of each class; `rejected.star`, all others; `rejected_group_<n>.star`, those of them that look alike;
    `next_to_label.star`, whose labels would help most; `unreadable.csv`, particles that could not be used, with the
    reason; `averages/<class>.mrc` with `<class>_fsc.csv`; `report.html`; `run.json`, all settings.

    Parameters
    ----------
    support, query : of `particles.opening.open_particles`
    out : new, or of the same run before: finished work is not done again
    encoder_path : of `weights.save_encoder`; default the pretrained encoder
    background : boxes that show none of what is looked for, given as the query is; of tomograms by default at random
        places away from the picks. See the module `background`
    cache : folder of embeddings, default `out/embeddings`; runs with another support can share it at no cost
    n_workers : processes that read files
    say : called with each line that a user should read
    progress : called with numbers of particles as they are done
    """
    settings, out = settings or Settings(), Path(out)
    encoder, card = load_encoder(encoder_path)
    calibration = Calibration.from_json(card.get("calibration"))
    record = run_record(support, query, card, settings)
    for note in (*support.notes, *query.notes):
        say(note)
    cache = Path(cache) if cache else out / "embeddings"
    options = {"device": default_device(), "n_workers": n_workers, "rotations": settings.rotations}
    with claimed(out, record):
        classes, again = class_indices(support), copies(query)
        if n := len(support) - support.labels.count(None) - sum(map(len, classes.values())):
            say(f"{n} particles of the support are listed more than once; each counts once")
        if again:
            say(f"{len(again)} of {len(query)} particles of the query repeat earlier ones; averages use the first")
        for name, particles in (("support", support), ("query", query)):
            near_nm = NEAR * particles.box * particles.voxel_size_nm
            if n := len(particles) - len(set(overlapping(particles, range(len(particles)), near_nm).tolist())):
                say(f"{n} particles of the {name} lie within {near_nm:.1f} nm of another: picked twice?")
        labelled = embed_particles(support, encoder, card, cache, **options)
        usable = _usable(labelled, support, classes, say)
        embedded = embed_particles(query, encoder, card, cache, progress=progress, **options)
        background = background or background_of(query, settings.n_background, settings.seed)
        empty = background and embed_particles(background, encoder, card, cache, **options)
        widths, words = (), ""
        if settings.adapt:
            inputs = support, query, background
            labelled, embedded, empty, widths, words = _with_numbers(labelled, embedded, empty, *inputs)
        sample, sample_embeddings = embedded.sample(max(SHOWN, ADAPT_TO), settings.seed)
        labels = [support.labels[i] for i in usable]
        first_ones = torch.from_numpy(~np.isin(sample[:ADAPT_TO], list(again)))
        unlabelled = sample_embeddings[:ADAPT_TO][first_ones]
        known = labelled.all()[0][usable]
        told = calibration, unlabelled, settings, widths, share_files(support, query)
        recogniser = recogniser_of(known, labels, *told)
        _say_of(recogniser, words, say)
        table, decoys = _recognised(recogniser, embedded, say), None
        if empty:
            *with_boxes, boxes = with_background(known, labels, empty.all()[0])
            beside = _recognised(recogniser_of(*with_boxes, *told), embedded, lambda line: None)["class"].to_numpy()
            decoys = recogniser.recognise(boxes).to_frame()
            p_value = against_background(table, beside, decoys)
            accepted = table["accepted"] & (p_value <= settings.false_accept_rate)
            say(background_text(table, p_value, accepted, decoys))
            table = table.assign(p_value=p_value, accepted=accepted)
        else:
            say(WITHOUT)
    table["labelled"] = _also_in_support(support, query, set(usable), say)
    errors = _judge_errors(table, recogniser, settings)
    counts = _counts(table, errors, recogniser.class_names)
    wanted = ~table["class"].isin(settings.junk).to_numpy()
    points = operating_points(errors, table["accepted"].to_numpy(), wanted, recogniser.promises)
    n_accepted, n_wrong = counts["accepted"].sum(), counts["expected wrong"].sum()
    say(
        f"{n_accepted:,} of {len(table):,} particles are accepted; about {n_wrong:.0f} of them are expected to be "
        f"wrong, at most {points[0]['at_most']:,} (90 % confidence)"
    )
    groups, to_label = _follow_up(table, errors, recogniser, sample[:SHOWN], sample_embeddings[:SHOWN])
    write_tables(out, query, table, recogniser.class_names, {"next_to_label": to_label, **groups})
    first_listed = table.drop(index=list(again))
    averages = write_averages(out, query, first_listed, recogniser.class_names, groups, settings, say)
    outcome = Outcome(table, counts, recogniser, averages, points, groups, to_label, decoys)
    shown = sample[:SHOWN], sample_embeddings[:SHOWN, : len(calibration.space.mean)]
    write_report(out / "report.html", query, outcome, *shown, settings, card, (*support.notes, *query.notes))
    return outcome


def embed_shard(
    query: Particles,
    out: Path,
    shard: str,
    *,
    encoder_path: Path | None = None,
    cache: Path | None = None,
    n_workers: int = 0,
    rotations: int = 1,
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
    options = {"device": default_device(), "n_workers": n_workers, "rotations": rotations, "progress": progress}
    return embed_particles(query, encoder, card, cache, shard=(int(number), int(n)), **options).folder


def recogniser_of(
    support: torch.Tensor,
    labels: Sequence[str],
    calibration: Calibration,
    unlabelled: torch.Tensor,
    settings: Settings,
    widths: Sequence[int] = (),
    one_source: bool = False,
) -> Recogniser:
    """The recogniser of labelled particles `(n, dim)`, and of unlabelled ones `(m, dim)` as the settings say.

    widths : columns of each block of numbers behind the embedding, see `domain.space_of_data`
    one_source : labelled and unlabelled particles are known to be of one source
    """
    space, reason, calibration = None, "", calibration.suited(torch.cat([support, unlabelled]))
    if settings.adapt:
        members = torch.from_numpy(np.array(labels)[:, None] == np.unique(labels)).float()
        reason = reason_not_to_fit(calibration.log_snr, widths, support, members, unlabelled, one_source)
        space = None if reason else space_of_data(calibration.space, widths, support, members, unlabelled)
    recogniser = build_recogniser(
        support,
        labels,
        calibration,
        space=space,
        false_accept_rate=settings.false_accept_rate,
        junk=settings.junk,
    )
    recogniser = replace(recogniser.seeing(unlabelled), unfitted=reason)
    return recogniser.adapted(unlabelled) if settings.transductive else recogniser


def _say_of(recogniser: Recogniser, words: str, say: Callable) -> None:
    for warning in recogniser.check.warnings:
        say(f"support: {warning}")
    if words := recogniser.unfitted or words:
        say(words)
    snr = np.exp(recogniser.conditions.log_snr)
    say(f"to the encoder, the particles look as noisy as simulated ones of SNR {snr:.2g}")
    if recogniser.calibration.crowd is not None:
        crowded = recogniser.conditions.crowding >= CROWDED
        say(f"around the particles, the boxes look {'crowded, as in cells' if crowded else 'empty'}")


def _usable(labelled: Embedded, support: Particles, classes: dict, say: Callable) -> list[int]:
    _, rejected = labelled.all()
    for reason in rejected.values():
        say(f"support: {reason}")
    for name, members in classes.items():
        if all(i in rejected for i in members):
            raise UserError(f"class {name} of the support has no particle that can be read; repair or remove it")
    return [i for members in classes.values() for i in members if i not in rejected]


def _with_numbers(
    labelled: Embedded,
    embedded: Embedded,
    empty: Embedded | None,
    support: Particles,
    query: Particles,
    background: Particles | None,
) -> tuple[Embedded, Embedded, Embedded | None, tuple[int, ...], str]:
    """All three with numbers behind the embeddings, how many of each kind, and a line that says so.

    Descriptors always, grey values where those of support and query can be compared.
    """
    grey = [torch.cat([part for _, part, _ in data.with_parts("grey").chunks()]) for data in (labelled, embedded)]
    scale = common_grey_scale(support, query, *grey)
    numbers = ("descriptors",) if scale.query is None else ("descriptors", "grey")
    widths = tuple(next(labelled.with_parts(part).chunks())[1].shape[1] for part in numbers)
    return (
        labelled.with_parts("embeddings", *numbers, grey_reference=scale.support),
        embedded.with_parts("embeddings", *numbers, grey_reference=scale.query),
        empty and empty.with_parts("embeddings", *numbers, grey_reference=scale.of_background(background)),
        widths,
        "the scatter within classes is fitted to these particles (--no-adapt: taken from the encoder's card), with "
        f"radial profile and power spectrum besides the embedding; {scale.words}",
    )


def _recognised(recogniser: Recogniser, embedded: Embedded, say: Callable) -> pd.DataFrame:
    """A row per query particle, with the reason where it cannot be used."""
    frames = []
    for indices, embeddings, rejected in embedded.chunks():
        frame = recogniser.recognise(embeddings).to_frame()
        frame["reason"] = [rejected.get(i, "") for i in indices.tolist()]
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    unusable = table.loc[table["reason"] != "", "reason"]
    if len(unusable) == len(table):
        raise UserError(f"none of the {len(table)} particles can be used; the first: {unusable.iloc[0]}")
    if len(unusable):
        say(f"{len(unusable)} of {len(table)} particles cannot be used, see unreadable.csv; {unusable.max()}")
    return table


def _also_in_support(support: Particles, query: Particles, usable: set[int], say: Callable) -> np.ndarray:
    """Which query particles are labelled ones as well, `(n,)` bool."""
    labelled = np.zeros(len(query), bool)
    pairs = duplicates(support, query) + near(support, query, NEAR * query.box * query.voxel_size_nm)
    labelled[[q for s, q in pairs if s in usable]] = True
    if n := int(labelled.sum()):
        say(f"{n} particles of the query are in the support as well; they are marked, and no rate rests on them")
    return labelled


def _judge_errors(table: pd.DataFrame, recogniser: Recogniser, settings: Settings) -> Errors:
    """What may be wrong; the table gains q-values, and is accepted by them where an FDR was asked for."""
    label = pd.Index(recogniser.class_names).get_indexer(table["class"])
    counted = ~table["labelled"].to_numpy()
    errors = estimate_errors(table["p_value"].to_numpy(), table["probability"].to_numpy(), label, counted)
    table["q_value"] = errors.q_value
    if settings.fdr is not None:
        wanted = ~np.isin(table["class"], settings.junk)
        table["accepted"] = (errors.q_value <= settings.fdr) & wanted
    return errors


def _follow_up(
    table: pd.DataFrame, errors: Errors, recogniser: Recogniser, sample: np.ndarray, embeddings: torch.Tensor
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Groups of rejected particles of a sample, and its particles to label next, as rows of the table."""
    usable = ((table["reason"] == "") & ~table["labelled"]).to_numpy()[sample]
    sample, projected = sample[usable], recogniser.space.project(embeddings[torch.from_numpy(usable)])
    groups = group_rejected(projected, ~table["accepted"].to_numpy()[sample])
    to_label = next_to_label(projected, errors.wrong[sample])
    return {name: sample[members] for name, members in groups.items()}, sample[to_label]


def _counts(table: pd.DataFrame, errors: Errors, names: Sequence[str]) -> pd.DataFrame:
    accepted = table.assign(wrong=errors.wrong)[table["accepted"]].groupby("class")
    columns = {"most probable": table["class"].value_counts(), "accepted": accepted.size()}
    counts = pd.DataFrame({"class": names}).set_index("class").assign(**columns).fillna(0).astype(int)
    sums = {"mean probability": accepted["probability"].mean(), "expected wrong": accepted["wrong"].sum().round(1)}
    return counts.assign(**sums).fillna({"expected wrong": 0.0}).reset_index()
