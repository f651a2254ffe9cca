"""What a run says and counts, from answers made up."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition import classify as room
from cryo_fewshot.recognition.rejection import Errors
from cryo_fewshot.recognition.settings import Settings


def table_of(**columns):
    found = {"class": list("aabb"), "p_value": [0.01, 0.02, 0.04, 0.5], "probability": [0.9, 0.8, 0.7, 0.6]}
    found |= {"accepted": [True, True, True, False], "reason": "", "labelled": False, "score": [4.0, 3.0, 2.0, 1.0]}
    return pd.DataFrame(found | columns)


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "3", "a/3", "1/b", "-1/3", "1/"])
def test_a_share_is_one_of_so_many(shard, tmp_path):
    with pytest.raises(UserError, match="give a share as in 3/8, the third of eight"):
        room.embed_shard(None, tmp_path, shard)


@pytest.mark.parametrize("shard", ["1/1", "3/3", "2/3"])
def test_a_share_is_handed_on_as_two_numbers(shard, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(room, "load_encoder", lambda path: ("encoder", "card"))

    def embed_particles(query, encoder, card, cache, **options):
        asked.update(options, cache=cache)
        return SimpleNamespace(folder="here")

    monkeypatch.setattr(room, "embed_particles", embed_particles)
    assert room.embed_shard("query", tmp_path, shard, rotations=2) == "here"
    assert asked["shard"] == tuple(map(int, shard.split("/"))) and asked["rotations"] == 2
    assert asked["cache"] == tmp_path / "embeddings" and asked["n_workers"] == 0


def test_classes_are_counted_with_their_probability_and_expected_errors():
    errors = Errors(np.zeros(4), np.array([0.1, 0.2, 0.4, 0.9]), np.zeros(4))
    counts = room._counts(table_of(), errors, ("a", "b", "c"))
    assert counts["class"].tolist() == list("abc")
    assert counts[["most probable", "accepted"]].to_numpy().tolist() == [[2, 2], [2, 1], [0, 0]]
    np.testing.assert_allclose(counts["mean probability"], [0.85, 0.7, np.nan])
    np.testing.assert_allclose(counts["expected wrong"], [0.3, 0.4, 0.0])


def test_acceptance_by_error_rate_leaves_junk_out_and_changes_nothing_where_none_is_asked(monkeypatch):
    errors = Errors(np.zeros(4), np.zeros(4), np.array([0.05, 0.06, 0.01, 0.02]))
    seen = {}

    def estimated(p_value, probability, label, counted):
        seen.update(label=label.tolist(), counted=counted.tolist())
        return errors

    monkeypatch.setattr(room, "estimate_errors", estimated)
    recogniser = SimpleNamespace(class_names=("a", "b"))
    table = table_of()
    room._judge_errors(table, recogniser, Settings())
    assert seen == {"label": [0, 0, 1, 1], "counted": (~table["labelled"]).tolist()}
    assert table["q_value"].tolist() == errors.q_value.tolist()
    assert table["accepted"].tolist() == [True, True, True, False]
    room._judge_errors(table, recogniser, Settings(fdr=0.05))
    assert table["accepted"].tolist() == [True, False, True, True]
    room._judge_errors(table, recogniser, Settings(fdr=0.05, junk=("b",)))
    assert table["accepted"].tolist() == [True, False, False, False]


def test_what_is_followed_up_can_be_used_and_has_no_label_yet(monkeypatch):
    table = table_of(reason=["", "x", "", ""], labelled=[False, False, True, False])
    seen = {}

    def grouped(projected, rejected):
        seen.update(projected=projected[:, 0].tolist(), rejected=rejected.tolist())
        return {"rejected group 1": np.array([1])}

    monkeypatch.setattr(room, "group_rejected", grouped)
    monkeypatch.setattr(
        room, "next_to_label", lambda projected, wrong: seen.update(wrong=wrong.tolist()) or np.array([0])
    )
    recogniser = SimpleNamespace(space=SimpleNamespace(project=lambda x: x))
    errors = Errors(np.zeros(4), np.array([0.1, 0.2, 0.3, 0.4]), np.zeros(4))
    sample = np.array([3, 2, 1, 0])
    groups, to_label = room._follow_up(table, errors, recogniser, sample, torch.arange(4.0)[:, None])
    assert seen == {"projected": [0, 3], "rejected": [True, False], "wrong": [0.4, 0.1]}
    assert groups["rejected group 1"].tolist() == [0] and to_label.tolist() == [3]


def test_labelled_particles_that_cannot_be_read_are_left_out_unless_a_class_has_no_other():
    lines = []
    labelled = SimpleNamespace(all=lambda: (None, {1: "p1 is damaged", 4: "p4 too"}))
    usable = room._usable(labelled, None, {"a": [0, 1], "b": [3, 2]}, lines.append)
    assert usable == [0, 3, 2] and lines == ["support: p1 is damaged", "support: p4 too"]
    with pytest.raises(UserError, match="class b of the support has no particle that can be read"):
        room._usable(labelled, None, {"a": [0, 1], "b": [4]}, lines.append)


@pytest.mark.parametrize(("crowd", "crowding", "said"), [(None, 0.9, None), (1, 0.5, "crowded"), (1, 0.49, "empty")])
def test_a_run_says_how_the_particles_look(crowd, crowding, said):
    recogniser = SimpleNamespace(
        check=SimpleNamespace(warnings=("few",)),
        unfitted="",
        conditions=SimpleNamespace(log_snr=np.log(0.0512), crowding=crowding),
        calibration=SimpleNamespace(crowd=crowd),
    )
    lines = []
    room._say_of(recogniser, "fitted", lines.append)
    expected = ["support: few", "fitted", "to the encoder, the particles look as noisy as simulated ones of SNR 0.051"]
    assert lines[:3] == expected and len(lines) == 3 + (said is not None)
    assert said is None or said in lines[3]
    lines.clear()
    recogniser.unfitted = "too few"
    room._say_of(recogniser, "fitted", lines.append)
    assert lines[1] == "too few"


def test_answers_are_joined_with_the_reasons_of_those_that_cannot_be_used():
    def recognised(embeddings):
        return SimpleNamespace(to_frame=lambda: pd.DataFrame({"score": embeddings[:, 0].tolist()}))

    chunks = [(np.array([0, 1]), torch.tensor([[1.0], [2.0]]), {1: "bad"}), (np.array([2]), torch.tensor([[3.0]]), {})]
    lines, recogniser = [], SimpleNamespace(recognise=recognised)
    table = room._recognised(recogniser, SimpleNamespace(chunks=lambda: chunks), lines.append)
    assert table["score"].tolist() == [1, 2, 3] and table["reason"].tolist() == ["", "bad", ""]
    assert lines == ["1 of 3 particles cannot be used, see unreadable.csv; bad"]
    none = SimpleNamespace(chunks=lambda: [(np.arange(2), torch.ones(2, 1), {0: "bad", 1: "worse"})])
    with pytest.raises(UserError, match="none of the 2 particles can be used; the first: bad"):
        room._recognised(recogniser, none, lines.append)
