"""Pictures, places, styles and numbers of the report, one by one."""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cryo_fewshot.evaluation import reliability
from cryo_fewshot.figures import volumes
from cryo_fewshot.recognition import report as room


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))))


def test_grey_runs_from_the_1st_to_the_99th_percentile_in_equal_steps():
    ramp = np.tile(np.arange(101.0), (2, 1))
    levels = room._grey(np.stack([ramp, 7 * ramp - 3]), 16)
    share = np.clip((np.arange(101) - 1) / 98, 0, 1)
    np.testing.assert_array_equal(levels, np.tile(np.round(share * 15) * 17, (2, 2, 1)))
    assert levels.dtype == np.uint8 and set(np.unique(room._grey(ramp[None], 64))) == set(range(0, 253, 4))
    assert not room._grey(np.full((1, 4, 4), np.nan), 16).any()


@pytest.mark.parametrize(("n", "columns", "rows"), [(1, 1, 1), (4, 2, 2), (5, 3, 2), (7, 3, 3)])
def test_the_atlas_holds_slices_row_by_row(n, columns, rows):
    slices = np.random.default_rng(0).normal(size=(n, 6, 5))
    atlas, tiles = room._atlas(slices), room._grey(slices, 16)
    assert (atlas["columns"], atlas["rows"]) == (columns, rows)
    sheet = pixels(atlas["picture"])
    assert sheet.shape == (rows * 6, columns * 5)
    for i in range(rows * columns):
        row, column = divmod(i, columns)
        tile = sheet[row * 6 : row * 6 + 6, column * 5 : column * 5 + 5]
        np.testing.assert_array_equal(tile, tiles[i] if i < n else 0)
    assert room._atlas(slices[:0]) is None


def test_numbers_are_shown_as_people_read_them():
    shown = {2.51234: "2.51", np.inf: "–", float("nan"): "–", 12345: "12,345", np.int64(12345): "12,345", "x": "x"}
    assert [room._number_text(value) for value in shown] == list(shown.values())
    assert room._number_text(True) == "True" and room._number_text(None) == "None"


def test_every_class_has_a_style_of_its_own_for_a_while():
    styles = [tuple(room._style(i).values()) for i in range(21)]
    assert len(set(styles)) == 21 and styles[0][1:] == styles[6][1:] != styles[7][1:]
    assert styles[0][0] == styles[7][0] and styles[0] == tuple(room._style(7 * len(room.SYMBOLS)).values())


def test_places_on_the_map_are_the_exact_principal_axes_with_fixed_signs():
    x = np.random.default_rng(0).normal(size=(30, 4)) * [3, 1, 2, 0.5]
    x[3] = np.nan
    filled = np.nan_to_num(x) - np.nan_to_num(x).mean(0)
    _, values, axes = np.linalg.svd(filled, full_matrices=False)
    signs = np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(1)])
    places, shares = room.principal_map(x)
    np.testing.assert_allclose(places, filled @ axes[:2].T * signs)
    np.testing.assert_allclose(shares, values[:2] ** 2 / (values**2).sum())
    for flat in (x[:1], np.ones((5, 3))):
        assert not room.principal_map(flat)[0].any() and not room.principal_map(flat)[1].any()
    one = room.principal_map(np.array([[1.0], [2.0], [6.0]]))
    np.testing.assert_allclose(one[0], [[-2, 0], [-1, 0], [3, 0]])
    np.testing.assert_allclose(one[1], [1, 0])


def test_an_average_is_shown_above_the_bulk_of_solvent(monkeypatch):
    given = {}

    def isosurface(density, level, voxel_size_nm, max_triangles):
        given.update(density=density, level=level, voxel_size_nm=voxel_size_nm, max_triangles=max_triangles)
        return SimpleNamespace(to_json=lambda: '{"layout": {"template": 1, "kept": 2}}')

    monkeypatch.setattr(volumes, "isosurface", isosurface)
    density = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))
    refined = SimpleNamespace(
        average=SimpleNamespace(density=density),
        corrected_fsc=np.array([1.0, 0.98765, np.nan]),
        frequencies_per_nm=np.array([0, 0.123456, 0.2]),
        halves=np.zeros(1234),
        resolution_text="3.0 nm",
    )
    found = room._average("a", refined, 1.5, "red")
    negative = -density.numpy()
    np.testing.assert_array_equal(given["density"], negative)
    assert given["level"] == pytest.approx(negative.mean() + 2.5 * negative.std(), rel=1e-5)
    assert given["voxel_size_nm"] == 1.5 and given["max_triangles"] == room.MAX_TRIANGLES
    assert found["fsc"] == {"x": [0.0, 0.1235], "y": [1.0, 0.9876]} and found["surface"] == {"layout": {"kept": 2}}
    assert found["text"] == "a: 1,234 particles, 3.0 nm" and found["colour"] == "red"


def test_dots_are_rejected_or_accepted_of_a_class():
    particles = pd.DataFrame({"class": list("aabb"), "accepted": [True, False, True, True]})
    embeddings = np.array([[0.0, 1.23456], [4, 0], [1, 7], [2, 3]])
    styles = {name: {"colour": name, "symbol": name} for name in "abc"}
    found = room._map(particles, embeddings, styles, {"colour": "grey", "symbol": "circle"})
    assert [trace["customdata"] for trace in found["data"]] == [[1], [0], [2, 3], []]
    assert [trace["marker"]["opacity"] for trace in found["data"]] == [0.4, 0.75, 0.75, 0.75]
    places, shares = room.principal_map(embeddings)
    assert found["data"][2]["x"] == places[2:, 0].round(3).tolist()
    assert found["data"][2]["y"] == places[2:, 1].round(3).tolist()
    assert found["titles"][1] == f"principal axis 2 ({shares[1]:.0%} of the variance)"
    assert found["data"][0]["marker"] == {"color": "grey", "symbol": "circle", "size": 6, "opacity": 0.4}


def test_the_least_probable_are_shown_with_those_that_cannot_be_read_first():
    particles = pd.DataFrame(
        {
            "class": list("abcd"),
            "runner_up": list("bcda"),
            "name": list("wxyz"),
            "probability": [0.9, np.nan, 0.2, 0.5],
            "accepted": [True, False, True, False],
        }
    )
    slices = np.random.default_rng(0).normal(size=(4, 70, 70))
    found = room._tiles(particles, slices, room._least_certain(particles)[:3])
    assert [text[3:4] for text, _ in found] == ["b", "c", "d"]
    assert found[1][0] == "<b>c</b> 0.20<br>then d<br><small>y</small>"
    assert found[2][0] == "<b>d</b> 0.50, <em>rejected</em><br>then a<br><small>z</small>"
    np.testing.assert_array_equal(pixels(found[1][1]), room._grey(slices[2], 64))


@pytest.mark.parametrize(
    ("n_shot", "crowding", "name"),
    [
        (2.4, 0.49, "1 labels a class, alone in the box"),
        (3.0, 0.5, "4 labels a class, as in cells"),
        (9, 0.0, "4 labels"),
    ],
)
def test_reliability_is_that_of_like_conditions_and_of_three_labels(n_shot, crowding, name):
    rows = [{"crowded": crowded, "n_shot": n, "p": 0.5} for crowded in (False, True) for n in (1, 4)]
    check = SimpleNamespace(probability=np.linspace(0.3, 1, 8), right=np.arange(8) % 2, tested=np.arange(8) > 0)
    conditions = SimpleNamespace(n_shot=n_shot, crowding=crowding)
    recogniser = SimpleNamespace(conditions=conditions, check=check)
    found = room._reliability(recogniser, {"reliability": rows})
    first = next(iter(found))
    assert name in first and first.startswith("calibration, ") and len(found[first]) == 1
    own = found.get("your labelled particles, each left out")
    assert (own is None) == (n_shot < 3)
    if own:
        assert own == reliability(check.probability[1:], check.right[1:], n_bins=5)
    assert len(room._reliability(recogniser, {})) == (n_shot >= 3)
