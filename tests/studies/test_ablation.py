"""The ablation from the paper's method to the pretrained encoder."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from studies.ablation import (
    STEPS,
    ablation_frame,
    five_shot_encoder,
    leave_one_out,
    leave_one_out_frame,
    step_specs,
    trainings,
)
from studies.head_comparison import heads_frame

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.training import Schedule


def tasks(profile, **choice):
    cells = table_1(profile, methods=["ProtoNet3D (mix)"], snrs=[0.1], **choice)
    return [cell.evaluation for cell in cells]


@pytest.mark.parametrize("seed", range(5))
def test_each_step_changes_one_thing_and_trains_on_no_homologue_of_its_test_classes(seed):
    profile = profile_named("extended")
    (evaluation,) = tasks(profile, shots=[5], split_seed=seed)
    split = evaluation.encoder.split
    assert list(step_specs(profile, seed, 0.1, 5)) == list(STEPS)
    *equal, longer = trainings(profile, seed).values()
    assert set(equal[0].classes) <= set(split.base)
    assert five_shot_encoder(profile, seed) == evaluation.encoder
    assert {step.cost for step in equal} == {evaluation.encoder.cost} and longer.cost == 8 * evaluation.encoder.cost
    for before, after in pairwise([*equal, longer]):
        changed = {name for name, value in vars(after).items() if value != vars(before)[name]}
        assert len(changed) == 1 or changed == {"n_way", "n_shot", "n_query"}
    back = leave_one_out(profile, seed).values()
    for without, whole in back:
        assert without.cost == whole.cost
        changed = {name for name, value in vars(without).items() if value != vars(whole)[name]}
        assert len(changed - {"n_way", "n_query"}) == 1
    for training in [*equal, longer, *(without for without, _ in back)]:
        assert training.test == split.novel and training.selection == split.validation
        assert not {homologous_family(name) for name in training.classes} & {
            homologous_family(name) for name in training.test + training.selection
        }


def test_the_ablation_and_the_heads_are_stored_and_paired(tmp_path):
    once = Schedule(n_epochs=1, steps_per_epoch=1, learning_rate=1e-3)
    profile = replace(profile_named("smoke"), encoder_schedule=once, n_validation_episodes=2)
    runner = Runner(Store(tmp_path))
    frame = ablation_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    assert list(frame["step"]) == list(STEPS)
    assert np.allclose(frame["gain"].iloc[1:], frame["accuracy"].diff().iloc[1:])
    assert frame["gain"].isna().tolist() == [True] + [False] * (len(frame) - 1)
    entries = runner.store.entries("HeadEvaluation") + runner.store.entries("Evaluation")
    assert len({entry["result"]["episodes"] for entry in entries}) == 1

    back = leave_one_out_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    at = frame.set_index("step")["accuracy"]
    assert list(back["step"]) == list(leave_one_out(profile))
    assert np.isclose(back["gain"].iloc[-1], at["cosine classifier"] - at["global average pooling"])

    training = trainings(profile)["8 times as long"]
    heads = heads_frame(runner, training, tasks(profile, shots=[1]), ["two covariances", "TIM"])
    rows = heads.set_index(["head", "balanced"])["accuracy"]
    assert set(rows.index) == {(h, True) for h in ("unit length", "PLDA", "TIM")} | {
        (h, False) for h in ("unit length", "TIM")
    }
    assert rows["PLDA", True] == frame.set_index("step")["accuracy"]["PLDA"]

    # What is stored is not computed again: no weights are needed.
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    again = ablation_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    assert again.equals(frame)
    assert not list(tmp_path.rglob("*.safetensors"))
