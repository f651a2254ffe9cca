"""Conformations of one complex: one half bent against the other."""

import numpy as np
import pytest
from studies.conformations import Conformations, bent

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.structures import load_complex


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def test_bending_moves_each_half_as_a_rigid_body():
    straight, masses = bent("1QVR", 0.0)
    curved, _ = bent("1QVR", 40.0)
    upper = straight[:, 1] > 0
    for half in (upper, ~upper):
        np.testing.assert_allclose(distances(straight[half]), distances(curved[half]), atol=2e-3)
    assert np.abs(distances(straight) - distances(curved)).max() > 1
    np.testing.assert_allclose(np.average(curved, axis=0, weights=masses), 0, atol=1e-4)


def test_the_straight_form_is_the_complex_itself_and_not_its_mirror_image():
    entry = load_complex("1QVR")
    straight, _ = bent("1QVR", 0.0)
    np.testing.assert_allclose(distances(straight[::7]), distances(entry.positions_nm[::7]), atol=2e-3)
    corners = [0, len(straight) // 3, 2 * len(straight) // 3, len(straight) - 1]

    def handedness(positions):
        a, b, c = (positions[i] - positions[corners[0]] for i in corners[1:])
        return np.linalg.det(np.stack([a, b, c]).astype(float))

    assert handedness(straight) == pytest.approx(handedness(entry.positions_nm), rel=1e-2)


def test_conformations_are_classes_of_a_set():
    data = Conformations(class_set="1QVR", angles_degrees=(0.0, 30.0), n_per_class=4, microscope=Microscope(binning=4))
    subtomograms = data.subtomograms({0.1: 3}, data.class_names, "cpu")
    assert subtomograms.class_names == ("1QVR bent by 0", "1QVR bent by 30")
    assert len(subtomograms) == 6
    with pytest.raises(UserError, match="angle of its own"):
        Conformations(class_set="1QVR", angles_degrees=(10.0, 10.0))
