"""Finetuning on a user's own set, on tiny boxes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from studies.demonstration import write_particles

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition import finetuning
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.finetuning import finetune
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.subtomograms import SubtomogramSet
from cryo_fewshot.weights import load_encoder

TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)


def own_set(n_per_class=12) -> SubtomogramSet:
    recipe = SimulatedData(microscope=TINY, n_per_class=n_per_class)
    return simulate_set(recipe, {5.0: n_per_class}, ("1PMA", "1S3X", EMPTY))


def held_out_accuracy(encoder):
    """Accuracy of nearest class means on the held-out samples, from the definitions."""
    subtomograms = own_set()
    trained, held_out = finetuning._split(subtomograms, 0)
    embeddings, labels = unit_embeddings(encoder.eval(), subtomograms.volumes), subtomograms.labels
    means = torch.stack([embeddings[[i for i in trained if labels[i] == c]].mean(0) for c in range(3)])
    found = torch.cosine_similarity(embeddings[held_out][:, None], means, dim=-1).argmax(1).numpy()
    return (found == labels[held_out]).mean()


def test_training_on_ones_own_set_is_never_worse_than_its_start_and_repeats(assert_equal_states):
    torch.manual_seed(0)
    start = PooledEncoder3D(12, (4, 8))
    before = {name: value.clone() for name, value in start.state_dict().items()}
    encoder, history = finetune(own_set(), start, n_epochs=4, learning_rate=3e-3)
    assert len(history.accuracies) == 5
    assert held_out_accuracy(encoder) == pytest.approx(max(history.accuracies))  # the best epoch is what is given back
    assert held_out_accuracy(start) == pytest.approx(history.accuracies[0])
    assert history.losses[-1] < history.losses[0]
    again, _ = finetune(own_set(), start, n_epochs=4, learning_rate=3e-3)
    assert_equal_states(encoder, again)
    for name, value in start.state_dict().items():
        assert torch.equal(value, before[name])  # the encoder that was given is left as it is


def test_a_training_that_only_harms_leaves_the_encoder_as_it_was(assert_equal_states):
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
    with pytest.raises(UserError, match="boxes of 12 voxels, but the encoder takes 20"):
        finetune(own_set(5), PooledEncoder3D(20, (4, 8)))


def test_training_on_files_writes_an_encoder_that_is_calibrated_anew(tmp_path, monkeypatch, quickly_calibrated):
    microscope = Microscope(binning=2)
    recipe = SimulatedData(n_per_class=6, microscope=microscope, seed=3)
    labelled, _ = write_particles(tmp_path / "own", recipe, ["1OEL", "3KUY"], {0.3: 6}, with_labels=True)
    monkeypatch.setattr(finetuning, "calibrated", quickly_calibrated)
    accuracies = finetuning.finetune_on_particles(open_particles(labelled), tmp_path / "mine.safetensors", n_epochs=1)
    assert len(accuracies) == 2
    _, card = load_encoder(tmp_path / "mine.safetensors")
    assert (card["name"], card["own_classes"], card["own_particles"]) == ("mine", ["1OEL", "3KUY"], 12)
    assert Calibration.from_json(card["calibration"]).promises.limits["n_shot"] == (1, 2)


@pytest.mark.parametrize(("n", "n_held_out"), [(4, 1), (5, 1), (7, 2), (8, 2), (11, 3)])
def test_a_quarter_of_each_class_is_held_out(n, n_held_out):
    labels = np.repeat([1, 0], [n, 12])
    subtomograms = SimpleNamespace(labels=labels, class_names=("a", "b"))
    trained, held_out = finetuning._split(subtomograms, 0)
    assert sorted([*trained, *held_out]) == list(range(n + 12))
    assert [(labels[held_out] == label).sum() for label in (0, 1)] == [3, n_held_out]
    assert held_out.tolist() != finetuning._split(subtomograms, 1)[1].tolist()


@pytest.mark.parametrize(
    ("n_per_class", "n_epochs", "steps", "sizes", "halve_every"),
    [(12, 20, 1, [27], 5), (12, 3, 1, [27], 1), (96, 9, 2, [100, 100], 2)],
)
def test_batches_of_a_hundred_fill_an_epoch_and_the_rate_is_halved_four_times(
    monkeypatch, n_per_class, n_epochs, steps, sizes, halve_every
):
    volumes = torch.randn(3 * n_per_class, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = np.repeat(np.arange(3), n_per_class)
    seen = {}

    def fit(model, losses, validate, schedule):
        batches = []
        monkeypatch.setattr(finetuning, "wedge_rotations", lambda part, which: batches.append((part, which)) or part)
        list(losses(0))
        seen.update(schedule=schedule, batches=batches)
        return SimpleNamespace(accuracies=[0.0], best_epoch=1)

    monkeypatch.setattr(finetuning, "fit", fit)
    finetune(
        SubtomogramSet(volumes, labels, tuple("abc"), np.zeros(len(labels)), 1.0),
        PooledEncoder3D(8, (1, 2)),
        n_epochs=n_epochs,
    )
    schedule = seen["schedule"]
    assert (schedule.n_epochs, schedule.steps_per_epoch, schedule.halve_every) == (n_epochs, steps, halve_every)
    assert schedule.learning_rate == 2e-4
    assert [len(part) for part, _ in seen["batches"]] == sizes
    rotations = torch.cat([which for _, which in seen["batches"]])
    assert set(rotations.tolist()) == {0, 1} and len({float(v[0, 0, 0]) for p, _ in seen["batches"] for v in p}) == sum(
        sizes
    )
