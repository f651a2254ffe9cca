"""The physics of the simulator, each property measured on the volumes that come out."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.errors import UserError
from cryo_fewshot.fourier import slice_weights
from cryo_fewshot.simulation.imaging import (
    _plan,
    _soft_edge,
    noise_powers,
    signal_spectra,
    simulate,
    volume_spectra,
)
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition

SEEDS = torch.arange(48) + 1000
CENTRED = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([4.0]))


def spectrum(volume):
    """Fourier transform with the frequency zero in the middle, in Fourier voxels of the box."""
    return np.fft.fftshift(np.fft.fftn(volume.numpy()))


def frequencies(box):
    k = np.arange(box) - box // 2
    return np.meshgrid(k, k, k, indexing="ij")


@pytest.mark.parametrize("snr", [0.1, 0.05, 0.03])
def test_two_noisy_copies_recover_the_snr(beads, snr, device):
    microscope = Microscope()
    copies = 160  # their pairs make the estimator's own error small beside the 5 %
    one_pose = draw_acquisition(SEEDS[:1].repeat(copies), microscope)
    volumes = simulate([beads] * copies, torch.arange(copies), snr, microscope, device, one_pose).flatten(1)
    pairs = np.corrcoef(volumes.cpu().numpy())[np.triu_indices(copies, 1)].mean()
    assert pairs / (1 - pairs) == pytest.approx(snr, rel=0.05)


@pytest.mark.parametrize("tilts", [(-60, 60), (-50, 70), (-40, 40)])
@pytest.mark.parametrize("snr", [None, 0.05])
def test_energy_outside_the_sampled_wedge_is_below_one_percent(beads, tilts, snr):
    microscope = Microscope(tilt_min=tilts[0], tilt_max=tilts[1])
    power = np.abs(spectrum(simulate([beads], SEEDS[:1], snr, microscope)[0])) ** 2
    kz, _, kx = frequencies(40)
    # A tilt image at angle t samples the plane kz cos t = kx sin t: directions with tan t = kz / kx.
    angle = np.degrees(np.arctan2(kz * np.sign(kx + 1e-9), np.abs(kx) + 1e-9))
    edge = np.minimum(
        np.abs(kz * np.cos(np.deg2rad(tilts[0])) - kx * np.sin(np.deg2rad(tilts[0]))),
        np.abs(kz * np.cos(np.deg2rad(tilts[1])) - kx * np.sin(np.deg2rad(tilts[1]))),
    )
    outside = ((angle < tilts[0]) | (angle > tilts[1])) & (edge >= 1)
    assert outside.mean() > 0.1
    assert power[outside].sum() / power.sum() < 0.01


def test_a_wide_tilt_increment_thins_the_signal_between_slices(beads):
    kz, ky, kx = frequencies(40)
    radius = np.hypot(kz, kx)
    between = np.abs(np.degrees(np.arctan2(kz, kx)) - 35) < 1.5  # half-way between tilts of 30 and 40 degrees
    far = between & (radius > 7) & (radius < 10) & (np.abs(ky) < 3)
    power = {}
    for increment in (1, 10):
        microscope = Microscope(tilt_increment=increment)
        power[increment] = np.abs(spectrum(simulate([beads], SEEDS[:1], None, microscope)[0])[far]) ** 2
    assert power[10].sum() < 0.75 * power[1].sum()


def test_ctf_zeros_lie_where_theory_puts_them(beads):
    microscope = Microscope(
        box=80,
        voxel_size_nm=0.5,
        tilt_min=-90,
        tilt_max=90,
        tilt_increment=1,
        low_pass_nm=2.0,
        envelope_sigma_per_nm=100.0,
    )
    defocus_um = 4.0
    acquisition = Acquisition(np.array([[0.0, 0.0, 0.0, 1.0]]), np.zeros((1, 3)), np.array([defocus_um]))
    point = (np.zeros((1, 3), np.float32), np.ones(1, np.float32))
    transfer = spectrum(simulate([point], SEEDS[:1], None, microscope, acquisition=acquisition)[0])
    # Along y, where every tilt contributes, the transform of a centred point is the CTF itself up to a scale.
    along_y = transfer[40, 40:60, 40].real * (-1) ** np.arange(20)
    wavelength = 0.0196874  # angstrom, 300 kV
    k = np.arange(20) / 400  # per angstrom
    chi = np.pi * wavelength * defocus_um * 1e4 * k**2 - np.pi / 2 * 2.7e7 * wavelength**3 * k**4 + np.arcsin(0.07)
    expected = -np.sin(chi)
    inside = slice(1, 17)
    scale = (along_y[inside] @ expected[inside]) / (expected[inside] @ expected[inside])
    assert scale > 0, "protein is dark: negative at low frequency"
    assert np.abs(along_y[inside] / scale - expected[inside]).max() < 0.03
    first_zero = (np.pi - np.arcsin(0.07)) / (np.pi * wavelength * defocus_um * 1e4)
    rising = slice(11, 17)
    assert np.interp(0, along_y[rising], (k**2)[rising]) == pytest.approx(first_zero, rel=0.05)


@pytest.mark.parametrize("angle", [0, 30, -45])
def test_a_projection_equals_a_real_space_sum(beads, angle):
    """The central slice of the volume at a tilt angle is the transform of the beads summed along the beam."""
    in_focus = Acquisition(CENTRED.quaternions, CENTRED.shifts_nm, np.array([0.0]))
    microscope = Microscope(
        envelope_sigma_per_nm=100.0,
        amplitude_contrast=1.0,
        spherical_aberration_mm=0.0,
        dark_protein=False,
        tilt_increment=1,
    )
    volume = simulate([beads], SEEDS[:1], None, microscope, acquisition=in_focus)[0]
    positions, masses = beads
    # Tilting the specimen by +angle about y; the projection is then a plain sum along z, with exact phases.
    tilted = Rotation.from_euler("y", -angle, degrees=True).apply(positions[:, ::-1])
    u = np.arange(-7, 8)
    kx, ky = np.meshgrid(u, u, indexing="ij")
    inside = (np.hypot(kx, ky) <= 7) & (np.hypot(kx, ky) > 0)
    waves = np.exp(-2j * np.pi / 40 * (kx[inside][:, None] * tilted[:, 0] + ky[inside][:, None] * tilted[:, 1]))
    expected = waves @ masses
    # The slice of the volume: k_xyz = (kx cos, ky, kx sin), by a direct sum over voxels about the centre n // 2.
    theta = np.deg2rad(angle)
    grid = np.stack(np.meshgrid(*[np.arange(40) - 20.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    k_zyx = np.stack([kx[inside] * np.sin(theta), ky[inside], kx[inside] * np.cos(theta)], -1)
    measured = np.exp(-2j * np.pi / 40 * k_zyx @ grid.T) @ volume.numpy().ravel()
    similarity = np.abs(np.vdot(expected, measured)) / np.linalg.norm(expected) / np.linalg.norm(measured)
    assert similarity > 0.99


@pytest.mark.parametrize("settings", [{}, {"binning": 2}, {"box": 16, "voxel_size_nm": 2.0}, {"box": 28}])
def test_a_sample_has_the_same_bits_in_any_batch_and_with_any_number_of_threads(beads, settings):
    microscope = Microscope(**settings)
    batch = [beads if i % 3 else None for i in range(48)]
    whole = simulate(batch, SEEDS, 0.1, microscope)
    for size in (1, 7, 32):
        parts = [simulate(batch[i : i + size], SEEDS[i : i + size], 0.1, microscope) for i in range(0, 48, size)]
        assert torch.equal(torch.cat(parts), whole)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert torch.equal(simulate(batch, SEEDS, 0.1, microscope), whole)
    finally:
        torch.set_num_threads(threads)


def test_a_binned_volume_is_the_fourier_crop_of_the_full_one(beads):
    full = spectrum(simulate([beads], SEEDS[:1], 0.1, Microscope())[0])[10:30, 10:30, 10:30]
    binned = spectrum(simulate([beads], SEEDS[:1], 0.1, Microscope(binning=2))[0])
    inside = sum(k**2 for k in frequencies(20)) < 100
    full, binned = full[inside], binned[inside]
    assert np.abs(np.vdot(full, binned)) / np.linalg.norm(full) / np.linalg.norm(binned) > 0.999


def test_the_empty_class_is_standardised_noise_of_the_same_spectrum(beads):
    microscope = Microscope()
    volumes = simulate([None] * 24 + [beads] * 24, SEEDS, 0.001, microscope)
    assert volumes.mean(dim=(1, 2, 3)).abs().max() < 1e-4
    assert (volumes.var(dim=(1, 2, 3), unbiased=False) - 1).abs().max() < 1e-3
    empty, particle = (np.mean([np.abs(spectrum(v)) ** 2 for v in part], axis=0) for part in volumes.split(24))
    assert np.corrcoef(empty.ravel(), particle.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("settings", [{}, {"noise_before_ctf": 0.0}, {"noise_before_ctf": 1.0}, {"tilt_increment": 9}])
def test_signal_and_noise_have_unit_power_and_the_shares_that_are_stated(beads, settings):
    microscope = Microscope(**settings)
    acquisition = draw_acquisition(SEEDS[:2], microscope)
    plan = _plan(microscope, "cpu")
    signal = signal_spectra([beads, None], acquisition, microscope)
    power = (plan.multiplicity[: plan.n_signal] * signal.abs().square()).sum(1)
    assert power.tolist() == pytest.approx([1, 0], rel=1e-4)
    noise = noise_powers(acquisition, microscope)
    assert (plan.multiplicity * noise).sum(1).tolist() == pytest.approx([1, 1], rel=1e-4)

    # By hand: noise is white in each tilt image; a share of it meets the CTF, the rest the detector's MTF.
    ctf = plan.ctf(acquisition.defocus_um)[:, plan.shell]
    frequency = plan.shell_frequency[plan.shell].sqrt() * 10  # per nm
    mtf = torch.exp(-0.5 * (frequency / microscope.mtf_sigma_per_nm) ** 2)

    def unit_power(gain):
        return gain.square() / (plan.multiplicity * gain.square()).sum(-1, keepdim=True)

    before, after = unit_power(plan.noise_gain * ctf), unit_power(plan.noise_gain * mtf)
    share = microscope.noise_before_ctf
    torch.testing.assert_close(noise, share * before + (1 - share) * after, rtol=1e-3, atol=1e-9)


def test_the_plan_holds_gains_in_order_of_frequency():
    microscope = Microscope()
    plan = _plan(microscope, "cpu")
    frequency = plan.shell_frequency[plan.shell].sqrt() * 10  # per nm
    assert (frequency.diff() >= 0).all() and float(frequency[0]) == pytest.approx(1 / 40)
    assert 0.49 < float(frequency[-1]) < 0.5  # up to Nyquist, without its planes
    assert float(frequency[plan.n_signal - 1]) < 1.1 / 4 <= float(frequency[plan.n_signal])
    torch.testing.assert_close(plan.envelope, torch.exp(-0.5 * (plan.shell_frequency.sqrt() * 10 / 0.2) ** 2))
    # Noise of the slices that meet adds up as squares, while the signal is their weighted mean.
    kz, kx = (plan.counters // 1024**2 - 512).double(), (plan.counters % 1024).double()
    total, squares = slice_weights(kz, kx, microscope.tilt_angles)
    torch.testing.assert_close(plan.noise_gain.double(), squares.sqrt() / total.clamp(min=1), rtol=1e-5, atol=1e-6)
    binned = _plan(Microscope(binning=2), "cpu")
    assert torch.equal(binned.counters, plan.counters[: binned.n_final])
    assert float(frequency[binned.n_final - 1]) < 0.25 <= float(frequency[binned.n_final])


def test_the_low_pass_falls_as_a_cosine_about_its_cut_off():
    ratio = torch.tensor([0.0, 0.9, 0.95, 1.0, 1.05, 1.1, 1.5])
    expected = [1, 1, 0.5 + 0.5 * np.cos(np.pi / 4), 0.5, 0.5 + 0.5 * np.cos(3 * np.pi / 4), 0, 0]
    assert _soft_edge(ratio).tolist() == pytest.approx(expected, abs=1e-5)


def test_the_noise_is_as_strong_as_it_is_said_to_be_at_each_frequency():
    microscope = Microscope(box=16)
    acquisition = draw_acquisition(SEEDS[:1].repeat(600), microscope)
    volumes = simulate([None] * 600, torch.arange(600), 0.1, microscope, acquisition=acquisition)
    spectra, independent = volume_spectra(volumes, microscope)
    expected = noise_powers(acquisition, microscope)[0]
    seen = expected > 0.01 * expected.max()
    ratio = (spectra.abs().square().mean(0) / expected)[seen]
    assert set(independent.tolist()) == {0.5, 1.0}
    for kind in (0.5, 1.0):  # the plane kx = 0, and the rest
        assert float(ratio[independent[seen] == kind].mean()) == pytest.approx(1, abs=0.02)
    assert (ratio - 1).abs().max() < 0.3  # 600 draws: a standard error of 4 %, or 6 on the plane


def test_the_snr_sets_the_noise_alone(beads):
    loud, quiet = (simulate([beads], SEEDS[:1], snr, Microscope())[0] for snr in (1e-4, 1e4))
    clean = simulate([beads], SEEDS[:1], None, Microscope())[0]
    assert np.corrcoef(quiet.ravel(), clean.ravel())[0, 1] > 0.999
    assert abs(np.corrcoef(loud.ravel(), clean.ravel())[0, 1]) < 0.1
    for snr in (0, -1):
        with pytest.raises(UserError, match=f"snr={snr}"):
            simulate([beads], SEEDS[:1], snr, Microscope())


def test_protein_is_dark_or_bright_as_asked(beads):
    dark, bright = (
        simulate([beads], SEEDS[:1], None, Microscope(dark_protein=is_dark), acquisition=CENTRED)[0]
        for is_dark in (True, False)
    )
    torch.testing.assert_close(dark, -bright, rtol=0, atol=1e-4)
