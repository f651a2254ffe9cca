"""One setting at a time: what the trainings differ in, and how their answers are paired."""

import numpy as np
import pytest
import torch
from studies import factor_evaluation as room
from studies import spectra
from studies.cell_trainings import START, cross_fitted
from studies.factors import (
    ALL,
    CONTROL,
    FACTORS,
    MIXED,
    PRETRAINED,
    SHIPPED,
    STARTED,
    VACUUM,
    WITH_CLASSES,
    factor_spec,
    trainings,
)
from studies.real_benchmark import VACUUM as OUTSIDE
from studies.real_benchmark import YEAST, tomogram_of

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.hashing import spec_dict
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.recognition.pretraining import pretrained_spec, spec_of, trained_on
from cryo_fewshot.simulation.surroundings import CROWD, MEMBRANE, Surroundings
from cryo_fewshot.weights import load_encoder


def test_each_training_differs_from_the_control_in_its_settings_alone():
    control, plain = (
        factor_spec(CONTROL),
        Surroundings(complexes=factor_spec(CONTROL).acquisitions.surroundings.complexes),
    )
    assert control.acquisitions.surroundings == plain and CROWD not in control.classes
    for factor, settings in FACTORS.items():
        spec = factor_spec(factor)
        around = spec.acquisitions.surroundings
        changed = {name for name, value in vars(around).items() if value != getattr(plain, name)}
        assert changed == set(settings) and spec.schedule == control.schedule and spec.start == control.start
        assert ({CROWD, MEMBRANE} < set(spec.classes)) == (factor in WITH_CLASSES)
        assert spec_of({"spec": spec_dict(spec)}) == spec  # textures too, numbers within numbers
    assert len(trainings()) == 2 * len(FACTORS) and set(FACTORS[SHIPPED]) < set(FACTORS[ALL])


def test_cross_fitted_trainings_are_the_pretrained_encoders_without_a_part_of_the_families():
    found, shipped = cross_fitted(), trained_on(pretrained_spec(), START)
    left_out = [name for i in range(4) for name in found[f"fold-{i}"].selection]
    assert len(left_out) == len(set(left_out)) and not set(left_out) & set(shipped.test)
    for i in range(4):
        first, second = found[f"fold-{i}-first"], found[f"fold-{i}"]
        assert first.acquisitions.surroundings is None and first.cost == 40_000
        assert (second.schedule, second.start_share) == (shipped.schedule, shipped.start_share)
        assert not set(second.acquisitions.surroundings.complexes) & set(second.selection)


@pytest.mark.skipif(not YEAST.is_dir(), reason=f"the real tomogram is not at {YEAST}")
def test_the_texture_of_the_vacuum_is_that_of_the_even_columns():
    data = tomogram_of(YEAST, *load_encoder())
    even = data.half("even")[data.labels == OUTSIDE]
    with np.load(YEAST / f"tomo171_boxes16_{OUTSIDE}.npz", allow_pickle=False) as archive:  # cut at 16 voxels of 3.1 nm
        boxes = [resample(volume, 3.136, 20, 2.0, YEAST) for volume in archive["boxes"][even].astype(float)]
    power = spectra.mean_power(band_limited(torch.stack(boxes)), spectra.radii(20))[1:10]
    assert len(boxes) == 57 and (power / power.mean())[: len(VACUUM)].numpy() == pytest.approx(VACUUM, abs=6e-4)


def entries(**right):
    """Two blocks, ten questions each, of one class; by factor the right answers, a list per seed."""
    row = {"task": room.FOUR, "method": room.PROTOTYPE, "n_shot": 5, "asked": [[10, 10]]}
    return [
        {
            "spec": {"factor": factor, "part": room.EVEN, "training": {"seed": seed}},
            "result": {"rows": [{**row, "right": [counts]}]},
        }
        for factor, seeds in right.items()
        for seed, counts in enumerate(seeds)
    ]


def test_gains_are_paired_by_seed_and_block():
    found = room.factor_frame(entries(control=[[2, 8], [4, 8]], neighbours=[[4, 10]], membranes=[[1, 9]]), room.EVEN)
    gain = found.set_index("factor")
    assert gain["accuracy"].round(3).to_dict() == {"control": 0.55, "neighbours": 0.7, "membranes": 0.5}
    # The first seed alone has a partner: two more of ten right in either block, so drawing blocks changes nothing.
    assert gain.loc["neighbours", ["gain", "low", "high"]].tolist() == pytest.approx([0.2, 0.2, 0.2])
    assert gain.loc["membranes", ["low", "high"]].tolist() == pytest.approx([-0.1, 0.1])
    assert (
        room.factor_table(found, {room.FOUR: "four"}, room.PROTOTYPE)
        .loc["neighbours"]
        .item()
        .startswith("0.700 (+0.200")
    )
    assert room.seeds_text(found, "Boxes") == "Boxes: two seeds for 1 of 3 rows, 0.100 apart (median; at most 0.100)."
    assert room.gains_of(found)["panel"].unique().tolist() == ["real:\nprototype"]


def test_the_first_and_the_pretrained_encoder_are_named_task_by_task():
    found = room.factor_frame(entries(**{CONTROL: [[2, 8]], STARTED: [[4, 8]], PRETRAINED: [[9, 10]]}), room.EVEN)
    said = room.change_text(found.assign(task="alone"), found)
    assert said.endswith("alone 0.600 to 0.950; boxes of a real tomogram, without the second membrane 0.600 to 0.950.")


def test_simulated_rows_count_answers_task_by_task(monkeypatch):
    def bright(around, snr, classes, n_per_class):  # a class is a brightness of the middle
        volumes = torch.randn(len(classes) * n_per_class, 20, 20, 20, generator=torch.Generator().manual_seed(0))
        volumes[:, 8:12, 8:12, 8:12] += (
            3 * torch.arange(len(classes)).repeat_interleave(n_per_class)[:, None, None, None]
        )
        return volumes

    monkeypatch.setattr(room, "held_out", bright)
    torch.manual_seed(0)
    encoder = PooledEncoder3D(20, (4, 8)).eval()
    spec = room.FactorEvaluation(
        factor=STARTED, training=factor_spec(CONTROL), encoder="", part=room.SIMULATED, shots=(1,), n_tasks=6,
        n_per_class=16, snrs=(0.1, 0.05),
    )  # fmt: skip
    rows = list(room.simulated_rows(spec, encoder))
    assert [row["task"] for row in rows] == [*room.AROUND, room.SELECTION] and MIXED not in FACTORS
    for row in rows:
        right, asked = np.array(row["right"]), np.array(row["asked"])
        assert right.shape == asked.shape == (1, 6) and (asked == 150).all()
        assert 0.25 < right.sum() / asked.sum() <= 1  # chance is a fifth
