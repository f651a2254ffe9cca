"""Simulated support: every method answers, and what is simulated like the query is found."""

from types import SimpleNamespace

import numpy as np
from studies.pretrained import Pretrained
from studies.real_benchmark import CYTOSOL, RIBOSOME, VACUUM
from studies.sources import SimulatedSupport, support_frame

from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder


def test_simulated_ribosomes_and_empty_boxes_are_told_apart(tmp_path):
    recipe = SimulatedData(n_per_class=8, microscope=Microscope(binning=2))
    boxes = simulate_set(recipe, {0.1: 8}, ("6QZP", EMPTY, "1OEL"))
    labels = np.array([RIBOSOME, VACUUM, CYTOSOL])[boxes.labels]
    data = SimpleNamespace(volumes=boxes.volumes, labels=labels, half=lambda half: np.ones(24, bool))
    spec = SimulatedSupport(encoder="", boxes="", tasks=(("6QZP", EMPTY),), n_draws=2)
    table = support_frame(Runner(Store(tmp_path))(spec, Pretrained(*load_encoder()), data))
    assert list(table.index) == [f"6QZP, {EMPTY}"] and len(table.columns) == 4
    assert (table > 0.9).all(axis=None)
