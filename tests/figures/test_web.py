"""A figure as SVG: the same bytes each time, colours for both themes, words and numbers that it draws."""

import io
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.figures.charts import accuracy_by_snr, confusion_figure
from cryo_fewshot.figures.web import describe, figure_data, figure_svg

ROWS = [
    {"method": method, "snr": snr, "n_shot": 5, "n_way": 5, "accuracy": accuracy, "ci95": 0.01}
    for method, accuracy in (("baseline", 0.5), ("ProtoNet3D", 0.7))
    for snr in (0.1, 0.03)
]


def test_the_numbers_of_a_chart_are_those_it_was_given():
    data = figure_data(accuracy_by_snr(pd.DataFrame(ROWS)))
    assert data[["series", "x", "y"]].values.tolist() == [[r["method"], f"{r['snr']:g}", r["accuracy"]] for r in ROWS]
    assert (data["high"] - data["low"]).to_numpy() == pytest.approx(0.02)


def test_named_rows_and_colours_of_the_legend_are_kept():
    figure, ax = plt.subplots()
    ax.errorbar([0.5, 0.7], [0, 1], xerr=[0.1, 0.2], fmt="o", label="5-shot")
    ax.set_yticks([0, 1], ["GroEL\n(1OEL)", "Lon"])
    ax.plot([0.1, 0.2, 0.3], [0, 1, 1], color="#0072B2")
    figure.legend([plt.Line2D([], [], color="#0072B2")], ["SNR 0.1"])
    data = figure_data(figure)
    assert data["y"].tolist() == ["GroEL (1OEL)", "Lon", "GroEL (1OEL)", "Lon", "Lon"]
    assert data["series"].tolist() == ["5-shot"] * 2 + ["SNR 0.1"] * 3
    assert data.loc[:1, ["low", "high"]].to_numpy() == pytest.approx(np.array([[0.4, 0.6], [0.5, 0.9]]))
    assert "values from 0.1 to 0.7" in describe(figure)


def test_bars_lines_and_heat_maps_have_numbers_and_pictures_none():
    figure, (left, right) = plt.subplots(1, 2)
    left.barh([0, 1], [3.0, 4.0], label="distance")
    right.plot([1, 2, 5], [7.0, 8.0, 9.0], label="loss")
    right.axhline(3)  # without a name: no number
    right.imshow(np.zeros((3, 3)))
    data = figure_data(figure)
    assert data[["series", "x", "y"]].values.tolist() == [
        ["distance", 3, 0], ["distance", 4, 1], ["loss", 1, 7], ["loss", 2, 8], ["loss", 5, 9]
    ]  # fmt: skip
    cells = figure_data(confusion_figure(np.array([[3, 1], [0, 4]]), ["GroEL", "Lon"]))
    assert cells["y"].tolist() == [75, 25, 0, 100] and cells["series"].tolist() == ["GroEL"] * 2 + ["Lon"] * 2
    assert cells["x"].tolist() == ["GroEL", "Lon"] * 2


def test_svg_is_the_same_each_time_and_carries_words_and_numbers():
    first, second = (figure_svg(accuracy_by_snr(pd.DataFrame(ROWS))) for _ in range(2))
    assert first == second
    names, used = set(re.findall(r' id="(f[^"]+)"', first)), set(re.findall(r"#(f[0-9a-f]{8}-\d+)", first))
    assert used and used == names
    root = ElementTree.fromstring(first)
    title, metadata = (root.find(f"{{*}}{tag}").text for tag in ("title", "metadata"))
    assert "ProtoNet3D" in title and "SNR" in title and "from 0.5 to 0.7" in title
    assert len(pd.read_csv(io.StringIO(metadata))) == len(ROWS)
    assert "5-way 5-shot" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_ink_follows_the_theme_and_colours_of_methods_stay():
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], color="#0072B2")
    ax.set_title("black on white", color="#000000")
    svg = figure_svg(figure)
    assert "stroke: #0072b2; stroke: #0072b2" in svg
    assert "light-dark(#000000, #e6e6e6)" in svg
    kept = figure_svg(confusion_figure(np.eye(2), ["a", "b"]))
    cells = re.search(r'<g id="fixed">.*?</g>', kept, re.DOTALL).group()
    assert "fill: #" in cells and "light-dark" not in cells


def test_a_figure_is_described_by_its_label_or_by_what_it_draws():
    figure, ax = plt.subplots()
    assert describe(figure) == "Figure."
    ax.set(title="left half", xlabel="Epoch")
    assert describe(figure) == "Figure: panel left half (x: Epoch)."
    figure.set_label("A curve that falls")
    assert "<title>A curve that falls</title>" in figure_svg(figure)
