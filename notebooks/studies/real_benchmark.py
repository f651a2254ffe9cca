"""Few-shot tasks on real boxes with labels: a tomogram of a cell, microtubules against ice, and a confounded trio.

The files are no part of the project. Their stored result is shown where they are absent.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.recognition.benchmark import benchmark, labelled_tomogram, open_tomogram_folder
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.on_the_fly import WIDE, simulate_on_the_fly
from cryo_fewshot.weights import AnyEncoder

from . import spectra

REAL = REPOSITORY.parent / "shared" / "real"
YEAST = REAL / "yeast_tomogram_11658"
RIBOSOME, ER, MEMBRANE = "ribosome80S", "ER_cisterna", "second_double_membrane"
CYTOSOL, VACUUM = "cytosol_no_listed_ribosome", "outside_lamella"
TASKS = {
    "all five": (RIBOSOME, ER, MEMBRANE, CYTOSOL, VACUUM),
    "without cytosol": (RIBOSOME, ER, MEMBRANE, VACUUM),
    "ribosome, ER, cytosol": (RIBOSOME, ER, CYTOSOL),
    "ribosome, cytosol": (RIBOSOME, CYTOSOL),
}
MATCHED = "nearest prototype, shells matched and centred"
POWER, PROFILE = "power alone (control)", "classify"


@dataclass(frozen=True, kw_only=True)
class RealBenchmark:
    """Tasks of `recognition.benchmark` on a labelled tomogram.

    encoder, boxes : digests of the weights and of the boxes, which name the result
    n_training : simulated particles that give the mean spectrum of the encoder's training
    """

    encoder: str
    boxes: str
    shots: tuple[int, ...] = (1, 5, 10, 20)
    halves: tuple[str, ...] = ("odd", "all")
    n_episodes: int = 200
    n_training: int = 2000
    seed: int = 0

    version = 1

    def run(self, runner: Runner, encoder: AnyEncoder, card: dict, data, tasks: dict[str, Sequence[str]]) -> dict:
        """Result: `rows`, a column each of `benchmark`'s table; `boxes`, how many of each class in each half."""
        names = [card["training_classes"][i % len(card["training_classes"])] for i in range(self.n_training)]
        training = simulate_on_the_fly(names, WIDE, np.random.default_rng(5))
        matched = unit_embeddings(encoder, spectra.matched(data.volumes, training, spectra.radii(card["box"])))
        centred = torch.nn.functional.normalize(matched - matched.mean(0), dim=1)
        found = benchmark(
            data,
            Calibration.from_json(card["calibration"]),
            tasks,
            shots=self.shots,
            halves=self.halves,
            n_episodes=self.n_episodes,
            further={MATCHED: centred},
            seed=self.seed,
            progress=lambda n: runner.check_time(),
        )
        boxes = {half: pd.Series(data.labels[data.half(half)]).value_counts().to_dict() for half in ("all", "odd")}
        return {"rows": found.to_dict("list"), "boxes": boxes, "tasks": {name: list(of) for name, of in tasks.items()}}


def real_benchmark(runner: Runner, encoder: AnyEncoder, card: dict, folder: Path = YEAST, **settings) -> dict:
    """The stored entry about a folder in the layout of the yeast tomogram's, see `open_tomogram_folder`."""
    with tempfile.TemporaryDirectory() as temporary:
        particles = open_tomogram_folder(Path(folder), Path(temporary))
        data = labelled_tomogram(particles, encoder, card, Path(temporary))
    tasks = {name: classes for name, classes in TASKS.items() if set(classes) <= set(data.labels)}
    tasks = tasks or {"all classes": tuple(np.unique(data.labels))}
    spec = RealBenchmark(encoder=digest_of(*encoder.state_dict().values()), boxes=digest_of(data.volumes), **settings)
    return runner(spec, encoder, card, data, tasks)
