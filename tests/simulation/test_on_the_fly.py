"""Samples simulated on the fly: which classes may be trained on, and the acquisitions they are drawn from."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.simulation import on_the_fly
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import (
    WIDE,
    Acquisitions,
    homologous_family,
    library_classes,
    outside_families,
    simulate_on_the_fly,
)
from cryo_fewshot.simulation.structures import registry
from cryo_fewshot.subtomograms import split_classes

TINY = Microscope(box=24, binning=2, voxel_size_nm=1.5)


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
    first = microscopes[0]  # drawn by the default seed, and rounded
    assert (first.tilt_min, first.tilt_max, first.tilt_increment) == (-65.4, 65.4, 4.57)
    assert (first.voxel_size_nm, first.low_pass_nm, first.noise_before_ctf) == (0.9928, 4.12, 0.41)
    assert min(WIDE.snrs) == 0.02 and max(WIDE.snrs) == 0.5
    assert Acquisitions().microscopes() == (Microscope(binning=2),)
    with pytest.raises(UserError, match="1 to 30"):
        Acquisitions(n_microscopes=31)
    with pytest.raises(UserError, match="positive ratio"):
        Acquisitions(snrs=(0.1, 0))


def test_library_classes_hold_no_relative_of_a_splits_held_out_ones():
    split = split_classes(SimulatedData().class_names, (10, 5, 8), 0)
    more = library_classes(split.validation + split.novel)
    assert EMPTY not in more  # a validation class of this split
    assert set(split.base) < set(more)
    assert "5HX2" not in more  # wider than the box
    assert not {homologous_family(name) for name in more} & {
        homologous_family(name) for name in split.validation + split.novel
    }


def test_a_complex_as_wide_as_the_box_fits_it():
    diameter = float(registry()["max_diameter_nm"]["1OEL"])
    assert "1OEL" in library_classes([], width_nm=diameter)
    assert "1OEL" not in library_classes([], width_nm=diameter - 1e-6)


def test_homologous_families_go_together():
    assert homologous_family("4V94") == homologous_family("1OEL") == homologous_family("1AON")
    assert homologous_family("6FML") == homologous_family("3KUY")
    assert homologous_family(EMPTY) == EMPTY
    assert outside_families(["1AON", "4V94", "1S3X"], ["1OEL"]) == ("1S3X",)


def test_neither_microscope_nor_snr_tells_the_class(monkeypatch):
    met = []

    def recorded(beads, seeds, snr, microscope, device):
        assert len(beads) <= 4  # samples of one microscope and SNR
        met.extend((None if sample is None else len(sample[1]), snr, microscope) for sample in beads)
        return simulate(beads, seeds, snr, microscope, device)

    monkeypatch.setattr(on_the_fly, "simulate", recorded)
    acquisitions = Acquisitions(microscope=TINY, snrs=(0.5, 0.1), n_microscopes=3)
    names = [name for name in ("1S3X", "3IYD", EMPTY) for _ in range(16)]
    simulate_on_the_fly(names, acquisitions, np.random.default_rng(0), group_size=4)
    classes = {sample for sample, _, _ in met}
    assert len(classes) == 3 and len(met) == 48
    for name in classes:
        assert {snr for sample, snr, _ in met if sample == name} == {0.5, 0.1}
        assert len({microscope for sample, _, microscope in met if sample == name}) == 3


def test_volumes_lie_in_the_order_of_their_names_and_follow_from_the_generator():
    names = ["1S3X"] * 4 + ["1OEL"] * 4 + ["4V1W"] * 4
    loud = Acquisitions(microscope=TINY, snrs=(1e6,))
    volumes = simulate_on_the_fly(names, loud, np.random.default_rng(3), group_size=5)
    again = simulate_on_the_fly(names, loud, np.random.default_rng(3), group_size=5)
    other = simulate_on_the_fly(names, loud, np.random.default_rng(4), group_size=5)
    assert torch.equal(volumes, again) and not torch.equal(volumes, other)
    # The generator gives the seeds first; with one microscope and SNR nothing else matters.
    seeds = torch.from_numpy(np.random.default_rng(3).integers(2**62, size=12))
    beads = [SimulatedData().beads_of(name, seeds[:1])[0] for name in names]
    torch.testing.assert_close(volumes, simulate(beads, seeds, 1e6, TINY))
