"""Which folder, tomogram and picks of a project are meant, one by one; what is none of them is refused by name."""

import json

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.copick_projects import COLUMNS, copick_table, is_copick, picks_files

pytest.importorskip("mrcfile")


@pytest.fixture
def add(tmp_path, files):
    """Functions that add a tomogram, and picks given as xyz in angstrom, to a project's folder."""

    def tomogram(name, run="TS_1", spacing="10.000", nm=1.0):
        path = tmp_path / "a" / "ExperimentRuns" / run / f"VoxelSpacing{spacing}" / name
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
        said = "tomograms of run TS_1: den@10.000, wbp@10.000, wbp@20.000; "
        files.one_line(lambda: copick_table(tmp_path / "a", asked, None, None), said + found)


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


def test_what_is_written_is_in_angstrom_with_its_score(tmp_path):
    table = pd.DataFrame({"copickRun": ["r"] * 2, "x_nm": ["1", "4"], "y_nm": ["2", "5"], "z_nm": ["3", "6.25"]})
    ((name, content),) = picks_files(table, ["a"] * 2, [0.25, 1])
    points = json.loads(content)["points"]
    assert name == "ExperimentRuns/r/Picks/cryo-fewshot_0_a.json"
    assert [list(point["location"].values()) for point in points] == [[10, 20, 30], [40, 50, 62.5]]
    assert [point["score"] for point in points] == [0.25, 1.0] and points[0]["instance_id"] == 0
