"""Training on samples simulated on the fly, on tiny boxes."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.hashing import digest_of, spec_dict
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition import pretraining
from cryo_fewshot.recognition.pretraining import (
    CALIBRATION_CLASSES,
    TEST_CLASSES,
    CosineClassifier,
    in_cells,
    new_encoder,
    pretrained_spec,
    simulated_batch,
    spec_of,
    train,
)
from cryo_fewshot.reproduction.profiles import PROFILES
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions, homologous_family, outside_families
from cryo_fewshot.simulation.structures import class_keys, registry
from cryo_fewshot.subtomograms import split_classes
from cryo_fewshot.training import DeadlineReached, Schedule

TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)


def test_no_training_class_of_the_shipped_encoder_is_family_of_a_held_out_one():
    spec, families = pretrained_spec(), registry()["family"]
    trained = {families.get(name, name) for name in spec.classes}
    held_out = {families[name] for name in (*CALIBRATION_CLASSES, *TEST_CLASSES)}
    assert not trained & held_out
    assert not {families[name] for name in CALIBRATION_CLASSES} & {families[name] for name in TEST_CLASSES}
    # Kin that the registry names apart, for their folds or parts are shared all the same.
    assert not {"4V94", "6FML"} & set(spec.classes)
    assert EMPTY in spec.classes
    assert set(spec.classes) - {EMPTY} < set(class_keys("library"))
    assert len(spec.classes) >= 30


def test_the_test_classes_are_those_of_table_1():
    novel = split_classes(PROFILES["cpu"].data.class_names, (10, 5, 8), 0).novel
    assert sorted(TEST_CLASSES) == sorted(novel)


def test_kin_of_a_held_out_class_cannot_be_trained_on(tiny):
    assert homologous_family("4V94") == homologous_family("1OEL") == homologous_family("1AON")
    assert outside_families(["1AON", "4V94", "1S3X"], ["1OEL"]) == ("1S3X",)
    for role in ("selection", "test"):
        with pytest.raises(UserError, match="'1S3X' is of the family of held-out '1S3X'"):
            tiny(**{role: ("1BXN", "3IYD", "1S3X")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 5}, "n_way=5"),
        ({"objective": "contrast"}, "'classes' or 'episodes'"),
        ({"architecture": "deep"}, "'pooled' or 'paper'"),
        ({"selection": ("1OEL",)}, "at least 2"),
        ({"start_share": 0.5}, "start_share=0.5"),
        ({"start": "digest", "start_share": -0.1}, "give a share below 1"),
        ({"start": "digest", "start_share": 1.0}, "give a share below 1"),
    ],
)
def test_a_spec_says_what_is_wrong(changes, message, tiny):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_a_steps_samples_follow_from_its_number_and_no_two_steps_share_one(tiny):
    spec = tiny()
    volumes, labels = simulated_batch(spec, 0)
    assert volumes.shape == (9, 12, 12, 12)
    assert labels.tolist() == sorted(labels.tolist(), key=labels.tolist().index)  # class by class
    assert len(set(labels.tolist())) == 3
    again, same_labels = simulated_batch(spec, 0)
    assert torch.equal(volumes, again) and torch.equal(labels, same_labels)
    both = torch.cat([volumes, simulated_batch(spec, 1)[0]]).flatten(1)
    assert torch.cdist(both, both).fill_diagonal_(torch.inf).min() > 1
    assert not torch.equal(simulated_batch(replace(spec, seed=1), 0)[0], volumes)
    np.testing.assert_allclose(both.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(both.var(1), 1, atol=1e-2)


@pytest.mark.parametrize("objective", ["classes", "episodes"])
@pytest.mark.parametrize("architecture", ["pooled", "paper"])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, objective, architecture, tiny, assert_equal_states):
    spec = tiny(objective=objective, architecture=architecture)
    whole, history = train(spec)
    assert len(history.accuracies) == 2 and all(0 <= accuracy <= 1 for accuracy in history.accuracies)

    def stop():
        raise DeadlineReached

    with pytest.raises(DeadlineReached):
        train(spec, tmp_path / "checkpoint", after_checkpoint=stop)
    resumed, resumed_history = train(spec, tmp_path / "checkpoint")
    assert_equal_states(whole, resumed)
    assert resumed_history.losses == history.losses


def test_learning_lowers_the_loss_on_fresh_samples(tiny):
    spec = tiny(
        acquisitions=Acquisitions(microscope=TINY, snrs=(2.0,)),
        n_way=4,
        n_query=7,
        schedule=Schedule(n_epochs=4, steps_per_epoch=4, learning_rate=3e-3),
    )
    _, history = train(spec)
    assert history.losses[-1] < history.losses[0] - 0.1


def test_cosine_classifier_does_not_see_lengths():
    classifier = CosineClassifier(8, 3)
    embeddings = torch.randn(5, 8)
    assert torch.allclose(classifier(embeddings), classifier(embeddings * 7), atol=1e-5)
    assert classifier(embeddings).abs().max() <= 10.001


def test_the_same_seed_starts_from_the_same_weights(tiny, assert_equal_states):
    assert_equal_states(new_encoder(tiny()), new_encoder(tiny()))
    for seed in (0, 5):
        new_encoder(tiny(seed=seed))
        assert torch.initial_seed() == seed_from("weights", seed) % 2**31


def test_a_card_gives_back_the_spec_it_was_made_by(tiny):
    for spec in (pretrained_spec(), tiny(), in_cells(tiny(), neighbours=0.5, source_voxel_nm=(0.5, 3.2))):
        assert spec_of({"spec": json.loads(json.dumps(spec_dict(spec)))}) == spec
    with pytest.raises(UserError, match="how it was trained"):
        spec_of({"name": "bare"})


def test_a_training_may_start_from_an_encoder_that_its_spec_names(tiny):
    first, _ = train(tiny())
    schedule = replace(tiny().schedule, learning_rate=1e-9)
    spec = tiny(start=digest_of(*first.state_dict().values()), schedule=schedule, seed=1)
    second, _ = train(spec, start=first)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    untouched, _ = train(replace(spec, schedule=tiny().schedule), start=first)
    mixed, _ = train(replace(spec, schedule=tiny().schedule, start_share=0.25), start=first)
    for one, other, mean in zip(*(net.parameters() for net in (first, untouched, mixed)), strict=True):
        torch.testing.assert_close(mean, 0.25 * one + 0.75 * other)
    assert not torch.equal(untouched.coarse[0][0].weight, mixed.coarse[0][0].weight)
    for wrong in (None, second):
        with pytest.raises(UserError, match="starts from the encoder with weights"):
            train(spec, start=wrong)


def test_surroundings_are_made_of_the_training_classes_and_never_of_a_held_out_family(tiny):
    spec = in_cells(tiny(), neighbours=0.5)
    assert spec.classes == ("1S3X", "3IYD", "ENO", EMPTY, "membrane", "crowd")
    assert spec.acquisitions.surroundings.complexes == ("1S3X", "3IYD", "ENO")
    around = replace(spec.acquisitions.surroundings, complexes=("1S3X", "1AON"))
    with pytest.raises(UserError, match="'1AON' is of the family of held-out '1OEL'"):
        replace(spec, acquisitions=replace(spec.acquisitions, surroundings=around))
    volumes, _ = simulated_batch(spec, 0)
    assert volumes.shape == (9, 12, 12, 12) and volumes.isfinite().all()


@pytest.mark.parametrize("binning, widths, n_blocks", [(2, (32, 64, 128), 3), (1, (32, 64, 64, 128), 4)])
def test_the_encoder_has_blocks_for_its_box(binning, widths, n_blocks, tiny):
    spec = tiny(acquisitions=Acquisitions(microscope=Microscope(binning=binning)))
    assert new_encoder(spec).widths == widths
    assert new_encoder(replace(spec, architecture="paper")).n_blocks == n_blocks
    assert new_encoder(replace(spec, widths=(8, 16, 24))).widths == (8, 16, 24)


def test_directions_of_the_cosine_classifier_start_near_unit_length():
    torch.manual_seed(0)
    lengths = CosineClassifier(64, 200).directions.detach().norm(dim=1)
    assert float(lengths.mean()) == pytest.approx(1, rel=0.02)


def test_schedules_of_both_trainings():
    alone = pretrained_spec()
    assert alone.schedule == Schedule(n_epochs=40, steps_per_epoch=100, learning_rate=3e-3, halve_every=8)
    assert pretrained_spec(3).schedule.halve_every == 1 and alone.cost == 4000 * alone.volumes_per_step
    second = pretraining.trained_on(alone, "digest")
    assert second.schedule == Schedule(n_epochs=8, steps_per_epoch=100, learning_rate=1e-3, halve_every=2)
    assert (second.start, second.start_share) == ("digest", 0.3)


@pytest.mark.parametrize(
    ("n_samples", "n_classes", "n_query", "n_way"), [(6, 2, 3, 2), (18, 5, 15, 5), (60, 6, 15, 5), (17, 4, 14, 4)]
)
def test_models_are_selected_on_three_shot_tasks(monkeypatch, tiny, n_samples, n_classes, n_query, n_way):
    monkeypatch.setattr(pretraining, "simulate_on_the_fly", lambda names, *_: names)
    selection = tuple(f"c{i}" for i in range(n_classes))
    spec = SimpleNamespace(**{**vars(tiny()), "selection": selection, "n_selection_samples": n_samples})
    names, tasks = pretraining._selection(spec, "cpu")
    assert names == [name for name in selection for _ in range(n_samples)]
    assert tasks.support.shape == (spec.n_selection_episodes, n_way, 3)
    assert tasks.query.shape == (spec.n_selection_episodes, n_way, n_query)


def test_each_step_is_simulated_once_and_yielded_in_order(monkeypatch):
    made = []
    monkeypatch.setattr(pretraining, "simulated_batch", lambda spec, step, device: made.append(step) or step)
    for steps in (range(6, 11), range(2), range(1)):
        made.clear()
        assert list(pretraining._batches(None, steps, "cpu")) == list(steps) and sorted(made) == list(steps)


def test_epochs_go_on_where_the_last_one_ended(monkeypatch, tiny):
    spec, seen = tiny(), []

    def batches(spec, steps, device):
        seen.append(list(steps))
        yield from (simulated_batch(spec, step) for step in steps)

    monkeypatch.setattr(pretraining, "_batches", batches)
    train(spec)
    assert seen == [[0, 1], [2, 3]]


def test_the_loss_of_a_step_is_that_of_its_classes_by_their_own_labels(tiny):
    spec = tiny(n_shot=2, n_query=3)
    x = torch.randn(3 * 5, 4, generator=torch.Generator().manual_seed(0))
    by_class = x.view(3, 5, 4)
    distances = torch.cdist(by_class[:, 2:].reshape(9, 4), by_class[:, :2].mean(1)).square()
    expected = torch.nn.functional.cross_entropy(-distances, torch.arange(3).repeat_interleave(3))
    torch.testing.assert_close(pretraining._episode_loss(x, spec), expected)


def test_a_classifier_starts_from_the_means_of_its_classes(monkeypatch, tiny):
    names = []
    monkeypatch.setattr(pretraining, "simulate_on_the_fly", lambda given, *_: names.extend(given) or torch.zeros(1))
    embeddings = torch.randn(4 * 12, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(pretraining, "unit_embeddings", lambda encoder, volumes: embeddings)
    found = pretraining._class_means(tiny(), torch.nn.Linear(1, 1), "cpu")
    torch.testing.assert_close(found, embeddings.view(4, 12, 3).mean(1))
    assert names == [name for name in tiny().classes for _ in range(12)]


@pytest.mark.parametrize("goes_on", [False, True])
def test_only_a_training_that_goes_on_starts_its_classifier_from_means(monkeypatch, tiny, goes_on):
    first, seen = new_encoder(tiny()), []
    monkeypatch.setattr(pretraining, "_class_means", lambda spec, *_: torch.full((len(spec.classes), 128), 7.0))
    monkeypatch.setattr(pretraining, "_selection", lambda *_: (None, None))
    monkeypatch.setattr(pretraining, "fit", lambda model, *_: seen.append(model["classifier"].directions.detach()))
    spec = tiny(start=digest_of(*first.state_dict().values()) if goes_on else "")
    train(spec, start=first, device=torch.device("cpu"))
    assert bool((seen[0] == 7).all()) == goes_on
