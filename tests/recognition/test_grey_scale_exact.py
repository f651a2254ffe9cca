"""Files beside boxes of a tomogram have no scale in common, whichever is which."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.tomograms import Boxes, Tomogram
from cryo_fewshot.recognition.grey_scale import common_grey_scale


@pytest.mark.parametrize("order", [1, -1])
def test_files_and_boxes_share_no_grey_scale(order):
    names, tomogram = ["p", "q"], Tomogram(Path("t.mrc"), (30, 30, 30), 1.0)
    boxes = Boxes(names, (tomogram,), np.zeros(2, int), np.full((2, 3), 15.0), (12,))
    inputs = [Particles(names=names, source=source, voxel_size_nm=1.0, box=12) for source in (boxes, None)]
    grey = torch.tensor([[1.0, 1.0, 1.0], [5.0, 1.0, 5.0]])
    found = common_grey_scale(*inputs[::order], grey, grey)
    assert found.support is None and found.query is None and "as only one of support and query is cut" in found.words
