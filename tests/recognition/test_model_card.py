"""What the card says of an encoder, and that it holds."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from cryo_fewshot import weights
from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.hashing import digest_of, spec_dict
from cryo_fewshot.recognition import model_card
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.model_card import expected_accuracy, pretrain, pretrain_in_two, recalibrate
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, new_encoder, pretrained_spec, train, trained_on
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.training import DeadlineReached
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


def test_expected_accuracy_is_one_for_an_encoder_that_sees_the_class(classes):
    class Oracle(torch.nn.Module):
        """Knows the order in which classes are simulated."""

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def folded(self):
            return self

        def forward(self, volumes):
            return torch.eye(3).repeat_interleave(10, 0)

    settings = {"microscope": TINY, "n_way": 3, "n_query": 4, "n_episodes": 5, "n_per_class": 10, "snrs": (0.1,)}
    rows = expected_accuracy(Oracle(), ("1PMA", "3KUY", "1HTQ"), **settings)
    assert [row["accuracy"] for row in rows] == [1.0, 1.0]
    rows = expected_accuracy(PooledEncoder3D(12, (4, 8)), ("1PMA", "3KUY", "1HTQ"), **settings)
    assert all(row["accuracy"] < 1 for row in rows)


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
