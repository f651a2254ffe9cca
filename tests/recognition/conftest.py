"""What several tests of recognition need: embeddings and particles whose classes are known, and a tiny training."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from cryo_fewshot.encoder import Encoder3D, embed
from cryo_fewshot.recognition.calibration_fit import fit_calibration
from cryo_fewshot.recognition.model_card import calibrated
from cryo_fewshot.recognition.pretraining import Pretraining
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions
from cryo_fewshot.training import Schedule
from cryo_fewshot.weights import save_encoder

DIM = 10
WITHIN = np.linspace(0.7, 1.8, DIM)
TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)
CLASSES = ("6QZP", "1S3X", EMPTY)
RECIPE = SimulatedData(n_per_class=40, microscope=TINY)


# ---------------------------------------------------------------- embeddings


@pytest.fixture(scope="session")
def classes():
    """Function: (n_classes, n=40, seed=0, noise=1.0) -> embeddings `(n_classes * n, DIM)` and labels: centres of spread
    3, a scatter within that is not round."""

    def of(n_classes, n=40, seed=0, noise=1.0):
        rng = np.random.default_rng(seed)
        x = 3 * rng.normal(size=(n_classes, 1, DIM)) + noise * WITHIN * rng.normal(size=(n_classes, n, DIM))
        return torch.from_numpy(x.reshape(-1, DIM)).float(), np.repeat(np.arange(n_classes), n)

    return of


@pytest.fixture(scope="session")
def calibration(classes, held_out):
    return fit_calibration(held_out(*classes(20)), shots=(1, 5, 20), n_tasks=6, n_axes=DIM)


@pytest.fixture(scope="session")
def user(classes):
    """Function: (n_classes=6, n_shot=5, n=200, seed=1, noise=1.0) -> support, its classes, queries, their classes."""

    def of(n_classes=6, n_shot=5, n=200, seed=1, noise=1.0):
        x, labels = classes(n_classes, n, seed, noise)
        names = np.array([f"class {label}" for label in labels])
        first = np.arange(len(labels)) % n < n_shot
        return x[first], names[first], x[~first], names[~first]

    return of


# ---------------------------------------------------------------- a training


@pytest.fixture(scope="session")
def tiny():
    """Function: (**changes) -> a `Pretraining` of seconds."""
    settings = {
        "classes": ("1S3X", "3IYD", "ENO", EMPTY),
        "selection": ("1OEL", "1BXN"),
        "test": ("1PMA", "3KUY", "1HTQ"),
        "acquisitions": Acquisitions(microscope=TINY, snrs=(0.5, 0.1)),
        "group_size": 4,
        "n_way": 3,
        "n_shot": 1,
        "n_query": 2,
        "schedule": Schedule(n_epochs=2, steps_per_epoch=2, learning_rate=1e-3),
        "n_selection_samples": 6,
        "n_selection_episodes": 4,
        "precision": "fp32",
    }
    return lambda **changes: Pretraining(**(settings | changes))


@pytest.fixture(scope="session")
def assert_equal_states():
    """Function: (first, second) -> None; that two modules have the same bits."""

    def check(first, second):
        for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
            assert torch.equal(one, other), name

    return check


# ---------------------------------------------------------------- files of particles


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory, held_out):
    """A small encoder with initial weights and a calibration: it tells big from small, which is enough here."""
    torch.manual_seed(0)
    encoder = Encoder3D(box=12, n_blocks=2, width=8).eval()
    simulated = simulate_set(RECIPE, {2.0: 40}, ["1PMA", "1BXN", "3ZBI", "3KUY", "5T4O"])
    embeddings = F.normalize(embed(encoder, simulated.volumes), dim=-1)
    calibration = fit_calibration(held_out(embeddings, simulated.labels), shots=(1, 5), n_tasks=8)
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    card = {"name": "for tests", "box": 12, "voxel_size_nm": 3.0, "calibration": calibration.to_json()}
    save_encoder(path, encoder, card)
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Labelled and unlabelled particles as files; folder, and the true class of each unlabelled one."""
    write_particles = pytest.importorskip("studies.demonstration").write_particles
    folder = tmp_path_factory.mktemp("particles")
    write_particles(folder / "labelled", replace(RECIPE, seed=1), CLASSES, {2.0: 5}, with_labels=True)
    _, truth = write_particles(folder / "all", RECIPE, [*CLASSES, "1QVR"], {2.0: 10}, with_labels=False)
    return folder, truth


@pytest.fixture(scope="session")
def run(data):
    """Function: classify the particles of `data`, or of a folder like it, without averages."""
    from cryo_fewshot.particles.opening import open_particles
    from cryo_fewshot.recognition.classify import classify
    from cryo_fewshot.recognition.settings import Settings

    def of(out, encoder_path, settings=None, folder=data[0], **options):
        support = open_particles(folder / "labelled" / "particles.star")
        query = open_particles(folder / "all" / "particles.star")
        return classify(
            support, query, out, encoder_path=encoder_path, settings=settings or Settings(n_averaged=0), **options
        )

    return of


@pytest.fixture(scope="session")
def tomogram():
    """Function: rng -> grey values `(40, 200, 200)` of dark balls of two sizes on a grid, and a table of the places."""

    def of(rng):
        volume = rng.normal(size=(40, 200, 200)).astype(np.float32)
        z, y, x = np.ogrid[-6:6, -6:6, -6:6]
        rows = []
        for i, (cy, cx) in enumerate(np.ndindex(9, 9)):
            name, radius = [("small", 2.0), ("large", 4.5)][i % 2]
            place = np.array([20, 20 * (cy + 1), 20 * (cx + 1)])
            volume[tuple(slice(c - 6, c + 6) for c in place)] -= 3.0 * (z**2 + y**2 + x**2 <= radius**2)
            rows.append({"class": name, "x": place[2], "y": place[1], "z": place[0]})
        return volume, pd.DataFrame(rows)

    return of


@pytest.fixture
def quickly_calibrated():
    """`model_card.calibrated` on few particles of one SNR and one microscope, at one and two shots."""
    few = {"snrs": (0.1,), "n_per_class": 12, "n_microscopes": 1, "n_background": 4}
    return partial(calibrated, fitting={"shots": (1, 2)}, **few)
