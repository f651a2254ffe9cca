"""What the geometry of the user's data must not depend on."""

import numpy as np
import torch

from cryo_fewshot.recognition.domain import space_of_data
from cryo_fewshot.recognition.plda import PLDA


def test_neither_the_unit_of_a_column_nor_that_of_the_encoders_axes_counts():
    rng = np.random.default_rng(0)
    mean, axes, between = rng.normal(size=4), rng.normal(size=(4, 3)), np.array([1.0, 3.0, 8.0])
    own = np.repeat(np.arange(3), 12)
    rows = 2 * rng.normal(size=(3, 8))[own] + rng.normal(size=(36, 8))
    members = torch.eye(3)[own[::6]]
    units = np.r_[np.ones(4), 1e-3, 1e3, 1e-4, 1e-2]

    def projected(space, rows):
        given = torch.from_numpy(rows)
        found = space_of_data(space, (3, 1), given[::6], members, given)
        assert np.isfinite(found.axes).all()
        return np.abs((rows - found.mean) @ found.axes), found.between

    expected = projected(PLDA(mean=mean, axes=axes, between=between), rows)
    small = PLDA(mean=mean, axes=1e-3 * axes, between=1e-6 * between)
    for found in (projected(PLDA(mean=mean, axes=axes, between=between), rows * units), projected(small, rows)):
        for part, of_expected in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, of_expected, rtol=1e-3, atol=1e-3)
