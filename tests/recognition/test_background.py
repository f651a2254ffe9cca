"""Boxes of the background as a class and as decoys."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.tomograms import Boxes, Tomogram
from cryo_fewshot.recognition.background import (
    BACKGROUND,
    against_background,
    background_of,
    background_text,
    with_background,
)


def test_boxes_of_the_background_are_cut_where_a_tomogram_has_room():
    def cut_from(*shape):
        source = Boxes(["p"], (Tomogram(Path("t.mrc"), shape, 1.0),), np.zeros(1, int), np.full((1, 3), 6.0), (12,))
        table = pd.DataFrame({"x": ["6"]})
        return Particles(names=["p"], source=source, voxel_size_nm=1.0, box=12, labels=["a"], table=table)

    query = cut_from(12, 40, 40)
    found = background_of(query, 3, 5)
    expected = query.source.background(3, 5)
    assert found.names == expected.names == found.source.names and len(found) == 3
    np.testing.assert_array_equal(found.source.centres, expected.centres)
    assert found.labels is None and found.table is None
    assert background_of(query, 0, 5) is None and background_of(cut_from(12, 12, 12), 3, 5) is None
    assert background_of(Particles(names=["p"], source=None, voxel_size_nm=1.0, box=12), 3, 5) is None


def test_half_of_the_readable_boxes_are_a_class_and_half_are_decoys():
    boxes = torch.arange(14.0).reshape(7, 2)
    boxes[3] = torch.nan
    support, labels, decoys = with_background(torch.zeros(2, 2), ["a", "b"], boxes)
    assert labels == ["a", "b", *[BACKGROUND] * 3]
    np.testing.assert_array_equal(support[2:, 0], [0, 4, 10])
    np.testing.assert_array_equal(decoys[:, 0], [2, 8, 12])


def test_a_particle_whose_class_changes_beside_the_background_has_no_evidence():
    table = pd.DataFrame({"class": ["a", "a", "b", ""], "score": [3.0, 3.0, 1.0, np.nan]})
    table = table.assign(p_value=[0.01, 0.01, 0.02, np.nan], accepted=[True, True, True, False])
    decoys = pd.DataFrame({"class": ["b", "a"], "score": [2.0, 1.0], "accepted": [True, False]})
    p_value = against_background(table, np.array(["a", BACKGROUND, "b", ""]), decoys)
    np.testing.assert_allclose(p_value, [0.01, 1, 0.5, np.nan])
    said = background_text(table, p_value, p_value <= 0.05, decoys)
    assert "2 particles are rejected for it (1 whose class changes, 1 that" in said and "If b is background" in said


@pytest.mark.parametrize(("n_of_a", "advised"), [(0, False), (1, False), (2, True)])
def test_a_class_that_takes_a_tenth_of_the_decoys_may_be_background(n_of_a, advised):
    decoys = pd.DataFrame({"class": "a", "accepted": np.arange(20) < n_of_a})
    table = pd.DataFrame({"accepted": [True, False, True]})
    said = background_text(table, np.array([0.01, 1, 0.2]), np.array([True, False, False]), decoys)
    assert "1 particles are rejected for it (0 whose class changes, 1 that decoys equal)" in said
    by_class = f" ({n_of_a} as a)" if n_of_a else ""
    assert f"Without it {n_of_a} of the decoys would be accepted{by_class}" in said
    assert said.endswith(by_class) != advised
    assert ("If a is background, name it with --junk" in said) == advised
