"""Agreement with the authors' released network and attention, on weights and volumes that were recorded once.

The reference holds numbers only: weights and twelve volumes as float16 values, and what the released code made of them
in fp32. It is read from the folder `shared` beside the checkout.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.adaptation import Adaptation, adapted_logits, both_distances, combined_logits
from cryo_fewshot.encoder import Encoder3D, embed
from cryo_fewshot.protonet import prototype_logits, prototypes, squared_distances
from cryo_fewshot.training import episode_loss

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "paper" / "parity_reference.npz"
pytestmark = pytest.mark.skipif(not REFERENCE.is_file(), reason="numbers of the released code (../shared) are absent")
N_SUPPORT = 2  # of 3 classes with 4 volumes each, support first


def recorded(name: str) -> torch.Tensor:
    """An array of the reference as float32."""
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        return torch.from_numpy(arrays[name].astype(np.float32))


@pytest.fixture(scope="module")
def encoder():
    encoder = Encoder3D()
    with torch.no_grad():
        for i, (convolution, norm, _, _) in enumerate(encoder.blocks):
            for layer, kind in ((convolution, "conv"), (norm, "norm")):
                for name, value in layer.state_dict().items():
                    if name != "num_batches_tracked":
                        value.copy_(recorded(f"encoder.{i}.{kind}.{name}"))
    return encoder


@pytest.fixture(scope="module")
def volumes():
    return recorded("volumes").flatten(0, 1)


def attention(variant: str, layer_norm: bool) -> Adaptation:
    model = Adaptation(512, variant, layer_norm).eval()
    parts = {"query": model.to_query, "key": model.to_key, "value": model.to_value, "output": model.output}
    if layer_norm:
        parts["norm"] = model.norm
    with torch.no_grad():
        for part, layer in parts.items():
            for name, value in layer.state_dict().items():
                value.copy_(recorded(f"attention.{part}.{name}"))
    return model


def support_and_queries(by_class: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return by_class[:, :N_SUPPORT], by_class[:, N_SUPPORT:].flatten(0, 1)


def agree(found: torch.Tensor, expected: torch.Tensor, atol: float = 4e-6):
    torch.testing.assert_close(found.to(expected), expected, rtol=0, atol=atol)


def test_embeddings_agree(encoder, volumes):
    expected = recorded("expected.embeddings")
    encoder.eval()
    with torch.no_grad():
        agree(encoder(volumes).unflatten(0, (3, 4)), expected)
    agree(embed(encoder, volumes).unflatten(0, (3, 4)), expected)


def test_distances_agree():
    support, queries = support_and_queries(recorded("expected.embeddings"))
    agree(squared_distances(queries, prototypes(support)), recorded("expected.d"))


@pytest.mark.parametrize("variant", ["inductive", "transductive"])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_distances_after_the_attention_agree(variant, layer_norm):
    model = attention(variant, layer_norm)
    expected = recorded(f"expected.d_star.{variant}.layer_norm_{layer_norm}")
    with torch.no_grad():
        support, queries = support_and_queries(model.project(recorded("expected.embeddings")))
        support, queries = support[None], queries[None]
        d, d_star = both_distances(model, support, queries)
        agree(d[0], recorded("expected.d"))
        agree(d_star[0], expected)
        agree(adapted_logits(model, support, queries)[0], -expected)
        agree(combined_logits(model, support, queries)[0], -(recorded("expected.d") + expected))


def test_the_loss_agrees_in_evaluation(encoder, volumes):
    encoder.eval()
    with torch.no_grad():
        loss = training_loss(encoder(volumes))
    agree(loss, recorded("expected.loss.protonet.eval"))


def training_loss(embedded: torch.Tensor) -> torch.Tensor:
    return episode_loss(prototype_logits(*support_and_queries(embedded.unflatten(0, (3, 4)))))


def test_the_loss_and_its_gradients_agree_in_training(encoder, volumes):
    """In fp64; the recorded norms are those of fp32.

    Between them lie a few maxima of the pooling that are within rounding of their neighbours: torch's own layers give
    the recorded norms to the last digits in fp32, and these ones, up to 0.2 % beside them, in fp64.
    """
    exact = copy.deepcopy(encoder).double().train()
    loss = training_loss(exact.blocks(volumes.double()[:, None]).flatten(1))
    loss.backward()
    assert loss.item() == pytest.approx(recorded("expected.loss.protonet.train").item(), rel=4e-6)

    kinds = ("weight", "bias", "norm.weight", "norm.bias")
    norms = [0.0 if value.grad is None else value.grad.norm().item() for value in exact.parameters()]
    found = dict(zip(kinds, np.reshape(norms, (4, 4)).T, strict=True))
    expected = dict(zip(kinds, recorded("expected.gradient_norms").numpy().reshape(4, 4).T, strict=True))
    for kind in ("weight", "norm.weight", "norm.bias"):
        np.testing.assert_allclose(found[kind], expected[kind], rtol=2.5e-3)
        np.testing.assert_allclose(found[kind][3], expected[kind][3], rtol=1e-4)  # above it lies no such maximum
    # BatchNorm takes a convolution's bias off again: its gradient is zero, and in fp32 rounding.
    assert (found["bias"] < 1e-9).all() and (expected["bias"] < 1e-5 * expected["weight"]).all()


def test_every_recorded_quantity_is_compared():
    with np.load(REFERENCE, allow_pickle=False) as arrays:
        expected = {name for name in arrays if name.startswith("expected.")}
    stars = {f"expected.d_star.{v}.layer_norm_{n}" for v in ("inductive", "transductive") for n in (False, True)}
    losses = {"expected.loss.protonet.eval", "expected.loss.protonet.train"}
    assert expected == stars | losses | {"expected.embeddings", "expected.d", "expected.gradient_norms"}
