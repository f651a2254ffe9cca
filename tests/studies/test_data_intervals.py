"""Intervals that count classes and particles."""

import numpy as np
import pytest
from studies.data_intervals import QueryCounts, intervals_frame, two_stage_interval

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store


def test_one_class_is_the_standard_error_of_its_particles():
    right = np.random.default_rng(0).integers(0, 11, size=(1, 400))
    low, high = two_stage_interval(right, np.full_like(right, 10))
    assert (high - low) / 2 == pytest.approx(1.96 * (right / 10).std() / 20, rel=0.08)
    assert low < (right / 10).mean() < high


def test_classes_that_differ_widen_the_interval_and_equal_ones_do_not():
    asked = np.full((8, 50), 10)
    unequal = np.repeat(np.arange(2, 10), 50).reshape(8, 50)
    assert two_stage_interval(unequal, asked, redraw_classes=False) == (0.55, 0.55)
    low, high = two_stage_interval(unequal, asked)
    spread = 1.96 * np.arange(2, 10).std() / 10 / 8**0.5
    assert (high - low) / 2 == pytest.approx(spread, rel=0.1)
    assert two_stage_interval(np.full_like(asked, 7), asked) == (0.7, 0.7)


def test_counts_add_up_to_the_stored_accuracy(tmp_path):
    runner, smoke = Runner(Store(tmp_path)), profile_named("smoke")
    evaluation = table_1(smoke, snrs=[0.1], shots=[1], methods=["ProtoNet3D"])[0].evaluation
    result = runner(QueryCounts(evaluation=evaluation))["result"]
    asked, right = np.array(result["asked"]), np.array(result["right"])
    assert asked.sum() == evaluation.n_episodes * evaluation.n_way * evaluation.n_query and (right <= asked).all()
    accuracy = runner(evaluation)["result"]["accuracy"]
    assert right.sum() / asked.sum() == pytest.approx(accuracy) == pytest.approx(np.mean(result["by_task"]), abs=1e-5)
    frame = intervals_frame({("ProtoNet3D", 0.1): result})
    assert frame["low"][0] < frame["accuracy"][0] < frame["high"][0]
