"""The check of an encoder's promises, on embeddings whose classes are known."""

import numpy as np
import pytest
import torch
from studies.calibration_check import CalibrationCheck, checked_tasks, halves_text

from cryo_fewshot.recognition.calibration import fit_calibration


def particles(n_classes, seed, n=40, dim=8):
    rng = np.random.default_rng(seed)
    x = 6 * rng.normal(size=(n_classes, 1, dim)) + rng.normal(size=(n_classes, n, dim))
    return torch.from_numpy(x.reshape(-1, dim)).float(), np.repeat([f"{seed}-{i}" for i in range(n_classes)], n)


def test_promises_about_classes_far_apart_hold():
    calibration = fit_calibration(*particles(16, 0), shots=(1, 5), n_episodes=10, n_axes=8)
    spec = CalibrationCheck(encoder="", shots=(1, 5), n_tasks=30)
    rows = checked_tasks(*particles(12, 1), calibration, spec)
    assert [row["n_shot"] for row in rows] == [1, 5]
    for row in rows:
        assert row["false_accepts"] <= 0.05 and row["ece"] <= 0.05
        assert row["ece"] >= abs(row["accuracy"] - row["probability"]) - 1e-9
    assert rows[1]["kept"] > 0.9


def test_the_words_hold_the_numbers():
    halves = [{"half": half, "n_shot": 1, "ece": ece} for half, ece in ((0, 0.02), (1, 0.06))]
    assert "2 times, 1-shot probabilities are off by 0.040 on average and by 0.060 at most" in halves_text(halves, 1)


@pytest.mark.parametrize("n_shot", [1, 5])
def test_a_task_is_the_same_for_the_same_seed(n_shot):
    calibration = fit_calibration(*particles(8, 0), shots=(1, 5), n_episodes=4, n_axes=8)
    spec = CalibrationCheck(encoder="", shots=(n_shot,), n_tasks=3)
    first, second = (checked_tasks(*particles(8, 1), calibration, spec) for _ in range(2))
    assert first == second
