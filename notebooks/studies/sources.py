"""Simulated particles as the labelled ones of a real tomogram."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.recognition.benchmark import LabelledTomogram
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.embedding_cache import features_of
from cryo_fewshot.recognition.pretraining import spec_of
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import CROWD, MEMBRANE

from . import spectra
from .pretrained import Pretrained
from .real_benchmark import CYTOSOL, ER, RIBOSOME, VACUUM

OF_TOMOGRAM = {"6QZP": RIBOSOME, MEMBRANE: ER, CROWD: CYTOSOL, EMPTY: VACUUM}
"""Simulated classes that stand for those of the labelled tomogram."""


@dataclass(frozen=True, kw_only=True)
class SimulatedSupport:
    """Boxes of a labelled tomogram, recognised by simulated support as in cells, of each of some sets of classes.

    encoder, boxes : digests of the weights and of the boxes
    """

    encoder: str
    boxes: str
    half: str = "odd"
    tasks: tuple[tuple[str, ...], ...] = (("6QZP", MEMBRANE), ("6QZP", MEMBRANE, CROWD), tuple(OF_TOMOGRAM))
    n_shot: int = 5
    n_draws: int = 10
    snr: float = 0.1
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    seed: int = 0

    def run(self, runner: Runner, pretrained: Pretrained, data: LabelledTomogram) -> dict:
        """Result: `rows`: task, method, accuracy (mean over classes and draws of the support)."""
        rows, acquisitions = [], spec_of(pretrained.card).acquisitions
        cells = replace(acquisitions, microscope=self.microscope, snrs=(self.snr,), n_microscopes=1)
        n, rng = self.n_shot * self.n_draws, np.random.default_rng(self.seed)
        simulated = {name: simulate_on_the_fly([name] * n, cells, rng) for name in OF_TOMOGRAM}
        for names in self.tasks:
            chosen = data.half(self.half) & np.isin(data.labels, [OF_TOMOGRAM[name] for name in names])
            truth, labels = data.labels[chosen], np.repeat(names, self.n_shot)
            for draw in range(self.n_draws):
                runner.check_time()
                part = slice(draw * self.n_shot, (draw + 1) * self.n_shot)
                support = torch.cat([simulated[name][part] for name in names])
                for method, found in _answers(pretrained, support, labels, data.volumes[chosen]).items():
                    right = np.array([OF_TOMOGRAM[name] for name in found]) == truth
                    accuracy = np.mean([right[truth == name].mean() for name in np.unique(truth)])
                    rows.append({"task": ", ".join(names), "method": method, "accuracy": accuracy})
        means = pd.DataFrame(rows).groupby(["task", "method"], sort=False).mean().round(4).reset_index()
        return {"rows": means.to_dict("list")}


def _answers(
    pretrained: Pretrained, support: torch.Tensor, labels: np.ndarray, query: torch.Tensor
) -> dict[str, np.ndarray]:
    """The class of each query volume by method."""
    box = support.shape[-1]
    known, asked, matched = (
        features_of(pretrained.encoder, volumes)
        for volumes in (support, query, spectra.matched(query, support, spectra.radii(box)))
    )
    answers = {}
    for method, features, adapt, one_source in (
        ("always fitted", asked, True, True),
        ("never fitted", asked, False, True),
        ("classify", asked, True, False),
        ("shells matched, never fitted", matched, False, True),
    ):
        settings, widths = Settings(adapt=adapt), (box - 3,)
        told = recogniser_of(known, labels, pretrained.calibration, features, settings, widths, one_source)
        answers[method] = np.array(told.class_names)[told.recognise(features).label]
    return answers


def support_frame(entry: dict) -> pd.DataFrame:
    """Accuracy on boxes of the real tomogram: a row per set of simulated classes, a column per method."""
    table = pd.DataFrame(entry["result"]["rows"]).pivot_table("accuracy", "task", "method", sort=False)
    return table.rename_axis(index="Simulated support", columns=None)
