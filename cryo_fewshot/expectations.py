"""What to expect of an encoder: its accuracy on classes it never met, and what makes its answers honest."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .calibration import Calibration, fit_calibration
from .compute import autocast
from .dataset import SimulatedData, simulate_set
from .episodes import sample_episodes
from .evaluation import correct_counts, mean_and_interval, predict
from .fresh import kin, simulate_fresh
from .imaging import Microscope
from .protonet import prototype_logits
from .randomness import seed_from

if TYPE_CHECKING:
    from .pretraining import Pretraining

CALIBRATION_SNRS = (0.3, 0.1, 0.05, 0.03)


@torch.no_grad()
def embedded(encoder: nn.Module, volumes: torch.Tensor, precision: str, chunk: int = 128) -> torch.Tensor:
    """Embeddings of any encoder in evaluation mode, `(n, dim)` float32."""
    with autocast(volumes.device, precision):
        return torch.cat([encoder(part).float() for part in volumes.split(chunk)])


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
    precision: str = "fp32",
) -> list[dict[str, float]]:
    """Accuracy of nearest prototypes among unit embeddings of classes that the training never met.

    Subtomograms and episodes are those of Table 1 where classes, microscope and counts are. One dictionary per SNR and
    shots: snr, n_way, n_shot, n_episodes, accuracy, ci95.
    """
    recipe = SimulatedData(microscope=microscope, n_per_class=n_per_class)
    device = next(encoder.parameters()).device
    rows = []
    for snr in snrs:
        subtomograms = simulate_set(recipe, {snr: n_per_class}, classes, device)
        embeddings = F.normalize(embedded(encoder.eval(), subtomograms.volumes, precision), dim=-1)
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
    spec: "Pretraining",
    *,
    n_episodes: int = 60,
    shots: Sequence[int] = (1, 2, 3, 5, 10, 20),
    **counts,
) -> Calibration:
    """Probabilities and thresholds measured on the classes that a training held back for its selection.

    counts : of `calibration_particles`
    """
    return fit_calibration(**calibration_particles(encoder, spec, **counts), shots=shots, n_episodes=n_episodes)


def calibration_particles(
    encoder: nn.Module,
    spec: "Pretraining",
    *,
    snrs: Sequence[float] = CALIBRATION_SNRS,
    n_per_class: int = 40,
    n_background: int = 30,
) -> dict[str, Any]:
    """Embedded particles of the held-back classes and what else `fit_calibration` takes, by argument.

    Their particles come from the training's kinds of microscopes, at a few SNRs that are kept apart, as a user's data
    set has one. The training classes help to know how classes scatter.

    n_per_class : of each held-out class at each SNR; n_background : of each training class, over all its SNRs
    """
    device = next(encoder.parameters()).device
    rng = np.random.default_rng(seed_from("calibration", spec.seed))

    def embeddings_of(names: Sequence[str], acquisitions) -> torch.Tensor:
        volumes = simulate_fresh(names, acquisitions, rng, spec.group_size, device)
        return F.normalize(embedded(encoder.eval(), volumes, "fp32"), dim=-1).cpu()

    held_out = [name for name in spec.selection for _ in range(n_per_class)]
    parts = [embeddings_of(held_out, replace(spec.acquisitions, snrs=(snr,))) for snr in snrs]
    known = [name for name in spec.classes for _ in range(n_background)]
    return {
        "embeddings": torch.cat(parts),
        "labels": np.array(held_out * len(snrs)),
        "groups": np.repeat(snrs, len(held_out)),
        "families": np.array([kin(name) for name in held_out] * len(snrs)),
        "background": (embeddings_of(known, spec.acquisitions), np.array(known)),
    }
