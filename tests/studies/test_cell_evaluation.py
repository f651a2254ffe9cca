"""Encoders asked with and without surroundings, and on boxes of one tomogram."""

import numpy as np
import pytest
import torch
from studies import cell_evaluation
from studies.cell_evaluation import ALONE, APART, AROUND, MATCHED, PLAIN, RealBoxes, finding, read_boxes, rows_of
from studies.cell_evaluation import cell_evaluation as evaluate
from studies.cell_trainings import LONG, SHORT, SHOWN, cross_fitted, trainings

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.hashing import spec_dict
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store


@pytest.fixture(scope="module")
def boxes():
    """Three classes of smooth boxes scattered over a tomogram, telling themselves apart by their brightness."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    volumes = torch.from_numpy(rng.normal(size=(120, 20, 20, 20))).float()
    volumes[:, 8:12, 8:12, 8:12] += torch.from_numpy(labels * 3.0)[:, None, None, None].float()
    return RealBoxes(volumes, rng.uniform(0, [250, 250, 20], (120, 3)), labels)


def test_the_halves_are_columns_and_no_even_box_is_near_an_odd_one(boxes):
    even, odd = boxes.half("even"), boxes.half("odd")
    assert not set(even) & set(odd) and set(even) | set(odd) < set(boxes.half("all"))
    apart = np.linalg.norm(boxes.centres[even][:, None] - boxes.centres[odd], axis=2)
    assert apart.min() >= APART
    assert {int(x // 40 + y // 40) % 2 for x, y, _ in boxes.centres[odd]} == {1}


def test_no_query_shares_a_voxel_with_its_support(boxes):
    rng = np.random.default_rng(1)
    for _ in range(20):
        support, queries = boxes._task(boxes.half("all"), 5, rng)
        assert [set(boxes.labels[row]) for row in support] == [{0}, {1}, {2}]
        for way, query in enumerate(queries):
            assert set(boxes.labels[query]) == {way} and len(set(query)) == len(query)
            apart = np.linalg.norm(boxes.centres[query][:, None] - boxes.centres[support.ravel()], axis=2)
            assert apart.min() >= APART


def test_an_entry_holds_both_parts_and_is_the_same_again(tmp_path, boxes, monkeypatch):
    torch.manual_seed(0)
    card = {"spec": spec_dict(trainings()["cells"]), "volumes": 50_000}
    encoder = PooledEncoder3D(20, (4, 8)).eval()
    small = {"classes": ("1OEL", "3UWX"), "snrs": (0.1,), "shots": (5,), "real_shots": (1, 5), "n_per_class": 6}
    entry = evaluate(Runner(Store(tmp_path)), "cells", card, encoder, boxes, n_episodes=20, **small)
    simulated, real = rows_of([entry], "simulated"), rows_of([entry], "real")
    assert simulated["around"].tolist() == list(AROUND) and next(iter(AROUND)) == ALONE
    halves = [[b, h, n] for b in (PLAIN, MATCHED) for h in ("even", "odd", "all") for n in (1, 5)]
    assert real[["boxes", "half", "n_shot"]].values.tolist() == halves
    assert set(simulated["volumes"]) == {"50,000"} and simulated["accuracy"].between(0, 1).all()
    assert real["accuracy"].min() > 0.34  # brightness is seen even by an untrained network; chance is a third
    said = finding([entry], "cells", "cells", n_shot=5)
    assert "neighbours, membranes* (50,000 volumes)" in said and said.count(" to ") == 6 and "nan" not in said
    monkeypatch.setattr(cell_evaluation.CellEvaluation, "run", None)  # from the store
    again = evaluate(Runner(Store(tmp_path)), "cells", card, encoder, boxes, n_episodes=20, **small)
    assert again["result"] == entry["result"]


def test_each_training_differs_from_the_control_by_its_surroundings_length_and_start():
    found = trainings()
    control = found["control"]
    assert control.acquisitions.surroundings is None and found["cells"].acquisitions.surroundings.neighbours == 0.5
    assert set(found) < set(SHOWN)
    for name, spec in found.items():
        assert spec.schedule.n_epochs == {"long": LONG, "tuned": 8, "averaged": 8}.get(name.split("-")[-1], SHORT)
        assert bool(spec.start) == (name in ("cells-tuned", "cells-averaged"))
        assert (spec.seed, spec.n_way, spec.selection, spec.test) == (0, 20, control.selection, control.test)


def test_absent_boxes_are_none(tmp_path):
    assert read_boxes(tmp_path / "absent") is None


def test_cross_fitted_trainings_are_the_pretrained_encoders_without_a_part_of_the_families():
    found, shipped = cross_fitted(), trainings()["cells-averaged"]
    left_out = [name for i in range(4) for name in found[f"fold-{i}"].selection]
    assert len(left_out) == len(set(left_out)) and not set(left_out) & set(shipped.test)
    for i in range(4):
        first, second = found[f"fold-{i}-first"], found[f"fold-{i}"]
        assert first.acquisitions.surroundings is None and first.cost == 40_000
        assert (second.schedule, second.start_share) == (shipped.schedule, shipped.start_share)
        assert not set(second.acquisitions.surroundings.complexes) & set(second.selection)
