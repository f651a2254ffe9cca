"""Tomograms and picks as copick lays them out: which are meant, where they are cut, what is refused by name."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.copick_projects import COLUMNS, copick_table, is_copick, picks_files
from cryo_fewshot.particles.opening import open_particles

REAL_PICKS = Path(__file__).resolve().parents[3] / "shared" / "real" / "czii_picks"


@pytest.fixture
def add(tmp_path, files):
    """Functions that add a tomogram, and picks given as xyz in angstrom, to a project's folder."""

    def tomogram(name, run="TS_1", spacing="10.000", nm=1.0, root="a"):
        path = tmp_path / root / "ExperimentRuns" / run / f"VoxelSpacing{spacing}" / name
        return files.write(path, voxel_size_nm=nm)

    def picks(name, *places, run="TS_1", root="a", **content):
        points = [{"location": dict(zip("xyz", place, strict=True))} for place in places]
        path = tmp_path / root / "ExperimentRuns" / run / "Picks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"points": points} | content))

    return tomogram, picks


def test_rows_say_run_object_author_and_place(add, tmp_path):
    tomogram, picks = add
    tomogram("wbp.mrc"), tomogram("wbp.mrc", run="TS_2")
    picks("gold.json", (1, 2, 3.5), (40, 50, 60), run="TS_2")
    picks("me_7_x.json", (10, 20, 30), pickable_object_name="80S", user_id="me", session_id=7, unit="angstrom")
    picks("none.json", run="TS_3")  # a run of no picks needs no tomogram
    table, tomograms = copick_table(tmp_path / "a", None, None, None)
    assert list(table) == list(COLUMNS)
    assert table.to_numpy().tolist() == [
        ["TS_1", "80S", "me", "7", "1.0", "2.0", "3.0"],
        ["TS_2", "gold", "", "", "0.1", "0.2", "0.35"],
        ["TS_2", "gold", "", "", "4.0", "5.0", "6.0"],
    ]
    assert [one.path.parents[1].name for one in tomograms] == ["TS_1", "TS_2", "TS_2"]
    assert all(one.voxel_size_nm == 1.0 and one.shape == (12, 12, 12) for one in tomograms)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("wbp@10.0", "VoxelSpacing10.000/wbp.mrc"),
        ("wbp@20", "VoxelSpacing20.000/wbp.mrc"),
        ("den", "VoxelSpacing10.000/den.mrc"),
        ("@20.0", "VoxelSpacing20.000/wbp.mrc"),
        ("wbp@10.0005", "VoxelSpacing10.000/wbp.mrc"),
        ("wbp@10.002", "0 are wbp@10.002"),
        ("wbp", "2 are wbp"),
        ("@10", "2 are @10"),
        (None, "which one is meant is not said"),
        ("wbp@ten", "wbp@ten names no tomograms"),
    ],
)
def test_a_tomogram_is_meant_by_type_and_voxel_size(asked, found, add, tmp_path, files):
    tomogram, picks = add
    tomogram("wbp.mrc"), tomogram("den.mrc"), tomogram("wbp.mrc", spacing="20.000", nm=2.0)
    tomogram("notes.mrcs")  # no tomogram by its ending
    picks("gold.json", (1, 2, 3))
    if "Voxel" in found:
        _, (one,) = copick_table(tmp_path / "a", asked, None, None)
        assert one.path.as_posix().endswith(found)
    else:
        there = "" if asked == "wbp@ten" else "tomograms of run TS_1: den@10.000, wbp@10.000, wbp@20.000; "
        words = (there + found, "give it" if not there else "--tomogram", "as in wbp@10.0")
        files.one_line(lambda: copick_table(tmp_path / "a", asked, None, None), *words)


@pytest.mark.parametrize(("nm", "fits"), [(1.0095, True), (0.9905, True), (1.0105, False), (0.9895, False)])
def test_the_folder_and_the_file_of_a_tomogram_agree_within_a_hundredth(nm, fits, add, tmp_path, files):
    tomogram, picks = add
    tomogram("wbp.mrc", nm=nm)
    picks("gold.json", (1, 2, 3))
    if fits:
        assert copick_table(tmp_path / "a", None, None, None)[1][0].voxel_size_nm == pytest.approx(nm)
    else:
        files.one_line(lambda: copick_table(tmp_path / "a", None, None, None), "of 1 nm by the folder's name")
    assert copick_table(tmp_path / "a", None, None, 1.5)[1][0].voxel_size_nm == 1.5


def test_tomograms_and_picks_may_lie_in_two_roots_and_each_file_counts_once(add, tmp_path):
    tomogram, picks = add
    tomogram("wbp.mrc")
    picks("gold.json", (1, 2, 3), root="b")
    roots = {"static_root": "local://a", "overlay_root": "b"}  # relative to the json
    (tmp_path / "p.json").write_text(json.dumps(roots))
    (tmp_path / "q.json").write_text(json.dumps(roots | {"overlay_root": "local://."}))  # holds the other
    for name in ("p.json", "q.json"):
        table, tomograms = copick_table(tmp_path / name, None, None, None)
        assert len(table) == len(tomograms) == 1
    assert is_copick(tmp_path / "p.json") and is_copick(tmp_path / "b") and not is_copick(tmp_path / "a")
    (tmp_path / "info.json").write_text('{"boxes_3d": []}')
    assert not is_copick(tmp_path / "info.json") and not is_copick(tmp_path / "p.star")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"unit": "nm"}, "unit nm"),
        ({"points": [{"location": {"x": 1, "y": 2}}]}, "'z'"),
        ({"points": [{"location": {"x": "a", "y": 2, "z": 3}}]}, "could not convert"),
        ({"points": None}, "not picks of copick"),
    ],
)
def test_what_are_no_picks_is_one_line(content, said, add, tmp_path, files):
    tomogram, picks = add
    tomogram("wbp.mrc")
    picks("gold.json", (1, 2, 3), **content)
    files.one_line(lambda: copick_table(tmp_path / "a", None, None, None), "gold.json: not picks of copick", said)


def test_a_pick_may_be_turned_but_not_moved(add, tmp_path, files):
    tomogram, picks = add
    tomogram("wbp.mrc")
    for axis in (None, 0, 1, 2):
        turned = np.eye(4)[[1, 0, 2, 3]]
        if axis is not None:
            turned[axis, 3] = -2.0
        point = {"location": {"x": 1, "y": 2, "z": 3}, "transformation_": turned.tolist()}
        picks("gold.json", **{"points": [point]})
        if axis is None:
            assert copick_table(tmp_path / "a", None, None, None)[0]["x_nm"].tolist() == ["0.1"]
        else:
            files.one_line(lambda: copick_table(tmp_path / "a", None, None, None), "of a pick moves it")


@pytest.mark.parametrize(
    ("picks_of", "n"), [(None, None), ("me", None), ("me/1", 1), ("me/2", 2), ("you", 3), ("/2", None), ("she", 0)]
)
def test_picks_are_those_of_one_author(picks_of, n, add, tmp_path, files):
    tomogram, picks = add
    tomogram("wbp.mrc")
    for k, (user, session) in enumerate((("me", "1"), ("me", "2"), ("you", "2")), 1):
        who = {"pickable_object_name": "80S", "user_id": user, "session_id": session}
        picks(f"{k}.json", *[(1, 2, 3)] * k, **who)
    if n is None:
        authors = {None: "me/1 (1), me/2 (2), you/2 (3)", "me": "me/1 (1), me/2 (2)", "/2": "me/2 (2), you/2 (3)"}
        said = f"80S of run TS_1 was picked several times: {authors[picks_of]}; give"
        files.one_line(lambda: copick_table(tmp_path / "a", None, picks_of, None), said)
    elif n == 0:
        files.one_line(lambda: copick_table(tmp_path / "a", None, picks_of, None), "no picks of she (--picks)")
    else:
        assert len(copick_table(tmp_path / "a", None, picks_of, None)[0]) == n


def test_picks_are_written_as_an_overlay_has_them():
    rows = [["TS_1", "1.5", "2.5", "3.5"], ["TS_1", "4", "5", "6"], ["TS_2", "7", "8", "9"], ["TS_2", "1", "2", "3.25"]]
    table = pd.DataFrame(rows, columns=["copickRun", "x_nm", "y_nm", "z_nm"])
    written = dict(picks_files(table, ["80S_a b", "gold", "gold", "gold"], [0.9, 0.8, 0.25, 1]))
    names = ("TS_1/Picks/cryo-fewshot_0_80S-a-b", "TS_1/Picks/cryo-fewshot_0_gold", "TS_2/Picks/cryo-fewshot_0_gold")
    assert sorted(written) == [f"ExperimentRuns/{name}.json" for name in names]
    first, *_, last = (json.loads(written[f"ExperimentRuns/{name}.json"]) for name in names)
    assert first["points"] == [{"location": {"x": 15.0, "y": 25.0, "z": 35.0}, "instance_id": 0, "score": 0.9}]
    assert first["unit"] == "angstrom" and first["run_name"] == "TS_1"
    assert [list(point["location"].values()) for point in last["points"]] == [[70, 80, 90], [10, 20, 32.5]]
    assert [point["score"] for point in last["points"]] == [0.25, 1.0]


def test_a_project_is_cut_where_the_picks_are_and_what_is_written_is_read_again(add, tmp_path, array, files):
    """The json of a project: tomograms in its static root, picks in its overlay, as copick 1.31 writes them."""
    tomogram, picks = add
    files.write(tomogram("wbp.mrc", root="stätic"), array)
    for name, centres in {"ribosome": files.CENTRES[:2], "proteasome": files.CENTRES[2:]}.items():
        who = {"pickable_object_name": name, "user_id": "me", "session_id": "1", "run_name": "TS_1"}
        points = [{"location": dict(zip("xyz", map(float, c[::-1] * 10), strict=True))} for c in centres]
        points = [{**point, "transformation_": np.eye(4).tolist(), "instance_id": 0, "score": 1.0} for point in points]
        content = {"voxel_spacing": None, "unit": "angstrom", "trust_orientation": True, "points": points}
        picks(f"me_1_{name}.json", root="overlay", **who, **content)
    path = tmp_path / "project.json"
    roots = {"static_root": f"local://{tmp_path / 'stätic'}", "overlay_root": f"local://{tmp_path / 'overlay'}"}
    project = {"config_type": "filesystem", "name": "p", "pickable_objects": [], **roots}
    path.write_text(json.dumps(project))
    particles = open_particles(path, tomogram="wbp@10.0", box_nm=12)
    assert particles.labels == ["proteasome", "ribosome", "ribosome"]
    volumes, rejected = particles.read(range(3), 12, 1.0)
    for volume, centre in zip(volumes[1:], files.CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, files.standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [0]
    for name, content in picks_files(particles.table, particles.labels, [1.0] * 3):
        (tmp_path / "overlay" / name).write_bytes(content)
    back = open_particles(path, tomogram="wbp", picks="cryo-fewshot/0", box_nm=12)
    columns = ["copickObject", "x_nm", "y_nm", "z_nm"]
    assert sorted(back.table[columns].values.tolist()) == sorted(particles.table[columns].values.tolist())
    for change, words in (
        ({"config_type": "cryoet_data_portal"}, ("type cryoet_data_portal", "fetch-portal")),
        ({"overlay_root": "s3://bucket/there"}, ("s3://bucket/there is not a folder on this machine",)),
        ({"overlay_root": None, "static_root": None}, ("neither static_root nor overlay_root",)),
    ):
        path.write_text(json.dumps(project | change))
        files.one_line(lambda: open_particles(path, tomogram="wbp"), "project.json", *words)


def test_picks_are_asked_of_a_project_alone(tmp_path, tomogram, files):
    table = files.csv_of(tmp_path / "a.csv")
    words = ("picks=me (--picks)", "is not a copick project")
    files.one_line(lambda: open_particles(table, tomogram=tomogram, picks="me"), *words)


def test_tomograms_may_be_ome_zarr(add, tmp_path, array, files):
    _, picks = add
    where = tmp_path / "a" / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000" / "denoised.zarr"
    steps = [{"type": "scale", "scale": [10.0] * 3}]
    files.zarr_of(where, array, version=2, datasets=[{"path": "0", "coordinateTransformations": steps}])
    picks("ribosome.json", tuple(map(float, files.CENTRES[0][::-1] * 10)))
    particles = open_particles(tmp_path / "a", tomogram="denoised@10.0", box_nm=12)
    (volume,), rejected = particles.read([0], 12, 1.0)
    assert particles.labels == ["ribosome"] and not rejected
    torch.testing.assert_close(volume, files.standardised(array, files.CENTRES[0]), atol=1e-4, rtol=0)


@pytest.mark.skipif(not REAL_PICKS.is_dir(), reason="the real picks (../shared/real) are absent")
def test_real_picks_of_six_complexes_are_read(tmp_path, files):
    run = tmp_path / "ExperimentRuns" / "TS_5_4"
    files.write(run / "VoxelSpacing40.000" / "wbp.mrc", np.random.default_rng(0).normal(size=(46, 158, 158)), 4.0)
    (run / "Picks").mkdir()
    for path in REAL_PICKS.glob("*.json"):
        (run / "Picks" / path.name).write_bytes(path.read_bytes())
    particles = open_particles(tmp_path)
    counts = {name: particles.labels.count(name) for name in set(particles.labels)}
    assert counts["ribosome"] == 31 and len(counts) == 6 and len(particles) == 140
    assert (particles.source.centres >= 0).all() and (particles.source.centres < (46, 158, 158)).all()
