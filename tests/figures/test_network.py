"""Figure 3 shows the networks as they are: shapes, parameters, multiply-adds."""

import pytest
import torch

from cryo_fewshot.adaptation import Adaptation
from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.figures import network


def test_traced_encoder_is_the_real_one():
    encoder = Encoder3D(box=24, n_blocks=3, width=5)
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    stages = network.trace_encoder(encoder)
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert sum(stage.parameters for stage in stages) == sum(p.numel() for p in encoder.parameters())
    features = torch.zeros(1, 1, 24, 24, 24)
    expected = [tuple(features.shape[1:])]
    for block in encoder.blocks:
        for layer in block:
            features = layer(features)
            expected.append(tuple(features.shape[1:]))
    expected.append((encoder.embedding_dim,))
    assert [stage.shape for stage in stages] == expected


def test_encoder_of_the_paper_has_the_numbers_quoted():
    stages = network.trace_encoder(Encoder3D())
    assert sum(stage.parameters for stage in stages) == 334_272
    assert sum(stage.multiply_adds for stage in stages) == pytest.approx(1.12e9, rel=1e-3)
    assert stages[-1].shape == (512,)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_traced_adaptation_is_the_real_one(layer_norm):
    adaptation = Adaptation(16, layer_norm=layer_norm)
    stages = {stage.name: stage for stage in network.trace_adaptation(adaptation, n_way=3)}
    assert sum(stage.parameters for stage in stages.values()) == sum(p.numel() for p in adaptation.parameters())
    assert stages["weights"].shape == (4, 4)
    assert stages["to_key"].multiply_adds == 4 * 16 * 16
    assert {stages[name].shape for name in ("tokens", "to_query", "mixed", "output", "adapted")} == {(4, 16)}


def test_architecture_figure_writes_the_traced_numbers():
    encoder = Encoder3D(box=24, n_blocks=2, width=6)
    stages = network.trace_encoder(encoder)
    attention = network.trace_adaptation(Adaptation(encoder.embedding_dim), n_way=3)
    figure = network.architecture_figure(stages, attention, n_way=3)
    words = "\n".join(text.get_text() for text in figure.axes[0].texts)
    for expected in ("6 × 12³", "6 × 6³", "4 × 1296", "3 prototypes", f"{encoder.embedding_dim**2:,}"):
        assert expected in words
    total = network.stages_table(stages).iloc[-1]
    assert total["Parameters"] == f"{sum(p.numel() for p in encoder.parameters()):,}"
