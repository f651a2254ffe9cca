"""The study of real boxes: stored rows as tables, and the sets outside the project where they are there."""

import re

import numpy as np
import pytest
import torch
from studies import real_particles_figures as figures
from studies.pretrained import Pretrained
from studies.real_benchmark import (
    SMALL_SETS,
    YEAST,
    RealBenchmark,
    RealSlices,
    boxes_of,
    real_boxes,
    rotated,
    tomogram_of,
)

from cryo_fewshot.recognition.benchmark import TOOL
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder

needs_real = pytest.mark.skipif(not YEAST.is_dir(), reason="the real boxes (../shared/real) are absent")


@needs_real
def test_a_real_tomogram_is_told_apart_from_five_labels(tmp_path):
    runner = Runner(Store(tmp_path), show_progress=False)
    settings = {"shots": (5,), "halves": ("odd",), "n_episodes": 3, "n_training": 50}
    data, pretrained = tomogram_of(YEAST, *load_encoder()), Pretrained(*load_encoder())
    entry = runner(RealBenchmark(encoder=pretrained.digest, boxes="", **settings), pretrained, data)
    assert entry["result"]["boxes"]["all"]["ribosome80S"] == 268
    rows = figures.benchmark_rows([entry])
    table = figures.benchmark_frame(rows, "odd").set_index(["Task, odd half", "Method"])["5 labels"]
    assert float(table["all five", TOOL][:5]) > 0.9
    assert float(table["all five", "classify --no-adapt"][:5]) < float(table["all five", TOOL][:5])
    assert "Boxes in the odd half" in figures.benchmark_text(rows)
    (right,) = re.findall(r"`classify` recognises ([\d.]+)%", figures.benchmark_finding(rows))
    assert float(right) == pytest.approx(100 * float(table["all five", TOOL][:5]), abs=0.1)
    assert len(figures.benchmark_figure(rows).axes) == 2
    assert figures.benchmark_rows([entry], figures.PICKS).empty


def test_pictures_are_middle_slices_of_each_class(tmp_path):
    volumes, labels = torch.arange(40.0).repeat_interleave(125).view(40, 5, 5, 5), np.array(["a", "b"] * 20)
    entry = Runner(Store(tmp_path), show_progress=False)(RealSlices(boxes="digest", n_shown=3), volumes, labels)
    slices = {name: np.array(found) for name, found in entry["result"]["slices"].items()}
    assert slices["a"].shape == slices["b"].shape == (3, 5, 5)
    assert (slices["a"] % 2 == 0).all() and (slices["b"] % 2 == 1).all()
    assert len(figures.yeast_slices_figure(entry).axes) == 6


@needs_real
def test_small_sets_are_read_with_protein_dark(tmp_path):
    _, card = load_encoder()
    particle, lumen = (boxes_of(kind, card)[:, 7:13, 7:13, 7:13].mean() for kind in ("80S", "microtubule"))
    assert particle < -0.2 < 0.2 < lumen
    entry = real_boxes(Runner(Store(tmp_path), show_progress=False), Pretrained(*load_encoder()), SMALL_SETS[0])
    assert figures.small_sets_frame([entry])["Method"].tolist() == ["classify", "power alone (control)"] * 2


def test_a_rotation_keeps_the_middle():
    volume = np.zeros((1, 9, 9, 9))
    volume[0, 4, 4, 4] = 1.0
    turned = rotated(volume, np.random.default_rng(0))
    assert turned[0].argmax() == volume.argmax() and turned.max() > 0.99
