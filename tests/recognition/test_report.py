"""The report: what stands in the file, not how it looks."""

import base64
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cryo_fewshot.averaging.alignment import Poses
from cryo_fewshot.averaging.averages import Average, Refined
from cryo_fewshot.evaluation import reliability
from cryo_fewshot.figures import volumes
from cryo_fewshot.recognition import report as room
from cryo_fewshot.recognition.output import Outcome
from cryo_fewshot.recognition.report import write_report
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.recognition.support_check import SupportCheck

NAMES = ("GroEL", "<script>alert(1)</script>", "empty ünd")


def particles(n=60, n_classes=3):
    """A table of n particles and, as the readers give them, their middle slices."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    table = pd.DataFrame(
        {
            "class": np.array(NAMES)[labels],
            "runner_up": np.array(NAMES)[(labels + 1) % n_classes],
            "probability": np.linspace(0.4, 1, n),
            "q_value": np.linspace(0.6, 0, n),
            "accepted": np.arange(n) % 4 > 0,
            "reason": "",
        }
    )
    embeddings = rng.normal(size=(n, 8)) + 4 * np.eye(8)[labels]
    return table, torch.from_numpy(embeddings), rng.normal(size=(n, 20, 20))


def ball():
    z, y, x = np.mgrid[:16, :16, :16] - 8
    return np.exp(-(x**2 + y**2 + z**2) / 18).astype(np.float32)


def average(density=None, fall=2.0):
    """Twenty particles, protein dark as `refine` gives it; the curve falls to 0.143 at 0.43 per nm for fall 2."""
    density = torch.from_numpy(-(ball() if density is None else density))
    frequencies = np.linspace(0, 0.5, 9)
    one = Average(density, torch.ones_like(density))
    return Refined(
        average=one,
        half_maps=(one, one),
        poses=Poses(np.tile([0.0, 0, 0, 1], (20, 1)), np.zeros((20, 3))),
        halves=np.arange(20) % 2,
        frequencies_per_nm=frequencies,
        fsc=np.ones(9),
        corrected_fsc=np.append(1 - fall * frequencies[:-1], np.nan),
        history=(),
    )


COUNTS = pd.DataFrame({"class": NAMES, "particles": [20, 20, 20], "resolution (nm)": [2.5, np.inf, np.nan]})
SUPPORT = SupportCheck(None, None, np.ones(15), 0.8, 0.6, 0.9, 1.0, ("particle 3 & 4 are <one>",))
POINTS = [
    {"q_value": q, "n": 40 + i, "wrong": 3.0, "at_most": 9, "precision": 0.9, "recall": 0.5 + i / 10}
    for i, q in enumerate((None, 0.01, 0.1))
]
RELIABILITY = [{"probability": 0.8, "accuracy": 0.75, "n": 40, "crowded": False, "n_shot": 5}]


class Query(list):
    """Names of particles, of which the first can be read, and their slices."""

    voxel_size_nm = 1.0

    def __init__(self, n, slices):
        super().__init__(range(n))
        self.names, self.slices = [f"tomo/{i}.mrc" for i in range(n)], torch.from_numpy(slices)

    def read(self, chosen, box, nm):
        return self.slices[chosen][:, None], {}


def report(folder, n=60, n_particles=None, slices=None, settings=None, reliability=RELIABILITY, **changes):
    """Text of a report and the data that its script reads."""
    path = folder / "run 1" / "report.html"
    table, embeddings, found = particles(n)
    conditions = SimpleNamespace(crowding=0.0, n_shot=2)
    recogniser = SimpleNamespace(check=changes.pop("support", SUPPORT), conditions=conditions)
    fields = {"counts": COUNTS, "averages": {"GroEL": average()}, "points": POINTS, "groups": {}, "to_label": ()}
    outcome = Outcome(**{"table": table, "recogniser": recogniser, **fields, **changes})
    query = Query(n_particles or n, found if slices is None else slices)
    card = {"box": 20, "voxel_size_nm": 1.0, "reliability": reliability}
    write_report(path, query, outcome, np.arange(n), embeddings, settings or Settings(), card, ["a/b.star: all read"])
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    return text, json.loads(data)


def test_the_file_stands_alone(tmp_path):
    text, _ = report(tmp_path)
    own = text.replace(text[text.index("<script>") : text.index('<script type="application/json"')], "")
    assert not re.findall(r"(?:src|href)\s*=\s*['\"](?!data:)", own)
    assert "Plotly" in text and len(text) < 10e6


def test_everything_that_was_given_is_there(tmp_path):
    text, data = report(tmp_path, settings=Settings(false_accept_rate=0.0523))
    for words in ("80%", "60% to 90%", "empty ünd", "a/b.star: all read", "0.0523", "<p>60 particles", "–"):
        assert words in text
    assert "<h1>Classification of 60 particles</h1>" in text
    assert sum(len(trace["x"]) for trace in data["map"]["data"]) == 60
    assert len(data["particles"]) == 60
    assert data["averages"]["GroEL"]["surface"]["data"][0]["type"] == "mesh3d"
    assert "40 are accepted; about 3 of them are expected to be wrong, at most\n9 (90 % confidence" in text
    assert data["points"] == POINTS and len(data["q_values"]) == 60
    assert [*data["reliability"].values()] == [RELIABILITY] and "id='reliability'" in text
    assert "id='reliability'" not in report(tmp_path, reliability=())[0]
    assert "2.3 nm at FSC 0.143" in data["averages"]["GroEL"]["text"]


def test_every_count_of_a_class_is_a_column(tmp_path):
    counts = pd.DataFrame({"class": NAMES, "accepted": [7, 8, 1234], "most probable": 9, "100 %": [0.5, np.nan, 0.123]})
    text, _ = report(tmp_path, counts=counts)
    assert "<tr><th>class</th><th>accepted</th><th>most probable</th><th>100 %</th></tr>" in text
    assert re.findall(r"<td>([^<]*)</td>", text)[:9] == ["7", "9", "0.5", "8", "9", "–", "1,234", "9", "0.123"]


def test_names_from_files_cannot_run_as_scripts(tmp_path):
    text, data = report(tmp_path, averages={NAMES[1]: average()})
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in data["particles"][1]
    assert "&lt;script&gt;alert" in data["averages"][NAMES[1]]["text"]
    assert "particle 3 &amp; 4 are &lt;one&gt;" in text


def test_a_sample_is_said_to_be_one_even_where_nothing_of_it_can_be_read(tmp_path):
    text, _ = report(tmp_path, n_particles=9000)
    assert "60 of 9,000 particles, drawn at random" in text
    text, data = report(tmp_path, n=0, n_particles=9000)
    assert "0 of 9,000 particles" in text
    assert data["atlas"] is None and not data["particles"]


def test_flat_averages_and_missing_parts_are_no_obstacle(tmp_path):
    text, data = report(tmp_path, averages={"GroEL": average(np.zeros((8, 8, 8), np.float32), fall=20)})
    assert data["averages"]["GroEL"]["surface"] is None
    assert "the half maps do not agree" in data["averages"]["GroEL"]["text"]
    _, data = report(tmp_path, averages={"GroEL": average(fall=0)})
    assert "finer than 2.3 nm, all that its voxels show" in data["averages"]["GroEL"]["text"]
    text, data = report(tmp_path, averages={}, support=replace(SUPPORT, tested=np.zeros(15), warnings=()))
    assert "Averages" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "cannot be checked" in text and "Nothing looks wrong" in text


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert report(tmp_path / "a")[0] == report(tmp_path / "b")[0]


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
