"""The benchmark runs, and its plain reference computes what the package computes."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from cryo_fewshot.adaptation import Adaptation, combined_logits
from cryo_fewshot.encoder import Encoder3D, embed
from cryo_fewshot.protonet import prototype_logits

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import bench  # noqa: E402
import reference  # noqa: E402
from studies.speed import PATHS  # noqa: E402


@pytest.fixture
def pair():
    """The package's encoder and the reference's, with the same weights; an episode of 3 ways, 2 shots, 4 queries."""
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=2, width=8)
    network = reference.encoder(n_blocks=2, width=8)
    network.load_state_dict(dict(zip(network.state_dict(), encoder.state_dict().values(), strict=True)))
    return encoder, network, torch.randn(3, 6, 16, 16, 16)


def test_the_benchmark_writes_what_it_measured(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench.py", "--only", "start_help", "start_torch"]
    done = subprocess.run([*command, "--output", tmp_path / "bench.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench.json").read_text())
    assert set(written["results"]) == {"start_help", "start_torch"}
    assert all(result["seconds"] > 0 and result["peak_gb"] > 0 for result in written["results"].values())
    assert written["machine"]["cores"] >= 1


def test_what_the_page_shows_and_what_is_stored_can_be_measured_again():
    names = bench.all_names()
    assert len(set(names)) == len(names)
    shown = {name for _, _, *pair in PATHS for name in pair if name}
    stored = [
        json.loads(path.read_bytes())["results"] for path in (BENCHMARKS.parent / "results/bench").rglob("*.json")
    ]
    assert stored and shown.union(*stored) <= set(names)


def test_a_peer_is_measured_in_processor_time():
    threads = torch.get_num_threads()
    result = bench.measure("peer_shells_20")
    torch.set_num_threads(threads)  # a measurement has a process of its own otherwise
    assert 0 < result["cpu_seconds"] < 1 and result["seconds"] > 0 and result["added_seconds"] > 0


def test_an_unknown_measurement_is_named():
    with pytest.raises(SystemExit, match=r"'embed_int4' is no measurement: use one of .*embed_bf16"):
        bench.measure("embed_int4")


def test_the_reference_embeds_as_the_package_does(pair):
    encoder, network, volumes = pair
    encoder.eval()
    assert torch.allclose(embed(encoder, volumes[0]), reference.embed(network, volumes[0]), atol=1e-5)


def test_the_reference_has_the_packages_loss(pair):
    encoder, network, volumes = pair
    embeddings = encoder.train()(volumes.flatten(0, 1)).unflatten(0, (3, 6))
    # The reference takes support and query in another order, which batch statistics do not see.
    logits = prototype_logits(embeddings[:, :2], embeddings[:, 2:].flatten(0, 1))
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(3).repeat_interleave(4))
    loss = reference.episode_loss(network.train(), volumes[:, :2], volumes[:, 2:])
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_reference_scores_as_the_package_does(pair):
    encoder, network, volumes = pair
    encoder.eval()
    model = Adaptation(encoder.embedding_dim)
    with torch.no_grad():
        projected = model.project(embed(encoder, volumes.flatten(0, 1)).unflatten(0, (1, 3, 6)))
        head = partial(combined_logits, model)
        right = head(projected[:, :, :2], projected[:, :, 2:].flatten(1, 2)).argmax(-1)[0]
    accuracy = (right == torch.arange(3).repeat_interleave(4)).float().mean().item()
    assert reference.combined_accuracy(network, model, volumes[:, :2], volumes[:, 2:]) == pytest.approx(accuracy)
