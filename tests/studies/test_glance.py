"""The first page: the picture of the method, and numbers that are read off the runs."""

import numpy as np
import pandas as pd
import torch
from studies.averages import packed
from studies.glance import Glance, glance_figure, three_numbers

from cryo_fewshot.figures.web import describe
from cryo_fewshot.hashing import spec_dict


def test_as_many_rings_as_were_labelled_and_a_cloud_per_class():
    spec = Glance(encoder="ab", n_labelled=2)
    rng = np.random.default_rng(0)
    result = {
        "slab": rng.normal(size=(16, 16)).tolist(),
        "centres": rng.uniform(-8, 8, size=(12, 2)).tolist(),
        "kinds": [0, 1, 2] * 4,
        "labelled": rng.normal(size=(3, 2, 5, 5)).tolist(),
        "places": rng.normal(size=(3, 7, 2)).tolist(),
    }
    average = {"density": packed(torch.rand(12, 12, 12)), "n_particles": 40}
    names = {key: f"name of {key}" for key in spec.classes}
    figure = glance_figure(spec_dict(spec), result, dict.fromkeys(spec.classes, average), names)
    tomogram, embedded = figure.axes[0], figure.axes[-1]
    assert len(tomogram.patches) == 3 * spec.n_labelled
    assert sorted(len(dots.get_offsets()) for dots in embedded.collections) == [1] * 3 + [2] * 3 + [5] * 3
    assert all(name in figure.get_label() for name in names.values())
    assert describe(figure).startswith("Figure")


def test_three_numbers_are_of_the_most_labels_and_the_least_noise():
    rows = [("A", 5, 0.1, 0.81), ("B", 5, 0.1, 0.7), ("A", 1, 0.1, 0.99), ("A", 5, 0.03, 0.99)]
    table = pd.DataFrame(rows, columns=["method", "n_shot", "snr", "accuracy"]).assign(n_episodes=100, n_way=5)
    expected = [{"snr": 0.1, "n_shot": 5, "accuracy": 0.98}, {"snr": 0.03, "n_shot": 5, "accuracy": 0.5}]
    spec = {"outsiders": ["x", "y"], "n_particles": 60, "false_accept_rate": 0.05}
    text = three_numbers(table, expected, {"spec": spec, "result": {"false_accepts": 0.01, "kept": 0.62}})
    for part in (">81%<", "(A)", ">98%<", ">1%<", "of 120 particles", "at most 5%", "62%"):
        assert part in text
