"""Figures: what is drawn is what is there."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter

from cryo_fewshot.adaptation import Adaptation
from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.figures import charts, network, volumes
from cryo_fewshot.figures.style import METHOD_COLOURS, use_style
from cryo_fewshot.simulation.density import mass_density, protein_level, upright
from cryo_fewshot.simulation.structures import load_complex


@pytest.fixture(autouse=True)
def _close_figures():
    use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def ball():
    """A ball of radius 6.2 voxels about voxel (16, 16, 16), with a soft edge."""
    z, y, x = np.mgrid[:32, :32, :32] - 16
    return gaussian_filter((np.sqrt(z**2 + y**2 + x**2) < 6.2).astype(float), 0.8)


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


def test_isosurface_of_a_ball_has_its_radius(ball):
    mesh = volumes.isosurface(ball, 0.5, voxel_size_nm=0.5).data[0]
    radius = np.linalg.norm([mesh.x, mesh.y, mesh.z], axis=0)
    assert np.abs(radius - 6.2 * 0.5).max() < 0.25
    coarse = volumes.isosurface(ball, 0.5, voxel_size_nm=0.5, max_triangles=300).data[0]
    assert 0 < len(coarse.i) <= 300 < len(mesh.i)
    with pytest.raises(UserError, match="level"):
        volumes.isosurface(ball, 2.0, voxel_size_nm=0.5)


def test_turnable_html_repeats_and_is_small():
    apoferritin = load_complex("4V1W")
    density = mass_density(apoferritin.positions_nm, apoferritin.masses_kda, box=36)
    assert density.sum() * 0.5**3 == pytest.approx(apoferritin.mass_kda, rel=1e-3)
    level = protein_level(density, apoferritin.mass_kda, 0.5)
    assert (density > level).sum() * 0.5**3 == pytest.approx(apoferritin.mass_kda * 1.21, rel=0.01)
    html = [volumes.turnable_html(volumes.isosurface(density, level, 0.5), "figure") for _ in range(2)]
    assert html[0] == html[1]
    assert "Plotly.newPlot" in html[0] and len(html[0]) < 300_000


def test_picture_of_a_ball_covers_its_disc(ball):
    alpha = volumes._shaded(ball, 0.5)[..., 3]
    assert alpha.sum() / 3**2 == pytest.approx(np.pi * 6.2**2, rel=0.04)


def test_upright_keeps_hand_and_sets_the_longest_axis_up():
    proteasome = load_complex("3IPM")
    turned = upright(proteasome.positions_nm, proteasome.masses_kda, tilt=0)
    extent = np.ptp(turned, axis=0)  # zyx
    assert extent.argmax() == 1
    before = proteasome.positions_nm[:300].astype(float)
    rotation = np.linalg.lstsq(before - before.mean(0), turned[:300] - turned[:300].mean(0), rcond=None)[0]
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-3)


def test_accuracy_figure_draws_each_row():
    rows = [
        {"method": method, "snr": snr, "n_shot": n_shot, "n_way": 5, "accuracy": 0.5, "ci95": 0.01}
        for method in METHOD_COLOURS
        for snr in (0.03, 0.1)
        for n_shot in (1, 5)
    ]
    rows[0]["ci95"] = float("nan")
    figure = charts.accuracy_by_snr(pd.DataFrame(rows))
    drawn = sum(len(container.lines[0].get_xdata()) for ax in figure.axes for container in ax.containers)
    assert drawn == len(rows) and len(figure.axes) == 2
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.1", "0.03"]
    assert figure.axes[0].get_title() == "5-way 5-shot"
    with pytest.raises(UserError, match="ci95"):
        charts.accuracy_by_snr(pd.DataFrame(rows).drop(columns="ci95"))


def test_slices_share_one_grey_scale_and_show_the_centre():
    noise = np.random.default_rng(0).normal(size=(2, 12, 12, 12))
    figure = volumes.slices_figure(noise, ["one", "two"], voxel_size_nm=2.0, n_slices=3)
    images = [ax.images[0] for ax in figure.axes]
    assert len(images) == 6 and len({image.get_clim() for image in images}) == 1
    assert np.array_equal(images[4].get_array(), noise[1, 6])
    assert [ax.get_title() for ax in figure.axes[:3]] == ["z = −6 nm", "z = 0 nm", "z = +6 nm"]


def test_gallery_draws_each_complex(ball):
    figure = volumes.gallery_figure([ball] * 3, [0.5] * 3, ["a", "b", "c"], voxel_size_nm=0.5, n_columns=2)
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 0]
    assert [len(ax.texts) for ax in figure.axes] == [0, 0, 1, 0]


def test_confusion_is_in_percent_of_each_row():
    figure = charts.confusion_figure([[3, 1], [0, 0]], ["1PMA", "3IPM"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]
    with pytest.raises(UserError, match="one name per row"):
        charts.confusion_figure([[3, 1], [0, 0]], ["1PMA"])


def test_training_figure_marks_the_best_epoch():
    history = {"loss": [1.0, 0.5, 0.6], "validation_accuracy": [0.3, 0.6, 0.5]}
    loss, accuracy = charts.training_figure({"ProtoNet3D": history, "another": history}).axes
    assert len(loss.lines) == 2 and len(accuracy.lines) == 4
    assert accuracy.lines[1].get_xydata().tolist() == [[2, 0.6]]
