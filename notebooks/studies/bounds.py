"""How hard the simulated data are: an ideal observer that lacks the pose, and a network trained on the test classes.

The oracle has the true density of every class, the defocus, the SNR and the spectrum of the noise. It searches all
rotations and shifts for each class (a matched filter) and chooses by likelihood. The supervised network is trained on
other samples of the very test classes, on the schedule of the few-shot networks: a reference, not an upper bound.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.averaging.alignment import Search, align
from cryo_fewshot.baseline import baseline_logits
from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.evaluation_specs import Evaluation, answers_of
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.tables import accuracy_of
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.imaging import noise_powers, signal_spectra, simulate, volume_spectra
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition
from cryo_fewshot.subtomograms import ClassSplit

REFERENCE_DEFOCUS_UM = 4.0


def log_likelihood_ratios(
    volumes: torch.Tensor,
    beads: tuple[np.ndarray, np.ndarray],
    acquisition: Acquisition,
    snr: float,
    microscope: Microscope,
) -> torch.Tensor:
    """Log-likelihood of each volume as a picture of `beads` in these poses, less that as noise alone: `(n,)` float64.

    With V the volume's coefficients, S the noiseless ones, P the noise's variance and b the unknown scale of the
    volume (each has been brought to variance 1), log p = 2 K log b - sum |b V - S|^2 / P over K coefficients, at the b
    that makes it largest.
    """
    spectra, counts = volume_spectra(volumes, microscope)
    powers = noise_powers(acquisition, microscope, volumes.device) / snr
    signal = torch.zeros_like(spectra)
    found = signal_spectra([beads] * len(volumes), acquisition, microscope, volumes.device)
    kept = min(found.shape[1], spectra.shape[1])
    signal[:, :kept] = found[:, :kept]
    sampled = powers > 1e-6 * powers.amax(dim=1, keepdim=True)  # not the missing wedge
    weights = torch.where(sampled, counts / powers, 0).double()
    n_coefficients = (counts * sampled).sum(dim=1).double()
    energy = (weights * spectra.abs().square()).sum(dim=1)
    product = (weights * (spectra.conj() * signal).real).sum(dim=1)
    template = (weights * signal.abs().square()).sum(dim=1)

    def best_log_likelihood(product: torch.Tensor, template: torch.Tensor | float) -> torch.Tensor:
        scale = (product + (product.square() + 4 * energy * n_coefficients).sqrt()) / (2 * energy)
        return 2 * n_coefficients * scale.log() - scale.square() * energy + 2 * scale * product - template

    return best_log_likelihood(product, template) - best_log_likelihood(torch.zeros_like(product), 0.0)


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The matched filter on the first subtomograms of each test class of an evaluation.

    n_per_class : at most; grid_degrees : step of the exhaustive search of rotations, refined down to finest_degrees.
    """

    evaluation: Evaluation
    n_per_class: int = 25
    grid_degrees: float = 20.0
    finest_degrees: float = 3.0

    def run(self, runner) -> dict:
        """Log-likelihood ratio of every test class for every subtomogram.

        Result: `classes`; `scores`, a list per class of a row per subtomogram, with one number per class; an empty box
        scores 0 by definition.
        """
        data, names, snr = self.evaluation.novel_data, self.evaluation.novel_classes, self.evaluation.snr
        n_per_class = min(self.n_per_class, data.n_per_class)
        search = Search(
            grid_degrees=self.grid_degrees,
            finest_degrees=self.finest_degrees,
            max_shift_nm=data.microscope.max_shift_nm,
            low_pass_nm=max(data.microscope.low_pass_nm, 2.2 * data.microscope.final_voxel_size_nm),
            coarse_low_pass_nm=max(6.0, 2.2 * data.microscope.final_voxel_size_nm),
        )
        subtomograms = data.subtomograms({snr: n_per_class}, names, runner.device)
        seeds = torch.cat([data.sample_seeds(name, snr, count=n_per_class) for name in names])
        defocus_um = draw_acquisition(seeds, data.microscope).defocus_um
        scores = torch.zeros(len(subtomograms), len(names), dtype=torch.float64)
        for column, name in enumerate(names):
            if name == EMPTY:
                continue
            beads = data.beads_of(name, seeds[:1])[0]
            template = reference_volume(beads, data.microscope, runner.device)
            poses = align(subtomograms.volumes, template, data.microscope, search)
            acquisition = Acquisition(poses.quaternions, poses.shifts_nm, defocus_um)
            scores[:, column] = log_likelihood_ratios(subtomograms.volumes, beads, acquisition, snr, data.microscope)
            runner.describe(f"oracle, {name}")
        by_class = scores.view(len(names), -1, len(names))
        return {"classes": list(names), "scores": [part.round(decimals=2).tolist() for part in by_class]}


def reference_volume(
    beads: tuple[np.ndarray, np.ndarray], microscope: Microscope, device: torch.device | None = None
) -> torch.Tensor:
    """Noiseless volume of a complex, upright and centred, without a missing wedge, at the middle defocus."""
    complete = replace(microscope, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0)
    upright = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([REFERENCE_DEFOCUS_UM]))
    return simulate([beads], torch.zeros(1, dtype=torch.int64), None, complete, device, upright)[0]


def oracle_accuracy(scores: np.ndarray, n_way: int) -> tuple[float, float]:
    """Mean accuracy, and the half-width of its 95 % interval, in tasks of `n_way` of the classes.

    A subtomogram is right in a task where no other class of it scores higher: of all tasks that hold its class, those
    drawn from the classes that score lower. No task has to be drawn.

    scores : `(n_classes, n_per_class, n_classes)`, of the subtomograms of each class.
    """
    scores = np.asarray(scores)
    n_classes = len(scores)
    own = np.stack([scores[label, :, label] for label in range(n_classes)])
    n_lower = (scores < own[:, :, None]).sum(axis=2)
    right = np.array([math.comb(n, n_way - 1) for n in range(n_classes)]) / math.comb(n_classes - 1, n_way - 1)
    return mean_and_interval(right[n_lower].ravel())


@dataclass(frozen=True, kw_only=True)
class SupervisedRun(EncoderRun):
    """Plain classification of the test classes, on samples of them that no test contains."""

    objective: str = "classes"

    @property
    def split(self) -> ClassSplit:
        novel = super().split.novel
        return ClassSplit(base=novel, validation=(), novel=novel)


@dataclass(frozen=True, kw_only=True)
class SupervisedEvaluation:
    """The supervised network on the episodes of an evaluation; it does not look at their support."""

    encoder: SupervisedRun
    evaluation: Evaluation

    def run(self, runner) -> dict:
        """A linear layer, fitted to all training embeddings, scores every class; those of a task compete."""
        run, evaluation = self.encoder, self.evaluation
        n_classes = len(run.split.base)
        known = runner.embeddings(run, "base")
        asked = evaluation.embeddings(runner, run)
        support = known.view(n_classes, -1, known.shape[1])[None]
        scores = baseline_logits(support, asked[None], n_steps=300)[0].cpu().numpy()
        episodes = evaluation.episodes()
        competing = np.take_along_axis(scores[episodes.query], episodes.classes[:, None, None, :], axis=-1)
        return answers_of(competing.argmax(axis=-1), episodes, evaluation.novel_classes)


def supervised_run(evaluation: Evaluation, n_per_class: int, run: EncoderRun) -> SupervisedRun:
    """Training on `n_per_class` samples of each test class at the evaluation's SNR, otherwise as the baseline's run."""
    data = replace(evaluation.novel_data, n_per_class=n_per_class, seed=evaluation.novel_data.seed + 1)
    settings = {**vars(run), "data": data, "snr_counts": ((evaluation.snr, n_per_class),), "objective": "classes"}
    return SupervisedRun(**settings)


def bounds_frame(
    runner: Runner,
    profile: Profile,
    *,
    snrs: Sequence[float],
    oracle_snrs: Sequence[float],
    samples: Sequence[int],
    n_per_class: int,
) -> pd.DataFrame:
    """Few-shot methods between their bounds, a row per method and SNR: method, snr, accuracy, ci95.

    Parameters
    ----------
    snrs : of the networks; oracle_snrs : of the oracle, which is cheap to take further down
    samples : per class, that the supervised networks are trained on
    n_per_class : subtomograms of each test class that the oracle looks at
    """
    cells = table_1(profile, snrs=snrs, methods=["ProtoNet3D (mix)", "baseline"])
    rows = [
        (f"{cell.method}, {cell.evaluation.n_shot}-shot", cell.evaluation.snr, *accuracy_of(entry))
        for cell, entry in zip(cells, runner.run_cells(cells), strict=True)
    ]
    for cell in cells:
        if (cell.method, cell.evaluation.n_shot) == ("baseline", 5):
            for count in samples:
                run = supervised_run(cell.evaluation, count, cell.evaluation.encoder)
                entry = runner(SupervisedEvaluation(encoder=run, evaluation=cell.evaluation))
                rows.append((f"supervised, {count} samples", cell.evaluation.snr, *accuracy_of(entry)))
    for snr in oracle_snrs:
        evaluation = table_1(profile, snrs=[snr], shots=[5], methods=["ProtoNet3D"])[0].evaluation
        scores = runner(Oracle(evaluation=evaluation, n_per_class=n_per_class))["result"]["scores"]
        rows.append(("oracle", snr, *oracle_accuracy(scores, evaluation.n_way)))
    return pd.DataFrame(rows, columns=["method", "snr", "accuracy", "ci95"])
