"""Studies beyond the paper: conformations, other test data, more classes per training episode."""

import numpy as np
import pytest
import torch
from studies.transfer import TILT_RANGES, conformations, tilt_geometries, training_ways, transferred, variations_frame

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, spec_name
from cryo_fewshot.reproduction.tables import mean_over_seeds
from cryo_fewshot.simulation.conformations import Conformations, bent
from cryo_fewshot.simulation.structures import load_complex

SMOKE = profile_named("smoke")


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
    data = Conformations(class_set="1QVR", angles_degrees=(0.0, 30.0), n_per_class=4, microscope=SMOKE.data.microscope)
    subtomograms = data.subtomograms({0.1: 3}, data.class_names, "cpu")
    assert subtomograms.class_names == ("1QVR bent by 0", "1QVR bent by 30")
    assert len(subtomograms) == 6
    with pytest.raises(UserError, match="angle of its own"):
        Conformations(class_set="1QVR", angles_degrees=(10.0, 10.0))


def test_an_evaluation_on_other_data_meets_other_volumes_in_the_same_tasks(tmp_path):
    runner = Runner(Store(tmp_path))
    variations = tilt_geometries(SMOKE, {name: TILT_RANGES[name] for name in ("±60°", "±40°")}, seeds=[0])
    same, other = (variation.evaluation for variation in variations[:2])
    assert same.encoder == other.encoder and spec_name(same) != spec_name(other)
    assert same.episodes().digest == other.episodes().digest
    assert not torch.equal(same.embeddings(runner), other.embeddings(runner))
    frame = variations_frame(variations, runner.run(v.evaluation for v in variations))
    assert list(zip(frame["trained_on"], frame["tested_on"], strict=True)) == [
        ("±60°", "±60°"), ("±60°", "±40°"), ("±40°", "±60°"), ("±40°", "±40°")
    ]  # fmt: skip


def test_testing_on_its_own_data_equals_the_plain_evaluation(tmp_path):
    runner = Runner(Store(tmp_path))
    transfer = tilt_geometries(SMOKE, {"±60°": {}}, seeds=[0])[0].evaluation
    plain = training_ways(SMOKE, ways=[5], shots=[5], seeds=[0])[0].evaluation
    assert transfer == transferred(plain, plain.encoder.data, plain.encoder.split.novel)
    first, second = runner.run([transfer, plain])
    assert first["result"]["n_correct"] == second["result"]["n_correct"]


def test_training_episodes_may_have_more_classes_than_validation_has(tmp_path):
    runner = Runner(Store(tmp_path))
    (variation,) = training_ways(SMOKE, ways=[8], shots=[5], seeds=[0])
    assert (variation.evaluation.encoder.n_way, variation.evaluation.n_way) == (8, 5)
    result = runner(variation.evaluation)["result"]
    assert result["n_queries"] == 5 * SMOKE.n_query


def test_conformations_are_tested_two_by_two():
    variations = conformations(SMOKE, complexes=["2CG9"], angles=[20.0], snrs=[0.1], seeds=[0])
    evaluation = variations[0].evaluation
    assert evaluation.n_way == 2
    assert evaluation.novel_classes == ("2CG9 bent by 0", "2CG9 bent by 20")
    assert not set(evaluation.novel_classes) & set(evaluation.encoder.split.base)


def test_mean_over_seeds_gives_the_error_of_the_mean():
    variations = training_ways(SMOKE, ways=[5], shots=[5], seeds=[0, 1, 2])
    entries = [{"result": {"n_correct": [n, n], "n_queries": 10}} for n in (4, 5, 6)]
    (row,) = mean_over_seeds(variations_frame(variations, entries), "trained_on").itertuples()
    assert (row.accuracy, row.n_seeds) == (pytest.approx(0.5), 3)
    assert row.error == pytest.approx(0.1 / 3**0.5)
