"""What a classification writes, and what it leaves alone; averages without the search for poses."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
import torch

from cryo_fewshot.averaging.spectra import MASK_SHARE
from cryo_fewshot.errors import UserError
from cryo_fewshot.files import write_atomically
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.exchange import csv_table
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tomograms import Boxes, Tomogram
from cryo_fewshot.recognition import output
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


class Query(SimpleNamespace):
    """Particles of so many voxels; what is read of them is recorded."""

    def read(self, chosen, box, nm):
        self.asked.append((list(chosen), box, nm))
        rejected = {i: "damaged" for i in chosen if i in self.damaged}
        return torch.arange(len(chosen)).view(-1, 1, 1, 1).float(), rejected


def refined(seed=0):
    density, *halves = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    one, *both = (SimpleNamespace(density=part) for part in (density, *halves))
    curve = np.array([1.0, 0.987654, 0.5])
    return SimpleNamespace(
        average=one,
        half_maps=both,
        frequencies_per_nm=np.array([0, 0.1234567, 0.25]),
        corrected_fsc=curve,
        fsc=curve / 2,
        resolution_text="3.0 nm",
    )


@pytest.fixture
def averaged(monkeypatch):
    """Function: (out, table, groups, query fields, settings) -> averages, lines said, what was refined."""

    def of(out, table, groups=None, settings=None, fails=(), **fields):
        query = Query(**({"box": 20, "voxel_size_nm": 1.5, "asked": [], "damaged": ()} | fields))
        calls, lines = [], []

        def refine(volumes, series, seed, groups):
            calls.append((volumes.flatten().tolist(), series, seed, groups))
            if len(calls) in fails:
                raise UserError("no two halves")
            return refined()

        monkeypatch.setattr(output, "refine", refine)
        monkeypatch.setattr(output, "overlapping", lambda q, rows, within: (rows.tolist(), round(within, 6)))
        found = output.write_averages(out, query, table, ["a", "b"], groups or {}, settings or Settings(), lines.append)
        return found, lines, calls, query

    return of


def table_of(n=30):
    rows = np.arange(n)
    return pd.DataFrame(
        {"class": np.where(rows < 20, "a", "b"), "accepted": rows != 3, "probability": 0.5 + 0.01 * (rows % 20 // 2)}
    )


def test_the_most_probable_accepted_particles_are_averaged_the_first_of_equals_first(tmp_path, averaged):
    table = table_of()
    found, lines, calls, query = averaged(tmp_path, table, settings=Settings(n_averaged=9, seed=4), damaged=(17,))
    assert [chosen for chosen, *_ in query.asked] == [
        [18, 19, 16, 17, 14, 15, 12, 13, 10],
        [28, 29, 26, 27, 24, 25, 22, 23, 20],
    ]
    assert query.asked[0][1:] == (20, 1.5) and list(found) == ["a", "b"]
    volumes, series, seed, (rows, within) = calls[0]
    assert volumes == [0, 1, 2, 4, 5, 6, 7, 8] and rows == [18, 19, 16, 14, 15, 12, 13, 10]
    assert seed == 4 and series.width_nm == 30 and within == pytest.approx(MASK_SHARE * 30)
    np.testing.assert_allclose(series.tilt_angles, np.arange(-60, 61, 3))
    assert lines[:2] == ["averaging 9 particles of class a", "class a: 3.0 nm"]


def test_of_fewer_than_eight_there_is_no_average(tmp_path, averaged):
    table = table_of(28)  # eight of b
    assert list(averaged(tmp_path, table)[0]) == ["a", "b"]
    found, lines, *_ = averaged(tmp_path, table.drop(index=27))
    assert list(found) == ["a"] and "class b: 7 accepted particles, too few to average" in lines
    assert averaged(tmp_path, table, settings=Settings(n_averaged=0))[:2] == ({}, [])


def test_groups_of_rejected_particles_are_averaged_as_they_are_listed(tmp_path, averaged):
    groups = {"rejected group 1": np.arange(9, -1, -1)}
    found, lines, _, query = averaged(tmp_path, table_of(), groups, fails=(1,))
    assert query.asked[2][0] == list(range(9, -1, -1)) and "averaging 10 particles of rejected group 1" in lines
    assert list(found) == ["b", "rejected group 1"] and "class a: not averaged: no two halves" in lines
    assert (tmp_path / "averages" / "rejected_group_1.mrc").exists()
    assert not (tmp_path / "averages" / "a.mrc").exists()


@pytest.mark.parametrize(
    ("box", "nm", "wanted_nm", "expected"),
    [(20, 1.5, 1.0, (20, 1.5)), (40, 1.0, 2.0, (20, 2.0)), (41, 1.0, 2.0, (20, 2.0)), (43, 1.0, 2.0, (22, 2.0)),
     (12, 1.0, 4.0, (8, 4.0))],
)  # fmt: skip
def test_voxels_of_an_average_are_never_finer_than_those_of_the_files(tmp_path, averaged, box, nm, wanted_nm, expected):
    settings = Settings(average_voxel_nm=wanted_nm, tilt_min=-40.0, tilt_max=50.0, tilt_increment=10.0)
    _, _, calls, query = averaged(tmp_path, table_of(), settings=settings, box=box, voxel_size_nm=nm)
    assert query.asked[0][1:] == expected and calls[0][1].width_nm == expected[0] * expected[1]
    np.testing.assert_allclose(calls[0][1].tilt_angles, np.arange(-40, 51, 10))


def test_maps_are_written_with_protein_bright_and_their_curve(tmp_path):
    output._write_average(tmp_path / "a.mrc", refined(), 1.5)
    one = refined()
    for name, average in zip(("a", "a_half1", "a_half2"), (one.average, *one.half_maps), strict=True):
        with mrcfile.open(tmp_path / f"{name}.mrc") as file:
            np.testing.assert_array_equal(file.data, -average.density.numpy())
            assert float(file.voxel_size.x) == pytest.approx(15)
    assert (tmp_path / "a_fsc.csv").read_text().splitlines() == [
        "frequency_per_nm,fsc,fsc_masked",
        "0.0,1.0,0.5",
        "0.12346,0.98765,0.49383",
        "0.25,0.5,0.25",
    ]
