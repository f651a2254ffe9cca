"""Groups of rejected particles and the order of labels, on particles whose classes are known."""

import numpy as np
import torch

from cryo_fewshot.recognition.follow_up import group_rejected, next_to_label


def clusters(sizes, seed=0, dim=8):
    rng = np.random.default_rng(seed)
    centres = 12 * np.eye(dim)[: len(sizes)]
    x = np.concatenate([centre + rng.normal(size=(n, dim)) for centre, n in zip(centres, sizes, strict=True)])
    return torch.from_numpy(x).float(), np.repeat(np.arange(len(sizes)), sizes)


def test_groups_of_rejected_particles_are_their_classes():
    x, labels = clusters((50, 40, 30, 20, 60))
    groups = group_rejected(x, labels < 4)
    assert list(groups) == ["rejected group 1", "rejected group 2", "rejected group 3"]
    for members, label in zip(groups.values(), (0, 1, 2), strict=True):
        assert (labels[members] == label).all() and len(members) > 0.8 * (labels == label).sum()


def test_few_rejected_particles_are_no_group():
    x, labels = clusters((50, 9))
    assert group_rejected(x, labels == 1) == {} == group_rejected(x, labels > 5)


def test_labels_are_asked_for_where_the_doubt_is_and_once_for_each_kind():
    x, labels = clusters((100, 30, 60, 40))
    wrong = np.where(labels == 0, 0.01, 0.8)
    wrong[-1] = np.nan
    chosen = next_to_label(x, wrong)
    assert labels[chosen[:3]].tolist() == [2, 3, 1]
    assert len(set(chosen)) == 10 and len(next_to_label(x[:4], wrong[:4])) == 4


def test_each_label_covers_the_doubt_near_it():
    x, wrong = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 2))).float(), np.linspace(0, 0.8, 9)
    squared = ((x[:, None] - x) ** 2).sum(-1).double().numpy()
    likeness, doubt, expected = np.exp(-squared / 4), wrong.copy(), []
    for _ in range(4):
        gains = likeness @ doubt
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        doubt = doubt * (1 - likeness[expected[-1]])
    assert next_to_label(x, wrong)[:4].tolist() == expected and len(next_to_label(x, wrong)) == 9


def test_a_group_is_one_that_can_be_averaged():
    x, labels = clusters((8, 8, 7))
    groups = group_rejected(x, labels < 2)
    assert [len(members) for members in groups.values()] == [8, 8]
    assert group_rejected(x, (labels == 0) | (labels == 2)) == {}, "fewer than two of the smallest"
    x, labels = clusters((300, 12, 300))
    assert len(group_rejected(x, labels >= 0)) == 2, "none of less than a twentieth"
