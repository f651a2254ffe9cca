"""What labels bring when they are given in the order that the tool proposes, and in random order."""

from dataclasses import dataclass, field

import numpy as np
import torch

from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.follow_up import next_to_label
from cryo_fewshot.recognition.pretraining import CALIBRATION_CLASSES
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.recognition.rejection import estimate_errors
from cryo_fewshot.simulation.microscope import Microscope

from .calibration_check import embedded_classes
from .pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class LabelOrder:
    """Particles of n_way classes with one label each and of n_unknown without; ten labels more in each round.

    A label names the particle's class, a new one where it had none. encoder : digest of weights and calibration
    """

    version = 2  # how many are unknown is told by the p-values alone

    encoder: str
    classes: tuple[str, ...] = CALIBRATION_CLASSES
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snr: float = 0.05
    n_way: int = 5
    n_unknown: int = 3
    n_per_class: int = 40
    n_rounds: int = 4
    n_tasks: int = 40
    seed: int = 0

    @torch.no_grad()
    def run(self, runner, pretrained: Pretrained) -> dict:
        """Result: `rows` by order ('proposed' or 'random') and n_labels: accuracy of all unlabelled particles, ci95."""
        asked = *embedded_classes(self, pretrained.encoder, self.snr), pretrained.calibration
        rows = []
        for order in ("proposed", "random"):
            found = np.array([accuracies(*asked, self, order, i) for i in range(self.n_tasks)])
            half_widths = 1.96 * found.std(0, ddof=1) / self.n_tasks**0.5
            for i, (accuracy, ci95) in enumerate(zip(found.mean(0), half_widths, strict=True)):
                row = {"order": order, "n_labels": self.n_way + 10 * i}
                rows.append({**row, "accuracy": round(float(accuracy), 4), "ci95": round(float(ci95), 4)})
        return {"rows": rows}


def accuracies(
    embeddings: torch.Tensor, names: np.ndarray, calibration: Calibration, spec: LabelOrder, order: str, task: int
) -> list[float]:
    """Accuracy before the first round and after each, of one task; both orders have the same tasks."""
    rng = np.random.default_rng(seed_from("label order", spec.seed, task))
    chosen = rng.permutation(np.unique(names))[: spec.n_way + spec.n_unknown]
    labelled = [int(rng.choice(np.flatnonzero(names == name))) for name in chosen[: spec.n_way]]
    members, found = np.flatnonzero(np.isin(names, chosen)), []
    for _ in range(spec.n_rounds + 1):
        asked = np.setdiff1d(members, labelled)
        recogniser = build_recogniser(embeddings[labelled], names[labelled], calibration).seeing(embeddings[asked])
        told = recogniser.recognise(embeddings[asked])
        found.append(float((np.array(told.class_names)[told.label] == names[asked]).mean()))
        if order == "random":
            labelled += rng.permutation(asked)[:10].tolist()
        else:
            errors = estimate_errors(told.p_value, told.probability, told.label)
            labelled += asked[next_to_label(calibration.space.project(embeddings[asked]), errors.wrong)].tolist()
    return found
