"""Fast paths compute what the plain ones compute: memory-saving training, OpenVINO, bf16."""

import copy
import json
from importlib.util import find_spec

import engines
import pytest
import torch
from engines import EMBED, EightBitBlock, EightBitEncoder, openvino_embed
from studies.speed import agreement_frame, show_agreement, speed_frame, speed_text

from cryo_fewshot.device import autocast
from cryo_fewshot.encoder import ConvBlock, Encoder3D, PooledEncoder3D, embed
from cryo_fewshot.errors import UserError
from cryo_fewshot.fused import patch_moments
from cryo_fewshot.reproduction.evaluations import Evaluation
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.reproduction.trainings import EncoderRun
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.training import Schedule

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO, an optional engine, is missing")


def stepped(block, features, dtype=torch.float64, precision="fp32", device="cpu"):
    """What a block gives in training, its running statistics, and the gradients of its parameters."""
    block = copy.deepcopy(block).to(device, dtype).train()
    with autocast(torch.device(device), precision):
        result = block(features.to(device, dtype))
    torch.manual_seed(1)
    result.backward(torch.randn(result.shape, dtype=torch.float64).to(result))
    found = {
        "result": result.detach(),
        "running_mean": block[1].running_mean,
        "running_var": block[1].running_var,
        "n_batches": block[1].num_batches_tracked,
        "weight": block[0].weight.grad,
        "norm.weight": block[1].weight.grad,
        "norm.bias": block[1].bias.grad,
    }
    return {name: value.cpu() for name, value in found.items()}


def block_and_layers(in_channels):
    """A block with scales of either sign, and its layers as torch runs them one by one."""
    torch.manual_seed(0)
    block = ConvBlock(in_channels, 8)
    torch.nn.init.normal_(block[1].weight)
    torch.nn.init.normal_(block[1].bias)
    return block, torch.nn.Sequential(*block)


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


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("edge", [8, 17])
def test_the_memory_saving_block_equals_its_layers(in_channels, edge, device):
    features = torch.randn(9, in_channels, edge, edge, edge) + 0.3
    block, layers = block_and_layers(in_channels)
    saving, plain = stepped(block, features, device=device), stepped(layers, features)
    for name, expected in plain.items():
        torch.testing.assert_close(saving[name], expected, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_later_blocks_equal_their_layers_bit_for_bit(precision):
    """In bf16 the forward pass does; the gradient of its BatchNorm is taken in fp32."""
    features = torch.randn(6, 3, 17, 17, 17)
    saving, plain = (stepped(block, features, torch.float32, precision) for block in block_and_layers(3))
    names = plain if precision == "fp32" else ("result", "running_mean", "running_var", "n_batches")
    assert all(torch.equal(saving[name].float(), plain[name].float()) for name in names)


def test_blocks_in_bf16_lose_no_more_than_their_layers_do():
    features = torch.randn(20, 1, 16, 16, 16)
    block, layers = block_and_layers(1)
    exact = stepped(layers, features)
    saving, plain = (stepped(kind, features, torch.float32, "bf16") for kind in (block, layers))
    for name in ("result", "weight"):
        lost, lost_by_layers = (relative_error(found[name], exact[name]) for found in (saving, plain))
        assert 0 < lost < 1.2 * lost_by_layers, name


def test_patch_moments_are_those_of_all_patches():
    torch.manual_seed(0)
    volumes = torch.randn(70, 7, 6, 5) + 0.5  # more than one part
    patches = torch.nn.functional.pad(volumes, (1,) * 6).unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1).reshape(-1, 27)
    mean, covariance = patch_moments(volumes)
    torch.testing.assert_close(mean, patches.mean(0))
    torch.testing.assert_close(covariance, torch.cov(patches.T, correction=0))


def test_the_same_seed_gives_the_same_bits():
    features = torch.randn(9, 1, 16, 16, 16)
    first, again = (stepped(block_and_layers(1)[0], features, torch.float32, "bf16") for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_pooling_in_training_keeps_bf16():
    encoder = Encoder3D(box=8, n_blocks=1, width=2).train()
    with autocast(torch.device("cpu"), "bf16"):
        assert encoder.blocks(torch.randn(2, 1, 8, 8, 8)).dtype == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_epoch_does_not_wait_for_the_gpu(tmp_path):
    runner = Runner(Store(tmp_path))
    microscope = Microscope(box=24, binning=2, voxel_size_nm=1.5)
    schedule = Schedule(n_epochs=1, steps_per_epoch=4)
    run = EncoderRun(
        data=SimulatedData(n_per_class=12, microscope=microscope),
        snr_counts=((0.5, 12),),
        n_blocks=2,
        width=8,
        n_query=3,
        schedule=schedule,
    )
    encoder = Encoder3D(12, 2, 8).to(runner.device).train()
    base = runner.volumes(run, "base")
    losses = run.episode_losses(encoder, base, epoch=0)
    next(losses)  # the epoch's episodes go to the device
    torch.cuda.set_sync_debug_mode("error")
    try:
        for loss in losses:
            loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_training_in_fp32_and_bf16_is_equally_accurate(tmp_path):
    runner, scores = Runner(Store(tmp_path), torch.device("cpu")), []
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
        scores.append(runner(evaluation)["result"])
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


@needs_openvino
def test_a_compiled_network_is_kept_until_the_weights_change(encoder):
    engines._COMPILED.clear()
    volumes = torch.randn(2, 16, 16, 16)
    first = openvino_embed(encoder, volumes)
    openvino_embed(encoder, volumes)
    assert len(engines._COMPILED) == 1
    with torch.no_grad():
        encoder.blocks[0][0].weight.mul_(2)
    assert not torch.allclose(openvino_embed(encoder, volumes), first)
    assert len(engines._COMPILED) == 2


def test_an_unknown_precision_is_refused(encoder):
    with pytest.raises(UserError, match=r"is unknown: use one of"):
        embed(encoder, torch.zeros(1, 16, 16, 16), precision="int4")


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
