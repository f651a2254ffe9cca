"""The report: what stands in the file, not how it looks."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.averaging.alignment import Poses
from cryo_fewshot.averaging.averages import Average, Refined
from cryo_fewshot.recognition.report import N_UNCERTAIN, principal_map, write_report

NAMES = ("GroEL", "<script>alert(1)</script>", "empty ünd")


def particles(n=60, n_classes=3):
    """What a report is given of n particles."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_classes
    table = pd.DataFrame(
        {
            "name": [f"tomo/{i}.mrc" for i in range(n)],
            "class": np.array(NAMES)[labels],
            "runner_up": np.array(NAMES)[(labels + 1) % n_classes],
            "probability": np.linspace(0.4, 1, n),
            "q_value": np.linspace(0.6, 0, n),
            "accepted": np.arange(n) % 4 > 0,
        }
    )
    embeddings = rng.normal(size=(n, 8)) + 4 * np.eye(8)[labels]
    return {"particles": table, "embeddings": embeddings, "slices": rng.normal(size=(n, 20, 20)), "n_particles": n}


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
SUPPORT = {"accuracy": 0.8, "low": 0.6, "high": 0.9, "n_tested": 15, "warnings": ["particle 3 & 4 are <one>"]}
POINTS = [
    {"q_value": q, "n": 40 + i, "wrong": 3.0, "at_most": 9, "precision": 0.9, "recall": 0.5 + i / 10}
    for i, q in enumerate((None, 0.01, 0.1))
]
RELIABILITY = {"calibration": [{"probability": 0.8, "accuracy": 0.75, "n": 40}], "yours": []}


def report(folder, **changes):
    """Text of a report and the data that its script reads."""
    path = folder / "run 1" / "report.html"
    inputs = {"counts": COUNTS, "averages": {"GroEL": average()}, "average_voxel_nm": 1.0, "support": SUPPORT}
    inputs |= {"points": POINTS, "reliability": RELIABILITY, "groups": {}, "to_label": ()}
    write_report(path, **{**inputs, **particles(), "settings": {}, **changes})
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)
    return text, json.loads(data)


def test_the_file_stands_alone(tmp_path):
    text, _ = report(tmp_path)
    own = text.replace(text[text.index("<script>") : text.index('<script type="application/json"')], "")
    assert not re.findall(r"(?:src|href)\s*=\s*['\"](?!data:)", own)
    assert "Plotly" in text and len(text) < 10e6


def test_everything_that_was_given_is_there(tmp_path):
    text, data = report(tmp_path, settings={"query": "a/b.star", "false accept rate": 0.05})
    for words in ("80%", "60% to 90%", "empty ünd", "a/b.star", "0.05", "<p>60 particles", "–"):
        assert words in text
    assert "<h1>Classification of 60 particles</h1>" in text
    assert sum(len(trace["x"]) for trace in data["map"]["data"]) == 60
    assert len(data["particles"]) == 60
    assert data["averages"]["GroEL"]["surface"]["data"][0]["type"] == "mesh3d"
    assert "40 are accepted; about 3 of them are expected to be wrong, at most\n9 (90 % confidence" in text
    assert data["points"] == POINTS and len(data["q_values"]) == 60
    assert data["reliability"] == {"calibration": RELIABILITY["calibration"]} and "id='reliability'" in text
    assert "id='reliability'" not in report(tmp_path, reliability={})[0]
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


def test_the_map_holds_each_particle_once_under_its_class(tmp_path):
    _, data = report(tmp_path)
    given, (rejected, *classes) = particles()["particles"], data["map"]["data"]
    assert rejected["customdata"] == np.flatnonzero(~given["accepted"]).tolist()
    for name, trace in zip(NAMES, classes, strict=True):
        assert trace["customdata"] == np.flatnonzero(given["accepted"] & (given["class"] == name)).tolist()
    assert len({(trace["marker"]["color"], trace["marker"]["symbol"]) for trace in classes}) == 3


def test_a_slice_lies_in_the_sheet_where_the_script_looks_for_it(tmp_path):
    import base64
    import io

    from PIL import Image

    slices = np.zeros((60, 20, 20))
    slices[:, :5, :5] = 1
    slices[17] = 1 - slices[17]  # the only one that is bright but for a corner
    _, data = report(tmp_path, slices=slices)
    atlas = data["atlas"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(atlas["picture"].split(",")[1]))))
    row, column = divmod(17, atlas["columns"])
    means = picture.reshape(atlas["rows"], 20, atlas["columns"], 20).mean(axis=(1, 3))
    assert np.unravel_index(means.argmax(), means.shape) == (row, column)


def test_a_sample_is_said_to_be_one_even_where_nothing_of_it_can_be_read(tmp_path):
    text, _ = report(tmp_path, n_particles=9000)
    assert "60 of 9,000 particles, drawn at random" in text
    text, data = report(tmp_path, **{**particles(0), "n_particles": 9000})
    assert "0 of 9,000 particles" in text
    assert data["atlas"] is None and not data["particles"]


def test_the_least_certain_come_first(tmp_path):
    text, _ = report(tmp_path)
    captions = re.findall(r"<small>tomo/(\d+)\.mrc</small></figcaption>", text)
    assert captions == [str(i) for i in range(N_UNCERTAIN)]


def test_flat_averages_and_missing_parts_are_no_obstacle(tmp_path):
    text, data = report(tmp_path, averages={"GroEL": average(np.zeros((8, 8, 8), np.float32), fall=20)})
    assert data["averages"]["GroEL"]["surface"] is None
    assert "the half maps do not agree" in data["averages"]["GroEL"]["text"]
    _, data = report(tmp_path, averages={"GroEL": average(fall=0)})
    assert "finer than 2.3 nm, all that its voxels show" in data["averages"]["GroEL"]["text"]
    text, data = report(tmp_path, averages={}, support={**SUPPORT, "n_tested": 0, "warnings": []})
    assert "Averages" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "cannot be checked" in text and "Nothing looks wrong" in text


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert report(tmp_path / "a")[0] == report(tmp_path / "b")[0]


def test_the_map_is_along_the_longest_axes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 5)) * [0.1, 3, 0.1, 1, 0.1] + 7
    places, shares = principal_map(x)
    assert abs(np.corrcoef(places[:, 0], x[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(places[:, 1], x[:, 3])[0, 1]) > 0.99
    assert shares[0] == pytest.approx(0.9, abs=0.03)
