"""Halves, episodes, features and intervals of a labelled tomogram whose boxes are made up."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition import benchmark as room
from cryo_fewshot.recognition.benchmark import LabelledTomogram, benchmark, numbers_in, wide_table


def boxes(centres, labels=None, tomograms=None, features=None, edge=10, background=None):
    n = len(centres)
    return LabelledTomogram(
        labels=np.array(["a"] * n if labels is None else labels),
        tomograms=np.zeros(n, int) if tomograms is None else np.array(tomograms),
        centres=np.array(centres, float),
        edge=edge,
        features=torch.zeros(n, 6) if features is None else features,
        widths=(2, 1),
        volumes=torch.randn(n, 2, 2, 2, generator=torch.Generator().manual_seed(0)),
        background=background,
    )


def test_halves_are_a_checkerboard_and_share_no_voxel():
    """Blocks of 40 voxels in y and x; a box nearer than its edge on every axis overlaps."""
    centres = [(0, 5, 5), (0, 5, 45), (0, 5, 36), (0, 45, 45), (0, 5, 5), (0, 5, 35), (9, 14, 54), (10, 5, 45)]
    data = boxes(centres, tomograms=[0, 0, 0, 0, 1, 0, 0, 0])
    assert np.flatnonzero(data.half("odd")).tolist() == [1, 4, 6, 7]
    assert np.flatnonzero(data.half("even")).tolist() == [0, 3, 5]
    assert data.half("all").all()
    assert np.flatnonzero(data.overlaps(np.array([1]))[0]).tolist() == [1, 2, 6]
    assert data.blocks().tolist() == [0, 1, 0, 2, 3, 0, 1, 1]


def test_accuracy_is_the_mean_over_classes_and_its_interval_over_blocks():
    data = boxes([(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 41), (0, 0, 90)])
    pools = [np.array([0, 1, 2]), np.array([3, 4])]
    episodes = [(np.zeros((2, 1)), [np.array([0, 1, 2]), np.array([3])])] * 2
    answers = {(0, 1, 2, 3): np.array([0, 0, 1, 1])}

    def predict(support, queries, asked):
        assert asked.tolist() == [0, 1, 2, 3, 4]
        return answers[tuple(queries)]

    found = room._accuracy(data, pools, episodes, predict)
    assert found["accuracy"] == round((2 / 3 + 1) / 2, 4) and (found["n_episodes"], found["n_blocks"]) == (2, 2)
    assert (found["low"], found["high"]) == (0.6667, 1)  # of resamples with one of the two classes alone
    answers[0, 1, 2, 3] = np.array([0, 0, 0, 0])
    assert room._accuracy(data, pools, episodes, predict)["low"] == 0


def test_episodes_keep_queries_clear_of_the_support_and_end_where_there_are_too_few():
    centres = [(0, 0, 20 * i) for i in range(8)] + [(0, 40, 20 * i) for i in range(14)]
    data, pools = boxes(centres), [np.arange(8), np.arange(8, 22)]
    drawn = list(room.draw_episodes(data, pools, 3, 5, np.random.default_rng(0)))
    assert len(drawn) == 5
    for support, queries in drawn:
        assert support.shape == (2, 3) and (support[0] < 8).all() and (support[1] >= 8).all()
        assert [len(of_class) for of_class in queries] == [5, 10]
        assert not set(support.ravel()) & set(np.concatenate(queries))
    assert len(list(room.draw_episodes(data, pools, 5, 2, np.random.default_rng(0)))) == 2  # three are left of one
    for n_shot in (6, 8, 9):
        assert not list(room.draw_episodes(data, pools, n_shot, 2, np.random.default_rng(0)))


def test_the_features_are_scaled_so_that_each_kind_counts_alike(monkeypatch):
    monkeypatch.setattr(room, "_prototype", lambda values: values)
    monkeypatch.setattr(room, "_tool", lambda features, widths, *_: (features, widths))
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(7, 6, generator=generator) * torch.arange(1, 7) + 2
    features[:, 4] = 3  # tells nothing
    data = boxes([(0, 0, i) for i in range(7)], features=features)
    found = room.methods_of(data, None, {"other": features[:, :1]})
    embedding = features[:, :3]
    centred = embedding - embedding.mean(0)
    profile = (features[:, 3:5] - features[:, 3:5].mean(0)) / features[:, 3:5].std(0).clamp(min=1e-9) / 2**0.5
    grey = (features[:, 5:] - features[:, 5:].mean(0)) / features[:, 5:].std(0)
    expected = {
        "nearest prototype": embedding,
        room.CENTRED: centred / centred.norm(dim=1, keepdim=True),
        "profile and power": profile,
        "voxels": data.volumes.flatten(1) / data.volumes.flatten(1).norm(dim=1, keepdim=True),
        "three grey values": grey,
        "other": features[:, :1],
    }
    expected["all together"] = torch.cat([profile, grey, expected[room.CENTRED]], dim=1)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, msg=name)
    tools = {room.TOOL: (features, (2, 1)), room.FILES: (features[:, :5], (2,)), room.UNFITTED: (embedding, ())}
    for name, (values, widths) in tools.items():
        assert torch.equal(found[name][0], values) and found[name][1] == widths
    assert len(found) == len(expected) + len(tools)


def test_the_tool_is_fitted_to_all_boxes_of_the_task_but_the_support(monkeypatch):
    seen = []
    monkeypatch.setattr(room, "recogniser_of", lambda *inputs, **named: seen.append((inputs, named)))
    features = torch.arange(12.0)[:, None]
    support = np.array([[1, 2], [4, 3]] + [[5, 6]] * 9)
    room._fitted(features, (1,), "calibration", "settings", support, np.arange(8))
    (known, labels, *_, unlabelled, _, widths), named = seen[0]
    assert known[:4, 0].tolist() == [1, 2, 4, 3] and labels[:4] == ["000", "000", "001", "001"]
    assert labels == sorted(labels) and len(labels) == 22  # the tenth class comes after the second
    assert unlabelled[:, 0].tolist() == [0, 7] and widths == (1,) and named == {"one_source": True}


def test_background_is_compared_over_the_first_episodes(monkeypatch):
    class Recogniser(SimpleNamespace):
        def recognise(self, features):
            return SimpleNamespace(score=features[:, 0].numpy())

    monkeypatch.setattr(room, "_fitted", lambda *_: Recogniser())
    data = boxes([(0, 0, i) for i in range(4)], features=torch.arange(4.0)[:, None], background=torch.tensor([[0.5]]))
    one = (np.array([[0], [1]]), [np.array([0]), np.array([2, 3])])  # 2 of 3 queries are above it
    other = (np.array([[0], [1]]), [np.array([1]), np.array([2, 3])])
    pools = [np.array([0, 1]), np.array([2, 3])]
    assert room._against_background(data, None, pools, [one]) == 0.6667
    assert room._against_background(data, None, pools, [one] * 19 + [other] * 6) == round((19 * 2 / 3 + 1) / 20, 4)


def test_every_method_meets_the_same_episodes_and_a_row_says_which():
    data = boxes([(0, 0, 20 * i) for i in range(20)], labels=["a", "b"] * 10)
    seen = {"one": [], "two": []}

    def method(name):
        return lambda support, queries, asked: seen[name].append(support) or np.zeros(len(queries), int)

    done = []
    found = benchmark(
        data,
        None,
        {"both": ("a", "b")},
        shots=(1, 2, 20),
        halves=("all",),
        n_episodes=3,
        methods={name: method(name) for name in seen},
        progress=done.append,
    )
    assert found[["n_shot", "method"]].values.tolist() == [[n, name] for n in (1, 2) for name in seen]
    assert (found["accuracy"] == 0.5).all() and (found["n_episodes"] == 3).all() and sum(done) == 3
    assert all(np.array_equal(*pair) for pair in zip(*seen.values(), strict=True)) and len(seen["one"]) == 6
    pools = [np.flatnonzero(data.labels == name) for name in "ab"]
    again = room.draw_episodes(data, pools, 1, 3, np.random.default_rng([0, 1, 2]))
    assert all(np.array_equal(*pair) for pair in zip(seen["one"], (support for support, _ in again), strict=False))


def test_a_table_shows_accuracy_with_its_interval():
    row = {"task": "t", "half": "all", "n_shot": 1, "method": "m", "accuracy": 0.91249, "low": 0.8, "high": 0.95}
    assert wide_table(pd.DataFrame([row])).loc["m", ("t", "all", 1)] == "0.912 (0.800 to 0.950)"


def test_numbers_of_labels_are_whole_and_above_0():
    assert numbers_in("1, 5,10") == (1, 5, 10)
    for text in ("0", "1,,2", "-1", "1.5"):
        with pytest.raises(UserError, match="above 0, as in 1,5,10"):
            numbers_in(text)
