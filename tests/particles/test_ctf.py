"""The contrast transfer function against one written out by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.ctf import (
    DEFOCUS,
    LEAST_CTF,
    ctf_values,
    divided_by_ctf,
    read_ctf,
    volume_divided_by_ctf,
)

N, VOLTAGE, ABERRATION_MM, CONTRAST = 24, 300.0, 2.7, 0.1
OPTICS = (VOLTAGE, ABERRATION_MM, CONTRAST)
ENERGY_EV = VOLTAGE * 1e3
# Of electrons at 300 kV, with the relativistic correction: 0.0197 angstrom.
WAVELENGTH_A = 12.2642597 / np.sqrt(ENERGY_EV * (1 + ENERGY_EV / (2 * 510998.95)))


def by_hand(u, v, degrees, pixel_a=10.0, n=N, phase_degrees=0.0):
    """CTF `(n, n)`, u and v in angstrom, the axis of u at an angle from x towards y."""
    k = np.fft.fftfreq(n, pixel_a)
    ky, kx = k[:, None], k
    angle = np.arctan2(ky, kx) - np.deg2rad(degrees)
    defocus, squared = (u + v) / 2 + (u - v) / 2 * np.cos(2 * angle), kx**2 + ky**2
    spherical = np.pi / 2 * ABERRATION_MM * 1e7 * WAVELENGTH_A**3 * squared**2
    return np.sin(
        np.pi * WAVELENGTH_A * defocus * squared - spherical + np.arcsin(CONTRAST) + np.deg2rad(phase_degrees)
    )


# Either may be the larger: torch_ctf's function of whole images is NaN where it is v.
@pytest.mark.parametrize(("u", "v", "degrees"), [(20000, 18000, 30), (15000, 19000, 30), (40000, 40000, 0)])
@pytest.mark.parametrize("pixel_a", [10.0, 4.0])
def test_images_are_divided_by_the_ctf(u, v, degrees, pixel_a):
    ctf = by_hand(u, v, degrees, pixel_a)
    spectra = np.fft.fft2(np.random.default_rng(0).normal(size=(2, N, N)))
    known = np.abs(ctf) > LEAST_CTF
    images = np.fft.ifft2(spectra * ctf).real
    values = np.tile([float(u), float(v), float(degrees), *OPTICS, 0.0], (2, 1))
    found = np.fft.fft2(divided_by_ctf(images, pixel_a / 10, values))
    # Half a frequency, at Nyquist, has no sign of its own; the rest comes back.
    known[N // 2] = known[:, N // 2] = False
    np.testing.assert_allclose(found[:, known], spectra[:, known], rtol=2e-3, atol=2e-2)
    lost = ~known
    lost[N // 2] = lost[:, N // 2] = False
    expected = (spectra * ctf / np.where(ctf < 0, -LEAST_CTF, LEAST_CTF))[:, lost]
    np.testing.assert_allclose(found[:, lost], expected, atol=0.2)


def test_a_phase_plate_shifts_the_phase_of_each_image():
    spectra = np.fft.fft2(np.random.default_rng(0).normal(size=(2, N, N)))
    ctfs = np.stack([by_hand(20000, 18000, 30, phase_degrees=phase) for phase in (90, 30)])
    values = np.array([[20000.0, 18000.0, 30.0, *OPTICS, phase] for phase in (90, 30)])
    known = np.abs(ctfs) > LEAST_CTF
    known[:, N // 2] = known[:, :, N // 2] = False
    images = np.fft.ifft2(spectra * ctfs).real
    np.testing.assert_allclose(
        np.fft.fft2(divided_by_ctf(images, 1.0, values))[known], spectra[known], rtol=2e-3, atol=2e-2
    )
    alone = divided_by_ctf(images[1:], 1.0, values[1:])
    np.testing.assert_allclose(divided_by_ctf(images, 1.0, values)[1], alone[0], atol=1e-12)


def test_each_image_has_its_own_defocus():
    images = np.random.default_rng(0).normal(size=(2, N, N))
    rows = np.array([[20000.0, 18000.0, 30.0, *OPTICS, 0.0], [40000.0, 39000.0, -50.0, *OPTICS, 0.0]])
    both = divided_by_ctf(images, 1.0, rows)
    for i in range(2):
        one = divided_by_ctf(images[i : i + 1], 1.0, rows[i : i + 1])
        np.testing.assert_allclose(both[i], one[0], atol=1e-12)


def test_values_on_any_grid():
    k = np.fft.fftfreq(N, 10.0)
    squared = torch.from_numpy(k[:, None] ** 2 + k**2)
    values = ctf_values(squared, 2.0, OPTICS)
    np.testing.assert_allclose(values, by_hand(20000, 20000, 0), atol=1e-5)
    assert values[0, 0] == pytest.approx(CONTRAST), "positive at low frequency"


def test_a_missing_value_is_one_line(files):
    block = pd.DataFrame({column: ["20000"] * 2 for column in DEFOCUS})
    np.testing.assert_array_equal(
        read_ctf(block, "TS_1", ["300", "2.7", "0"], "export again"), [[20000, 20000, 20000, 300, 2.7, 0, 0]] * 2
    )
    phase_shift = block.assign(rlnPhaseShift=["90", "30"])
    assert read_ctf(phase_shift, "TS_1", ["300", "2.7", "0"], "export again")[:, 6].tolist() == [90, 30]
    for given in ((block, "TS_1", [None, "2.7", "0.1"]), (phase_shift.replace("30", np.nan), "TS_1", [300, 2.7, 0.1])):
        files.one_line(lambda given=given: read_ctf(*given, "export again"), "TS_1", "missing", "export again")


def test_a_volume_is_divided_by_a_ctf_that_is_the_same_along_all_axes():
    volume = np.random.default_rng(0).normal(size=(16, 16, 16))
    ctf = np.array([31000.0, 29000.0, 0.0, 300.0, 2.7, 0.07, 0.0])
    found = volume_divided_by_ctf(volume, 1.0, ctf)
    for turn in ((1, 2, 0), (2, 1, 0), (0, 2, 1)):
        np.testing.assert_allclose(
            volume_divided_by_ctf(volume.transpose(turn), 1.0, ctf), found.transpose(turn), atol=1e-5
        )
    k = np.fft.fftfreq(16)
    squared = torch.from_numpy(np.add.outer(np.add.outer(k**2, k**2), k**2)) / 10**2
    values = ctf_values(squared, 3.0, (300.0, 2.7, 0.07), 0.0).numpy()
    strong = np.abs(values) > LEAST_CTF
    divided, before = np.fft.fftn(found), np.fft.fftn(volume)
    np.testing.assert_allclose((divided * values)[strong], before[strong], rtol=1e-3, atol=1e-3)
