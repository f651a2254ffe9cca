"""The check of an encoder's promises, on embeddings whose classes are known."""

import torch
from studies.calibration_check import CalibrationCheck, checked_tasks, embedded_classes

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.hashing import spec_digest


def test_promises_about_classes_far_apart_hold(calibration, particles):
    spec = CalibrationCheck(encoder="", shots=(1, 5), ways=(5, 12, 20), n_tasks=20)
    rows = checked_tasks(*particles(12, 1), calibration, spec)
    asked = [(row["n_shot"], row["n_way"], row["transductive"]) for row in rows]
    assert asked == [(shot, way, mode) for shot in (1, 5) for way in (5, 12) for mode in (False, True)]
    for row in rows:
        assert row["ece"] <= 0.06 and row["bound_held"] >= 0.85
        assert row["ece"] >= abs(row["accuracy"] - row["probability"]) - 1e-4
        if row["n_way"] == 5:
            assert row["false_accepts"] <= 0.06 and row["worst"] >= row["false_accepts"]
            assert row["fdr"] <= spec.fdr + 0.02
        else:
            assert row["false_accepts"] is row["could_keep"] is None
    assert rows[4]["kept_right"] > 0.9 and rows[4]["accepted_accuracy"] > 0.97


def test_a_task_is_the_same_for_the_same_seed(calibration, particles):
    spec = CalibrationCheck(encoder="", shots=(1,), ways=(3,), n_tasks=3)
    first, second = (checked_tasks(*particles(8, 1), calibration, spec) for _ in range(2))
    assert first == second


def test_crowded_particles_are_the_same_classes_with_something_beside_them():
    spec = CalibrationCheck(encoder="", classes=("1OEL", "3UWX"), n_per_class=4, crowded=True)
    torch.manual_seed(0)
    encoder = PooledEncoder3D(20, (4, 8)).eval()
    (alone, names), (crowded, again) = (embedded_classes(spec, encoder, 0.1, among) for among in (False, True))
    assert names.tolist() == again.tolist() == ["1OEL"] * 4 + ["3UWX"] * 4
    assert alone.shape == crowded.shape and not torch.allclose(alone, crowded)
    assert torch.equal(crowded, embedded_classes(spec, encoder, 0.1, crowded=True)[0])
    assert spec_digest(spec) != spec_digest(CalibrationCheck(encoder="", classes=("1OEL", "3UWX"), n_per_class=4))
