"""Episodes: small classification tasks, kept as arrays of indices so that every method is tested on the same ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UserError


@dataclass(frozen=True)
class Episodes:
    """Episodes as arrays of indices into one SubtomogramSet.

    classes : `(n_episodes, n_way)` labels; support : `(n_episodes, n_way, n_shot)`;
    query : `(n_episodes, n_way, n_query)`; row k of an episode belongs to classes[k].
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, part: slice) -> "Episodes":
        return Episodes(self.classes[part], self.support[part], self.query[part])

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this list of episodes."""
        digest = hashlib.sha256()
        for part in (self.classes, self.support, self.query):
            digest.update(str(part.shape).encode())
            digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return digest.hexdigest()[:12]

    def save(self, path) -> None:
        """Write as npz (plain arrays)."""
        np.savez_compressed(path, classes=self.classes, support=self.support, query=self.query)

    @classmethod
    def load(cls, path) -> "Episodes":
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(arrays["classes"], arrays["support"], arrays["query"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a file of episodes ({error}); write one with Episodes.save") from error


def sample_episodes(
    labels: np.ndarray,
    classes: Sequence[int],
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    class_names: Sequence[str] | None = None,
) -> Episodes:
    """Draw episodes: classes without replacement, then support and query of each class without replacement.

    Parameters
    ----------
    labels : `(n,)` label of each subtomogram of the set
    classes : labels to draw from
    n_query : query subtomograms per class
    seed : of the whole list; episode i does not depend on how many follow
    class_names : for messages only

    Raises
    ------
    UserError
        If there are fewer classes than ways, or fewer samples in a class than shots and queries.
    """
    if min(n_way, n_shot, n_query, n_episodes) < 1:
        raise UserError(f"n_way={n_way}, n_shot={n_shot}, n_query={n_query}, n_episodes={n_episodes}: all must be >= 1")
    if n_way > len(classes):
        raise UserError(f"{n_way}-way episodes need {n_way} classes, the split has {len(classes)}: lower n_way")
    members = {label: np.flatnonzero(labels == label) for label in classes}
    for label, indices in members.items():
        if len(indices) < n_shot + n_query:
            name = class_names[label] if class_names else label
            raise UserError(
                f"class '{name}' has {len(indices)} samples, fewer than n_shot + n_query = {n_shot + n_query}: "
                "lower one of them or add samples"
            )
    rng = np.random.default_rng(seed)
    chosen = np.empty((n_episodes, n_way), dtype=np.int64)
    drawn = np.empty((n_episodes, n_way, n_shot + n_query), dtype=np.int64)
    for episode in range(n_episodes):
        chosen[episode] = rng.choice(np.asarray(classes), n_way, replace=False)
        for way, label in enumerate(chosen[episode]):
            drawn[episode, way] = rng.choice(members[label], n_shot + n_query, replace=False)
    return Episodes(chosen, drawn[..., :n_shot], drawn[..., n_shot:])
