"""The tasks of a calibration are the same ones each time."""

import numpy as np
import pytest

from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition import calibration_fit as room


def test_tasks_are_drawn_alike_each_time(monkeypatch, classes, held_out):
    drawn = []

    def draw(*given):
        drawn.append(given[-1].random())
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "_draw", draw)
    with pytest.raises(KeyboardInterrupt):
        next(iter(room.run_trials(held_out(*classes(5)), (1,), (3,), n_tasks=1)))
    assert drawn == [np.random.default_rng(seed_from("calibration tasks", 0)).random()]
