"""Training on fresh samples, and the encoder file: by construction, on tiny boxes."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from studies.demonstration import write_particles

from cryo_fewshot import weights
from cryo_fewshot.encoder import Encoder3D, PooledEncoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.fourier import slice_weights
from cryo_fewshot.hashing import spec_dict
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import wedge_rotations
from cryo_fewshot.recognition import finetuning, model_card
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.finetuning import finetune
from cryo_fewshot.recognition.model_card import calibrated, expected_accuracy, pretrain
from cryo_fewshot.recognition.pretraining import (
    CALIBRATION_CLASSES,
    TEST_CLASSES,
    CosineClassifier,
    Pretraining,
    new_encoder,
    pretrained_spec,
    simulated_batch,
    spec_of,
    train,
)
from cryo_fewshot.reproduction.profiles import PROFILES
from cryo_fewshot.simulation import on_the_fly as fresh
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import WIDE, Acquisitions, homologous_family, library_classes, outside_families
from cryo_fewshot.simulation.structures import class_keys, registry
from cryo_fewshot.subtomograms import SubtomogramSet, split_classes
from cryo_fewshot.training import DeadlineReached, Schedule
from cryo_fewshot.weights import load_encoder, save_encoder

TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)


def tiny(**changes) -> Pretraining:
    settings = {
        "classes": ("1S3X", "3IYD", "ENO", EMPTY),
        "selection": ("1OEL", "1BXN"),
        "test": ("1PMA", "3KUY", "1HTQ"),
        "acquisitions": Acquisitions(microscope=TINY, snrs=(0.5, 0.1)),
        "group_size": 4,
        "n_way": 3,
        "n_shot": 1,
        "n_query": 2,
        "schedule": Schedule(n_epochs=2, steps_per_epoch=2, learning_rate=1e-3),
        "n_selection_samples": 6,
        "n_selection_episodes": 4,
        "precision": "fp32",
    }
    return Pretraining(**(settings | changes))


def assert_equal_states(first, second):
    for (name, one), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


# ------------------------------------------------------------------ classes


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


def test_base_classes_without_kin_of_a_splits_held_out_ones():
    split = split_classes(PROFILES["cpu"].data.class_names, (10, 5, 8), 0)
    more = library_classes(split.validation + split.novel)
    assert EMPTY not in more  # a validation class of this split
    assert set(split.base) < set(more)
    assert "5HX2" not in more  # wider than the box
    assert not {homologous_family(name) for name in more} & {
        homologous_family(name) for name in split.validation + split.novel
    }


def test_kin_of_a_held_out_class_cannot_be_trained_on():
    assert homologous_family("4V94") == homologous_family("1OEL") == homologous_family("1AON")
    assert outside_families(["1AON", "4V94", "1S3X"], ["1OEL"]) == ("1S3X",)
    for role in ("selection", "test"):
        with pytest.raises(UserError, match="'1S3X' is of the family of held-out '1S3X'"):
            tiny(**{role: ("1S3X", "1BXN")})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 5}, "n_way=5"),
        ({"objective": "contrast"}, "'classes' or 'episodes'"),
        ({"architecture": "deep"}, "'pooled' or 'paper'"),
        ({"selection": ("1OEL",)}, "at least 2"),
    ],
)
def test_a_spec_says_what_is_wrong(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


# ------------------------------------------------------------------ samples


def test_wide_acquisitions_are_a_finite_set_within_their_ranges():
    microscopes = WIDE.microscopes()
    assert len(set(microscopes)) == WIDE.n_microscopes == 24
    assert microscopes == WIDE.microscopes()
    assert sum(m.tilt_min == -m.tilt_max for m in microscopes) == 12
    for m in microscopes:
        assert 40 <= min(-m.tilt_min, m.tilt_max) and max(-m.tilt_min, m.tilt_max) <= 70
        assert 1 <= m.tilt_increment <= 5
        assert m.final_box == 20
        assert m.final_voxel_size_nm == pytest.approx(2, rel=0.031)
        assert m.dark_protein
    assert min(WIDE.snrs) == 0.02 and max(WIDE.snrs) == 0.5
    assert Acquisitions().microscopes() == (Microscope(binning=2),)
    with pytest.raises(UserError, match="1 to 30"):
        Acquisitions(n_microscopes=31)
    with pytest.raises(UserError, match="positive ratio"):
        Acquisitions(snrs=(0.1, 0))


def test_a_steps_samples_follow_from_its_number_and_no_two_steps_share_one():
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


def test_neither_microscope_nor_snr_tells_the_class(monkeypatch):
    met = []

    def recorded(beads, seeds, snr, microscope, device):
        met.extend((None if sample is None else len(sample[1]), snr, microscope) for sample in beads)
        return simulate(beads, seeds, snr, microscope, device)

    monkeypatch.setattr(fresh, "simulate", recorded)
    simulated_batch(tiny(acquisitions=Acquisitions(microscope=TINY, snrs=(0.5, 0.1), n_microscopes=3), n_query=15), 0)
    classes = {sample for sample, _, _ in met}
    assert len(classes) == 3 and len(met) == 48
    for name in classes:
        assert {snr for sample, snr, _ in met if sample == name} == {0.5, 0.1}
        assert len({microscope for sample, _, microscope in met if sample == name}) == 3


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("objective", ["classes", "episodes"])
@pytest.mark.parametrize("architecture", ["pooled", "paper"])
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path, objective, architecture):
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


def test_pretraining_writes_a_file_that_says_what_to_expect(tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "expected_accuracy", partial(expected_accuracy, n_per_class=24, n_episodes=5))
    few = {"snrs": (0.1,), "n_per_class": 17, "n_background": 4, "shots": (1, 2), "n_episodes": 4}
    monkeypatch.setattr(model_card, "calibrated", partial(calibrated, **few))
    selection = ("1OEL", "1BXN", "3ZBI", "4V1W")
    spec, path = tiny(selection=selection), tmp_path / "encoder.safetensors"
    with pytest.raises(DeadlineReached):
        pretrain(spec, path, minutes=0, show_progress=False)
    assert not path.exists()
    written = pretrain(spec, path, show_progress=False)
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


def test_learning_lowers_the_loss_on_fresh_samples():
    spec = tiny(
        acquisitions=Acquisitions(microscope=TINY, snrs=(2.0,)),
        n_way=4,
        n_query=7,
        schedule=Schedule(n_epochs=4, steps_per_epoch=4, learning_rate=3e-3),
    )
    _, history = train(spec)
    assert history.losses[-1] < history.losses[0] - 0.1


def test_expected_accuracy_is_one_for_an_encoder_that_sees_the_class():
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


def test_cosine_classifier_does_not_see_lengths():
    classifier = CosineClassifier(8, 3)
    embeddings = torch.randn(5, 8)
    assert torch.allclose(classifier(embeddings), classifier(embeddings * 7), atol=1e-5)
    assert classifier(embeddings).abs().max() <= 10.001


# ------------------------------------------------------------------ a user's own set


def own_set(n_per_class=12) -> SubtomogramSet:
    recipe = SimulatedData(microscope=TINY, n_per_class=n_per_class)
    return simulate_set(recipe, {5.0: n_per_class}, ("1PMA", "1S3X", EMPTY))


def test_training_on_ones_own_set_is_never_worse_than_its_start_and_repeats():
    torch.manual_seed(0)
    start = PooledEncoder3D(12, (4, 8))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    encoder, history = finetune(own_set(), start, n_epochs=4, learning_rate=3e-3)
    assert len(history.accuracies) == 5
    assert max(history.accuracies) >= history.accuracies[0]
    assert history.losses[-1] < history.losses[0]
    again, _ = finetune(own_set(), start, n_epochs=4, learning_rate=3e-3)
    assert_equal_states(encoder, again)
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name])  # the encoder that was given is left as it is


def test_a_training_that_only_harms_leaves_the_encoder_as_it_was():
    torch.manual_seed(0)
    start = PooledEncoder3D(12, (4, 8)).eval()
    encoder, history = finetune(own_set(), start, n_epochs=2, learning_rate=1e-12)
    assert history.best_epoch == 0
    assert_equal_states(encoder, start)


def test_own_sets_that_cannot_be_trained_on_say_why():
    small, start = own_set(4), PooledEncoder3D(12, (4, 8))
    for labels, message in (
        (np.array([0] * 3 + [1] * 5 + [2] * 4), "'1PMA' has 3 samples"),
        (np.zeros(12, dtype=np.int64), "'1S3X' has 0 samples"),
    ):
        with pytest.raises(UserError, match=message):
            finetune(replace(small, labels=labels), start)
    with pytest.raises(UserError, match="one class only"):
        finetune(replace(small, labels=np.zeros(12, dtype=np.int64), class_names=("1PMA",)), start)
    with pytest.raises(UserError, match="12 voxels, but the encoder takes 20"):
        finetune(small, PooledEncoder3D(20, (4, 8)))
    with pytest.raises(UserError, match="held_out_share=1"):
        finetune(small, start, held_out_share=1)


@pytest.mark.parametrize("box", [8, 9])
def test_turns_are_rotations_about_the_centre(box):
    volumes = torch.randn(4, box, box, box)
    turned = wedge_rotations(volumes, torch.arange(4))
    centre = box // 2
    z, y, x = 1, -2, 3
    assert torch.equal(turned[0], volumes[0])
    for turn, (sz, sy, sx) in {1: (-1, 1, -1), 2: (1, -1, -1), 3: (-1, -1, 1)}.items():
        assert sz * sy * sx == 1  # a rotation, no mirror
        moved = turned[turn, centre + sz * z, centre + sy * y, centre + sx * x]
        assert moved == volumes[turn, centre + z, centre + y, centre + x]
        assert torch.equal(wedge_rotations(turned, torch.full((4,), turn))[turn], volumes[turn])


def test_turns_keep_the_wedge():
    k = torch.arange(-6, 7, dtype=torch.float64)
    kz, _, kx = torch.meshgrid(k, k, k, indexing="ij")
    for tilts, kept in ((np.arange(-60, 61, 3.0), (1, 2, 3)), (np.arange(-40, 71, 3.0), (1,))):
        coverage = slice_weights(kz, kx, tilts)[0]
        for turn in (1, 2, 3):
            same = torch.allclose(wedge_rotations(coverage[None], torch.tensor([turn]))[0], coverage)
            assert same == (turn in kept)


# ------------------------------------------------------------------ the pooled encoder


def with_statistics(encoder):
    """An encoder whose norms have met data, so that folding them has something to fold."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm3d):
                module.weight.uniform_(-1, 2)
                module.bias.normal_()
        for _ in range(20):
            encoder.train()(torch.randn(8, *(encoder.box,) * 3))
    return encoder.eval()


def test_folded_pooled_encoder_gives_the_same_embeddings():
    encoder = with_statistics(PooledEncoder3D(20, (8, 8, 16)))
    volumes = torch.randn(6, 20, 20, 20)
    assert encoder.embedding_dim == 16
    with torch.no_grad():
        assert torch.allclose(encoder.folded()(volumes), encoder(volumes), atol=1e-4, rtol=1e-4)


def test_pooled_encoder_costs_what_the_papers_does():
    def multiplications(encoder):
        counts = []
        handles = [
            module.register_forward_hook(
                lambda m, inputs, output: counts.append(output[0, 0].numel() * m.weight.numel())
            )
            for module in encoder.modules()
            if isinstance(module, torch.nn.Conv3d)
        ]
        encoder.eval()(torch.zeros(2, 20, 20, 20))
        for handle in handles:
            handle.remove()
        return sum(counts)

    assert multiplications(PooledEncoder3D()) < 1.06 * multiplications(Encoder3D(20, 3))


def test_pooled_encoder_refuses_other_boxes():
    with pytest.raises(UserError, match="boxes of 20"):
        PooledEncoder3D()(torch.zeros(1, 16, 16, 16))
    with pytest.raises(UserError, match="too small"):
        PooledEncoder3D(4, (4, 4, 4, 4))
    with pytest.raises(UserError, match="widths"):
        PooledEncoder3D(20, (4,))


# ------------------------------------------------------------------ the file


@pytest.mark.parametrize("encoder", [PooledEncoder3D(8, (4, 6)), Encoder3D(8, 2, 4)], ids=["pooled", "paper"])
def test_an_encoder_file_gives_back_weights_and_card(tmp_path, encoder):
    path = tmp_path / "ü.safetensors"
    save_encoder(path, with_statistics(encoder), {"note": "Tübingen", "values": [1, 2.5]})
    loaded, card = load_encoder(path)
    assert card["note"] == "Tübingen" and card["values"] == [1, 2.5]
    assert not loaded.training
    assert_equal_states(encoder, loaded)
    volumes = torch.randn(2, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(encoder(volumes), loaded(volumes))


def damaged_files(folder):
    encoder = PooledEncoder3D(8, (4, 6))
    save_encoder(folder / "whole", encoder, {})
    whole = (folder / "whole").read_bytes()
    metadata = {"format": weights.FORMAT, "card": json.dumps({"architecture": {"kind": "PooledEncoder3D"}})}
    (folder / "empty").write_bytes(b"")
    (folder / "cut").write_bytes(whole[:-40])
    (folder / "text").write_text("not weights")
    (folder / "folder").mkdir()
    save_file({"weight": torch.zeros(2)}, folder / "foreign")
    save_file({"weight": torch.zeros(2)}, folder / "no architecture", metadata=metadata)
    tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    for name, architecture in {
        "other kind": {"kind": "Oracle"},
        "other widths": {"kind": "PooledEncoder3D", "box": 8, "widths": [4, 7]},
        "widths of text": {"kind": "PooledEncoder3D", "box": 8, "widths": "46"},
    }.items():
        metadata = {"format": weights.FORMAT, "card": json.dumps({"architecture": architecture})}
        save_file(tensors, folder / name, metadata=metadata)
    torch.nn.init.constant_(encoder.blocks[0][0].bias, torch.nan)
    save_encoder(folder / "NaN", encoder, {})
    return [path for path in folder.iterdir() if path.name != "whole"] + [folder / "absent"]


def test_a_damaged_or_foreign_file_is_one_line(tmp_path):
    paths = damaged_files(tmp_path)
    assert len(paths) == 11
    for path in paths:
        with pytest.raises(UserError) as error:
            load_encoder(path)
        message = str(error.value)
        assert str(path) in message and "\n" not in message
        assert "save_encoder" in message


def test_what_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(UserError, match="JSON"):
        save_encoder(tmp_path / "file", PooledEncoder3D(8, (4, 6)), {"value": float("nan")})
    with pytest.raises(UserError, match="Linear"):
        save_encoder(tmp_path / "file", torch.nn.Linear(1, 1), {})
    assert not list(tmp_path.iterdir())


needs_shipped = pytest.mark.skipif(
    not weights.PRETRAINED.exists(), reason="the shipped encoder has not been trained yet"
)


@needs_shipped
def test_the_shipped_encoder_is_what_its_card_says():
    encoder, card = load_encoder()
    spec = pretrained_spec()
    assert card["training_classes"] == list(spec.classes)
    assert card["held_out_classes"] == {"selection": list(spec.selection), "test": list(spec.test)}
    assert (card["box"], card["voxel_size_nm"], card["dark_protein"]) == (encoder.box, 2.0, True)
    (expected,) = (row for row in card["expected_accuracy"] if (row["snr"], row["n_shot"]) == (0.1, 5))
    (found,) = expected_accuracy(
        encoder, TEST_CLASSES, microscope=Microscope(binning=2), snrs=(0.1,), shots=(5,), n_episodes=50, n_per_class=25
    )
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=0.06)


def test_the_same_seed_starts_from_the_same_weights():
    assert_equal_states(new_encoder(tiny()), new_encoder(tiny()))


def test_a_card_gives_back_the_spec_it_was_made_by():
    for spec in (pretrained_spec(), tiny()):
        assert spec_of({"spec": json.loads(json.dumps(spec_dict(spec)))}) == spec
    with pytest.raises(UserError, match="how it was trained"):
        spec_of({"name": "bare"})


def test_training_on_files_writes_an_encoder_that_is_calibrated_anew(tmp_path, monkeypatch):
    microscope = Microscope(binning=2)
    recipe = SimulatedData(n_per_class=6, microscope=microscope, seed=3)
    labelled, _ = write_particles(tmp_path / "own", recipe, ["1OEL", "3KUY"], {0.3: 6}, with_labels=True)
    few = {"snrs": (0.1,), "n_per_class": 17, "n_background": 4, "shots": (1, 2), "n_episodes": 4}
    monkeypatch.setattr(finetuning, "calibrated", partial(calibrated, **few))
    accuracies = finetuning.finetune_on_particles(open_particles(labelled), tmp_path / "mine.safetensors", n_epochs=1)
    assert len(accuracies) == 2
    _, card = load_encoder(tmp_path / "mine.safetensors")
    assert (card["name"], card["own_classes"], card["own_particles"]) == ("mine", ["1OEL", "3KUY"], 12)
    assert Calibration.from_json(card["calibration"]).shots == (1, 2)
