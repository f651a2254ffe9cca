"""Cells of the tables: which evaluation fills each."""

import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.cells import (
    TABLE_1_METHODS,
    TABLE_2_HEADS,
    repeated_table_1,
    surrogate,
    table_1,
    table_2,
    table_3,
    table_4,
)
from cryo_fewshot.reproduction.profiles import mix_34, mix_100, profile_named, single

PROFILE = profile_named("smoke")


def test_table_1_has_a_cell_per_shot_snr_and_method():
    cells = table_1(PROFILE)
    assert len(cells) == 2 * 3 * 5 and [cell.method for cell in cells[:5]] == list(TABLE_1_METHODS)
    for cell in cells:
        evaluation, run = cell.evaluation, cell.evaluation.encoder
        wanted = mix_100(PROFILE) if "(mix)" in cell.method else single(evaluation.snr, PROFILE)
        assert run.snr_counts == wanted
        assert run.objective == ("classes" if cell.method == "baseline" else "episodes")
        assert (evaluation.adaptation is not None) == cell.method.startswith("ProtoNet-CE")
        assert evaluation.head == {"b": "finetuned", "P": "prototype"}[cell.method[0]] or evaluation.adaptation


def test_the_baselines_encoder_is_shared_by_all_shots_and_that_of_the_method_is_not():
    encoders = {}
    for cell in table_1(PROFILE, snrs=[0.1], methods=["baseline", "ProtoNet3D"]):
        encoders.setdefault(cell.method, set()).add(cell.evaluation.encoder)
    assert {method: len(found) for method, found in encoders.items()} == {"baseline": 1, "ProtoNet3D": 2}


def test_table_2_has_one_encoder_and_one_attention_per_task():
    cells = table_2(PROFILE, snrs=[0.1], shots=[5])
    assert [cell.evaluation.head for cell in cells] == list(TABLE_2_HEADS.values())
    assert len({cell.evaluation.encoder for cell in cells}) == 1
    assert {cell.evaluation.adaptation is None for cell in cells[:1]} == {True}
    assert len({cell.evaluation.adaptation for cell in cells[1:]}) == 1


def test_table_3_trains_on_one_snr_on_all_and_on_a_third_of_each():
    cells = table_3(PROFILE, snrs=[0.03], shots=[1])
    counts = [cell.evaluation.encoder.snr_counts for cell in cells]
    assert counts == [single(0.03, PROFILE), mix_100(PROFILE), mix_34(PROFILE)]


def test_table_4_is_three_way_and_shows_what_the_paper_quotes():
    cells = table_4(PROFILE, surrogate("guo", PROFILE), {("ProtoNet3D", 5): 0.9227}, shots=[5])
    assert {cell.evaluation.n_way for cell in cells} == {3}
    assert [cell.paper == 0.9227 for cell in cells] == [False, True, False]
    assert all(cell.evaluation.encoder.split.validation == () for cell in cells)


def test_repeats_differ_in_split_and_seed_alone():
    cells = repeated_table_1(PROFILE, splits=[0, 1], seeds=[0, 1], snrs=[0.1], shots=[5], methods=["ProtoNet3D"])
    runs = [cell.evaluation.encoder for cell in cells]
    assert [(run.seed, run.split_seed) for run in runs] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    "cells, message",
    [
        (lambda: table_1(PROFILE, methods=["magic"]), "method 'magic' is unknown"),
        (lambda: table_2(PROFILE, heads=["d + d"]), "head 'd \\+ d' is unknown"),
        (lambda: table_3(PROFILE, mixes=["Mix50"]), "mix 'Mix50' is unknown"),
        (lambda: surrogate("empiar", PROFILE), "real data set 'empiar' is unknown"),
    ],
)
def test_unknown_names_are_refused(cells, message):
    with pytest.raises(UserError, match=message):
        cells()
