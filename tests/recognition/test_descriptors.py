"""Numbers of a box that go into the decision beside the embedding."""

import numpy as np
import pytest
import torch

from cryo_fewshot.recognition.descriptors import descriptors, log_power, relative_grey


def test_profile_and_power_are_those_of_the_volume():
    box = 12
    line = torch.arange(box) - box // 2
    radius = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).float().norm(dim=0)
    wave = torch.cos(2 * torch.pi * 3 * line / box).expand(box, box, box)
    found = descriptors(torch.stack([(radius < 2.5).float(), wave]))
    assert found.shape == (2, box - 3)
    assert found[0, :5].round(decimals=1).tolist() == [1, 1, 1, 0, 0], "shells of radius 0 to 4"
    assert found[1, 5:].argmax() == 2, "the wave of three periods lies in the third Fourier shell"


@pytest.mark.parametrize("box", [9, 12])
def test_descriptors_are_means_over_shells_in_space_and_of_the_power(box):
    volumes = np.random.default_rng(0).normal(size=(2, box, box, box))
    line, k = np.arange(box) - box // 2, np.fft.fftfreq(box) * box

    def radii(z, x):
        return np.sqrt(z[:, None, None] ** 2 + z[:, None] ** 2 + x**2).round()

    def shells(values, radius, numbers):
        return [[of_one[radius == number].mean() for number in numbers] for of_one in values]

    power = np.abs(np.fft.rfftn(volumes, axes=(1, 2, 3))) ** 2
    n = box // 2 - 1
    profile = shells(volumes, radii(line, line), range(n))
    spectrum = np.log(shells(power, radii(k, np.arange(box // 2 + 1)), range(1, n)))
    found = descriptors(torch.from_numpy(volumes).float())
    np.testing.assert_allclose(found, np.concatenate([profile, spectrum], axis=1), rtol=1e-3, atol=1e-4)
    assert torch.equal(log_power(found), found[:, n:])
    assert descriptors(torch.zeros(1, box, box, box))[0, -1] == pytest.approx(np.log(1e-9))


def test_grey_values_count_from_the_mean_of_their_tomogram_in_its_deviations():
    grey, centre, spread = (torch.tensor(part) for part in ([[7.0, 4.0, 1.0], [3.0, 0.0, 5.0]], [3.0, 1.0], [2.0, 1.0]))
    expected = [[2.0, np.log(2), -1.0], [2.0, np.log(1e-6), 4.0]]
    np.testing.assert_allclose(relative_grey(grey, centre, spread), expected, rtol=1e-5)
