"""The ladder from the paper's method to the shipped encoder, and the comparison of heads."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from studies.ablation import PUBLISHED, ablation, ablation_frame, leave_one_out, leave_one_out_frame, trainings
from studies.head_comparison import (
    INDUCTIVE,
    TRANSDUCTIVE,
    Background,
    HeadEvaluation,
    drawn_queries,
    evaluate_heads,
    heads_frame,
    prepared_head,
    trained_encoder,
)
from torch.nn import functional as F

from cryo_fewshot.recognition.plda import fit_plda
from cryo_fewshot.recognition.pretraining import pretrained_spec
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.weights import load_encoder


def tasks(profile="smoke", **choice):
    cells = table_1(profile_named(profile), methods=["ProtoNet3D (mix)"], snrs=[0.1], **choice)
    return [cell.evaluation for cell in cells]


@pytest.mark.parametrize("seed", range(5))
def test_each_step_changes_one_thing_and_meets_no_kin_of_its_tests(seed):
    profile = profile_named("extended")
    (evaluation,) = tasks("extended", shots=[5], split_seed=seed)
    split = evaluation.encoder.split
    steps = ablation(profile, seed)
    assert set(steps[0].training.classes) <= set(split.base)
    *equal, longer = trainings(profile, seed).values()
    assert {step.cost for step in equal} == {evaluation.encoder.cost} and longer.cost == 8 * evaluation.encoder.cost
    for before, after in pairwise([*equal, longer]):
        changed = {name for name, value in vars(after).items() if value != vars(before)[name]}
        assert len(changed) == 1 or changed == {"n_way", "n_shot", "n_query"}
    back = leave_one_out(profile, seed).values()
    for without, whole in back:
        assert without.cost == whole.cost
        changed = {name for name, value in vars(without).items() if value != vars(whole)[name]}
        assert len(changed - {"n_way", "n_query"}) == 1
    for training in [*(step.training for step in steps), *(without for without, _ in back)]:
        assert training.test == split.novel and training.selection == split.validation
        assert not {homologous_family(name) for name in training.classes} & {
            homologous_family(name) for name in training.test + training.selection
        }


@pytest.mark.parametrize("name", INDUCTIVE + TRANSDUCTIVE)
def test_every_head_finds_separate_classes(name):
    torch.manual_seed(0)
    centres = F.normalize(torch.randn(9, 12), dim=-1)
    labels = torch.arange(9).repeat_interleave(20)
    embeddings = F.normalize(centres[labels] + 0.02 * torch.randn(180, 12), dim=-1)
    background = Background(embeddings.mean(0), fit_plda(embeddings, labels.numpy()))
    prepare, head = prepared_head(name, background)
    by_class = prepare(embeddings).view(9, 20, -1)[:5]
    found = head(by_class[None, :, :2], by_class[None, :, 2:].flatten(1, 2)).argmax(-1)[0]
    assert torch.equal(found, torch.arange(5).repeat_interleave(18))


def test_unbalanced_queries_are_of_the_tasks_classes_and_not_of_its_support():
    (evaluation,) = tasks("extended", shots=[5])
    episodes = replace(evaluation, n_episodes=40).episodes()
    query, truth = drawn_queries(evaluation, episodes, balanced=False)
    per_class = evaluation.novel_data.n_per_class
    assert query.shape == truth.shape == (40, 75)
    assert np.array_equal(query // per_class, np.take_along_axis(episodes.classes, truth, axis=1))
    counts = np.array([np.bincount(row, minlength=5) for row in truth])
    assert counts.std(axis=1).mean() > 5  # far from 15 of each
    for row, support in zip(query, episodes.support, strict=True):
        assert len(set(row)) == 75 and not set(row) & set(support.ravel())
    query, truth = drawn_queries(evaluation, episodes)
    assert np.array_equal(query.reshape(episodes.query.shape), episodes.query)
    assert np.bincount(truth[0]).tolist() == [15] * 5


def test_the_ladder_and_the_heads_are_stored_and_paired(tmp_path):
    profile = profile_named("smoke")
    runner = Runner(Store(tmp_path))
    frame, entries = ablation_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    assert list(frame["step"]) == [*PUBLISHED, *(step.name for step in ablation(profile))]
    assert np.allclose(frame["gain"].iloc[1:], frame["accuracy"].diff().iloc[1:])
    assert frame["gain"].isna().tolist() == [True] + [False] * (len(frame) - 1)
    assert len({entry["result"]["episodes"] for entry in entries}) == 1

    back, _ = leave_one_out_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    at = frame.set_index("step")["accuracy"]
    assert list(back["step"]) == list(leave_one_out(profile))
    assert np.isclose(back["gain"].iloc[-1], at["cosine classifier"] - at["mean over positions"])

    training = ablation(profile)[-1].training
    heads, _ = heads_frame(runner, training, tasks(shots=[1]), ["two covariances", "TIM"])
    rows = heads.set_index(["head", "balanced"])["accuracy"]
    assert set(rows.index) == {(h, True) for h in ("unit length", "two covariances", "TIM")} | {
        (h, False) for h in ("unit length", "TIM")
    }
    assert rows["two covariances", True] == frame.set_index("step")["accuracy"]["two covariances"]

    # What is stored is not computed again: no weights are needed.
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    again, _ = ablation_frame(runner, profile, splits=[0], snrs=[0.1], shots=[1])
    assert again.equals(frame)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_shipped_encoder_is_not_trained_again(tmp_path):
    shipped = trained_encoder(Runner(Store(tmp_path)), pretrained_spec())
    for one, other in zip(shipped.state_dict().values(), load_encoder()[0].state_dict().values(), strict=True):
        assert torch.equal(one.cpu(), other)
    assert not list(tmp_path.rglob("*"))


def test_more_turns_and_heads_are_other_results(tmp_path):
    (evaluation,) = tasks(shots=[1])
    training = trainings(profile_named("smoke"))["fresh samples"]
    specs = [
        HeadEvaluation(training=training, tasks=evaluation, head="unit length", n_turns=n_turns) for n_turns in (1, 4)
    ]
    one, four = evaluate_heads(Runner(Store(tmp_path)), specs)
    assert one["result"]["episodes"] == four["result"]["episodes"]
    assert one["result"]["n_correct"] != four["result"]["n_correct"]
