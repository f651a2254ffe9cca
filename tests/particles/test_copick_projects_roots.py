"""Which roots and folders of a copick project are on this machine, and what its picks say of orientations."""

import json

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.copick_projects import copick_table, picks_files

pytest.importorskip("mrcfile")


@pytest.fixture
def project(tmp_path, files):
    """`project(spacing, **content)`: the json of a project of one tomogram in such a folder, and one pick."""

    def made(spacing="10.000", **content):
        run = tmp_path / "there" / "ExperimentRuns" / "TS_1"
        files.write(run / f"VoxelSpacing{spacing}" / "wbp.mrc")
        (run / "Picks").mkdir()
        picks = {"points": [{"location": {"x": 10, "y": 20, "z": 30}}]}
        (run / "Picks" / "me_1_gold.json").write_text(json.dumps(picks))
        (tmp_path / "p.json").write_text(json.dumps({"static_root": "there"} | content))
        return tmp_path / "p.json"

    return made


@pytest.mark.parametrize("root", ["there", "local://there", "file://there", "s3://there", "local://gone", "gone"])
def test_roots_are_folders_on_this_machine(root, project, files):
    path = project(static_root=root)
    if root in ("there", "local://there", "file://there"):
        assert copick_table(path, None, None, None)[0]["x_nm"].tolist() == ["1.0"]
    else:
        said = f"p.json: {root} is not a folder on this machine"
        files.one_line(lambda: copick_table(path, None, None, None), said)


@pytest.mark.parametrize("kind", ["cryoet_data_portal", "s3"])
def test_a_project_of_another_kind_is_named(kind, project, files):
    path = project(config_type=kind)
    files.one_line(lambda: copick_table(path, None, None, None), f"a copick project of type {kind}", "fetch-portal")


def test_a_folder_that_is_called_otherwise_says_no_voxel_size(project, files):
    path = project("_bin4")
    assert copick_table(path, None, None, None)[1][0].voxel_size_nm == 1.0
    files.one_line(lambda: copick_table(path, "wbp@10.0", None, None), "wbp@_bin4", "0 are wbp@10.0")


def test_picks_do_not_claim_an_orientation():
    table = pd.DataFrame({"copickRun": ["r"], "x_nm": ["1"], "y_nm": ["2"], "z_nm": ["3"]})
    ((_, content),) = picks_files(table, ["a"], np.ones(1))
    assert json.loads(content)["trust_orientation"] is False
