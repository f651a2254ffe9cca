"""Surroundings of a complex: what each setting does, measured on what it makes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.hashing import spec_dict
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition
from cryo_fewshot.simulation.on_the_fly import Acquisitions, simulate_on_the_fly
from cryo_fewshot.simulation.scenes import simulate_surrounded
from cryo_fewshot.simulation.structures import load_complex
from cryo_fewshot.simulation.surroundings import (
    CROWD,
    MEMBRANE,
    Surroundings,
    radial_gain,
    texture_gain,
    widened,
)

SCOPE = Microscope(box=40, binning=2, low_pass_nm=4.0)
COMPLEXES = ("1S3X", "1OEL", "3IYD")
QUIET = 1e6
SEEDS = torch.arange(6)


def boxes(names, seed=0, snr=QUIET, scope=SCOPE, **settings):
    surroundings = Surroundings(complexes=COMPLEXES, **settings)
    return simulate_surrounded(names, SEEDS[: len(names)], snr, scope, surroundings, np.random.default_rng(seed))


def radii(box, voxel_nm):
    line = (torch.arange(box) - box // 2) * voxel_nm
    return (line[:, None, None] ** 2 + line[:, None] ** 2 + line**2).sqrt()


def power_beyond(volumes, radius_nm):
    """Share of each volume's power farther from the centre than a radius."""
    far = radii(volumes.shape[-1], SCOPE.final_voxel_size_nm) > radius_nm
    return volumes[:, far].square().sum(1) / volumes.flatten(1).square().sum(1)


def correlations(first, second):
    return (first * second).flatten(1).mean(1)


def test_without_surroundings_a_cut_box_shows_what_the_narrow_one_does():
    entry = load_complex("1S3X")
    narrow = simulate([(entry.positions_nm, entry.masses_kda)] * 6, SEEDS, None, SCOPE)
    volumes = boxes(["1S3X"] * 6)
    assert volumes.shape == (6, 20, 20, 20)
    assert correlations(volumes, narrow).min() > 0.98
    torch.testing.assert_close(volumes.flatten(1).var(1, correction=0), torch.ones(6))


def test_the_snr_is_that_of_the_complex_alone_over_the_finished_box():
    scope = replace(SCOPE, binning=1)
    quiet, noisy = boxes(["1OEL"] * 6, scope=scope), boxes(["1OEL"] * 6, scope=scope, snr=0.5)
    r = correlations(quiet, noisy)  # of signal with signal + noise, so snr = r^2 / (1 - r^2)
    assert float((r**2 / (1 - r**2)).mean()) == pytest.approx(0.5, rel=0.1)
    surrounded = boxes(["1OEL"] * 6, scope=scope, snr=0.5, neighbours=1.0, loudest=1e9, gap_nm=(0, 1))
    # Noise of the same size with more signal: the volume correlates less with the complex, not with its surroundings.
    assert (correlations(quiet, surrounded) < r).all()


def test_neighbours_add_power_at_their_distance_and_none_in_the_centre():
    alone, near = boxes(["1S3X"] * 6), boxes(["1S3X"] * 6, neighbours=1.0, gap_nm=(4, 5), n_neighbours=(3, 3))
    assert (power_beyond(near, 12) > 2 * power_beyond(alone, 12)).all()
    off = boxes(["1S3X"] * 6, neighbours=1.0, gap_nm=(60, 60))  # beyond the wide box: cut, not wrapped
    assert correlations(alone, off).min() > 0.999


def test_a_crowd_has_a_gap_in_its_centre_and_a_membrane_passes_near_it():
    crowd, membrane = boxes([CROWD] * 6), boxes([MEMBRANE] * 6, paired=0.0, decorated=0.0)
    assert (1 - power_beyond(crowd, 4)).max() < 0.02
    centre = radii(20, 2.0) < 10
    assert (membrane[:, centre].square().mean(1) > 0.5).all()


def test_surroundings_are_dimmed_to_the_loudest():
    for loudest in (0.25, 1.0):
        alone, gold = boxes(["3IYD"] * 6), boxes(["3IYD"] * 6, gold=1.0, loudest=loudest)
        share = 1 - correlations(alone, gold).square()  # of power that is not the complex's, in the narrow box
        assert share.max() < 1.3 * loudest / (1 + loudest)
        assert share.max() > 0.05


def test_off_centre_picks_lie_up_to_their_distance_off():
    centred = boxes(["3IYD"] * 6, scope=replace(SCOPE, max_shift_nm=0.0))
    off = boxes(["3IYD"] * 6, scope=replace(SCOPE, max_shift_nm=0.0), off_centre=1.0)
    moved = torch.fft.ifftn(torch.fft.fftn(off, dim=(1, 2, 3)) * torch.fft.fftn(centred, dim=(1, 2, 3)).conj())
    moved = torch.fft.fftshift(moved.real, dim=(1, 2, 3)).flatten(1).argmax(1)
    distance = radii(20, 2.0).flatten()[moved]
    assert distance.max() <= 8 + 2 and distance.max() > 4


def test_source_voxels_empty_the_shells_past_their_nyquist():
    volumes = boxes(["1OEL"] * 6, snr=0.1, margin=0, source_voxel_nm=(3.2, 3.2))
    k = torch.fft.fftfreq(20, 2.0)
    frequency = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt()
    power = torch.fft.fftn(volumes, dim=(1, 2, 3)).abs().square().mean(0)
    assert power[frequency > 1 / 6.4].max() < 1e-6 * power.max()
    assert power[(frequency > 0.12) & (frequency < 1 / 6.5)].mean() > 1e-3 * power.max()


def test_the_response_is_smooth_and_as_strong_as_stated():
    frequency, rng = torch.linspace(0, 0.25, 50), np.random.default_rng(0)
    settings = Surroundings(response=0.2)
    gains = torch.stack([radial_gain(frequency, 2.0, settings, rng)[:-1] for _ in range(400)]).log()
    assert float(gains.std()) == pytest.approx(0.2, rel=0.1)
    assert float(gains.diff(dim=1).abs().max()) < 0.2
    assert torch.equal(radial_gain(frequency, 2.0, Surroundings(), rng)[:-1], torch.ones(49))


def test_boxes_over_the_edge_hold_a_slab_of_one_value():
    for volume in boxes(["1OEL"] * 6, snr=0.1, edges=1.0):
        value = volume.flatten().mode().values
        slab = volume == value
        assert 0.04 < float(slab.float().mean()) <= 0.41
        assert any(slab.all(dim=axes).any() for axes in ((1, 2), (0, 2), (0, 1)))


def test_background_needs_surroundings_and_surroundings_need_complexes():
    with pytest.raises(UserError, match="class 'crowd' is made of surroundings"):
        simulate_on_the_fly([CROWD], Acquisitions(microscope=SCOPE), np.random.default_rng(0))
    with pytest.raises(UserError, match="name some"):
        Surroundings(neighbours=0.5)
    with pytest.raises(UserError, match="gold=2"):
        Surroundings(gold=2)
    scene = Acquisitions(microscope=SCOPE, surroundings=Surroundings())
    with pytest.raises(UserError, match="no scale"):
        simulate_on_the_fly([EMPTY], scene, np.random.default_rng(0))


def test_samples_follow_from_the_generator_and_older_specs_keep_their_names():
    scene = Acquisitions(microscope=SCOPE, snrs=(0.1,), surroundings=Surroundings(complexes=COMPLEXES, membranes=1.0))
    names = ["1OEL", MEMBRANE, EMPTY, CROWD]
    first, again, other = (simulate_on_the_fly(names, scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert "surroundings" not in spec_dict(Acquisitions()) and "surroundings" in spec_dict(scene)
    assert widened(SCOPE, scene.surroundings).final_box == 24
    assert draw_acquisition(SEEDS, SCOPE).quaternions.shape == (6, 4)


def test_a_texture_gives_the_noise_its_power_per_shell_and_leaves_that_of_the_lowest():
    texture = (8.0, 4.0, 2.0, 2.0, 1.0)  # the last holds for all further shells
    frequencies, powers = torch.linspace(0.01, 0.24, 500), torch.rand(3, 500) + 0.1
    found = powers.mean(0) * texture_gain(powers, frequencies, texture).square()
    shells = (40 * frequencies).round().clamp(1, 5)
    assert float(found[shells < 5].sum()) == pytest.approx(float(powers.mean(0)[shells < 5].sum()), rel=1e-4)
    of_shells = torch.stack([found[shells == s].mean() for s in (1, 2, 3, 4, 5)])
    torch.testing.assert_close(of_shells / of_shells[-1], torch.tensor(texture))
    with pytest.raises(UserError, match="above 0"):
        Surroundings(textures=((1.0, 0.0),))


def test_about_half_of_the_groups_get_the_one_texture_and_their_complex_stays():
    red = (4.0, 2.0, 1.0, 0.5, 0.01)
    seen = [boxes(["1OEL"] * 6, seed, snr=0.05, textures=(red,)) for seed in range(12)]
    plain = boxes(["1OEL"] * 6, snr=0.05)
    power = torch.fft.rfftn(torch.stack([plain, *seen]), dim=(2, 3, 4)).abs().square().mean(1)
    low = power[:, 0:3, 0:3, 0:3].sum((1, 2, 3)) / power.sum((1, 2, 3))
    textured = low[1:] > 2 * low[0]
    assert 2 < int(textured.sum()) < 11
    quiet = boxes(["1OEL"] * 6, int(textured.nonzero()[0]), textures=(red,))
    assert correlations(quiet, boxes(["1OEL"] * 6)).min() > 0.99
