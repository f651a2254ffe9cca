"""Pictures of volumes show the volume: its surface, its size, its centre."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryo_fewshot.errors import UserError
from cryo_fewshot.figures import volumes


@pytest.fixture(scope="module")
def ball():
    """A ball of radius 6.2 voxels about voxel (16, 16, 16), with a soft edge."""
    z, y, x = np.mgrid[:32, :32, :32] - 16
    return gaussian_filter((np.sqrt(z**2 + y**2 + x**2) < 6.2).astype(float), 0.8)


def test_isosurface_of_a_ball_has_its_radius(ball):
    mesh = volumes.isosurface(ball, 0.5, voxel_size_nm=0.5).data[0]
    radius = np.linalg.norm([mesh.x, mesh.y, mesh.z], axis=0)
    assert np.abs(radius - 6.2 * 0.5).max() < 0.25
    coarse = volumes.isosurface(ball, 0.5, voxel_size_nm=0.5, max_triangles=300).data[0]
    assert 0 < len(coarse.i) <= 300 < len(mesh.i)
    with pytest.raises(UserError, match="level"):
        volumes.isosurface(ball, 2.0, voxel_size_nm=0.5)


def test_turnable_html_repeats_and_is_small(ball):
    html = [volumes.turnable_html(volumes.isosurface(ball, 0.5, 0.5), "figure") for _ in range(2)]
    assert html[0] == html[1]
    assert "Plotly.newPlot" in html[0] and len(html[0]) < 300_000


def test_picture_of_a_ball_covers_its_disc(ball):
    alpha = volumes._shaded(ball, 0.5)[..., 3]
    assert alpha.sum() / 3**2 == pytest.approx(np.pi * 6.2**2, rel=0.04)


def test_slices_share_one_grey_scale_and_show_the_centre():
    noise = np.random.default_rng(0).normal(size=(2, 12, 12, 12))
    figure = volumes.slices_figure(noise, ["one", "two"], voxel_size_nm=2.0)
    images = [ax.images[0] for ax in figure.axes]
    assert len(images) == 10 and len({image.get_clim() for image in images}) == 1
    assert np.array_equal(images[7].get_array(), noise[1, 6])
    assert [ax.get_title() for ax in figure.axes[:5:2]] == ["z = −6 nm", "z = 0 nm", "z = +6 nm"]


def test_gallery_draws_each_complex(ball):
    figure = volumes.gallery_figure([ball] * 3, [0.5] * 3, ["a", "b", "c"], voxel_size_nm=0.5, n_columns=2)
    assert [len(ax.images) for ax in figure.axes] == [1, 1, 1, 0]
    assert [len(ax.texts) for ax in figure.axes] == [0, 0, 1, 0]
