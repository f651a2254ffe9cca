"""After a classification: what the rejected particles are, and which labels would help most."""

import numpy as np
import torch

from .settings import MIN_AVERAGED

MAX_GROUPS = 3
N_TO_LABEL = 10


def group_rejected(projected: torch.Tensor, rejected: np.ndarray) -> dict[str, np.ndarray]:
    """The largest groups among rejected particles, as indices into `projected` `(n, n_axes)`, by name.

    By HDBSCAN; particles of no group stay out. Each group is one that can be averaged.
    """
    members = np.flatnonzero(rejected)
    smallest = max(MIN_AVERAGED, len(members) // 20)
    if len(members) < 2 * smallest:
        return {}
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(projected[torch.from_numpy(members)].numpy())
    numbers, counts = np.unique(found[found >= 0], return_counts=True)
    largest = numbers[np.argsort(-counts, kind="stable")][:MAX_GROUPS]
    return {f"rejected group {i}": members[found == number] for i, number in enumerate(largest, 1)}


def next_to_label(projected: torch.Tensor, wrong: np.ndarray) -> np.ndarray:
    """The particles whose labels would tell most of the doubtful ones, the most useful first, as indices.

    Each in turn is the one that has most doubt near it which no earlier one covers. Near is as members of a class are.

    projected : `(m, n_axes)`, in standard deviations within a class; wrong : `(m,)`, probability that the answer is
    wrong, NaN where there is none
    """
    squared = torch.cdist(projected, projected).square()
    likeness = torch.exp(-squared / (2 * projected.shape[1]))
    doubt = torch.from_numpy(np.nan_to_num(wrong)).float()
    chosen: list[int] = []
    for _ in range(min(N_TO_LABEL, len(wrong))):
        gains = likeness @ doubt
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        doubt = doubt * (1 - likeness[chosen[-1]])
    return np.array(chosen, dtype=int)
