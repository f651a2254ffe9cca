"""Simulated sets: what a recipe fixes."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.structures import load_complex

RECIPE = SimulatedData(n_per_class=9, microscope=Microscope(box=24, binning=2, voxel_size_nm=1.5))


def test_a_set_holds_what_its_recipe_says():
    names = ("1OEL", "4V1W", EMPTY)
    particles = simulate_set(RECIPE, {0.1: 9, 0.03: 4}, names)
    assert particles.volumes.shape == (39, 12, 12, 12)
    assert np.bincount(particles.labels).tolist() == [13, 13, 13]
    assert [(particles.snrs == snr).sum() for snr in (0.1, 0.03)] == [27, 12]
    assert particles.voxel_size_nm == 3.0
    assert particles.indices_of([EMPTY, "1OEL"]) == [2, 0]


def test_a_smaller_set_is_part_of_the_larger_whatever_the_chunk_and_the_other_classes():
    large = simulate_set(RECIPE, {0.05: 9}, ("1OEL", "4V1W"), chunk=4)
    small = simulate_set(RECIPE, {0.05: 3}, ("4V1W",), chunk=32)
    assert torch.equal(small.volumes, large.volumes[large.labels == 1][:3])


def test_another_seed_class_or_snr_is_another_sample():
    seeds = {int(RECIPE.sample_seeds(name, snr)[0]) for name in ("1OEL", "4V1W") for snr in (0.1, 0.05)} | {
        int(SimulatedData(seed=1).sample_seeds("1OEL", 0.1)[0])
    }
    assert len(seeds) == 5
    assert RECIPE.class_names[-1] == EMPTY and len(RECIPE.class_names) == 23


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: simulate_set(RECIPE, {0.1: 10}, ("1OEL",)), "raise n_per_class"),
        (lambda: simulate_set(RECIPE, {0.1: 1}, ("9XYZ",)), "9XYZ"),
        (lambda: SimulatedData(class_set="paper23").class_names, "paper23"),
    ],
)
def test_impossible_recipes_are_refused_in_one_line(make, words):
    with pytest.raises(UserError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_volumes_are_those_of_the_class_the_seed_and_the_snr():
    names = ("1OEL", EMPTY)
    particles = simulate_set(RECIPE, {0.1: 2, 0.03: 1}, names)
    row = 0
    for snr, count in ((0.1, 2), (0.03, 1)):
        for name in names:
            seeds = RECIPE.sample_seeds(name, snr, count=count)
            entry = None if name == EMPTY else load_complex(name)
            beads = entry and (entry.positions_nm, entry.masses_kda)
            expected = simulate([beads] * count, seeds, snr, RECIPE.microscope)
            assert torch.equal(particles.volumes[row : row + count], expected)
            row += count


def test_seeds_of_a_class_are_consecutive_and_a_later_start_goes_on():
    seeds = RECIPE.sample_seeds("1OEL", 0.1)
    assert len(seeds) == RECIPE.n_per_class and (seeds.diff() == 1).all()
    assert torch.equal(RECIPE.sample_seeds("1OEL", 0.1, start=3, count=4), seeds[3:7])
    assert int(seeds[0]) == seed_from("subtomogram", RECIPE.seed, "1OEL", 0.1) // 2


def test_a_recipe_needs_at_least_one_sample_and_may_leave_out_the_empty_class():
    assert SimulatedData(n_per_class=1, with_empty=False).class_names[-1] != EMPTY
    with pytest.raises(UserError, match="n_per_class=0"):
        SimulatedData(n_per_class=0)
