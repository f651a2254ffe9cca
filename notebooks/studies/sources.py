"""Support of another source than the query: what it costs, with and without the fit, and with matched shells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.recognition.benchmark import LabelledTomogram
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.embedding_cache import features_of
from cryo_fewshot.recognition.pretraining import CALIBRATION_CLASSES, spec_of
from cryo_fewshot.recognition.recogniser import Recogniser
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import CROWD, MEMBRANE

from . import spectra
from .charts import labels_text
from .pretrained import Pretrained
from .real_benchmark import CYTOSOL, ER, RIBOSOME, VACUUM

COARSE = {"tilt_min": -45.0, "tilt_max": 45.0, "tilt_increment": 5.0, "defocus_min_um": 5.0, "defocus_max_um": 8.0}
FINE = {"tilt_min": -70.0, "tilt_max": 50.0, "tilt_increment": 2.0, "defocus_min_um": 1.5, "defocus_max_um": 2.5}
SAME = "the same"
# Query's source: changes of the microscope, SNR, and gain by frequency, of Nyquist's; support is SAME.
SOURCES: dict[str, tuple[dict, float, Callable[[torch.Tensor], torch.Tensor] | None]] = {
    SAME: ({}, 0.1, None),
    "SNR 0.03": ({}, 0.03, None),
    "±45° by 5°, defocus 5 to 8 µm": (COARSE | {"low_pass_nm": 6.0, "noise_before_ctf": 0.8}, 0.1, None),
    "−70 to 50° by 2°, defocus 1.5 to 2.5 µm": (FINE | {"noise_before_ctf": 0.1}, 0.1, None),
    "blurred (B-factor)": ({}, 0.1, lambda f: torch.exp(-0.6 * f**2)),
    "sharpened (B-factor)": ({}, 0.1, lambda f: torch.exp(0.6 * f**2)),
    "voxels of 3 nm": ({}, 0.1, lambda f: torch.sigmoid(22 * (0.66 - f))),
    "long waves doubled": ({}, 0.1, lambda f: (1 + 3 * torch.exp(-((f / 0.2) ** 2))).sqrt()),
    "CTF left in": ({}, 0.1, None),
}
FITTED, OWN, COMMAND, MATCHED = "always fitted", "never fitted", "classify", "shells matched, never fitted"
HEADERS = {"source": "Query", "asked": "Of classes", "task": "Simulated support"}
ASKED = {"all": "all five", "one": "one alone", "unknown too": "five, five unknown"}
OF_TOMOGRAM = {"6QZP": RIBOSOME, MEMBRANE: ER, CROWD: CYTOSOL, EMPTY: VACUUM}
"""Simulated classes that stand for those of the labelled tomogram."""


def _answers(
    pretrained: Pretrained, support, labels, query, known=None, asked=None
) -> Iterator[tuple[str, Recogniser, torch.Tensor]]:
    """Recognisers of one support and query, volumes both, by method; known, asked : their features, if computed."""
    known = features_of(pretrained.encoder, support) if known is None else known
    asked = features_of(pretrained.encoder, query) if asked is None else asked
    bins, widths = spectra.radii(support.shape[-1]), (support.shape[-1] - 3,)
    matched = features_of(pretrained.encoder, spectra.matched(query, support, bins))
    for method, found, adapt, one_source in (
        (FITTED, asked, True, True),
        (OWN, asked, False, True),
        (COMMAND, asked, True, False),
        (MATCHED, matched, False, True),
    ):
        settings = Settings(adapt=adapt)
        yield method, recogniser_of(known, labels, pretrained.calibration, found, settings, widths, one_source), found


@dataclass(frozen=True, kw_only=True)
class SourceTransfer:
    """Tasks on simulated classes that the encoder was not trained on, the query of another source than the support.

    encoder : digest of its weights; classes : that tasks are drawn from
    """

    encoder: str
    classes: tuple[str, ...] = CALIBRATION_CLASSES
    sources: tuple[str, ...] = tuple(SOURCES)
    shots: tuple[int, ...] = (5, 1)
    n_way: int = 5
    n_query: int = 12
    n_tasks: int = 5
    n_per_class: int = 40
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    seed: int = 0

    def run(self, runner: Runner, pretrained: Pretrained) -> dict:
        """Result: `rows`: source, asked (all classes, one alone, or as many unknown ones beside), n_shot, method,
        accuracy of known particles, false_accepts at a promised 5 %, unfitted: share of tasks where nothing was fitted.
        """
        rows = []
        of_source = {name: self._volumes(name) for name in dict.fromkeys((SAME, *self.sources))}
        shape = len(self.classes), self.n_per_class
        features = {
            name: features_of(pretrained.encoder, of.flatten(0, 1)).view(*shape, -1) for name, of in of_source.items()
        }
        for source in self.sources:
            for asked in ("all", "one", "unknown too"):
                for n_shot in self.shots:
                    runner.check_time()
                    parts = [(of[SAME], of[source]) for of in (of_source, features)]
                    rows += self._tasks(pretrained, *parts, asked, n_shot, source)
        keys = ["source", "asked", "n_shot", "method"]
        means = pd.DataFrame(rows).groupby(keys, sort=False).mean().round(4).reset_index()
        return {"rows": means.astype(object).where(means.notna(), None).to_dict("list")}

    def _volumes(self, name: str) -> torch.Tensor:
        """`(n_classes, n_per_class, b, b, b)`"""
        changes, snr, gain = SOURCES[name]
        microscope = replace(self.microscope, **changes)
        recipe = SimulatedData(n_per_class=self.n_per_class, microscope=microscope, seed=71 + self.seed)
        volumes = simulate_set(recipe, {snr: self.n_per_class}, self.classes).volumes
        if name == "CTF left in":
            volumes = spectra.multiplied_by_ctf(volumes, microscope)
        if gain:
            volumes = spectra.filtered(volumes, gain(spectra.radii(volumes.shape[-1]) / (volumes.shape[-1] / 2)))
        return volumes.view(len(self.classes), self.n_per_class, *volumes.shape[1:])

    def _tasks(self, pretrained, volumes, features, asked: str, n_shot: int, source: str) -> list[dict]:
        rng, rows = np.random.default_rng([self.seed, n_shot]), []
        for _ in range(self.n_tasks):
            classes, order = rng.permutation(len(self.classes)), rng.permutation(self.n_per_class)
            chosen = classes[: {"all": self.n_way, "one": 1, "unknown too": 2 * self.n_way}[asked]]
            support, known = (
                of[0][classes[: self.n_way]][:, order[:n_shot]].flatten(0, 1) for of in (volumes, features)
            )
            queries = order[n_shot : n_shot + self.n_query]
            query, found_in = (of[1][chosen][:, queries].flatten(0, 1) for of in (volumes, features))
            labels = np.repeat(np.array(self.classes)[classes[: self.n_way]], n_shot)
            truth = np.repeat(np.array(self.classes)[chosen], self.n_query)
            for method, recogniser, seen in _answers(pretrained, support, labels, query, known, found_in):
                found, is_known = recogniser.recognise(seen), np.isin(truth, labels)
                right = np.array(recogniser.class_names)[found.label] == truth
                false_accepts = found.accepted[~is_known].mean() if asked == "unknown too" else np.nan
                numbers = {"accuracy": right[is_known].mean(), "false_accepts": false_accepts}
                numbers["unfitted"] = float(recogniser.space is recogniser.own)
                rows.append({"source": source, "asked": asked, "n_shot": n_shot, "method": method, **numbers})
        return rows


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
                for method, recogniser, features in _answers(pretrained, support, labels, data.volumes[chosen]):
                    label = recogniser.recognise(features).label
                    right = np.array([OF_TOMOGRAM[name] for name in recogniser.class_names])[label] == truth
                    accuracy = np.mean([right[truth == name].mean() for name in np.unique(truth)])
                    rows.append({"task": ", ".join(names), "method": method, "accuracy": accuracy})
        means = pd.DataFrame(rows).groupby(["task", "method"], sort=False).mean().round(4).reset_index()
        return {"rows": means.to_dict("list")}


def sources_frame(entry: dict) -> pd.DataFrame:
    """Accuracy on simulated queries: a row per source and what they hold, a column per labels and method."""
    rows = pd.DataFrame(entry["result"]["rows"]).replace({"asked": ASKED})
    rows = rows.assign(labels=rows["n_shot"].map(labels_text))
    return _table(rows, ["source", "asked"], ["labels", "method"])


def support_frame(entry: dict) -> pd.DataFrame:
    """Accuracy on boxes of the real tomogram: a row per set of simulated classes, a column per method."""
    return _table(pd.DataFrame(entry["result"]["rows"]), ["task"], ["method"])


def _table(rows: pd.DataFrame, index: list[str], columns: list[str]) -> pd.DataFrame:
    table = rows.pivot_table("accuracy", index, columns, sort=False, observed=True)
    return table.rename_axis(index=HEADERS, columns=[None] * len(columns))
