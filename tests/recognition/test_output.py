"""What a classification writes, and what it leaves alone."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import write_atomically
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.exchange import csv_table
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tomograms import Boxes, Tomogram
from cryo_fewshot.recognition.output import claimed, file_names, run_record, write_tables
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.simulation.datasets import EMPTY

CLASSES = ("6QZP", "1S3X", EMPTY)
UNKNOWN_CLASS = "1QVR"


def test_accepted_and_rejected_files_share_out_the_particles(data, encoder_path, tmp_path, run):
    outcome = run(tmp_path / "out", encoder_path)
    files = [*(tmp_path / "out" / "classes").glob("*.star"), tmp_path / "out" / "rejected.star"]
    tables = {}
    for path in files:
        block = starfile.read(path, always_dict=True)["particles"]
        tables[path.stem] = pd.DataFrame([block]) if isinstance(block, dict) else block
    names = [name for table in tables.values() if len(table) for name in table["rlnImageName"]]
    assert sorted(names) == sorted(starfile.read(data[0] / "all" / "particles.star")["particles"]["rlnImageName"])
    for name in CLASSES:
        assert len(tables[name]) == int(outcome.table.query("accepted")["class"].eq(name).sum())


def test_averages_are_maps_with_their_voxel_size(data, encoder_path, tmp_path, run):
    settings = Settings(n_averaged=8, average_voxel_nm=3.0, false_accept_rate=0.2)
    outcome = run(tmp_path / "out", encoder_path, settings)
    averaged = [name for name in CLASSES if (outcome.table.query("accepted")["class"] == name).sum() >= 8]
    assert averaged, "no class was accepted often enough to average: the test says nothing"
    for name in averaged:
        with mrcfile.open(tmp_path / "out" / "averages" / f"{name}.mrc") as mrc:
            assert mrc.data.shape == (12, 12, 12) and mrc.data.dtype == np.float32
            assert float(mrc.voxel_size.x) == pytest.approx(30.0)
        assert {"frequency_per_nm", "fsc", "fsc_masked"} == set(
            pd.read_csv(tmp_path / "out" / "averages" / f"{name}_fsc.csv")
        )
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


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


def test_damaged_particles_are_listed_and_the_rest_goes_on(damaged, encoder_path, tmp_path, run):
    lines = []
    outcome = run(tmp_path / "out", encoder_path, folder=damaged, say=lines.append)
    listed = pd.read_csv(tmp_path / "out" / "unreadable.csv")
    broken = outcome.table["reason"] != ""
    assert broken.sum() == 3 and listed["reason"].tolist() == outcome.table.loc[broken, "reason"].tolist()
    names = open_particles(damaged / "all" / "particles.star").names
    assert listed["particle"].tolist() == [names[i] for i in np.flatnonzero(broken)]
    assert not outcome.table.loc[broken, "accepted"].any()
    assert outcome.table.loc[~broken, "accepted"].any(), "none was accepted: the line above says nothing"
    assert all("\n" not in reason and len(reason) > 20 for reason in listed["reason"])
    assert sum("cannot be used, see unreadable.csv" in line for line in lines) == 1
    written = starfile.read(tmp_path / "out" / "particles.star")["particles"]
    assert (written["fewshotClass"] == "unreadable").sum() == 3
    assert len(starfile.read(tmp_path / "out" / "rejected.star")["particles"]) >= 3


def test_a_folder_in_use_is_left_alone(data, encoder_path, tmp_path, run):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="already contains something else"):
        run(tmp_path / "other", encoder_path)
    run(tmp_path / "out", encoder_path)
    with pytest.raises(UserError, match="other settings"):
        run(tmp_path / "out", encoder_path, Settings(n_averaged=0, false_accept_rate=0.1))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a"):
        run(tmp_path / "file", encoder_path)


def test_class_names_never_leave_the_output_folder():
    names = file_names(["../../evil", "a/b", "a_b", "A_B", "", "..", "80S ribosome", "Ribosom é"])
    assert len({name.casefold() for name in names.values()}) == len(names)
    for name in names.values():
        assert Path("out", name).parent == Path("out") and name not in ("", ".", "..")


def test_a_damaged_record_is_none(encoder_path, tmp_path, run):
    run(tmp_path / "out", encoder_path)
    for damaged in ("{", "[]", "\ud800"):
        (tmp_path / "out" / "run.json").write_bytes(damaged.encode(errors="surrogatepass"))
        with pytest.raises(UserError, match="other settings"):
            run(tmp_path / "out", encoder_path)


def test_the_record_names_the_ends_of_both_inputs():
    inputs = [Particles(names=names, source=None, voxel_size_nm=1.0, box=4) for names in (["a", "b", "c"], ["d", "e"])]
    record = run_record(*inputs, {"name": "any"}, Settings())
    for name, ends in (("support", [3, "a", "c"]), ("query", [2, "d", "e"])):
        assert [record[name][key] for key in ("n", "first", "last")] == ends


def claim(folder, record):
    with claimed(folder, record):
        pass


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["A", "B", "B"]}, {"dark_protein": False}, {"mirror": True}, {"voxel_size_nm": 1.1}, {"box": 6},
        {"names": ["a", "x", "c"]}, {"source": SimpleNamespace(centres=np.eye(3))},
    ],
)  # fmt: skip
def test_another_reading_of_the_same_files_is_another_run(changes, tmp_path):
    query = Particles(names=["d"], source=None, voxel_size_nm=1.0, box=4)
    settings = {"names": ["a", "b", "c"], "source": None, "voxel_size_nm": 1.0, "box": 4, "labels": ["A", "A", "B"]}
    records = [run_record(Particles(**(settings | more)), query, {}, Settings()) for more in ({}, changes)]
    claim(tmp_path / "out", records[0])
    for left in ("classes/A.star", "averages/A.mrc", "rejected_group_1.star"):  # by files that were others then
        write_atomically(tmp_path / "out" / left, b"old")
    claim(tmp_path / "out", records[0])
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["run.json"]
    with pytest.raises(UserError, match="contains another run"):
        claim(tmp_path / "out", records[1])


def test_notes_on_the_inputs_do_not_make_another_run(tmp_path):
    inputs = [Particles(names=["a"], source=None, voxel_size_nm=1.0, box=4) for _ in range(2)]
    record = run_record(*inputs, {}, Settings())
    claim(tmp_path, {**record, "query": {**record["query"], "said": ["elsewhere/a.star: 1 particle"]}})
    claim(tmp_path, record)
    with pytest.raises(UserError, match="contains another run"):
        claim(tmp_path, {**record, "query": {**record["query"], "n": 2}})


def test_accepted_particles_go_back_to_dynamo_and_copick(tmp_path):
    dynamotable = pytest.importorskip("dynamotable")
    centres = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])  # zyx from 0
    source = Boxes(list("pqr"), (Tomogram(Path("t.mrc"), (30, 30, 30), 1.0),), np.zeros(3, int), centres, (12,))
    nm = {f"{axis}_nm": column.astype(str) for axis, column in zip("zyx", centres.T, strict=True)}
    given = pd.DataFrame({"copickRun": "TS_1", "dynamoClass": "1", "imodObject": "1", **nm})
    query = Particles(names=list("pqr"), source=source, voxel_size_nm=1.0, box=12, table=given)
    found = {"class": list("aba"), "runner_up": list("bab"), "probability": [0.9, 0.8, 0.3], "reason": ""}
    table = pd.DataFrame({**found, "accepted": [True, True, False], "labelled": False})
    write_tables(tmp_path, query, table, ["a", "b"], {})
    written = dynamotable.read(tmp_path / "classes" / "b.tbl")
    assert written[["x", "y", "z", "class", "tomo"]].values.tolist() == [[7, 6, 5, 2, 1]]
    assert len(dynamotable.read(tmp_path / "particles.tbl")) == 3
    motives = csv_table(tmp_path / "particles.csv")
    assert motives[list("zyx")].astype(float).to_numpy().tolist() == centres.tolist()
    assert motives["peetClass"].tolist() == ["1", "2", "1"]
    picks = tmp_path / "copick" / "ExperimentRuns" / "TS_1" / "Picks" / "cryo-fewshot_0_a.json"
    assert json.loads(picks.read_text())["points"][0]["location"] == {"x": 30.0, "y": 20.0, "z": 10.0}
