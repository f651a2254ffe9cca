"""Fast paths compute what the plain ones compute: memory-saving training, OpenVINO, bf16."""

import json
import logging
from importlib.util import find_spec

import pytest
import torch

from cryo_fewshot import engines
from cryo_fewshot.compute import autocast
from cryo_fewshot.dataset import SimulatedData
from cryo_fewshot.encoder import Encoder3D, embed, embed_stream
from cryo_fewshot.errors import UserError
from cryo_fewshot.experiments import EncoderRun, Evaluation
from cryo_fewshot.imaging import Microscope
from cryo_fewshot.laboratory import Laboratory
from cryo_fewshot.pooled import PooledEncoder3D
from cryo_fewshot.results import Store
from cryo_fewshot.speed import speed_frame, speed_words
from cryo_fewshot.training import Schedule

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO, an optional engine, is missing")


class LayerByLayer(torch.nn.Sequential):
    """A block as torch runs it by itself."""


def trained(precision, plain=False, box=17, n_steps=2):
    """State, gradients and embeddings after a few steps, with the package's blocks or layer by layer."""
    torch.manual_seed(0)
    encoder, volumes = Encoder3D(box, n_blocks=2, width=8).train(), torch.randn(6, box, box, box)
    if plain:
        encoder.blocks = torch.nn.Sequential(*(LayerByLayer(*block) for block in encoder.blocks))
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    for _ in range(n_steps):
        with autocast(volumes.device, precision):
            embeddings = encoder(volumes)
        optimizer.zero_grad()
        (embeddings.square().mean() + embeddings[0].sum()).backward()
        optimizer.step()
    return [embeddings.detach(), *encoder.state_dict().values(), *(p.grad for p in encoder.parameters())]


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=3, width=8).train()
    encoder(torch.randn(20, 16, 16, 16))  # running statistics away from their start
    with torch.no_grad():
        for _, norm, _, _ in encoder.blocks:
            norm.weight.uniform_(-1, 1)
    return encoder.eval()


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_memory_saving_block_equals_its_layers_bit_for_bit(precision):
    saving, plain = trained(precision), trained(precision, plain=True)
    assert len(saving) == len(plain) == 1 + 2 * 7 + 2 * 4
    assert all(torch.equal(a, b) for a, b in zip(saving, plain, strict=True))


def test_the_same_seed_gives_the_same_bits():
    assert all(torch.equal(a, b) for a, b in zip(trained("bf16"), trained("bf16"), strict=True))


def test_pooling_in_training_keeps_bf16():
    encoder = Encoder3D(box=8, n_blocks=1, width=2).train()
    with autocast(torch.device("cpu"), "bf16"):
        assert encoder.blocks(torch.randn(2, 1, 8, 8, 8)).dtype == torch.bfloat16


def test_training_in_fp32_and_bf16_is_equally_accurate(tmp_path):
    laboratory, scores = Laboratory(Store(tmp_path), torch.device("cpu")), []
    data = SimulatedData(n_per_class=20, microscope=Microscope(box=24, binning=2, voxel_size_nm=1.5))
    for precision in ("fp32", "bf16"):
        run = EncoderRun(
            data=data,
            snr_counts=((0.5, 20),),
            n_blocks=2,
            width=16,
            n_query=10,
            n_validation_episodes=20,
            schedule=Schedule(n_epochs=3, steps_per_epoch=8, learning_rate=1e-3),
            precision=precision,
        )
        evaluation = Evaluation(encoder=run, head="prototype", snr=0.5, n_query=10, n_episodes=200)
        scores.append(laboratory.evaluate(evaluation)["result"])
    fp32, bf16 = scores
    assert fp32["episodes"] == bf16["episodes"]
    assert min(fp32["accuracy"], bf16["accuracy"]) > 0.4  # chance is 0.2
    # The intervals are those of the episodes drawn; two trainings of other seeds differ by some points more.
    assert abs(fp32["accuracy"] - bf16["accuracy"]) < fp32["ci95"] + bf16["ci95"] + 0.03


# ------------------------------------------------------------------ the optional engine


@needs_openvino
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("architecture", ["paper", "pooled"])
def test_openvino_embeds_as_torch_does(encoder, precision, bound, architecture):
    if architecture == "pooled":
        encoder = PooledEncoder3D(16, (8, 16)).eval()
    volumes = torch.randn(11, 16, 16, 16)
    expected = embed(encoder, volumes)
    for engine in ("openvino", "auto"):
        found = embed(encoder, volumes, precision, chunk=4, engine=engine)
        assert found.dtype == torch.float32
        assert relative_error(found, expected) < bound
    streamed = torch.cat(list(embed_stream(encoder, volumes.split(3), precision, engine="openvino")))
    assert relative_error(streamed, expected) < bound


@needs_openvino
def test_a_compiled_network_is_kept_until_the_weights_change(encoder):
    engines._COMPILED.clear()
    volumes = torch.randn(2, 16, 16, 16)
    first = embed(encoder, volumes, engine="openvino")
    embed(encoder, volumes, engine="openvino")
    assert len(engines._COMPILED) == 1
    with torch.no_grad():
        encoder.blocks[0][0].weight.mul_(2)
    assert not torch.allclose(embed(encoder, volumes, engine="openvino"), first)
    assert len(engines._COMPILED) == 2


def test_a_missing_engine_falls_back_and_says_so_once(encoder, monkeypatch, caplog):
    monkeypatch.setattr(engines, "openvino_installed", lambda: False)
    engines._say_once.cache_clear()
    volumes = torch.randn(3, 16, 16, 16)
    with caplog.at_level(logging.WARNING, logger="cryo_fewshot.engines"):
        for engine in ("auto", "openvino", "openvino"):
            assert torch.equal(embed(encoder, volumes, engine=engine), embed(encoder, volumes))
    assert len(caplog.records) == 1
    assert "OpenVINO is not installed" in caplog.text


def test_unknown_words_are_refused(encoder):
    for settings in ({"engine": "steam"}, {"precision": "int4"}):
        with pytest.raises(UserError, match=r"is unknown: use one of"):
            embed(encoder, torch.zeros(1, 16, 16, 16), **settings)


# ------------------------------------------------------------------ the benchmark's words


def test_what_was_not_run_is_said_and_not_tabulated(tmp_path):
    about = {"processor": "any", "cores": 2, "gpu": "none", "torch": "2", "date": "today"}
    seconds = {"seconds": 0.002, "peak_gb": 1.0}
    results = {
        "embed_reference": {"seconds": 0.02, "peak_gb": 1.0},
        "embed_bf16": seconds,
        "gpu_train_bf16": {"not_run": "no CUDA device", "peak_gb": 1.0},
        "gpu_train_reference": {"not_run": "no CUDA device", "peak_gb": 1.0},
        "agreement_bf16": {
            "equal": 0.996,
            "queries": 10_000,
            "weights": "trained",
            "accuracy": 0.75,
            "accuracy_reference": 0.76,
        },
    }
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"machine": about, "results": results}))
    frame = speed_frame(path)
    assert frame["path"].tolist() == ["embedding, bf16"]
    assert frame["ratio"][0] == pytest.approx(10)
    words = speed_words(path)
    assert "Not measured in this run: no CUDA device." in words
    assert "99.60% of 10,000 queries of the paper's encoder" in words
