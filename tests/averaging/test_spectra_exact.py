"""A padded spectrum at its own frequencies."""

import pytest
import torch

from cryo_fewshot.averaging.averages import padded_spectrum, read_spectrum


@pytest.mark.parametrize("box", [8, 9])
def test_at_frequencies_of_the_padded_box_a_spectrum_is_a_direct_sum(box):
    """Of the volume over the trilinear kernel's transform, which it is read with between them."""
    volume = torch.randn(box, box, box, generator=torch.Generator().manual_seed(0))
    line = torch.arange(box) - box // 2
    places = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).flatten(1).float()
    kernel = torch.sinc(places / (2 * box)).square().prod(0)
    k = torch.tensor([[0.0, 0.0, 0.0], [0.5, -1.5, 2.0], [-3.0, 1.0, 0.5], [2.5, 3.0, -0.5]])
    found = torch.complex(*read_spectrum(padded_spectrum(volume), k[None])[:, 0])
    phases = torch.exp(-2j * torch.pi / box * (k @ places))
    torch.testing.assert_close(found, phases @ (volume.flatten() / kernel).to(phases.dtype), rtol=0, atol=2e-3)
