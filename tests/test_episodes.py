"""Episodes and class splits."""

from dataclasses import replace

import numpy as np
import pytest

from cryo_fewshot.episodes import Episodes, sample_episodes
from cryo_fewshot.errors import UserError

LABELS = np.repeat(np.arange(6), 25)
SIZE = {"n_way": 4, "n_shot": 5, "n_query": 15}


def draw(seed=0, n_episodes=200, **size):
    return sample_episodes(LABELS, range(6), n_episodes=n_episodes, seed=seed, **{**SIZE, **size})


def test_support_and_query_are_disjoint_and_of_the_right_class():
    episodes = draw()
    for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
        assert len(set(classes)) == 4
        assert len(set(support.ravel()) | set(query.ravel())) == 4 * 20
        assert (LABELS[support] == classes[:, None]).all()
        assert (LABELS[query] == classes[:, None]).all()


def test_every_class_and_sample_is_drawn():
    episodes = draw()
    counts = np.bincount(episodes.classes.ravel(), minlength=6)
    assert counts.min() > 0.8 * counts.mean()
    assert set(episodes.query.ravel()) == set(range(len(LABELS)))


def test_a_seed_names_a_list_and_a_longer_list_begins_with_the_shorter():
    assert draw(seed=3).digest == draw(seed=3).digest
    assert draw(seed=3).digest != draw(seed=4).digest
    assert draw(seed=3, n_episodes=300)[:200].digest == draw(seed=3, n_episodes=200).digest


def test_episodes_survive_saving(tmp_path):
    episodes = draw(n_episodes=7)
    episodes.save(tmp_path / "episodes.npz")
    assert Episodes.load(tmp_path / "episodes.npz").digest == episodes.digest
    (tmp_path / "bad.npz").write_bytes(b"not an archive")
    with pytest.raises(UserError, match=r"bad.npz: not a file of episodes"):
        Episodes.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "size, words",
    [
        ({"n_way": 7}, "7-way episodes need 7 classes"),
        ({"n_shot": 11}, r"class 'f0' has 25 samples, fewer than n_shot \+ n_query = 26"),
        ({"n_query": 0}, "must be >= 1"),
    ],
)
def test_impossible_sizes_are_refused(size, words):
    with pytest.raises(UserError, match=words):
        sample_episodes(
            LABELS, range(6), n_episodes=1, seed=0, class_names=[f"f{i}" for i in range(6)], **{**SIZE, **size}
        )


def test_the_largest_possible_episode_takes_everything():
    episodes = draw(n_way=6, n_shot=10, n_query=15, n_episodes=2)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert sorted([*support.ravel(), *query.ravel()]) == list(range(len(LABELS)))
    assert episodes.support.shape == (2, 6, 10) and episodes.query.shape == (2, 6, 15)
    assert draw(n_way=1, n_shot=1, n_query=1, n_episodes=1).query.shape == (1, 1, 1)


def test_the_digest_names_every_index_and_the_shapes():
    episodes = draw(n_episodes=3)
    assert len(episodes.digest) == 12
    for part in ("classes", "support", "query"):
        changed = getattr(episodes, part).copy()
        changed.flat[-1] += 1
        assert replace(episodes, **{part: changed}).digest != episodes.digest
    wider = Episodes(episodes.classes, episodes.support.reshape(3, 2, 10), episodes.query)
    assert wider.digest != episodes.digest
