"""Embeddings of classes that lie far apart, and a calibration on others like them; figures without a screen."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from cryo_fewshot.recognition.calibration_fit import fit_calibration


def _particles(n_classes, seed, n=40, dim=8):
    rng = np.random.default_rng(seed)
    x = 6 * rng.normal(size=(n_classes, 1, dim)) + rng.normal(size=(n_classes, n, dim))
    return torch.from_numpy(x.reshape(-1, dim)).float(), np.repeat([f"{seed}-{i}" for i in range(n_classes)], n)


@pytest.fixture(scope="session")
def particles():
    """Function: (n_classes, seed, n=40, dim=8) -> embeddings and class names."""
    return _particles


@pytest.fixture(scope="session")
def calibration(held_out):
    return fit_calibration(held_out(*_particles(16, 0)), shots=(1, 5), n_tasks=5, n_axes=8)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")
