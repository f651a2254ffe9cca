"""Does an encoder tell ClpB and Lon apart from others only because it was trained on other AAA+ rings?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cryo_fewshot.recognition.pretraining import TEST_CLASSES, Pretraining, pretrained_spec
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope

from .charts import labels_text
from .open_world import ShippedEvaluation

TRAINED_ON = ("3CF3", "FTSH", "RUVAB")
"""p97, FtsH and RuvB: AAA+ rings among the training classes."""
TESTED = ("1QVR", "3M6A")
"""ClpB and Lon: AAA+ rings among the test classes."""
WITH, WITHOUT = "with AAA+", "without AAA+"
ENCODERS = {WITH: "410e3c783336eb2d", WITHOUT: "8c07efa4d75aed54"}
"""Digests of the weights of `trainings`."""


def trainings() -> dict[str, Pretraining]:
    """The pretrained encoder's first recipe at a tenth of its length, with the other AAA+ rings and without them."""
    short = pretrained_spec(4)
    without = replace(short, classes=tuple(name for name in short.classes if name not in TRAINED_ON))
    return {WITH: short, WITHOUT: without}


def superfamily_tasks() -> dict[tuple[str, int], ShippedEvaluation]:
    """Tasks of the test classes at SNR 0.1, the same for both encoders, by encoder and number of labels."""
    data = SimulatedData(microscope=Microscope(binning=2), n_per_class=100)
    tasks = {"data": data, "classes": TEST_CLASSES, "snr": 0.1, "n_episodes": 1000, "head": "prototype"}
    return {
        (name, n_shot): ShippedEvaluation(encoder=weights, n_shot=n_shot, **tasks)
        for name, weights in ENCODERS.items()
        for n_shot in (5, 1)
    }


def superfamily_text(entries: Sequence[dict]) -> str:
    """What leaving the superfamily out of the training costs its two test classes, and the others.

    entries : of `superfamily_tasks`, in its order
    """
    rows = []
    for (name, n_shot), entry in zip(superfamily_tasks(), entries, strict=True):
        confusion = np.array(entry["result"]["confusion"])
        recall = confusion.diagonal() / confusion.sum(1)
        rows += [(name, n_shot, *pair) for pair in zip(entry["result"]["classes"], recall, strict=True)]
    frame = pd.DataFrame(rows, columns=["encoder", "n_shot", "class", "accuracy"])
    of = frame["class"].isin(TESTED).map({True: "rings", False: "others"})
    mean = frame.groupby(["n_shot", of, "encoder"])["accuracy"].mean()
    costs = []
    for n in sorted(frame["n_shot"].unique(), reverse=True):
        rings, others = (f"{mean[n, of, WITHOUT]:.1%} instead of {mean[n, of, WITH]:.1%}" for of in ("rings", "others"))
        costs.append(
            f"with {labels_text(n)} per class ClpB and Lon are found in {rings}, the other six classes in {others}"
        )
    return f"Trained again without p97, FtsH and RuvB, a tenth as long, once each (SNR 0.1): {'; '.join(costs)}."
