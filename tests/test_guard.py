"""What must hold while code moves: names of stored results, simulated volumes, episodes, embeddings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.encoder import Encoder3D, embed
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.reproduction.store import Store, entry_name
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())
RESULTS = Path(__file__).resolve().parents[1] / "results"


def test_each_stored_result_is_named_by_its_own_content():
    for folder in (path for path in RESULTS.iterdir() if path.is_dir()):
        store = Store(folder)
        for kind in store.kinds():
            for name, entry in store.named_entries(kind).items():
                assert name == entry_name(entry["spec"], entry["provenance"]["library"])
                assert entry["spec"]["type"].lower() == kind


def projections(values: torch.Tensor) -> list[float]:
    """Eight numbers that change when any value does, equal on every machine up to rounding."""
    flat = values.detach().double().flatten().numpy()
    return (np.random.default_rng(0).normal(size=(8, flat.size)) @ flat / flat.size**0.5).tolist()


def volumes(binning: int) -> torch.Tensor:
    data = SimulatedData(microscope=Microscope(binning=binning))
    return simulate_set(data, {0.1: 2, 0.03: 1}, ["1OEL", "empty", "4V1W"]).volumes


def paper_encoder() -> Encoder3D:
    torch.manual_seed(0)
    encoder = Encoder3D().eval()
    for name, value in encoder.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return encoder


def measured() -> dict[str, list[float]]:
    return {
        "volumes 40^3": projections(volumes(1)),
        "volumes 20^3": projections(volumes(2)),
        "embeddings, paper": projections(embed(paper_encoder(), volumes(1))),
        "embeddings, pretrained": projections(embed(load_encoder()[0], volumes(2))),
    }


@pytest.mark.parametrize("what", GOLDEN["numbers"])
def test_volumes_and_embeddings_are_what_they_were(what):
    np.testing.assert_allclose(measured()[what], GOLDEN["numbers"][what], rtol=1e-3, atol=2e-4)


def test_episodes_are_what_they_were():
    episodes = sample_episodes(
        np.repeat(np.arange(8), 100), range(8), n_way=5, n_shot=5, n_query=15, n_episodes=20, seed=7
    )
    assert episodes.digest == GOLDEN["episodes"]
