"""Small things that several tests need."""

import os

# Tests run side by side: one thread each, or they fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


@pytest.fixture
def beads():
    """A lopsided cloud of beads, 14 nm wide: positions zyx in nm, masses in kDa."""
    rng = np.random.default_rng(1)
    positions = rng.normal(size=(400, 3)) * [3.0, 2.0, 1.0] + [0.0, 1.0, 0.0]
    return positions.astype(np.float32), rng.uniform(0.2, 1.0, 400).astype(np.float32)
