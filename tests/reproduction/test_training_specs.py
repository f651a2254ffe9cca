"""Trainings as specs: what they draw, what they learn from, what is kept."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from cryo_fewshot.errors import UserError
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.reproduction.training_specs import AdaptationRun
from cryo_fewshot.training import Schedule

from .conftest import RUN


@pytest.fixture
def runner(tmp_path):
    return Runner(Store(tmp_path), torch.device("cpu"))


def test_the_loss_of_an_episode_is_equation_3(runner):
    base, encoder = runner.volumes(RUN, "base"), RUN.new_encoder().train()
    episodes = RUN.episodes("base", base, RUN.schedule.steps_per_epoch, 0)
    losses = list(RUN.episode_losses(encoder, base, epoch=0))
    assert len(losses) == 3
    volumes = [base.volumes[torch.from_numpy(part[0])] for part in (episodes.support, episodes.query)]
    both = torch.cat(volumes, dim=1)
    embeddings = RUN.new_encoder().train()
    embeddings.load_state_dict(encoder.state_dict())
    found = embeddings(both.flatten(0, 1)).unflatten(0, both.shape[:2])
    logits = prototype_logits(found[:, :5], found[:, 5:].flatten(0, 1))
    expected = F.cross_entropy(logits, torch.arange(5).repeat_interleave(3))
    torch.testing.assert_close(losses[0], expected, rtol=1e-5, atol=1e-5)


def test_epochs_draw_other_episodes_and_repeat_them(runner):
    base = runner.volumes(RUN, "base")
    digests = [RUN.episodes("base", base, 3, epoch).digest for epoch in (0, 1, 0)]
    assert digests[0] == digests[2] != digests[1]


def test_a_training_repeats_bit_for_bit_and_another_seed_does_not(runner, tmp_path):
    states = []
    for folder, run in (("a", RUN), ("b", RUN), ("c", replace(RUN, seed=1))):
        states.append(Runner(Store(tmp_path / folder), torch.device("cpu"))(run, with_tensors=True)["tensors"])
    same, other = ([torch.equal(states[0][name], state[name]) for name in states[0]] for state in states[1:])
    assert all(same) and not all(other)


def test_the_baseline_learns_to_tell_the_base_classes_apart(runner):
    run = replace(RUN, objective="classes", schedule=Schedule(n_epochs=6, steps_per_epoch=8, learning_rate=1e-2))
    losses = runner(run)["result"]["loss"]
    assert losses[-1] < losses[0] - 0.2


def test_models_are_selected_on_validation_classes_and_else_on_the_base_classes():
    assert RUN.selection_role == "validation"
    assert replace(RUN, split_sizes=(10, 0, 8)).selection_role == "base"


def test_the_attention_starts_from_the_frozen_encoder_and_keeps_its_best_epoch(runner):
    attention = AdaptationRun(encoder=RUN, schedule=Schedule(n_epochs=3, steps_per_epoch=2, learning_rate=1e-3))
    entry = runner(attention, with_tensors=True)
    accuracies = entry["result"]["validation_accuracy"]
    assert len(accuracies) == 3 and accuracies[entry["result"]["best_epoch"]] == max(accuracies)
    assert {name.split(".")[0] for name in entry["tensors"]} >= {"to_query", "to_key", "to_value"}
    assert len(runner.store.entries("EncoderRun")) == 1


def test_an_unknown_loss_is_refused(runner):
    with pytest.raises(UserError, match="loss 'magic' is unknown"):
        runner(AdaptationRun(encoder=RUN, loss="magic", schedule=RUN.schedule))


def test_the_released_codes_second_stage_trains_the_encoder_on(runner):
    schedule = Schedule(n_epochs=1, steps_per_epoch=2, learning_rate=1e-2)
    stage = AdaptationRun(encoder=RUN, schedule=schedule, loss="combined", layer_norm=True, bias=True, encoder_too=True)
    first, both = runner(RUN, with_tensors=True)["tensors"], runner(stage, with_tensors=True)["tensors"]
    assert {"attention.norm.weight", "attention.to_key.bias"} <= set(both)
    weight = "blocks.0.0.weight"
    assert not torch.equal(both[f"encoder.{weight}"], first[weight])
    assert torch.equal(runner.encoder(stage).state_dict()[weight], both[f"encoder.{weight}"])
    assert torch.equal(runner.adaptation(stage).state_dict()["to_key.bias"], both["attention.to_key.bias"])


def test_protonet3d_trained_longer_leaves_the_attention_as_it_was(runner):
    schedule = Schedule(n_epochs=1, steps_per_epoch=2, learning_rate=1e-2)
    longer = AdaptationRun(encoder=RUN, schedule=schedule, loss="prototype", encoder_too=True)
    tensors = runner(longer, with_tensors=True)["tensors"]
    torch.manual_seed(seed_from("attention", 0) % 2**31)
    assert torch.equal(tensors["attention.to_key.weight"], longer.new_adaptation().state_dict()["to_key.weight"])
    with pytest.raises(UserError, match="loss 'prototype' is unknown"):
        runner(replace(longer, encoder_too=False))  # nothing would be left to train
