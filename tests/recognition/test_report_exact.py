"""The map of few particles."""

import numpy as np
import pytest

from cryo_fewshot.recognition.report import principal_map


@pytest.mark.parametrize(
    ("x", "distances", "shares"),
    [
        ([[0, 0], [3, 4]], [2.5, 2.5], [1, 0]),
        ([[7, 1]], [0], [0, 0]),
        ([[1, 1, 1]] * 3, [0, 0, 0], [0, 0]),
        ([[0.0, 0], [6, 0], [3, 4.5]], [np.hypot(3, 1.5), np.hypot(3, 1.5), 3], [18 / 31.5, 13.5 / 31.5]),
    ],
)
def test_a_map_keeps_distances_from_the_mean_and_tells_the_shares_of_its_axes(x, distances, shares):
    places, found = principal_map(np.array(x, float))
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), distances, atol=1e-9)
    np.testing.assert_allclose(found, shares, atol=1e-9)
