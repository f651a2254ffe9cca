"""What the card says of an encoder, and that it holds."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryo_fewshot import weights
from cryo_fewshot.hashing import digest_of, spec_dict
from cryo_fewshot.recognition import model_card
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.model_card import expected_accuracy, pretrain, pretrain_in_two, recalibrate
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, new_encoder, pretrained_spec, train, trained_on
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.surroundings import BACKGROUND
from cryo_fewshot.training import DeadlineReached, History
from cryo_fewshot.weights import load_encoder, save_encoder

TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)


needs_pretrained = pytest.mark.skipif(
    not weights.PRETRAINED.exists(), reason="the pretrained encoder has not been trained yet"
)


def test_pretraining_writes_a_file_that_says_what_to_expect(
    tmp_path, monkeypatch, tiny, assert_equal_states, quickly_calibrated
):
    monkeypatch.setattr(model_card, "expected_accuracy", partial(expected_accuracy, n_per_class=24, n_episodes=5))
    monkeypatch.setattr(model_card, "calibrated", quickly_calibrated)
    selection = ("1OEL", "1BXN", "3ZBI", "4V1W")
    spec, path = tiny(selection=selection), tmp_path / "encoder.safetensors"
    with pytest.raises(DeadlineReached):
        pretrain(spec, path, minutes=0)
    assert not path.exists()
    written = pretrain(spec, path)
    assert list(tmp_path.iterdir()) == [path]  # no checkpoint is left
    encoder, card = load_encoder(path)
    assert card == json.loads(json.dumps(written)) | {
        "architecture": card["architecture"],
        "package_version": card["package_version"],
    }
    assert card["training_classes"] == list(spec.classes)
    assert card["held_out_classes"] == {"selection": list(selection), "test": ["1PMA", "3KUY", "1HTQ"]}
    assert (card["box"], card["voxel_size_nm"], card["dark_protein"]) == (12, 3.0, True)
    assert Calibration.from_json(card["calibration"]).n_classes == len(selection)
    assert {(row["snr"], row["n_shot"]) for row in card["expected_accuracy"]} == {
        (snr, n_shot) for snr in (0.1, 0.05, 0.03) for n_shot in (1, 5)
    }
    assert not encoder.training
    assert_equal_states(encoder, train(spec)[0])


def test_the_second_training_starts_from_the_first_which_is_done_once(tmp_path, monkeypatch, tiny):
    alone = tiny(seed=3)
    monkeypatch.setattr(model_card, "measured", lambda encoder, spec: {})
    monkeypatch.setattr(model_card, "pretrained_spec", lambda n_epochs: alone)
    monkeypatch.setattr(model_card, "trained_on", lambda *given: replace(trained_on(*given), schedule=alone.schedule))
    path, first = tmp_path / "encoder.safetensors", tmp_path / "encoder-first.safetensors"
    with pytest.raises(DeadlineReached):
        pretrain_in_two(path, 1, minutes=0)
    assert not first.exists()
    pretrain_in_two(path, 1)
    start, written = load_encoder(first)[0], first.stat().st_mtime_ns
    spec = load_encoder(path)[1]["spec"]
    assert spec["start"] == digest_of(*start.state_dict().values()) and spec["start_share"] == 0.3
    assert {"membrane", "crowd"} <= set(spec["classes"]) and spec["acquisitions"]["surroundings"]["neighbours"] == 0.5
    pretrain_in_two(path, 1)
    assert first.stat().st_mtime_ns == written


def test_an_encoder_is_measured_again_with_cross_fitted_ones(tmp_path, monkeypatch, tiny, quickly_calibrated):
    few = partial(quickly_calibrated, fitting={"shots": (1,)})
    monkeypatch.setattr(model_card, "calibrated", few)
    selections = ("1OEL", "1BXN", "3ZBI", "4V1W"), ("1KNX", "1RUZ", "2F1D", "1F4A")
    specs = [tiny(selection=names) for names in selections]
    paths = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    for path, spec in zip(paths, specs, strict=True):
        save_encoder(path, new_encoder(spec), {"spec": spec_dict(spec), "calibration": None, "box": 12})
    card = recalibrate(paths[0], paths[1:], tmp_path / "out.safetensors")
    encoder, written = load_encoder(tmp_path / "out.safetensors")
    calibration = Calibration.from_json(written["calibration"])
    assert set(calibration.promises.by_class) == {*selections[0], *selections[1]} and calibration.n_classes == 8
    assert card["cross_fitted"] == written["cross_fitted"] == [list(selections[1])]
    assert len(calibration.noise) == encoder.embedding_dim + 1


@needs_pretrained
def test_the_shipped_encoder_is_what_its_card_says():
    encoder, card = load_encoder()
    spec = trained_on(pretrained_spec(), card["spec"]["start"])
    assert card["training_classes"] == list(spec.classes)
    assert card["held_out_classes"] == {"selection": list(spec.selection), "test": list(spec.test)}
    assert (card["box"], card["voxel_size_nm"], card["dark_protein"]) == (encoder.box, 2.0, True)
    (expected,) = (row for row in card["expected_accuracy"] if (row["snr"], row["n_shot"]) == (0.1, 5))
    (found,) = expected_accuracy(
        encoder, TEST_CLASSES, microscope=Microscope(binning=2), snrs=(0.1,), shots=(5,), n_episodes=50, n_per_class=25
    )
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.06)


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
    rows = [(i, name, k, k >= 6) for i in range(len(sets)) for k, name in enumerate([*held_out, *known])]
    rows.sort(key=lambda row: row[3])
    assert found.embeddings[:, 0].tolist() == [100 * (i + 1) + k for i, _, k, _ in rows]
    for (i, name, _, trained), row in zip(rows, found.table.itertuples(), strict=True):
        assert (row.label, row.family, row.set, row.trained) == (name, homologous_family(name), i, trained)
        assert (row.crowded, row.snr) == (sets[i][0] is not None, sets[i][2])


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
