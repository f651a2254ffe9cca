"""The sizes from which stated columns count, one by one."""

import numpy as np

from cryo_fewshot.particles import stated


def test_from_which_size_on_each_column_counts_and_which_refuse():
    particles = {f"rlnTomoSubtomogram{angle}": 1 for angle in ("Rot", "Tilt", "Psi")} | {"rlnPhaseShift": 5}
    particles |= {f"rlnOrigin{axis}{unit}": least for axis in "XYZ" for unit, least in (("Angst", 20), ("", 2))}
    refused = {("rlnIsFlip", "both"), *((f"rlnOrigin{axis}", "coordinates") for axis in "XYZ")}
    expected = {(name, "particles"): above for name, above in particles.items()} | dict.fromkeys(refused, 0)
    expected["rlnCtfDataArePhaseFlipped", "both"] = 0
    assert {(column.name, column.of): column.above for column in stated.STATED} == expected
    assert {(column.name, column.of) for column in stated.STATED if column.refuses} == refused


def test_a_share_is_below_1_and_a_flag_is_a_number():
    assert not stated.SHARE.holds(np.array([1.0, 1.5, 7.0, -0.5])).any()
    assert not stated.FLAG.holds(np.array([np.nan, 2.0, -1.0])).any()
