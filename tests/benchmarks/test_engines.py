"""The alternative engines embed as torch does: OpenVINO, and eight bits."""

import json
from importlib.util import find_spec

import pytest
import torch
from engines import EMBED, EightBitBlock, EightBitEncoder, openvino_embed
from studies.speed import agreement_frame, show_agreement, speed_frame, speed_text

from cryo_fewshot.encoder import Encoder3D, PooledEncoder3D, embed
from cryo_fewshot.errors import UserError

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO, an optional engine, is missing")


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


# ------------------------------------------------------------------ the optional engine


@needs_openvino
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("architecture", ["paper", "pooled"])
def test_openvino_embeds_as_torch_does(encoder, precision, bound, architecture):
    if architecture == "pooled":
        encoder = PooledEncoder3D(16, (8, 16)).eval()
    volumes = torch.randn(11, 16, 16, 16)
    expected = embed(encoder, volumes)
    found = openvino_embed(encoder, volumes, precision, chunk=4)
    assert found.dtype == torch.float32
    assert relative_error(found, expected) < bound


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize("architecture", ["paper", "pooled"])
def test_eight_bits_in_the_second_block_lose_little(encoder, architecture, engine):
    if architecture == "pooled":
        encoder = PooledEncoder3D(16, (8, 16, 16)).eval()
    volumes = torch.randn(11, 16, 16, 16)
    expected = embed(encoder, volumes)
    eight_bit = EightBitEncoder(encoder, torch.randn(20, 16, 16, 16))
    for precision in ("fp32", "bf16"):
        error = relative_error(EMBED[engine](eight_bit, volumes, precision), expected)
        assert 1e-4 < error < 3e-2, precision  # rounded, and not by much
    assert torch.equal(embed(encoder, volumes), expected)


def test_the_mean_error_of_eight_bits_is_taken_off(encoder):
    block, features = encoder.folded().blocks[1], torch.rand(20, 8, 8, 8, 8) + 1
    with torch.no_grad():
        rounded, exact = EightBitBlock(block, features).before_relu(features), block.before_relu(features)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded.mean((0, 2, 3, 4)), exact.mean((0, 2, 3, 4)), rtol=0, atol=1e-5)


def test_eight_bits_need_a_second_block():
    with pytest.raises(UserError, match="single block"):
        EightBitEncoder(Encoder3D(8, 1, 4).eval(), torch.randn(2, 8, 8, 8))


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
            "relative_error": 0.004,
        },
        "agreement_openvino_bf16": {"not_run": "OpenVINO is not installed"},
    }
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({"machine": about, "results": results}))
    frame = speed_frame(path)
    assert frame["path"].tolist() == ["embedding, bf16"]
    assert frame["ratio"][0] == pytest.approx(10)
    assert "Not measured in this run: OpenVINO is not installed; no CUDA device." in speed_text(path)
    same = agreement_frame(path)
    assert same[["encoder", "computed", "equal"]].values.tolist() == [["the paper's", "bf16", 0.996]]
    assert "99.60%" in show_agreement(same).to_html()
