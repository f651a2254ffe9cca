"""Calibration on simulated embeddings: thresholds, temperature, and what is refused."""

import json

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.calibration import Calibration, fit_calibration, threshold_for
from cryo_fewshot.recognition.recogniser import build_recogniser

DIM = 10


def test_a_calibration_survives_json(calibration, user):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    support, names, queries, _ = user()
    frames = [build_recogniser(support, names, c).recognise(queries).to_frame() for c in (calibration, again)]
    assert frames[0].equals(frames[1])
    with pytest.raises(UserError, match="calibration"):
        Calibration.from_json({"shots": [1]})


def test_more_shots_are_measured_to_be_better(calibration):
    by_shot = {row["n_shot"]: row for row in calibration.measured}
    assert by_shot[1]["accuracy"] < by_shot[5]["accuracy"] <= by_shot[20]["accuracy"] + 0.01
    assert by_shot[1]["auroc"] < by_shot[5]["auroc"]
    assert all(row["ece"] < 0.05 for row in calibration.measured)


def test_close_relatives_do_not_count_as_outsiders(classes):
    x, labels = classes(12)
    twins = torch.cat([x, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))])
    both = np.r_[labels, labels + 12]
    settings = {"shots": (5,), "n_episodes": 6, "n_axes": DIM}
    apart, together = (
        fit_calibration(twins, both, families=families, **settings) for families in (np.r_[labels, labels], None)
    )
    assert apart.threshold(5, 0.05) < together.threshold(5, 0.05)
    assert apart.measured[0]["kept"] > together.measured[0]["kept"]


def test_too_little_to_calibrate_on_is_refused(classes):
    x, labels = classes(3)
    with pytest.raises(UserError, match="3 held-out classes"):
        fit_calibration(x, labels)
    x, labels = classes(5, n=10)
    with pytest.raises(UserError, match="10 particles in a held-out class"):
        fit_calibration(x, labels)


def test_a_threshold_is_more_careful_with_fewer_classes():
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=1000) + 0.5 * rng.normal() for _ in range(40)]
    few, many = threshold_for(scores[:4], 0.05, 0.9), threshold_for(scores, 0.05, 0.9)
    plain = np.quantile(np.concatenate(scores), 0.95)
    assert plain < many
    assert (
        np.mean([(part >= few).mean() for part in scores[:4]])
        < 0.05
        > np.mean([(part >= many).mean() for part in scores])
    )
