"""Tables of spreadsheets, models and motive lists, field by field."""

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.exchange import csv_table, exchange_table, write_peet

imodmodel = pytest.importorskip("imodmodel")


@pytest.mark.parametrize(("separator", "comma"), [(",", "."), (";", ","), ("\t", ","), (";", ".")])
def test_numbers_of_any_country_and_blanks_before_a_field(separator, comma, tmp_path):
    rows = [["x", "y", "kind"], [f"-12{comma}5", " 3", f' "a{separator} b"'], ["7", f"0{comma}25 ", "1,2,3"]]
    if separator == ",":
        rows[2][2] = '"1,2,3"'
    (tmp_path / "a.csv").write_text("".join(separator.join(row) + "\n" for row in rows))
    assert csv_table(tmp_path / "a.csv").values.tolist() == [["-12.5", "3", f"a{separator} b"], ["7", "0.25", "1,2,3"]]


def test_a_column_twice_is_refused_and_once_is_not(tmp_path, files):
    for header, twice in (("x,y,x", "x"), ("x, y,y ", "y"), ("x,y,x.1", None)):
        (tmp_path / "a.csv").write_text(f"{header}\n1,2,3\n")
        if twice:
            files.one_line(lambda: csv_table(tmp_path / "a.csv"), f"column {twice} appears twice")
        else:
            assert list(csv_table(tmp_path / "a.csv")) == ["x", "y", "x.1"]


@pytest.mark.parametrize(("edge_a", "known"), [(0.0, False), (1.0, False), (0.5, True), (2.5, True)])
def test_a_model_says_its_voxels_unless_its_image_had_none(edge_a, known, tmp_path):
    model = imodmodel.ImodModel.from_dataframe(pd.DataFrame({"x": [1.0], "y": [2.0], "z": [3.0]}))
    still = dict.fromkeys(("oscale", "otrans", "orot", "ctrans", "crot"), (0.0, 0.0, 0.0))
    model.minx = imodmodel.models.MINX(**still, cscale=(edge_a,) * 3)
    model.to_file(tmp_path / "a.mod")
    table = exchange_table(tmp_path / "a.mod")
    assert table[list("xyz")].astype(float).to_numpy().tolist() == [[0.5, 1.5, 3.0]]
    assert list(table.get("rlnMicrographPixelSize", [])) == ([repr(edge_a)] if known else [])


@pytest.mark.parametrize(("number", "fits"), [("1", True), ("3", True), ("0", False), ("4", False), ("1.5", False)])
def test_a_motive_list_names_points_from_1_to_the_last(number, fits, tmp_path, files):
    write_peet(tmp_path / "a.mod", np.arange(9.0).reshape(3, 3), np.zeros(3), np.ones(3))
    lines = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()][:2]
    lines[1][3] = number
    (tmp_path / "a.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    if fits:
        assert float(csv_table(tmp_path / "a.csv")["z"][0]) == 3 * (int(number) - 1)
    else:
        files.one_line(lambda: csv_table(tmp_path / "a.csv"), "does not fit the 3 points of a.mod")
