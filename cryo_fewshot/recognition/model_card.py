"""What to expect of an encoder: accuracy and calibration on held-out classes, kept on its card."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..device import machine
from ..episodes import sample_episodes
from ..evaluation import correct_counts, mean_and_interval, predict
from ..hashing import spec_dict, spec_digest
from ..protonet import prototype_logits
from ..randomness import seed_from
from ..simulation.datasets import SimulatedData, simulate_set
from ..simulation.microscope import Microscope
from ..simulation.on_the_fly import homologous_family, simulate_on_the_fly
from ..training import DeadlineReached, History
from ..weights import PRETRAINED, AnyEncoder, save_encoder
from .calibration import Calibration, fit_calibration
from .embedding_cache import unit_embeddings
from .pretraining import Pretraining, progress_bar, train

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
    *,
    n_episodes: int = 60,
    shots: Sequence[int] = (1, 2, 3, 5, 10, 20),
    **counts,
) -> Calibration:
    """Probabilities and thresholds measured on the selection classes of a training.

    counts : of `calibration_particles`
    """
    return fit_calibration(**calibration_particles(encoder, spec, **counts), shots=shots, n_episodes=n_episodes)


def calibration_particles(
    encoder: nn.Module,
    spec: Pretraining,
    *,
    snrs: Sequence[float] = CALIBRATION_SNRS,
    n_per_class: int = 40,
    n_background: int = 30,
) -> dict[str, Any]:
    """Arguments of `fit_calibration`: embedded particles of the selection classes, and of the training classes.

    Microscopes are drawn as in training. SNRs are groups of their own, as a user's data set has only one. The training
    classes tell how classes scatter.

    n_per_class : of each held-out class at each SNR; n_background : of each training class, over all its SNRs
    """
    device = next(encoder.parameters()).device
    rng = np.random.default_rng(seed_from("calibration", spec.seed))

    def embeddings_of(names: Sequence[str], acquisitions) -> torch.Tensor:
        volumes = simulate_on_the_fly(names, acquisitions, rng, spec.group_size, device)
        return unit_embeddings(encoder, volumes).cpu()

    held_out = [name for name in spec.selection for _ in range(n_per_class)]
    parts = [embeddings_of(held_out, replace(spec.acquisitions, snrs=(snr,))) for snr in snrs]
    known = [name for name in spec.classes for _ in range(n_background)]
    return {
        "embeddings": torch.cat(parts),
        "labels": np.array(held_out * len(snrs)),
        "groups": np.repeat(snrs, len(held_out)),
        "families": np.array([homologous_family(name) for name in held_out] * len(snrs)),
        "background": (embeddings_of(known, spec.acquisitions), np.array(known)),
    }


def pretrain(
    spec: Pretraining,
    path: str | Path = PRETRAINED,
    minutes: float | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Train by a spec, measure what to expect, write the encoder file; returns its card.

    A checkpoint beside `path` is written after each epoch, and the same call goes on from it.

    Raises
    ------
    training.DeadlineReached
        After `minutes`, at the end of an epoch.
    """
    path = Path(path)
    checkpoint = path.with_name(f".{path.name}.{spec_digest(spec)}.checkpoint")
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def check_time() -> None:
        if deadline is not None and time.monotonic() > deadline:
            raise DeadlineReached

    with progress_bar(spec.cost, show_progress) as bar:
        encoder, history = train(spec, checkpoint, lambda n: bar.update(n * spec.volumes_per_step), check_time)
    card = training_card(spec, history) | measured(encoder, spec)
    save_encoder(path, encoder, card)
    checkpoint.unlink(missing_ok=True)
    return card


def training_card(spec: Pretraining, history: History) -> dict[str, Any]:
    """What a card says right after the training."""
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
    return {"expected_accuracy": expected, "calibration": calibrated(encoder, spec).to_json()}
