"""From files to answers: what is said of particles, and what happens when a run is stopped."""

import numpy as np
import pandas as pd
import pytest
import starfile

from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition import embedding_cache
from cryo_fewshot.recognition.classify import classify, embed_shard
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
