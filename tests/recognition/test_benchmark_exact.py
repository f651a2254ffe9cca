"""Blocks of a labelled tomogram, and a folder that lacks one of its two files."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition.benchmark import LabelledTomogram, open_tomogram_folder


def test_a_block_holds_all_heights_of_its_tomogram():
    """Blocks of 40 voxels in y and x."""
    centres = np.array([[0, 5, 5], [95, 39, 39], [0, 40, 39], [0, 39, 40], [0, 5, 5]], float)
    data = LabelledTomogram(
        labels=np.array(["a"] * 5),
        tomograms=np.array([0, 0, 0, 0, 1]),
        centres=centres,
        edge=10,
        features=torch.zeros(5, 6),
        widths=(2, 1),
        volumes=torch.zeros(5, 2, 2, 2),
        background=None,
    )
    assert data.blocks().tolist() == [0, 0, 2, 1, 3]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("t_bin16.npz",), "1 files .* and 0 "),
        (("t_coordinates.csv",), "0 files .* and 1 "),
        (("t_bin16.npz", "u_bin8.npz", "t_coordinates.csv"), "2 files .* and 1 "),
        (("t_bin16.npz", "t_coordinates.csv", "u_coordinates.csv"), "1 files .* and 2 "),
    ],
)
def test_a_folder_has_one_archive_and_one_table(names, said, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=said):
        open_tomogram_folder(tmp_path, tmp_path)
