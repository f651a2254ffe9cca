"""What is asked of an encoder: the conditions, and the tables made of the answers."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from studies.encoder_limits import (
    CONDITIONS,
    EncoderLimits,
    classes_text,
    noise_density,
)
from studies.pretrained import Pretrained

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.reproduction.tables import by_task
from cryo_fewshot.simulation.microscope import Microscope


@pytest.fixture(scope="module")
def limits(tmp_path_factory):
    torch.manual_seed(0)
    spec = EncoderLimits(
        encoder="any",
        conditions=("as in Table 1", "tilt range ±30°", "files of 48³ at 1 nm", "voxel size +10 % off"),
        classes=("1OEL", "3KUY"),
        further=("1PMA",),
        snrs=(0.5,),
        shots=(1,),
        n_way=2,
        n_query=4,
        n_episodes=20,
        n_per_class=6,
    )
    store = Store(tmp_path_factory.mktemp("limits"))
    card = {"box": 20, "voxel_size_nm": 2.0}
    return Runner(store)(spec, Pretrained(PooledEncoder3D(20, (4, 8)).eval(), card))["result"]


def test_every_condition_is_a_microscope():
    for changes in CONDITIONS.values():
        Microscope(**{"binning": 2} | changes)


def test_the_noise_of_a_frequency_goes_with_the_box_and_not_with_binning():
    """Noise of one variance spreads over all frequencies of a box: one of twice the width has eight times as many."""
    dense = Microscope(tilt_increment=1.0)  # slices leave no gaps in either box
    usual = noise_density(dense, 0.25)
    assert noise_density(replace(dense, box=80), 0.25) == pytest.approx(usual / 8, rel=0.15)
    assert noise_density(replace(dense, binning=2), 0.25) == pytest.approx(usual, rel=0.01)


def test_each_condition_is_another_data_set_and_the_first_is_the_usual_one(limits):
    table = by_task(pd.DataFrame(limits["conditions"]), "condition", "accuracy")
    assert list(table.index) == ["as in Table 1", "tilt range ±30°", "files of 48³ at 1 nm", "voxel size +10 % off"]
    assert list(table.columns) == [("1-shot", "SNR 0.5")]
    assert table[("1-shot", "SNR 0.5")].nunique() > 1


def test_classes_come_with_their_size_and_what_they_are_taken_for(limits):
    rows = limits["classes"]
    assert [row["class"] for row in rows] == ["1OEL", "3KUY", "1PMA"]
    assert all(row["taken_for"] != row["class"] and 0 <= row["share"] <= 1 for row in rows)
    sized = [{**row, "accuracy": accuracy} for row, accuracy in zip(rows, (0.8, 0.2, 0.7), strict=True)]
    said = classes_text({"classes": sized})  # by mass 1OEL > 1PMA > 3KUY
    assert "with mass +1.00" in said and "The worst with 1 examples: nucleosome" in said
