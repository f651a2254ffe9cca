"""Whether what an encoder promises holds on classes that neither training, selection nor calibration met."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cryo_fewshot.evaluation import expected_calibration_error
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration, fit_calibration
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.model_card import calibration_particles
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, spec_of
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.weights import AnyEncoder


@dataclass(frozen=True, kw_only=True)
class CalibrationCheck:
    """Tasks as a user's data set poses them to `build_recogniser`: n_way labelled classes, all others unknown.

    encoder : digest of its weights and its calibration; n_tasks : per SNR and number of shots
    n_halvings : times that the calibration classes' families are halved, to see what another choice of classes changes
    """

    encoder: str
    classes: tuple[str, ...] = TEST_CLASSES
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    shots: tuple[int, ...] = (1, 2, 5)
    n_way: int = 5
    n_query: int = 15
    n_tasks: int = 100
    n_per_class: int = 60
    false_accept_rate: float = 0.05
    n_halvings: int = 5
    seed: int = 0

    @torch.no_grad()
    def run(self, runner, encoder: AnyEncoder, card: dict) -> dict:
        """Result: `rows`, see `checked_tasks`, of the held-out classes; `halves`, the same for a calibration on half of
        the calibration classes' families, checked on the other half, with `half` counted from 0.
        """
        calibration = Calibration.from_json(card["calibration"])
        recipe = SimulatedData(microscope=self.microscope, n_per_class=self.n_per_class)
        rows = []
        for snr in self.snrs:
            particles = simulate_set(recipe, {snr: self.n_per_class}, self.classes)
            embeddings = unit_embeddings(encoder, particles.volumes)
            names = np.array(self.classes)[particles.labels]
            rows += [{"snr": snr, **row} for row in checked_tasks(embeddings, names, calibration, self)]
        return {"rows": rows, "halves": _halves(encoder, card, self) if self.n_halvings else []}


def card_digest(encoder: AnyEncoder, card: dict[str, Any]) -> str:
    """Digest of what the promises rest on."""
    weights = digest_of(*encoder.state_dict().values())
    return hashlib.sha256((weights + json.dumps(card["calibration"], sort_keys=True)).encode()).hexdigest()[:16]


def checked_tasks(
    embeddings: torch.Tensor, names: np.ndarray, calibration: Calibration, spec: CalibrationCheck
) -> list[dict[str, float]]:
    """Unit embeddings `(n, dim)` and their classes -> a row for each number of shots.

    n_shot; accuracy, mean probability and calibration error (ece) of queries with a labelled class; the share of them
    that is accepted (kept), and of particles of all other classes (false_accepts). A task has no two kin classes.
    """
    families = {name: homologous_family(name) for name in np.unique(names)}
    rows = []
    for n_shot in spec.shots:
        rng = np.random.default_rng(seed_from("calibration check", spec.seed, n_shot))
        found = [_task(embeddings, names, families, calibration, spec, n_shot, rng) for _ in range(spec.n_tasks)]
        probability, right, accepted, unknown = map(np.concatenate, zip(*found, strict=True))
        rows.append(
            {
                "n_shot": n_shot,
                "accuracy": float(right.mean()),
                "probability": float(probability.mean()),
                "ece": expected_calibration_error(probability, right),
                "false_accepts": float(unknown.mean()),
                "kept": float(accepted.mean()),
            }
        )
    return rows


def _task(embeddings, names, families, calibration, spec, n_shot, rng) -> tuple[np.ndarray, ...]:
    of_family = {families[name]: name for name in rng.permutation(list(families))}
    classes = rng.permutation(list(of_family.values()))
    drawn = [rng.permutation(np.flatnonzero(names == name))[: n_shot + spec.n_query] for name in classes[: spec.n_way]]
    support = np.concatenate([members[:n_shot] for members in drawn])
    queries = np.concatenate([members[n_shot:] for members in drawn])
    unknown = np.flatnonzero(np.isin(names, classes[spec.n_way :]))
    recogniser = build_recogniser(
        embeddings[support], names[support], calibration, false_accept_rate=spec.false_accept_rate
    )
    found = recogniser.recognise(embeddings[queries])
    right = np.array(found.class_names)[found.label] == names[queries]
    return found.probability, right, found.accepted, recogniser.recognise(embeddings[unknown]).accepted


def _halves(encoder: AnyEncoder, card: dict[str, Any], spec: CalibrationCheck) -> list[dict[str, float]]:
    particles = calibration_particles(encoder, spec_of(card))
    families, background = particles["families"], particles.pop("background")
    rng = np.random.default_rng(seed_from("halved families", spec.seed))
    rows = []
    for _ in range(spec.n_halvings):
        order = rng.permutation(np.unique(families))
        for half in (order[: len(order) // 2], order[len(order) // 2 :]):
            inside = np.isin(families, half)
            calibration = fit_calibration(
                **{name: value[inside] for name, value in particles.items()}, background=background, n_episodes=30
            )
            for snr in spec.snrs:
                asked = ~inside & (particles["groups"] == snr)
                of_snr = checked_tasks(particles["embeddings"][asked], particles["labels"][asked], calibration, spec)
                rows += [{"half": len(rows) // (len(spec.snrs) * len(spec.shots)), "snr": snr, **row} for row in of_snr]
    return rows


def halves_text(halves: Sequence[dict], n_shot: int) -> str:
    """What another choice of classes changes, in one sentence of Markdown."""
    errors = [row["ece"] for row in halves if row["n_shot"] == n_shot]
    n = len({row["half"] for row in halves})
    return (
        f"Calibrated on half of the held-out families and checked on the other half, {n} times, {n_shot}-shot "
        f"probabilities are off by {np.mean(errors):.3f} on average and by {max(errors):.3f} at most"
    )
