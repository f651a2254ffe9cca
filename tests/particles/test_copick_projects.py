"""Picks of a copick project as particles: the layout that copick and the CZII challenge write."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.copick_projects import is_copick, picks_files
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles

pytest.importorskip("mrcfile")
REAL_PICKS = Path(__file__).resolve().parents[3] / "shared" / "real" / "czii_picks"


def test_picks_are_written_as_an_overlay_has_them():
    rows = [["TS_1", "1.5", "2.5", "3.5"], ["TS_1", "4", "5", "6"], ["TS_2", "7", "8", "9"]]
    table = pd.DataFrame(rows, columns=["copickRun", "x_nm", "y_nm", "z_nm"])
    written = dict(picks_files(table, ["80S_a b", "gold", "gold"], [0.9, 0.8, 0.7]))
    names = ("TS_1/Picks/cryo-fewshot_0_80S-a-b", "TS_1/Picks/cryo-fewshot_0_gold", "TS_2/Picks/cryo-fewshot_0_gold")
    assert sorted(written) == [f"ExperimentRuns/{name}.json" for name in names]
    content = json.loads(written[f"ExperimentRuns/{names[0]}.json"])
    assert content["points"] == [{"location": {"x": 15.0, "y": 25.0, "z": 35.0}, "instance_id": 0, "score": 0.9}]
    assert content["unit"] == "angstrom" and content["run_name"] == "TS_1"


def picks_in(root, name, user, session, centres, run="TS_1"):
    """A file of picks as copick 1.31 writes it, of centres zyx in voxels of 1 nm."""
    points = [
        {
            "location": dict(zip("xyz", map(float, c[::-1] * 10), strict=True)),
            "transformation_": np.eye(4).tolist(),
            "instance_id": 0,
            "score": 1.0,
        }
        for c in centres
    ]
    who = {"pickable_object_name": name, "user_id": user, "session_id": session, "run_name": run}
    content = {**who, "voxel_spacing": None, "unit": "angstrom", "points": points, "trust_orientation": True}
    path = root / "ExperimentRuns" / run / "Picks" / f"{user}_{session}_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def project(tmp_path, array, files):
    """The json of a project: tomograms in its static root, picks in its overlay."""
    static, overlay = tmp_path / "stätic", tmp_path / "overlay"
    where = static / "ExperimentRuns" / "TS_1" / "VoxelSpacing10.000"
    where.mkdir(parents=True)
    write_mrc(where / "wbp.mrc", array, 1.0)
    write_mrc(where / "denoised.mrc", array, 1.0)
    picks_in(overlay, "ribosome", "me", "1", files.CENTRES[:2])
    picks_in(overlay, "proteasome", "me", "1", files.CENTRES[2:])
    roots = {"static_root": f"local://{static}", "overlay_root": f"local://{overlay}"}
    path = tmp_path / "project.json"
    path.write_text(json.dumps({"config_type": "filesystem", "name": "p", "pickable_objects": [], **roots}))
    return path


def test_a_project_is_read_as_copick_lays_it_out(project, array, files):
    particles = open_particles(project, tomogram="wbp@10.0", box_nm=12)
    assert particles.labels == ["proteasome", "ribosome", "ribosome"]
    volumes, rejected = particles.read(range(3), 12, 1.0)
    for volume, centre in zip(volumes[1:], files.CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, files.standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [0]
    several = "denoised@10.000, wbp@10.000; which one is meant is not said"
    files.one_line(lambda: open_particles(project), "run TS_1", several, "--tomogram", "wbp@10.0")
    files.one_line(lambda: open_particles(project, tomogram="wbp@7.8"), "0 are wbp@7.8")
    files.one_line(lambda: open_particles(project, tomogram="wbp@ten"), "wbp@ten names no tomograms", "as in wbp@10.0")


def test_whose_picks_are_meant_has_to_be_said(project, files):
    """Those of a second user are the same particles again."""
    picks_in(project.parent / "overlay", "ribosome", "tomotwin", "2", files.CENTRES[:1])
    words = ("ribosome of run TS_1 was picked several times", "me/1 (2)", "tomotwin/2 (1)", "--picks")
    files.one_line(lambda: open_particles(project, tomogram="wbp"), *words)
    for chosen, count in {"me": 3, "me/1": 3, "tomotwin/2": 1}.items():
        assert len(open_particles(project, tomogram="wbp", picks=chosen, box_nm=12)) == count
    files.one_line(lambda: open_particles(project, tomogram="wbp", picks="you"), "no picks of you (--picks)")


def test_what_is_written_is_read_again(project):
    mine = open_particles(project, tomogram="wbp", picks="me", box_nm=12)
    for name, content in picks_files(mine.table, mine.labels, [1.0] * 3):
        (project.parent / "overlay" / name).write_bytes(content)
    back = open_particles(project, tomogram="wbp", picks="cryo-fewshot/0", box_nm=12)
    columns = ["copickObject", "x_nm", "y_nm", "z_nm"]
    assert sorted(back.table[columns].values.tolist()) == sorted(mine.table[columns].values.tolist())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config_type": "cryoet_data_portal"}, ("type cryoet_data_portal", "fetch-portal")),
        ({"overlay_root": "s3://bucket/there"}, ("s3://bucket/there is not a folder on this machine",)),
        ({"overlay_root": None, "static_root": None}, ("neither static_root nor overlay_root",)),
    ],
)
def test_a_project_that_is_elsewhere_is_refused(change, words, project, files):
    project.write_text(json.dumps(json.loads(project.read_text()) | change))
    files.one_line(lambda: open_particles(project, tomogram="wbp"), "project.json", *words)


def test_picks_are_asked_of_a_project_alone(tmp_path, tomogram, files):
    table = files.csv_of(tmp_path / "a.csv")
    files.one_line(
        lambda: open_particles(table, tomogram=tomogram, picks="me"), "picks=me (--picks)", "is not a copick project"
    )


def write_zarr(path, array, angstrom):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", data=array, chunks=array.shape)
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    scale = [{"type": "scale", "scale": [angstrom] * 3}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]


def write_picks(path, name, centres, angstrom=10.0):
    points = [{"location": dict(zip("xyz", map(float, c[::-1] * angstrom), strict=True))} for c in centres]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"pickable_object_name": name, "unit": "angstrom", "points": points}))


def test_runs_of_ome_zarr_and_picks_are_cut_where_the_picks_are(tmp_path, array, files):
    for run in ("TS_1", "TS_2"):
        write_zarr(tmp_path / "static" / "ExperimentRuns" / run / "VoxelSpacing10.000" / "denoised.zarr", array, 10.0)
        for k, name in enumerate(("ribosome", "apo-ferritin")):
            picks = tmp_path / "overlay" / "ExperimentRuns" / run / "Picks" / f"{name}.json"
            write_picks(picks, name, files.CENTRES[k : k + 1])
    assert is_copick(tmp_path)
    particles = open_particles(tmp_path, tomogram="denoised@10.0", box_nm=12)
    assert sorted(particles.labels) == ["apo-ferritin"] * 2 + ["ribosome"] * 2
    first = particles.labels.index("ribosome")
    (volume,), rejected = particles.read([first], 12, 1.0)
    assert not rejected
    torch.testing.assert_close(volume, files.standardised(array, files.CENTRES[0]), atol=1e-4, rtol=0)
    files.one_line(
        lambda: open_particles(tmp_path, tomogram="wbp@10.0"), "TS_1: denoised@10.000; 0 are wbp@10.0", "as in wbp@10.0"
    )
    other = tmp_path / "static" / "ExperimentRuns" / "TS_2" / "VoxelSpacing10.000" / "denoised.zarr"
    write_zarr(other, array, 7.84)
    said = "voxels of 0.784 nm in the file, of 1 nm by the folder's name"
    files.one_line(lambda: open_particles(tmp_path), "denoised.zarr", said)
    write_zarr(other, array, 10.0)
    content = json.loads(picks.read_text())
    content["points"][0]["transformation_"] = [[1, 0, 0, 0], [0, 1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]]
    picks.write_text(json.dumps(content))
    files.one_line(lambda: open_particles(tmp_path), "apo-ferritin.json", "transformation_ of a pick moves it")


@pytest.mark.skipif(not REAL_PICKS.is_dir(), reason="the real picks (../shared/real) are absent")
def test_real_picks_of_six_complexes_are_read(tmp_path):
    run = tmp_path / "ExperimentRuns" / "TS_5_4"
    write_mrc(run / "VoxelSpacing40.000" / "wbp.mrc", np.random.default_rng(0).normal(size=(46, 158, 158)), 4.0)
    (run / "Picks").mkdir()
    for path in REAL_PICKS.glob("*.json"):
        (run / "Picks" / path.name).write_bytes(path.read_bytes())
    particles = open_particles(tmp_path)
    counts = {name: particles.labels.count(name) for name in set(particles.labels)}
    assert counts["ribosome"] == 31 and len(counts) == 6 and len(particles) == 140
    assert (particles.source.centres >= 0).all() and (particles.source.centres < (46, 158, 158)).all()
