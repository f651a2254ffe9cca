"""Picks of a copick project as particles."""

import json

import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.copick_projects import picks_files
from cryo_fewshot.particles.opening import open_particles

pytest.importorskip("mrcfile")


def test_picks_are_written_as_an_overlay_has_them():
    rows = [["TS_1", "1.5", "2.5", "3.5"], ["TS_1", "4", "5", "6"], ["TS_2", "7", "8", "9"]]
    table = pd.DataFrame(rows, columns=["copickRun", "x_nm", "y_nm", "z_nm"])
    written = dict(picks_files(table, ["80S_a b", "gold", "gold"], [0.9, 0.8, 0.7]))
    names = ("TS_1/Picks/cryo-fewshot_0_80S-a-b", "TS_1/Picks/cryo-fewshot_0_gold", "TS_2/Picks/cryo-fewshot_0_gold")
    assert sorted(written) == [f"ExperimentRuns/{name}.json" for name in names]
    content = json.loads(written[f"ExperimentRuns/{names[0]}.json"])
    assert content["points"] == [{"location": {"x": 15.0, "y": 25.0, "z": 35.0}, "instance_id": 0, "score": 0.9}]
    assert content["unit"] == "angstrom" and content["run_name"] == "TS_1"


def test_a_project_that_copick_wrote(tmp_path, array, files):
    copick = pytest.importorskip("copick")
    from copick.models import CopickPoint

    folder = tmp_path / "projèct"
    objects = [
        {"name": name, "is_particle": True, "label": label, "radius": 60.0}
        for label, name in enumerate(("ribosome", "proteasome"), 1)
    ]
    config = {"config_type": "filesystem", "name": "p", "description": "p", "version": "1.0.0", "user_id": "me",
              "session_id": "0", "pickable_objects": objects, "overlay_root": f"local://{folder}",
              "overlay_fs_args": {"auto_mkdir": True}}  # fmt: skip
    path = tmp_path / "project.json"
    path.write_text(json.dumps(config))
    run = copick.from_file(str(path)).new_run("TS_1")
    for name, centres in (("ribosome", files.CENTRES[:2]), ("proteasome", files.CENTRES[2:])):
        picks = run.new_picks(name, session_id="1", user_id="me")
        # Angstrom, of the middle of voxels of 1 nm counted from 0, as copick has it
        picks.points = [CopickPoint(location=dict(zip("xyz", map(float, c[::-1] * 10), strict=True))) for c in centres]
        picks.store()
    files.one_line(lambda: open_particles(path, tomogram="wbp@10.0"), "TS_1", "has no tomogram wbp@10.0")
    run.new_voxel_spacing(10.0).new_tomogram("wbp").from_numpy(array)
    particles = open_particles(path, tomogram="wbp@10.0", box_nm=12, label_column="copickObject")
    assert sorted(particles.labels) == ["proteasome", "ribosome", "ribosome"]
    order = sorted(range(3), key=lambda i: particles.labels[i] == "proteasome")
    volumes, rejected = particles.read(order, 12, 1.0)
    for volume, centre in zip(volumes[:2], files.CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, files.standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [order[2]]
    files.one_line(lambda: open_particles(path, tomogram="wbp"), "as in wbp@10.0", "--tomogram")
    # picks of a second user are the same particles again: whose are meant has to be said
    again = run.new_picks("ribosome", session_id="2", user_id="tomotwin")
    again.points = picks.points
    again.store()
    words = ("ribosome of run TS_1 was picked several times", "me/1 (2)", "tomotwin/2 (1)", "--picks")
    files.one_line(lambda: open_particles(path, tomogram="wbp@10.0"), *words)
    for chosen, count in {"me": 3, "me/1": 3, "tomotwin/2": 1}.items():
        assert len(open_particles(path, tomogram="wbp@10.0", picks=chosen, box_nm=12)) == count
    files.one_line(lambda: open_particles(path, tomogram="wbp@10.0", picks="you"), "no picks of you (--picks)")
    mine = open_particles(path, tomogram="wbp@10.0", picks="me", box_nm=12)
    for name, content in picks_files(mine.table, mine.labels, [1.0] * 3):  # and copick reads what is written
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    back = open_particles(path, tomogram="wbp@10.0", picks="cryo-fewshot/0", box_nm=12)
    columns = ["copickObject", "x_nm", "y_nm", "z_nm"]
    assert sorted(back.table[columns].values.tolist()) == sorted(mine.table[columns].values.tolist())
