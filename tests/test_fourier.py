"""Frequencies, masks and reads of spectra, against direct sums."""

import numpy as np
import pytest
import torch

from cryo_fewshot import fourier


def test_half_space_holds_one_of_each_pair_nearest_first():
    k = fourier.half_space(3.0)
    listed = {tuple(map(int, row)) for row in k}
    everywhere = {
        (z, y, x) for z in range(-3, 4) for y in range(-3, 4) for x in range(-3, 4) if 0 < z * z + y * y + x * x <= 9
    }
    opposite = {tuple(-n for n in row) for row in listed}
    assert listed | opposite == everywhere and not listed & opposite
    assert (k.norm(dim=1).diff() >= 0).all()


def test_places_index_the_flattened_transform():
    k = torch.tensor([[0, 0, 1], [-1, 2, 0], [3, -2, -1]]).float()
    spectrum = torch.randn(8, 8, 8)
    expected = [spectrum[0, 0, 1], spectrum[-1, 2, 0], spectrum[3, -2, -1]]
    assert spectrum.flatten()[fourier.places(k, 8)].tolist() == expected


@pytest.mark.parametrize("box", [20, 21])
def test_a_soft_sphere_falls_from_one_to_zero_over_a_tenth_of_the_box(box):
    along = fourier.soft_sphere(box, 5.0)[box // 2, box // 2, box // 2 :]
    edge = 0.1 * box
    share_of_edge = ((np.arange(len(along)) - 5) / edge).clip(0, 1)
    expected = 0.5 * (1 + np.cos(np.pi * share_of_edge))
    np.testing.assert_allclose(along, expected, atol=1e-6)
    assert fourier.soft_sphere(8, 2.0)[4, 4, 4 + 3] == 0  # at least one voxel


def test_a_mask_is_given_in_nm():
    volume = torch.zeros(20, 20, 20)
    assert torch.equal(fourier.soft_mask(volume, 40.0, 10.0), fourier.soft_sphere(20, 5.0))
    assert torch.equal(fourier.soft_mask(volume, 40.0, None), fourier.soft_sphere(20, 8.0))


def test_cropping_keeps_a_wave_that_fits():
    def wave(box):
        z, y, x = torch.meshgrid(*[(torch.arange(box) - box // 2) / box] * 3, indexing="ij")
        return torch.cos(2 * torch.pi * (2 * x - y + 3 * z)) + 0.5 * torch.sin(2 * torch.pi * z) + 0.25

    volumes = wave(24)[None]
    torch.testing.assert_close(fourier.cropped(volumes, 12)[0], wave(12), rtol=0, atol=1e-5)
    assert fourier.cropped(volumes, 24) is volumes and fourier.cropped(volumes, 30) is volumes


def test_a_spectrum_is_read_between_its_frequencies():
    box = 16
    line = torch.arange(box) - box // 2
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    volume = torch.exp(-((z - 1) ** 2 + y**2 + (x + 1) ** 2) / 4.0)
    k = torch.tensor([[[0.0, 0.0, 0.0], [0.5, -1.25, 2.0], [-2.0, 0.75, 0.3]]])
    found = fourier.read_spectrum(fourier.padded_spectrum(volume), k)[:, 0]
    phases = torch.exp(-2j * torch.pi / box * (k[0] @ torch.stack([z, y, x]).flatten(1).float()))
    expected = torch.view_as_real(phases @ volume.flatten().to(phases.dtype)).T
    torch.testing.assert_close(found, expected, rtol=0, atol=0.04 * float(volume.sum()))


def test_a_slice_is_one_fourier_voxel_thick():
    kz, kx = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.0]), torch.full((5,), 3.0)
    flat, _ = fourier.slice_weights(kz, kx, np.array([0.0]))
    assert flat.tolist() == [1, 0.75, 0.5, 0, 0]
    total, squares = fourier.slice_weights(kz, kx, np.array([0.0, 0.0, 90.0]))
    assert total.tolist() == [2, 1.5, 1, 0, 0] and squares.tolist() == [2, 1.125, 0.5, 0, 0]
    # A slice at +30 degrees runs along kz = kx tan 30.
    tilted, _ = fourier.slice_weights(torch.tensor([3**-0.5, -(3**-0.5)]), torch.ones(2), np.array([30.0]))
    assert tilted.tolist() == pytest.approx([1, 0], abs=1e-6)
