"""From files to answers: what is said of particles and counted, and what happens when a run is stopped."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import starfile
import torch

from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition import classify as room
from cryo_fewshot.recognition import embedding_cache
from cryo_fewshot.recognition.classify import classify, embed_shard
from cryo_fewshot.recognition.rejection import Errors
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.simulation.datasets import EMPTY
from cryo_fewshot.weights import save_encoder

CLASSES = ("6QZP", "1S3X", EMPTY)
UNKNOWN_CLASS = "1QVR"


def test_every_particle_gets_a_row_and_every_input_column_stays(data, encoder_path, tmp_path, run):
    outcome = run(tmp_path / "out", encoder_path)
    given = starfile.read(data[0] / "all" / "particles.star")["particles"]
    written = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    pd.testing.assert_frame_equal(written[given.columns], given)
    assert len(outcome.table) == len(given) == 40
    assert set(written["fewshotClass"]) <= set(CLASSES)
    assert written["fewshotProbability"].between(1 / len(CLASSES) - 1e-6, 1 + 1e-6).all()
    known = np.array(data[1]) != UNKNOWN_CLASS
    right = written["fewshotClass"].to_numpy() == np.array(data[1])
    assert right[known].mean() > 0.6, "clearly above the third that guessing gets"


def test_the_same_command_again_reads_nothing_and_gives_the_same(data, encoder_path, tmp_path, monkeypatch, run):
    run(tmp_path / "out", encoder_path)
    first = (tmp_path / "out" / "particles.star").read_bytes()
    monkeypatch.setattr(embedding_cache, "embed", lambda *_: pytest.fail("an embedding was computed again"))
    run(tmp_path / "out", encoder_path)
    assert (tmp_path / "out" / "particles.star").read_bytes() == first


def test_shares_merge_into_the_result_of_one(data, encoder_path, tmp_path, monkeypatch, run):
    monkeypatch.setattr(embedding_cache, "CHUNK", 7)
    run(tmp_path / "one", encoder_path)
    query = open_particles(data[0] / "all" / "particles.star")
    for share in ("2/3", "1/3", "3/3"):
        embed_shard(query, tmp_path / "many", share, encoder_path=encoder_path)
    run(tmp_path / "many", encoder_path)
    assert (tmp_path / "one" / "particles.star").read_bytes() == (tmp_path / "many" / "particles.star").read_bytes()


def test_workers_give_the_same_bits(data, encoder_path, tmp_path, run):
    for n_workers in (0, 2):
        run(tmp_path / str(n_workers), encoder_path, n_workers=n_workers)
    results = [(tmp_path / name / "particles.star").read_bytes() for name in ("0", "2")]
    assert results[0] == results[1]


def test_labelled_particles_among_the_query_are_marked(data, encoder_path, tmp_path):
    support = open_particles(data[0] / "labelled" / "particles.star")
    lines = []
    outcome = classify(
        support, support, tmp_path / "out", encoder_path=encoder_path, settings=Settings(n_averaged=0), say=lines.append
    )
    assert outcome.table["labelled"].all()
    assert any("in the support as well" in line for line in lines)


def test_a_query_filtered_otherwise_is_named_and_nothing_fitted_to_it(data, encoder_path, tmp_path):
    support, query = (open_particles(data[0] / part / "particles.star") for part in ("labelled", "all"))
    volumes = query.read(range(len(query)), query.box, query.voxel_size_nm)[0].numpy()
    spectra, frequency = np.fft.fftn(volumes, axes=(1, 2, 3)), np.fft.fftfreq(query.box)
    squared = frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + frequency**2
    for i, volume in enumerate(np.fft.ifftn(spectra * np.exp(-40 * squared), axes=(1, 2, 3)).real):
        write_mrc(tmp_path / "blurred" / f"{i:02d}.mrc", volume, query.voxel_size_nm)
    for asked, fitted in ((query, True), (open_particles(tmp_path / "blurred", dark_protein=True), False)):
        lines, out = [], tmp_path / str(fitted)
        settings = Settings(n_averaged=0)
        found = classify(support, asked, out, encoder_path=encoder_path, settings=settings, say=lines.append)
        assert (found.recogniser.space is not found.recogniser.own) == fitted
        assert any("of another source" in line for line in lines) != fitted


def test_accepting_by_error_rate_is_said_with_a_bound(encoder_path, tmp_path, run):
    lines = []
    settings = Settings(n_averaged=0, fdr=0.3, junk=(EMPTY,))
    outcome = run(tmp_path / "out", encoder_path, settings, say=lines.append)
    table = outcome.table
    wanted = (table["q_value"] <= 0.3) & (table["class"] != EMPTY)
    assert table["accepted"].equals(wanted) and wanted.any() and not wanted.all()
    n, wrong = outcome.counts["accepted"].sum(), outcome.counts["expected wrong"].sum()
    assert n == wanted.sum() and 0 < wrong <= outcome.points[0]["at_most"] <= n
    said = f"at most {outcome.points[0]['at_most']} (90 % confidence)"
    assert any(f"{n} of 40 particles are accepted" in line and said in line for line in lines)
    assert outcome.points[0]["at_most"] != outcome.points[1]["at_most"]
    assert not any("fewer than 5 labels" in line for line in lines)  # there are five
    to_label = starfile.read(tmp_path / "out" / "next_to_label.star")["particles"]
    assert len(to_label) == 10 and to_label["rlnImageName"].is_unique
    assert {"fewshotPValue", "fewshotQValue"} <= set(to_label)


def test_an_encoder_without_calibration_is_refused(data, tmp_path, run):
    save_encoder(tmp_path / "bare.safetensors", Encoder3D(box=12, n_blocks=2, width=8), {"box": 12, "voxel_size_nm": 3})
    with pytest.raises(UserError, match="no calibration"):
        run(tmp_path / "out", tmp_path / "bare.safetensors")
    assert not (tmp_path / "out").exists()


def test_turns_that_keep_the_wedge_are_another_view_of_the_same_particles(data, encoder_path, tmp_path, run):
    once, twice = (run(tmp_path / str(n), encoder_path, Settings(n_averaged=0, rotations=n)).table for n in (1, 2))
    assert not np.allclose(once["score"], twice["score"])
    assert (once["class"] == twice["class"]).mean() > 0.6


def listed_twice(star, *, label=None):
    """A STAR file beside another with every row twice; the first row's copy with another label, if one is given."""
    lines = star.read_text().rstrip().splitlines()
    rows = [line for line in lines if ".mrc" in line]
    if label is not None:
        rows = [rows[0].removesuffix(rows[0].split()[-1]) + label]
    path = star.with_name("twice.star")
    path.write_text("\n".join(lines + rows) + "\n")
    return path


def test_particles_listed_twice_count_once(data, encoder_path, tmp_path):
    labelled, every = (data[0] / name / "particles.star" for name in ("labelled", "all"))
    settings, lines = Settings(n_averaged=0), []
    once = classify(
        *map(open_particles, (labelled, every)), tmp_path / "1", encoder_path=encoder_path, settings=settings
    )
    twice = [open_particles(listed_twice(star)) for star in (labelled, every)]
    outcome = classify(*twice, tmp_path / "2", encoder_path=encoder_path, settings=settings, say=lines.append)
    assert outcome.recogniser.check.n_tested == once.recogniser.check.n_tested
    assert outcome.recogniser.check.accuracy == once.recogniser.check.accuracy
    n = len(once.table)
    assert any(f"{n} of {2 * n} particles of the query repeat earlier ones" in line for line in lines)
    assert any(f"{len(twice[0]) // 2} particles of the support are listed more than once" in line for line in lines)


def test_a_particle_of_two_classes_is_refused_and_nothing_is_left(data, encoder_path, tmp_path):
    labelled, every = (data[0] / name / "particles.star" for name in ("labelled", "all"))
    first = open_particles(labelled).labels[0]
    other = next(name for name in CLASSES if name != first)
    both = open_particles(listed_twice(labelled, label=other))
    with pytest.raises(UserError, match=f"is labelled ({first} and {other}|{other} and {first}); correct"):
        classify(both, open_particles(every), tmp_path / "out", encoder_path=encoder_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("refused", [{"false_accept_rate": 5.0}, {"junk": ("carbon",)}])
def test_a_refused_run_leaves_nothing_and_the_right_one_goes(data, encoder_path, tmp_path, run, refused):
    with pytest.raises(UserError):
        run(tmp_path / "out", encoder_path, settings=Settings(n_averaged=0, **refused))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError):
        run(tmp_path / "out", encoder_path, settings=Settings(n_averaged=0, **refused))
    assert not list((tmp_path / "out").iterdir())
    run(tmp_path / "out", encoder_path, settings=Settings(n_averaged=0))
    assert (tmp_path / "out" / "run.json").exists()


def test_what_a_run_wrote_is_an_input_again(data, encoder_path, tmp_path, run):
    """From a folder elsewhere, and what was read is in the record of the run."""
    import json

    run(tmp_path / "out", encoder_path)
    query = open_particles(data[0] / "all" / "particles.star")
    again = open_particles(tmp_path / "out" / "rejected.star")
    rows = starfile.read(tmp_path / "out" / "rejected.star")["particles"]["rlnImageName"].tolist()
    volumes, rejected = again.read(range(len(again)), 12, 2.0)
    chosen = [query.names.index(name) for name in rows]
    assert not rejected and bool((volumes == query.read(chosen, 12, 2.0)[0]).all())
    said = json.loads((tmp_path / "out" / "run.json").read_text())["query"]["said"]
    assert said == list(query.notes)


def test_boxes_of_the_background_take_evidence_away_and_are_shown(data, encoder_path, tmp_path, run):
    lines = []
    boxes = open_particles(data[0] / "all" / "particles.star")
    alone = run(tmp_path / "alone", encoder_path, say=lines.append)
    assert alone.background is None and any("without boxes of the background" in line for line in lines)
    lines.clear()
    beside = run(tmp_path / "beside", encoder_path, background=boxes, say=lines.append)
    assert len(beside.background) == len(boxes) // 2
    assert sum(line.startswith("background: half of the boxes are a class as well, 20 others") for line in lines) == 1
    assert (beside.table["p_value"] >= alone.table["p_value"]).all()
    accepted = beside.table["accepted"]
    assert (accepted == (alone.table["accepted"] & (beside.table["p_value"] <= 0.05))).all()
    assert alone.table["accepted"].sum() > accepted.sum()


def table_of(**columns):
    found = {"class": list("aabb"), "p_value": [0.01, 0.02, 0.04, 0.5], "probability": [0.9, 0.8, 0.7, 0.6]}
    found |= {"accepted": [True, True, True, False], "reason": "", "labelled": False, "score": [4.0, 3.0, 2.0, 1.0]}
    return pd.DataFrame(found | columns)


@pytest.mark.parametrize(
    ("name", "refused", "taken"),
    [
        ("n_averaged", (-1, 1, 7), (0, 8)),
        ("fdr", (0.0, 1.0, 5.0, -0.1), (None, 0.05)),
        ("rotations", (3,), (1, 2, 4)),
        ("average_voxel_nm", (0.0,), (0.1,)),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, refused, taken):
    for value in refused:
        with pytest.raises(UserError, match=f"{name}={value}"):
            Settings(**{name: value})
    assert [getattr(Settings(**{name: value}), name) for value in taken] == list(taken)


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
