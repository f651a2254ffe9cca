"""Labels in an order that is written out, without doubt too; and too few particles for any group."""

import numpy as np
import pytest
import torch

from cryo_fewshot.recognition.follow_up import group_rejected, next_to_label


@pytest.mark.parametrize("seed", range(6))
def test_each_label_covers_the_doubt_near_it(seed):
    rng = np.random.default_rng(seed)
    x, wrong = 1.5 * rng.normal(size=(40, 3)), rng.uniform(size=40)
    likeness = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 6)
    doubt, expected = wrong.copy(), []
    for _ in range(10):
        gains = likeness @ doubt
        gains[expected] = -1
        expected.append(int(gains.argmax()))
        doubt *= 1 - likeness[expected[-1]]
    assert next_to_label(torch.from_numpy(x).float(), wrong).tolist() == expected


@pytest.mark.parametrize("n", [0, 1, 4, 12])
def test_without_doubt_no_particle_comes_twice(n):
    chosen = next_to_label(torch.randn(n, 2), np.zeros(n))
    assert len(set(chosen.tolist())) == len(chosen) == min(10, n)


@pytest.mark.parametrize("n", [0, 1, 3, 7, 15])
def test_fewer_than_two_groups_can_be_averaged_of_are_none(n):
    assert group_rejected(torch.randn(30, 2), np.arange(30) < n) == {}


@pytest.mark.parametrize(("sizes", "n_groups"), [((190, 190, 20), 3), ((200, 200, 20), 2)])
def test_a_group_holds_at_least_a_twentieth_of_the_rejected(sizes, n_groups):
    rng = np.random.default_rng(0)
    x = np.concatenate([12 * np.eye(8)[i] + 0.3 * rng.normal(size=(n, 8)) for i, n in enumerate(sizes)])
    groups = group_rejected(torch.from_numpy(x).float(), np.full(len(x), True))
    assert len(groups) == n_groups and len(x) // 20 >= 20
