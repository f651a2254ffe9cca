"""What to expect of an encoder: accuracy and calibration on held-out classes, kept on its card."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..device import machine
from ..episodes import sample_episodes
from ..evaluation import correct_counts, mean_and_interval, predict
from ..hashing import digest_of, spec_dict, spec_digest
from ..protonet import prototype_logits
from ..randomness import seed_from
from ..simulation.datasets import SimulatedData, simulate_set
from ..simulation.microscope import Microscope
from ..simulation.on_the_fly import homologous_family, simulate_on_the_fly
from ..simulation.surroundings import BACKGROUND
from ..training import DeadlineReached, History
from ..weights import PRETRAINED, AnyEncoder, load_encoder, save_encoder
from .calibration import Calibration
from .calibration_fit import HeldOutParticles, fit_calibration
from .embedding_cache import unit_embeddings
from .pretraining import Pretraining, pretrained_spec, progress_bar, spec_of, train, trained_on

CALIBRATION_SNRS = (0.3, 0.1, 0.05, 0.03)


def expected_accuracy(
    encoder: nn.Module,
    classes: Sequence[str],
    *,
    microscope: Microscope,
    snrs: Sequence[float] = (0.1, 0.05, 0.03),
    shots: Sequence[int] = (1, 5),
    n_way: int = 5,
    n_query: int = 15,
    n_episodes: int = 1000,
    n_per_class: int = 100,
) -> list[dict[str, float]]:
    """Accuracy of nearest prototypes among unit embeddings of classes that the training held out.

    With Table 1's classes, microscope and counts, subtomograms and episodes are Table 1's too. One dictionary per SNR
    and shots: snr, n_way, n_shot, n_episodes, accuracy, ci95.
    """
    recipe = SimulatedData(microscope=microscope, n_per_class=n_per_class)
    device = next(encoder.parameters()).device
    rows = []
    for snr in snrs:
        subtomograms = simulate_set(recipe, {snr: n_per_class}, classes, device)
        embeddings = unit_embeddings(encoder, subtomograms.volumes)
        for n_shot in shots:
            episodes = sample_episodes(
                subtomograms.labels,
                range(len(classes)),
                n_way=n_way,
                n_shot=n_shot,
                n_query=n_query,
                n_episodes=n_episodes,
                seed=seed_from("novel", 0),
                class_names=classes,
            )
            correct = correct_counts(predict(embeddings, episodes, prototype_logits))
            accuracy, interval = mean_and_interval(correct / (n_way * n_query))
            row = {"snr": snr, "n_way": n_way, "n_shot": n_shot, "n_episodes": n_episodes}
            rows.append({**row, "accuracy": round(accuracy, 4), "ci95": round(interval, 4)})
    return rows


def calibrated(
    encoder: nn.Module,
    spec: Pretraining,
    *cross_fitted: tuple[nn.Module, Pretraining],
    fitting: Mapping[str, Any] | None = None,
    **counts,
) -> Calibration:
    """Probabilities and thresholds measured on the selection classes of a training.

    cross_fitted : encoders and specs of trainings that left out other families, whose selection classes count as well
    fitting : of `fit_calibration`; counts : of `held_out_particles`
    """
    particles = [held_out_particles(*pair, **counts) for pair in ((encoder, spec), *cross_fitted)]
    return fit_calibration(*particles, **(fitting or {}))


def held_out_particles(
    encoder: nn.Module,
    spec: Pretraining,
    *,
    snrs: Sequence[float] = CALIBRATION_SNRS,
    n_microscopes: int = 4,
    n_per_class: int = 30,
    n_background: int = 6,
) -> HeldOutParticles:
    """Embedded particles of the selection classes, and as background some of the training classes.

    Data sets are as a user's: one microscope, of those of the training, and one SNR each. Where the training had
    surroundings, there are as many data sets without.

    n_per_class : of each held-out class in each data set; n_background : of each training class
    """
    device = next(encoder.parameters()).device
    rng = np.random.default_rng(seed_from("calibration", spec.seed))
    around = spec.acquisitions.surroundings
    sets = list(product((None, around) if around else (None,), spec.acquisitions.microscopes()[:n_microscopes], snrs))
    held_out = [name for name in spec.selection for _ in range(n_per_class)]
    trained = [name for name in spec.classes if name not in BACKGROUND for _ in range(n_background)]
    parts = []
    for surroundings, microscope, snr in sets:
        acquisitions = replace(
            spec.acquisitions, microscope=microscope, n_microscopes=1, snrs=(snr,), surroundings=surroundings
        )
        volumes = simulate_on_the_fly([*held_out, *trained], acquisitions, rng, spec.group_size, device)
        parts.append(unit_embeddings(encoder, volumes).cpu().split([len(held_out), len(trained)]))
    of_sets = pd.DataFrame([{"snr": snr, "crowded": surroundings is not None} for surroundings, _, snr in sets])
    tables = [
        of_sets.rename_axis("set").reset_index().merge(pd.DataFrame({"label": names, "trained": known}), how="cross")
        for names, known in ((held_out, False), (trained, True))
    ]
    table = pd.concat(tables, ignore_index=True)
    embeddings = torch.cat([part for of_kind in zip(*parts, strict=True) for part in of_kind])
    return HeldOutParticles(embeddings, table.assign(family=table["label"].map(homologous_family)))


def recalibrate(path: Path, cross_fitted: Sequence[Path], out: Path) -> dict[str, Any]:
    """Measure again what an encoder promises, with cross-fitted encoders beside it, and write it; returns its card."""
    encoder, card = load_encoder(path)
    others = [load_encoder(other) for other in cross_fitted]
    card |= calibrated(encoder, spec_of(card), *((e, spec_of(c)) for e, c in others)).on_card()
    card["cross_fitted"] = [list(c["spec"]["selection"]) for _, c in others]
    save_encoder(out, encoder, card)
    return card


def pretrain(
    spec: Pretraining,
    path: str | Path = PRETRAINED,
    minutes: float | None = None,
    start: AnyEncoder | None = None,
) -> dict[str, Any]:
    """Train by a spec, measure what to expect, write the encoder file; returns its card.

    start : the encoder whose digest `spec.start` is

    A checkpoint beside `path` is written after each epoch, and the same call goes on from it. Raises
    `training.DeadlineReached` after `minutes`, at the end of an epoch.
    """
    path = Path(path)
    checkpoint = path.with_name(f".{path.name}.{spec_digest(spec)}.checkpoint")
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def check_time() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineReached

    with progress_bar(spec.cost, True) as bar:
        encoder, history = train(
            spec, checkpoint, lambda n: bar.update(n * spec.volumes_per_step), check_time, start=start
        )
    card = training_card(spec, history) | measured(encoder, spec)
    save_encoder(path, encoder, card)
    checkpoint.unlink(missing_ok=True)
    return card


def pretrain_in_two(path: Path, n_epochs: int, minutes: float | None = None) -> dict[str, Any]:
    """Both trainings of the pretrained encoder; the first one's encoder lies beside, as NAME-first. Returns the card.

    Raises `training.DeadlineReached` after `minutes`; the same call goes on.
    """
    began = time.monotonic()
    alone, first = pretrained_spec(n_epochs), path.with_name(f"{path.stem}-first{path.suffix}")
    if not first.exists() or spec_of(load_encoder(first)[1]) != alone:
        pretrain(alone, first, minutes)
    start = load_encoder(first)[0]
    left = None if minutes is None else minutes - (time.monotonic() - began) / 60
    return pretrain(trained_on(alone, digest_of(*start.state_dict().values())), path, left, start=start)


def training_card(spec: Pretraining, history: History) -> dict[str, Any]:
    microscope = spec.acquisitions.microscope
    return {
        "spec": spec_dict(spec),
        "training_classes": list(spec.classes),
        "held_out_classes": {"selection": list(spec.selection), "test": list(spec.test)},
        "box": spec.box,
        "voxel_size_nm": microscope.final_voxel_size_nm,
        "dark_protein": microscope.dark_protein,
        "selection_accuracy": history.accuracies,
        "loss": history.losses,
        "best_epoch": history.best_epoch,
        "volumes": len(history.losses) * spec.schedule.steps_per_epoch * spec.volumes_per_step,
        "machine": machine(),
        "seconds": round(history.seconds, 1),
    }


def measured(encoder: AnyEncoder, spec: Pretraining) -> dict[str, Any]:
    """What a card says of an encoder's results: accuracy on the test classes, calibration on the selection's."""
    expected = expected_accuracy(
        encoder, spec.test, microscope=spec.acquisitions.microscope, n_way=min(5, len(spec.test))
    )
    return {"expected_accuracy": expected, **calibrated(encoder, spec).on_card()}
