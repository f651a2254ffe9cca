"""Which particles a card's numbers are measured on, counted; nothing is simulated or trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryo_fewshot.recognition import model_card
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.surroundings import BACKGROUND
from cryo_fewshot.training import DeadlineReached, History


@pytest.mark.parametrize("surroundings", [None, "cells"])
def test_held_out_particles_are_of_every_microscope_and_noise_alone_and_in_cells(monkeypatch, tiny, surroundings):
    spec, asked = tiny(selection=("1OEL", "1BXN"), classes=("1S3X", BACKGROUND[0], "3IYD")), []
    acquisitions = SimpleNamespace(surroundings=surroundings, microscopes=lambda: ["m0", "m1", "m2"])
    spec = SimpleNamespace(**{**vars(spec), "acquisitions": acquisitions})

    def simulated(names, acquisitions, rng, group_size, device):
        asked.append((names, vars(acquisitions), group_size))
        return 100 * len(asked) + torch.arange(len(names))

    monkeypatch.setattr(model_card, "replace", lambda one, **changes: SimpleNamespace(**(vars(one) | changes)))
    monkeypatch.setattr(model_card, "simulate_on_the_fly", simulated)
    monkeypatch.setattr(model_card, "unit_embeddings", lambda encoder, volumes: volumes[:, None].float())
    counts = {"snrs": (0.3, 0.1), "n_microscopes": 2, "n_per_class": 3, "n_background": 2}
    found = model_card.held_out_particles(torch.nn.Linear(1, 1), spec, **counts)
    sets = [
        (s, m, snr) for s in ([None, "cells"] if surroundings else [None]) for m in ("m0", "m1") for snr in (0.3, 0.1)
    ]
    held_out, known = ["1OEL"] * 3 + ["1BXN"] * 3, ["1S3X"] * 2 + ["3IYD"] * 2
    assert [names for names, *_ in asked] == [held_out + known] * len(sets)
    for (s, m, snr), (_, given, group_size) in zip(sets, asked, strict=True):
        assert (given["surroundings"], given["microscope"], given["snrs"], given["n_microscopes"]) == (s, m, (snr,), 1)
        assert group_size == spec.group_size
    numbers = np.arange(len(sets))
    expected = (100 * (numbers + 1)[:, None] + np.arange(6)).ravel()
    assert found.embeddings[:, 0].tolist() == expected.tolist() and found.labels.tolist() == held_out * len(sets)
    assert found.sets.tolist() == numbers.repeat(6).tolist()
    assert found.snrs.tolist() == np.repeat([snr for *_, snr in sets], 6).tolist()
    assert found.crowded.tolist() == np.repeat([s is not None for s, *_ in sets], 6).tolist()
    assert found.families.tolist() == [homologous_family(name) for name in held_out] * len(sets)
    embeddings, names, snrs, crowded = found.background
    assert embeddings[:, 0].tolist() == (100 * (numbers + 1)[:, None] + 6 + np.arange(4)).ravel().tolist()
    assert names.tolist() == known * len(sets) and len(snrs) == len(crowded) == 4 * len(sets)
    assert snrs[4] == sets[1][2] and crowded[-1] == (surroundings is not None)


def test_the_card_counts_the_volumes_of_a_training(tiny):
    spec, history = tiny(), History([0.1, 0.4, 0.3], [3.0, 2.0, 1.0], 12.34)
    card = model_card.training_card(spec, history)
    assert card["volumes"] == 3 * spec.schedule.steps_per_epoch * spec.volumes_per_step
    assert (card["seconds"], card["best_epoch"], card["loss"]) == (12.3, 1, [3.0, 2.0, 1.0])


@pytest.mark.parametrize(("n_test", "n_way"), [(3, 3), (5, 5), (8, 5)])
def test_test_classes_are_told_apart_five_at_a_time(monkeypatch, tiny, n_test, n_way):
    asked = {}
    monkeypatch.setattr(model_card, "expected_accuracy", lambda *_, **given: asked.update(given))
    monkeypatch.setattr(model_card, "calibrated", lambda *_: SimpleNamespace(on_card=dict))
    spec = tiny()
    model_card.measured(None, SimpleNamespace(**{**vars(spec), "test": tuple("abcdefgh"[:n_test])}))
    assert asked["n_way"] == n_way and asked["microscope"] == spec.acquisitions.microscope


def test_expected_accuracy_is_that_of_its_episodes(monkeypatch):
    """Two of three queries of each class are right."""
    monkeypatch.setattr(
        model_card, "simulate_set", lambda *_: SimpleNamespace(volumes=None, labels=np.repeat([0, 1], 5))
    )
    monkeypatch.setattr(model_card, "unit_embeddings", lambda *_: torch.zeros(10, 2))
    answers = np.array([[[0, 0, 1], [1, 1, 0]], [[0, 0, 0], [1, 1, 1]]])
    monkeypatch.setattr(model_card, "predict", lambda embeddings, episodes, head: answers)
    settings = {"snrs": (0.1,), "shots": (1,), "n_way": 2, "n_query": 3, "n_episodes": 2, "n_per_class": 5}
    rows = model_card.expected_accuracy(torch.nn.Linear(1, 1), ("a", "b"), microscope=None, **settings)
    interval = 1.96 * np.std([4 / 6, 1], ddof=1) / 2**0.5
    row = {"snr": 0.1, "n_way": 2, "n_shot": 1, "n_episodes": 2, "accuracy": 0.8333, "ci95": round(interval, 4)}
    assert rows == [row]


@pytest.mark.parametrize(("minutes", "left"), [(None, None), (2.0, 1.5)])
def test_the_second_training_has_the_minutes_that_the_first_leaves(minutes, left, monkeypatch, tmp_path, tiny):
    clock, given = [100.0], []

    def pretrain(spec, path, minutes, **start):
        clock[0] += 30
        given.append((path.name, minutes))

    monkeypatch.setattr(model_card.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(model_card, "pretrain", pretrain)
    monkeypatch.setattr(model_card, "load_encoder", lambda path: (torch.nn.Linear(1, 1), {}))
    model_card.pretrain_in_two(tmp_path / "encoder.x", 1, minutes)
    assert given == [("encoder-first.x", minutes), ("encoder.x", left)]


def test_a_training_stops_at_the_first_epoch_that_ends_after_its_minutes(monkeypatch, tmp_path, tiny):
    clock, written = [100.0], []

    def trained(spec, checkpoint, progress, after_epoch, start):
        clock[0] += 120
        after_epoch()
        return "encoder", History([0.5], [1.0])

    monkeypatch.setattr(model_card.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(model_card, "train", trained)
    monkeypatch.setattr(model_card, "measured", lambda *_: {})
    monkeypatch.setattr(model_card, "save_encoder", lambda path, *_: written.append(path))
    for minutes in (None, 2.0, 3.0):
        model_card.pretrain(tiny(), tmp_path / "encoder", minutes)
    with pytest.raises(DeadlineReached):
        model_card.pretrain(tiny(), tmp_path / "encoder", 1.9)
    assert written == [tmp_path / "encoder"] * 3
