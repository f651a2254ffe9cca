"""Methods side by side, on entries whose numbers are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from studies.alike import against_first, alike_text, fits_frame, fits_table, lengths_frame, methods_table

from cryo_fewshot.reproduction.cells import at_lengths, linear_fits, second_stages
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store

SMOKE = profile_named("smoke")


def test_each_method_is_compared_with_the_first_of_its_split_on_the_same_tasks():
    cells = [cell for split in range(3) for cell in second_stages(SMOKE, snr=0.1, shots=[5], split_seed=split)]
    counts = {
        0: [[6, 8], [7, 9], [6, 8], [6, 8], [9, 5]],
        1: [[4, 4], [5, 5], [4, 4], [4, 4], [4, 4]],
        2: [[2, 2], [3, 3], [2, 4], [2, 2], [4, 4]],
    }
    entries = [
        {"result": {"n_correct": found, "n_queries": 10, "episodes": "same"}}
        for split in counts.values()
        for found in split
    ]
    frame = against_first(cells, entries)
    gains = frame.pivot(index="method", columns="split_seed", values="difference")
    assert gains.loc["ProtoNet3D, trained longer"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert gains.loc["ProtoNet3D"].isna().all()
    shown = methods_table(frame)
    assert list(shown.columns) == [("5-shot", "accuracy"), ("5-shot", "difference")]
    assert shown.loc["ProtoNet3D"].tolist() == ["0.433", "–"]
    reach = student.ppf(0.975, 2) * np.std([0, 0, 0.1], ddof=1) / 3**0.5
    assert shown.loc["ProtoNet-CE, inductive"].tolist() == ["0.467", f"+0.033 ±\u00a0{reach:.3f}"]
    two = methods_table(frame[frame["split_seed"] < 2])
    assert two.loc["ProtoNet-CE, inductive"].tolist() == ["0.550", "+0.000"]  # too few for an interval
    heads = ["nearest prototype by cosine", "linear layer, 100 steps at 1e-2"]
    text = alike_text(frame, pd.DataFrame({"method": heads, "n_shot": 5, "accuracy": [0.9, 0.8]}))
    assert "over 3 splits, with 5 labels per class" in text
    assert "ProtoNet3D**: 0.433; trained further, from the first rate again: 0.533." in text
    assert "nothing fitted: 0.900; linear layer as published: 0.800." in text
    assert "trained as long: -0.033 ±" in text


def test_the_released_codes_form_and_its_control_have_the_same_training_but_for_attention():
    cells = {cell.method: cell.evaluation.adaptation for cell in second_stages(SMOKE, snr=0.1, shots=[1])}
    released, control = cells["ProtoNet-CE, released code"], cells["ProtoNet3D, trained longer"]
    assert released.schedule == control.schedule and released.encoder_too and control.encoder_too
    assert (released.loss, released.layer_norm, released.bias) == ("combined", True, True)
    assert control.loss == "prototype"
    assert cells["ProtoNet-CE, text"].variant == "transductive" and not cells["ProtoNet-CE, text"].encoder_too


def test_a_cut_training_is_the_beginning_of_the_whole_one(tmp_path):
    runner = Runner(Store(tmp_path))
    choice = {"snr": 0.1, "shots": [5]}
    ((n_episodes, cut),) = at_lengths(SMOKE, [2], methods=["ProtoNet3D"], **choice)
    assert n_episodes == 2 * SMOKE.encoder_schedule.steps_per_epoch
    runner.run_cells([cut])
    frame = lengths_frame(runner, SMOKE, epochs=[2], run_missing=False, **choice)
    assert frame["episodes"].tolist() == [n_episodes]
    whole = runner(type(cut.evaluation.encoder)(**{**vars(cut.evaluation.encoder), "schedule": SMOKE.encoder_schedule}))
    first = runner(cut.evaluation.encoder)["result"]["loss"]
    assert whole["result"]["loss"][: len(first)] == first


def test_every_choice_of_steps_and_rate_has_a_place_in_the_table():
    cells = linear_fits(SMOKE, snr=0.1, shots=[5, 1])
    entries = [{"result": {"n_correct": [k % 10], "n_queries": 10}} for k in range(len(cells))]
    frame = fits_frame(cells, entries)
    table = fits_table(frame)
    assert table.shape == (5, 10) and (table.map(lambda text: text.startswith("<b>"))).sum(axis=None) >= 2
    assert list(table.columns[:2]) == [("5-shot", "rate 0.001"), ("5-shot", "rate 0.003")]
    third = cells[2].evaluation.linear_fit
    assert table.loc[f"{third[0]} steps", ("5-shot", f"rate {third[1]:g}")] == "0.200"
