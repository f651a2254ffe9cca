"""Heads on the embeddings of one training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from studies.ablation import trainings
from studies.cell_trainings import FIRST
from studies.head_comparison import (
    LOGITS,
    Background,
    HeadEvaluation,
    drawn_queries,
    prepared_head,
    trained_encoder,
)
from torch.nn import functional as F

from cryo_fewshot.recognition.plda import fit_plda
from cryo_fewshot.recognition.pretraining import pretrained_spec, spec_of
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder


def tasks(profile, shots):
    cells = table_1(profile_named(profile), methods=["ProtoNet3D (mix)"], snrs=[0.1], shots=[shots])
    return cells[0].evaluation


@pytest.mark.parametrize("name", LOGITS)
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
    evaluation = tasks("extended", 5)
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


def test_encoders_that_the_project_keeps_are_not_trained_again(tmp_path):
    pretrained, card = load_encoder()
    for spec, kept in ((pretrained_spec(), load_encoder(FIRST)[0]), (spec_of(card), pretrained)):
        found = trained_encoder(Runner(Store(tmp_path)), spec)
        for one, other in zip(found.state_dict().values(), kept.state_dict().values(), strict=True):
            assert torch.equal(one.cpu(), other)
    assert not list(tmp_path.rglob("*"))


def test_more_rotations_and_heads_are_other_results(tmp_path):
    evaluation = tasks("smoke", 1)
    training = trainings(profile_named("smoke"))["simulated on the fly"]
    specs = [
        HeadEvaluation(training=training, tasks=evaluation, head="unit length", n_turns=n_turns) for n_turns in (1, 4)
    ]
    runner = Runner(Store(tmp_path))
    one, four = (runner(spec) for spec in specs)
    assert one["result"]["episodes"] == four["result"]["episodes"]
    assert one["result"]["n_correct"] != four["result"]["n_correct"]
