"""The tasks of a calibration are the same ones each time."""

import numpy as np
import pytest
import torch

from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition import calibration_fit as room
from cryo_fewshot.recognition.plda import PLDA


def test_tasks_are_drawn_alike_each_time(monkeypatch):
    drawn = []

    def draw(*given):
        drawn.append(given[-1].random())
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "_draw", draw)
    labels = np.repeat(np.arange(4), 5)
    particles = room.HeldOutParticles(
        embeddings=torch.zeros(20, 2),
        labels=labels,
        snrs=np.full(20, 0.1),
        sets=np.zeros(20, int),
        crowded=np.zeros(20, bool),
        families=labels,
    )
    geometry = {"space": PLDA(mean=np.zeros(2), axes=np.eye(2), between=np.ones(2)), "noise": np.zeros(3)}
    with pytest.raises(KeyboardInterrupt):
        next(room.run_trials(particles, (1,), (3,), n_tasks=1, geometries=dict.fromkeys(range(4), geometry)))
    assert drawn == [np.random.default_rng(seed_from("calibration tasks", 0)).random()]
