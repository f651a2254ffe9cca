"""Both encoders: the paper's size, the layers one by one, and the folded forms."""

import pytest
import torch

from cryo_fewshot.encoder import Encoder3D, PooledEncoder3D, embed, embed_stream
from cryo_fewshot.errors import UserError


def test_the_papers_encoder_has_the_papers_size():
    encoder = Encoder3D()
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 334_272
    assert encoder.embedding_dim == 512
    assert encoder(torch.zeros(2, 40, 40, 40)).shape == (2, 512)


def test_pooling_before_relu_changes_nothing():
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=2, width=6).train()
    volumes = torch.randn(5, 16, 16, 16)
    features = volumes[:, None]
    for convolution, norm, pool, relu in encoder.blocks:
        features = pool(relu(norm(convolution(features))))
    torch.testing.assert_close(encoder(volumes), features.flatten(1))
    assert [norm.num_batches_tracked.item() for _, norm, _, _ in encoder.blocks] == [2, 2]


def test_blocks_train_with_the_kernels_that_save_memory():
    first, second = Encoder3D(box=8, n_blocks=2, width=2).train().blocks
    features = first(torch.randn(2, 1, 8, 8, 8))
    assert "ConvPoolReLU" in type(features.grad_fn).__name__
    assert "NormPoolReLU" in type(second(features).grad_fn).__name__
    assert "NormPoolReLU" in type(first(torch.randn(2, 1, 8, 8, 8, requires_grad=True)).grad_fn).__name__
    assert "Relu" in type(second.eval()(features).grad_fn).__name__


def test_the_folded_encoder_equals_the_encoder_in_evaluation():
    torch.manual_seed(0)
    encoder = Encoder3D(box=16, n_blocks=3, width=8).train()
    for _ in range(3):
        encoder(torch.randn(20, 16, 16, 16))  # running statistics away from their start
    with torch.no_grad():
        for _, norm, _, _ in encoder.blocks:
            norm.weight.uniform_(-1, 1)  # negative scales too
            norm.bias.uniform_(-1, 1)
    encoder.eval()
    volumes = torch.randn(9, 16, 16, 16)
    with torch.no_grad():
        assert torch.allclose(encoder.folded()(volumes), encoder(volumes), rtol=1e-4, atol=1e-5)
        assert torch.allclose(embed(encoder, volumes, chunk=2), encoder(volumes), rtol=1e-4, atol=1e-5)
        streamed = torch.cat(list(embed_stream(encoder, volumes.split(4))))
        assert torch.allclose(streamed, encoder(volumes), rtol=1e-4, atol=1e-5)
        in_bf16 = embed(encoder, volumes, precision="bf16")
        assert ((in_bf16 - encoder(volumes)).norm() / encoder(volumes).norm()) < 1e-2


def test_embeddings_keep_no_gradients():
    encoder, volumes = Encoder3D(8, 1, 2), torch.randn(3, 8, 8, 8, requires_grad=True)
    assert not embed(encoder, volumes).requires_grad
    assert not any(part.requires_grad for part in embed_stream(encoder, volumes.split(2)))


def test_a_wrong_box_is_refused_with_both_sizes():
    with pytest.raises(UserError, match=r"\(28, 28, 28\).*40\^3"):
        Encoder3D()(torch.zeros(1, 28, 28, 28))
    with pytest.raises(UserError, match=r"\(24, 24, 24\).*20\^3"):
        embed(PooledEncoder3D(20, (2, 2)), torch.zeros(1, 24, 24, 24))  # in evaluation form, too
    for box, n_blocks in ((8, 4), (15, 4)):
        with pytest.raises(UserError, match="too small"):
            Encoder3D(box, n_blocks)
    assert Encoder3D(box=16, n_blocks=4, width=2).embedding_dim == 2
    assert Encoder3D(box=25, n_blocks=2, width=3).embedding_dim == 3 * 6**3


def test_an_unknown_precision_is_refused():
    with pytest.raises(UserError, match=r"is unknown: use one of"):
        embed(Encoder3D(8, 1, 2), torch.zeros(1, 8, 8, 8), precision="int4")


def with_statistics(encoder):
    """An encoder whose norms have met data, so that folding them has something to fold."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.uniform_(-1, 2)
                module.bias.normal_()
        for _ in range(20):
            encoder.train()(torch.randn(8, *(encoder.box,) * 3))
    return encoder.eval()


def test_folded_pooled_encoder_gives_the_same_embeddings():
    encoder = with_statistics(PooledEncoder3D(20, (8, 8, 16)))
    volumes = torch.randn(6, 20, 20, 20)
    assert encoder.embedding_dim == 16
    with torch.no_grad():
        assert torch.allclose(encoder.folded()(volumes), encoder(volumes), atol=1e-4, rtol=1e-4)


def test_pooled_encoder_costs_what_the_papers_does():
    def multiplications(encoder):
        counts = []
        handles = [
            module.register_forward_hook(
                lambda m, inputs, output: counts.append(output[0, 0].numel() * m.weight.numel())
            )
            for module in encoder.modules()
            if isinstance(module, torch.nn.Conv3d)
        ]
        encoder.eval()(torch.zeros(2, 20, 20, 20))
        for handle in handles:
            handle.remove()
        return sum(counts)

    assert multiplications(PooledEncoder3D()) < 1.06 * multiplications(Encoder3D(20, 3))


def test_pooled_encoder_refuses_other_boxes():
    with pytest.raises(UserError, match="boxes of 20"):
        PooledEncoder3D()(torch.zeros(1, 16, 16, 16))
    with pytest.raises(UserError, match="box=4 is too small for 3 halvings"):
        PooledEncoder3D(4, (4, 4, 4, 4))
    for widths in ((4,), (0, 4)):
        with pytest.raises(UserError, match="widths"):
            PooledEncoder3D(20, widths)
    assert PooledEncoder3D(4, (1, 1, 2)).embedding_dim == 2
    assert PooledEncoder3D().widths == (32, 64, 128)
