"""Studies beyond the paper: conformations, other test data, more classes per training episode."""

import pytest
import torch
from studies.transfer import TILT_RANGES, conformations, tilt_geometries, training_ways, transferred, variations_frame

from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, spec_name
from cryo_fewshot.reproduction.tables import mean_over_seeds

SMOKE = profile_named("smoke")


def ways_of(ways, splits=(0,)):
    return training_ways(SMOKE, ways=ways, snr=0.1, shots=[5], splits=splits)


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
    plain = ways_of([5])[0].evaluation
    assert transfer == transferred(plain, plain.encoder.data, plain.encoder.split.novel)
    first, second = runner.run([transfer, plain])
    assert first["result"]["n_correct"] == second["result"]["n_correct"]


def test_training_episodes_may_have_more_classes_than_validation_has(tmp_path):
    runner = Runner(Store(tmp_path))
    (cell,) = ways_of([8])
    assert (cell.evaluation.encoder.n_way, cell.evaluation.n_way) == (8, 5)
    result = runner(cell.evaluation)["result"]
    assert result["n_queries"] == 5 * SMOKE.n_query


def test_conformations_are_tested_two_by_two():
    variations = conformations(SMOKE, complexes=["2CG9"], angles=[20.0], snrs=[0.1], seeds=[0])
    evaluation = variations[0].evaluation
    assert evaluation.n_way == 2
    assert evaluation.novel_classes == ("2CG9 bent by 0", "2CG9 bent by 20")
    assert not set(evaluation.novel_classes) & set(evaluation.encoder.split.base)


def test_mean_over_seeds_gives_the_error_of_the_mean():
    variations = tilt_geometries(SMOKE, {"±60°": {}}, seeds=[0, 1, 2])
    entries = [{"result": {"n_correct": [n, n], "n_queries": 10}} for n in (4, 5, 6)]
    (row,) = mean_over_seeds(variations_frame(variations, entries), "trained_on").itertuples()
    assert (row.accuracy, row.n_seeds) == (pytest.approx(0.5), 3)
    assert row.error == pytest.approx(0.1 / 3**0.5)
