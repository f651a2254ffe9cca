"""Numbers of a box that go into the decision beside the embedding."""

import torch

from cryo_fewshot.recognition.descriptors import descriptors


def test_profile_and_power_are_those_of_the_volume():
    box = 12
    line = torch.arange(box) - box // 2
    radius = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).float().norm(dim=0)
    wave = torch.cos(2 * torch.pi * 3 * line / box).expand(box, box, box)
    found = descriptors(torch.stack([(radius < 2.5).float(), wave]))
    assert found.shape == (2, box - 3)
    assert found[0, :5].round(decimals=1).tolist() == [1, 1, 1, 0, 0], "shells of radius 0 to 4"
    assert found[1, 5:].argmax() == 2, "the wave of three periods lies in the third Fourier shell"
