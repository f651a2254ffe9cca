"""Sets of subtomograms, and the split of their classes."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.subtomograms import SubtomogramSet, split_classes


def small_set(volumes=None, labels=None, n_snrs=4):
    volumes = torch.randn(4, 8, 8, 8) if volumes is None else volumes
    labels = np.array([0, 0, 1, 1]) if labels is None else labels
    return SubtomogramSet(volumes, labels, ("a", "b"), np.full(n_snrs, np.nan), 1.0)


def test_split_is_disjoint_and_depends_on_seed_alone():
    names = [f"class{i}" for i in range(23)]
    split = split_classes(names, (10, 5, 8), seed=0)
    assert sorted(split.base + split.validation + split.novel) == sorted(names)
    assert split == split_classes(names[::-1], (10, 5, 8), seed=0)
    assert split != split_classes(names, (10, 5, 8), seed=1)
    with pytest.raises(UserError, match="needs 25 classes"):
        split_classes(names, (12, 5, 8), seed=0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: small_set(torch.randn(4, 8, 8, 6)), "boxes must be cubic"),
        (lambda: small_set(torch.full((4, 8, 8, 8), float("nan"))), "subtomogram 0 holds NaN"),
        (lambda: small_set(torch.randn(4, 8, 8)), "boxes must be cubic"),
        (lambda: small_set(torch.randn(4, 8, 8, 8, 8)), "boxes must be cubic"),
        *(
            (
                lambda n=n, m=m: small_set(labels=np.zeros(n, int), n_snrs=m),
                f"4 subtomograms but {n} labels and {m} SNRs",
            )
            for n, m in ((2, 2), (5, 5), (5, 4), (4, 5), (3, 4), (4, 3))
        ),
        (lambda: small_set().indices_of(["a", "c", "d"]), "class 'c' is not in the set; it has a, b"),
    ],
)
def test_bad_sets_are_refused_in_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_one_bad_voxel_is_found_among_many_subtomograms():
    volumes = torch.randn(4, 8, 8, 8)
    volumes[2:, 1, 2, 3] = torch.inf
    with pytest.raises(UserError, match=r"subtomogram 2 holds NaN or infinite voxels \(2 do\)"):
        small_set(volumes)


def test_classes_are_found_by_name():
    assert small_set().indices_of(["b", "a", "b"]) == [1, 0, 1]
    assert len(small_set()) == 4


def test_a_split_may_take_every_class_and_gives_each_role_its_number():
    split = split_classes("abcdef", (3, 1, 2), seed=0)
    assert [len(part) for part in vars(split).values()] == [3, 1, 2]
    assert len(split_classes("abcdef", (3, 1, 1), seed=0).novel) == 1
