"""The tool from files to files: what it writes, what it refuses, what it does when it is stopped."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from studies.demonstration import write_particles
from torch.nn import functional as F
from typer.testing import CliRunner

from cryo_fewshot.cli import app
from cryo_fewshot.encoder import Encoder3D, embed
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition import embedding_cache
from cryo_fewshot.recognition.calibration import fit_calibration
from cryo_fewshot.recognition.classify import classify, embed_shard
from cryo_fewshot.recognition.output import file_names
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import save_encoder

RECIPE = SimulatedData(n_per_class=40, microscope=Microscope(box=24, binning=2, voxel_size_nm=1.5))
CLASSES = ("6QZP", "1S3X", EMPTY)
OUTSIDER = "1QVR"
NO_AVERAGES = Settings(n_averaged=0)


@pytest.fixture(scope="module")
def encoder_path(tmp_path_factory):
    """A small encoder with initial weights and a calibration: it tells big from small, which is enough here."""
    torch.manual_seed(0)
    encoder = Encoder3D(box=12, n_blocks=2, width=8).eval()
    held_out = simulate_set(RECIPE, {2.0: 40}, ["1PMA", "1BXN", "3ZBI", "3KUY", "5T4O"])
    calibration = fit_calibration(
        F.normalize(embed(encoder, held_out.volumes), dim=-1), held_out.labels, shots=(1, 5), n_episodes=20, n_query=10
    )
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    card = {"name": "for tests", "box": 12, "voxel_size_nm": 3.0, "calibration": calibration.to_json()}
    save_encoder(path, encoder, card)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Labelled and unlabelled particles as files; folder, and the true class of each unlabelled one."""
    folder = tmp_path_factory.mktemp("particles")
    write_particles(folder / "labelled", replace(RECIPE, seed=1), CLASSES, {2.0: 5}, with_labels=True)
    _, truth = write_particles(folder / "all", RECIPE, [*CLASSES, OUTSIDER], {2.0: 10}, with_labels=False)
    return folder, truth


def run(data, out, encoder_path, settings=NO_AVERAGES, **options):
    folder = data[0] if isinstance(data, tuple) else data
    support = open_particles(folder / "labelled" / "particles.star")
    query = open_particles(folder / "all" / "particles.star")
    return classify(support, query, out, encoder_path=encoder_path, settings=settings, **options)


def test_every_particle_gets_a_row_and_every_input_column_stays(data, encoder_path, tmp_path):
    outcome = run(data, tmp_path / "out", encoder_path)
    given = starfile.read(data[0] / "all" / "particles.star")["particles"]
    written = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    pd.testing.assert_frame_equal(written[given.columns], given)
    assert len(outcome.table) == len(given) == 40
    assert set(written["fewshotClass"]) <= set(CLASSES)
    assert written["fewshotProbability"].between(1 / len(CLASSES) - 1e-6, 1 + 1e-6).all()
    known = np.array(data[1]) != OUTSIDER
    right = written["fewshotClass"].to_numpy() == np.array(data[1])
    assert right[known].mean() > 0.6, "clearly above the third that guessing gets"


def test_accepted_and_rejected_files_share_out_the_particles(data, encoder_path, tmp_path):
    outcome = run(data, tmp_path / "out", encoder_path)
    files = [*(tmp_path / "out" / "classes").glob("*.star"), tmp_path / "out" / "rejected.star"]
    tables = {}
    for path in files:
        block = starfile.read(path, always_dict=True)["particles"]
        tables[path.stem] = pd.DataFrame([block]) if isinstance(block, dict) else block
    names = [name for table in tables.values() if len(table) for name in table["rlnImageName"]]
    assert sorted(names) == sorted(starfile.read(data[0] / "all" / "particles.star")["particles"]["rlnImageName"])
    for name in CLASSES:
        assert len(tables[name]) == int(outcome.table.query("accepted")["class"].eq(name).sum())


def test_averages_are_maps_with_their_voxel_size(data, encoder_path, tmp_path):
    settings = Settings(n_averaged=8, average_voxel_nm=3.0, false_accept_rate=0.2)
    outcome = run(data, tmp_path / "out", encoder_path, settings)
    averaged = [name for name in CLASSES if (outcome.table.query("accepted")["class"] == name).sum() >= 8]
    assert averaged, "no class was accepted often enough to average: the test says nothing"
    for name in averaged:
        with mrcfile.open(tmp_path / "out" / "averages" / f"{name}.mrc") as mrc:
            assert mrc.data.shape == (12, 12, 12) and mrc.data.dtype == np.float32
            assert float(mrc.voxel_size.x) == pytest.approx(30.0)
        assert {"frequency_per_nm", "fsc"} == set(pd.read_csv(tmp_path / "out" / "averages" / f"{name}_fsc.csv"))
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_the_same_command_again_reads_nothing_and_gives_the_same(data, encoder_path, tmp_path, monkeypatch):
    run(data, tmp_path / "out", encoder_path)
    first = (tmp_path / "out" / "particles.star").read_bytes()
    monkeypatch.setattr(embedding_cache, "embed", lambda *_: pytest.fail("an embedding was computed again"))
    run(data, tmp_path / "out", encoder_path)
    assert (tmp_path / "out" / "particles.star").read_bytes() == first


def test_shares_merge_into_the_result_of_one(data, encoder_path, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_cache, "CHUNK", 7)
    run(data, tmp_path / "one", encoder_path)
    query = open_particles(data[0] / "all" / "particles.star")
    for share in ("2/3", "1/3", "3/3"):
        embed_shard(query, tmp_path / "many", share, encoder_path=encoder_path)
    run(data, tmp_path / "many", encoder_path)
    assert (tmp_path / "one" / "particles.star").read_bytes() == (tmp_path / "many" / "particles.star").read_bytes()


def test_workers_give_the_same_bits(data, encoder_path, tmp_path):
    for n_workers in (0, 2):
        run(data, tmp_path / str(n_workers), encoder_path, n_workers=n_workers)
    results = [(tmp_path / name / "particles.star").read_bytes() for name in ("0", "2")]
    assert results[0] == results[1]


def test_another_support_finds_the_embeddings(data, encoder_path, tmp_path, monkeypatch):
    run(data, tmp_path / "out", encoder_path, cache=tmp_path / "cache")
    before = len(list((tmp_path / "cache").iterdir()))
    settings = Settings(n_averaged=0, false_accept_rate=0.1)
    monkeypatch.setattr(embedding_cache, "embed", lambda *_: pytest.fail("an embedding was computed again"))
    run(data, tmp_path / "other", encoder_path, settings, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == before


@pytest.fixture
def damaged(data, tmp_path):
    """A copy of the data whose query has a truncated, a constant and a missing file."""
    folder = tmp_path / "damaged é"
    shutil.copytree(data[0], folder)
    volumes = sorted((folder / "all" / "Subtomograms" / "TS_01").glob("*.mrc"))
    volumes[0].write_bytes(volumes[0].read_bytes()[:2000])
    mrcfile.write(volumes[1], np.ones((12, 12, 12), np.float32), voxel_size=30.0, overwrite=True)
    volumes[2].unlink()
    return folder


def test_damaged_particles_are_listed_and_the_rest_goes_on(damaged, encoder_path, tmp_path):
    lines = []
    outcome = run(damaged, tmp_path / "out", encoder_path, say=lines.append)
    listed = pd.read_csv(tmp_path / "out" / "unreadable.csv")
    assert len(listed) == 3 and not outcome.table["accepted"][:0].any()
    assert all("\n" not in reason and len(reason) > 20 for reason in listed["reason"])
    assert sum("cannot be used" in line for line in lines) == 1
    written = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    assert (written["fewshotClass"] == "unreadable").sum() == 3
    assert len(starfile.read(tmp_path / "out" / "rejected.star")["particles"]) >= 3


def test_labelled_particles_among_the_query_are_marked(data, encoder_path, tmp_path):
    support = open_particles(data[0] / "labelled" / "particles.star")
    lines = []
    outcome = classify(
        support, support, tmp_path / "out", encoder_path=encoder_path, settings=NO_AVERAGES, say=lines.append
    )
    assert outcome.table["labelled"].all()
    assert any("labelled ones as well" in line for line in lines)


def test_a_folder_in_use_is_left_alone(data, encoder_path, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        run(data, tmp_path / "other", encoder_path)
    run(data, tmp_path / "out", encoder_path)
    with pytest.raises(UserError, match="other settings"):
        run(data, tmp_path / "out", encoder_path, Settings(n_averaged=0, false_accept_rate=0.1))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a"):
        run(data, tmp_path / "file", encoder_path)


def test_class_names_never_leave_the_output_folder():
    names = file_names(["../../evil", "a/b", "a_b", "A_B", "", "..", "80S ribosome", "Ribosom é"])
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert Path("out", name).parent == Path("out") and name not in ("", ".", "..")


def test_an_encoder_without_calibration_is_refused(data, tmp_path):
    save_encoder(tmp_path / "bare.safetensors", Encoder3D(box=12, n_blocks=2, width=8), {"box": 12, "voxel_size_nm": 3})
    with pytest.raises(UserError, match="no calibration"):
        run(data, tmp_path / "out", tmp_path / "bare.safetensors")
    assert not (tmp_path / "out").exists()


def test_turns_that_keep_the_wedge_are_another_view_of_the_same_particles(data, encoder_path, tmp_path):
    once, twice = (
        run(data, tmp_path / str(n), encoder_path, Settings(n_averaged=0, rotations=n)).table for n in (1, 2)
    )
    assert not np.allclose(once["score"], twice["score"])
    assert (once["class"] == twice["class"]).mean() > 0.6


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"n_averaged": 3}, {"average_voxel_nm": 0.0}, {"rotations": 3}):
        with pytest.raises(UserError):
            Settings(**settings)


# ---------------------------------------------------------------- the command line


def command(*words):
    return CliRunner().invoke(app, ["classify", *map(str, words)])


def test_the_command_writes_what_the_call_writes(data, encoder_path, tmp_path):
    run(data, tmp_path / "call", encoder_path)
    result = command(
        *("--support", data[0] / "labelled" / "particles.star", "--query", data[0] / "all" / "particles.star"),
        *("--out", tmp_path / "typed", "--encoder", encoder_path, "--averages", 0),
    )
    assert result.exit_code == 0, result.output
    assert "left out in turn" in result.output
    written = [(tmp_path / name / "particles.star").read_bytes() for name in ("call", "typed")]
    assert written[0] == written[1]
    assert json.loads((tmp_path / "typed" / "run.json").read_text())["query"]["n"] == 40


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"--contrast": "grey"}, "use dark, bright or detect"),
        ({"--shard": "9/3"}, "the third of eight"),
        ({"--query": "nowhere.star"}, "no such file"),
        ({"--label-column": "rlnNothing"}, "rlnNothing"),
        ({"--junk": "stones"}, "stones"),
    ],
)
def test_wrong_words_on_the_command_line_are_one_line(changes, message, data, encoder_path, tmp_path):
    words = {
        "--support": data[0] / "labelled" / "particles.star",
        "--query": data[0] / "all" / "particles.star",
        "--out": tmp_path / "out",
        "--encoder": encoder_path,
    } | changes
    result = command(*(part for pair in words.items() for part in pair))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception) and "\n" not in str(result.exception)
