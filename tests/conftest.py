"""Small things that several tests need."""

import os
import re
import shutil
import subprocess

# Tests run side by side: one thread each, or they fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
import torch

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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


@pytest.fixture
def embeddings():
    """`embeddings(n_classes, n, seed)`: particles `(n_classes * n, 3)` of known scatter, and their labels.

    Classes scatter by standard deviations of 3, 2 and 1, and particles within a class by 1, 2 and 0.5.
    """

    def made(n_classes=400, n=10, seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(n_classes, 1, 3)) * [3, 2, 1]
        x = centres + rng.normal(size=(n_classes, n, 3)) * [1, 2, 0.5]
        return torch.from_numpy(x.reshape(-1, 3) + 5).float(), np.repeat(np.arange(n_classes), n)

    return made


@pytest.fixture
def browse(tmp_path):
    """`browse(url)`: the page's DOM after its scripts have run, without network, and what the console said."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine to look at the pages with")
    options = [
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'browser'}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]

    def look(url: str, milliseconds: int = 20_000) -> tuple[str, list[str]]:
        command = [CHROMIUM, *options, f"--virtual-time-budget={milliseconds}", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.stdout, done.stderr[-2000:]
        return done.stdout, re.findall(r"CONSOLE.*?\] (.*)", done.stderr)

    return look


@pytest.fixture(scope="session")
def held_out():
    """Function: (embeddings, labels, **columns) -> `HeldOutParticles`, by default one data set of SNR 0.1."""
    from cryo_fewshot.recognition.calibration_fit import HeldOutParticles

    def of(x, labels, **columns):
        table = {"label": labels, "family": labels, "set": 0, "snr": 0.1, "crowded": False, "trained": False}
        return HeldOutParticles(x, pd.DataFrame(table | columns))

    return of
