"""How far classes lie apart, in standard deviations within one and without what is uncertain of their centres."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from cryo_fewshot.recognition.calibration import ClassModel
from cryo_fewshot.recognition.support_check import _inseparable


@pytest.mark.parametrize("within", [0.25, 1.0, 9.0])
@pytest.mark.parametrize("uncertain", [0.0, 0.1])
def test_confusion_is_that_of_two_gaussians(within, uncertain):
    apart = 1.2 * within**0.5
    squared = apart**2 + 2 * 2 * uncertain  # two axes of each centre
    means = torch.tensor([[1.0, 1.0], [1.0, 1.0 + squared**0.5]])
    model = ClassModel(means, torch.full((2, 2), uncertain), torch.tensor(within), torch.ones(2))
    (said,) = _inseparable(model, np.array([3, 4]), ["a", "b"])
    assert f"(expected confusion {norm.sf(0.6):.0%})" in said
    far = ClassModel(2 * means, torch.full((2, 2), uncertain), torch.tensor(within), torch.ones(2))
    assert not _inseparable(far, np.array([3, 4]), ["a", "b"])
