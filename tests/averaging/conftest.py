"""Particles whose poses are known, for the tests of this folder."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import load_complex

BINNED = Microscope(binning=2)
UPRIGHT = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([4.0]))


def without_wedge(microscope):
    return replace(microscope, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0)


@pytest.fixture(scope="session")
def ribosome():
    """A complex without symmetry."""
    entry = load_complex("5OOM")
    return entry.positions_nm, entry.masses_kda


def particles(beads, n, snr, microscope=BINNED, start=0):
    seeds = torch.arange(n) + start
    return simulate([beads] * n, seeds, snr, microscope), draw_acquisition(seeds, microscope)


def angles(quaternions, others):
    return np.degrees((Rotation.from_quat(quaternions) * Rotation.from_quat(others).inv()).magnitude())


def beam_moments(quaternions):
    """Second moments of the beam direction as the reference sees it: one third of the identity if it is uniform."""
    beams = Rotation.from_quat(quaternions).inv().apply([0.0, 0.0, 1.0])
    return beams.T @ beams / len(beams)


@pytest.fixture(scope="session")
def known():
    """Microscopes, and functions that make particles and compare poses."""
    functions = {f.__name__: f for f in (without_wedge, particles, angles, beam_moments)}
    return SimpleNamespace(**functions, BINNED=BINNED, UPRIGHT=UPRIGHT)
