"""The kernels that train in little memory compute what the layers compute one by one."""

import copy
from types import SimpleNamespace

import pytest
import torch

from cryo_fewshot import fused
from cryo_fewshot.device import autocast
from cryo_fewshot.encoder import ConvBlock, Encoder3D
from cryo_fewshot.fused import at_a_time, patch_moments


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


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("edge", [8, 17])
@pytest.mark.parametrize("in_parts", [False, True])
def test_the_memory_saving_block_equals_its_layers(in_channels, edge, device, in_parts, monkeypatch):
    if in_parts:  # of four volumes, as if these were large
        monkeypatch.setattr(fused, "at_a_time", lambda volumes, few: few)
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


def test_volumes_are_taken_so_many_at_a_time_that_they_stay_in_cache():
    assert [at_a_time(torch.zeros(1, box, box, box), 4) for box in (80, 40, 20)] == [4, 4, 32]
    assert at_a_time(SimpleNamespace(is_cuda=True), 4) == 1024


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


@pytest.mark.parametrize("in_channels", [1, 3])
def test_gradients_of_gradients_are_refused_not_wrong(in_channels):
    block, _ = block_and_layers(in_channels)
    result = block.train()(torch.randn(2, in_channels, 8, 8, 8))
    (gradient,) = torch.autograd.grad(result.square().sum(), block[0].weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
