"""STAR files as texts: what is read, and what is written back."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import starfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import check_optics_groups, numbers, read_star_blocks, table_with, texts, write_star


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_windows_line_ends_and_byte_order_marks(project, ending, mark):
    project.write_bytes(mark + project.read_bytes().replace(b"\n", ending))
    particles = open_particles(project)
    assert particles.labels == ["1", "2"] * 3 and not particles.read(range(6))[1]


def test_a_star_file_is_written_with_every_column_and_block(project, tmp_path):
    particles = open_particles(project)
    share = np.random.default_rng(0).random(6)
    columns = pd.DataFrame({"fewshotClass": ["70S ribosome", "", "x", "y", "z", "005"], "fewshotShare": share})
    out = tmp_path / "out" / "résultat.star"
    write_star(out, particles, columns)
    before = starfile.read(project, always_dict=True)
    after = starfile.read(out, always_dict=True)
    assert list(after) == ["general", "optics", "particles"]
    assert after["general"] == before["general"] and after["optics"].equals(before["optics"])
    assert after["particles"][list(before["particles"])].equals(before["particles"])
    assert list(after["particles"])[-2:] == ["fewshotClass", "fewshotShare"]
    np.testing.assert_array_equal(after["particles"]["fewshotShare"], share)
    texts = read_star_blocks(out)["particles"]
    assert texts["rlnTomoName"].tolist() == ["000", "001"] * 3 and set(texts["rlnCoordinateX"]) == {"1.50"}
    assert texts["fewshotClass"].tolist() == columns["fewshotClass"].tolist()
    # Written again over its own result, in part: columns are replaced, not doubled.
    part = tmp_path / "out" / "part.star"
    again = open_particles(out, root=project.parents[2])
    write_star(part, again, pd.DataFrame({"fewshotClass": ["new", "newer"]}), rows=[4, 1])
    table = read_star_blocks(part)["particles"]
    assert table["fewshotClass"].tolist() == ["new", "newer"] and table["myNote"].tolist() == ["a b 4", "a b 1"]
    assert list(table) == list(texts)


def test_particles_without_a_table_get_one_that_is_read_back(tmp_path, files):
    for i in range(3):
        files.write(tmp_path / f"p {i}.mrc", seed=i, voxel_size_nm=1.23456789)
    particles = open_particles(tmp_path)
    write_star(tmp_path / "out.star", particles, pd.DataFrame({"share": [0.1, np.nan, 1e-9]}))
    back = open_particles(tmp_path / "out.star")
    assert read_star_blocks(tmp_path / "out.star")["optics"].iloc[0].to_dict() == {
        **{"rlnOpticsGroup": "1", "rlnOpticsGroupName": "opticsGroup1", "rlnImageDimensionality": "3"},
        **{"rlnImageSize": "12", "rlnImagePixelSize": "12.34568"},
    }
    torch.testing.assert_close(back.read(range(3))[0], particles.read(range(3))[0], atol=1e-4, rtol=0)
    share = starfile.read(tmp_path / "out.star")["particles"]["share"]
    np.testing.assert_array_equal(share, [0.1, np.nan, 1e-9])


def test_a_star_file_that_cannot_be_written_leaves_the_old_one(project, tmp_path, files):
    particles = open_particles(project)
    files.one_line(lambda: write_star(tmp_path / "x.star", particles, pd.DataFrame({"a": [1]})), "1 values of a for 6")
    (tmp_path / "blocked").write_text("a file")
    files.one_line(lambda: write_star(tmp_path / "blocked" / "x.star", particles), "x.star", "cannot be written")


NAMES = st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1, max_size=8)
ODD = ["", "5'-cap", "o'brien x", 'a "b', "lamella#2/q 1", *"nan <NA> #2 _junk data_2/q.mrc loop_ ' \"".split()]
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8) | st.sampled_from(ODD)
TABLES = st.lists(NAMES, min_size=1, max_size=4, unique=True).flatmap(
    lambda columns: st.lists(st.tuples(*[VALUES | st.just(np.nan)] * len(columns)), max_size=4).map(
        lambda rows: pd.DataFrame(rows, columns=columns, dtype=object)
    )
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=TABLES, values=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3))
def test_what_is_written_is_read_back(tmp_path, table, values):
    particles = SimpleNamespace(
        names=table.index, table=table, blocks={"general": values, "particles": table}, block_name="particles"
    )
    try:
        write_star(tmp_path / "a.star", particles)
    except UserError as error:  # of a value with both quotes, each before a blank
        assert "has both quotes" in str(error) and '"' in str(error) and "'" in str(error)
        return
    blocks = read_star_blocks(tmp_path / "a.star")
    assert list(blocks) == ["general", "particles"] and blocks["general"] == values
    pd.testing.assert_frame_equal(blocks["particles"].astype(object), table, check_dtype=False, check_column_type=False)


def test_rows_that_other_programs_write(tmp_path, files):
    path = tmp_path / "a.star"
    header = "# version 50001\n\ndata_general # first\n\n_rlnKind  2\n\ndata_\n\nloop_ \n_rlnImageName #1\n_note #2 \n"
    rows = ["lamella#2/q.mrc 1 # comment", "o'brien/q.mrc 'a b'", "data_2/q.mrc nan", '_q.mrc "5\'-cap"', '\'x.mrc ""']
    path.write_text(header + "\n".join(rows) + "\n\n")
    blocks = read_star_blocks(path)
    assert list(blocks) == ["general", ""] and blocks["general"] == {"rlnKind": "2"}
    expected = ["lamella#2/q.mrc", "o'brien/q.mrc", "data_2/q.mrc", "_q.mrc", "'x.mrc"]
    assert blocks[""]["rlnImageName"].tolist() == expected
    assert blocks[""]["note"].fillna("missing").tolist() == ["1", "a b", "missing", "5'-cap", ""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_\nloop_\n_a\n_b\n1 2\n3\n", "line 6: 1 values for 2 columns"),
        ("data_x\nloop_\n_a\nq.mrc\ndata_2/q.mrc\n", "nothing in block data_2/q.mrc"),
        ("data_x\n_a 1\ndata_x\n_a 2\n", "a second block data_x"),
        ("data_x\n_a 1\nloop_\n_b\n2\n", "a loop_ after other content"),
        ("data_x\n_a 1 2\n", "2 values of _a"),
    ],
)
def test_what_would_lose_rows_is_refused(tmp_path, files, text, words):
    (tmp_path / "a.star").write_text(text)
    files.one_line(lambda: read_star_blocks(tmp_path / "a.star"), words, "not a STAR file", "export it again")


GROUPS = {
    "optics": pd.DataFrame({"rlnOpticsGroup": ["1.0", "2"], "rlnVoltage": ["300", "200"]}),
    "particles": pd.DataFrame({"rlnOpticsGroup": ["2", "1", "2.0"], "own": ["x", "7", np.nan]}),
}


def test_a_column_is_the_tables_own_or_that_of_its_optics_groups():
    assert texts(GROUPS, "particles", "own")[:2] == ["x", "7"]
    assert texts(GROUPS, "particles", "rlnVoltage") == ["200", "300", "200"]
    assert numbers(GROUPS, "particles", "rlnVoltage").tolist() == [200, 300, 200]
    np.testing.assert_array_equal(numbers(GROUPS, "particles", "own"), [np.nan, 7, np.nan])
    assert texts(GROUPS, "particles", "absent") is numbers(GROUPS, "particles", "absent") is None
    assert texts({"particles": GROUPS["particles"]}, "particles", "rlnVoltage") is None
    single = {"optics": {"rlnVoltage": "300"}, "particles": GROUPS["particles"]}
    assert texts(single, "particles", "rlnVoltage") == ["300"] * 3
    without = {**GROUPS, "particles": GROUPS["particles"][["own"]]}
    assert texts(without, "particles", "rlnVoltage") is None, "two groups, and nothing says whose"


@pytest.mark.parametrize(
    ("optics", "table", "said"),
    [
        ({"rlnOpticsGroup": ["1", "2"]}, {"rlnOpticsGroup": ["1", "2"]}, ""),
        ({"rlnOpticsGroup": ["1"]}, {"own": ["x"]}, ""),
        ({"rlnVoltage": ["300", "200"]}, {"rlnOpticsGroup": ["1"]}, "2 optics groups, but nothing says which row"),
        ({"rlnOpticsGroup": ["1", "1.0"]}, {"rlnOpticsGroup": ["1"]}, "optics group 1 appears twice"),
        ({"rlnOpticsGroup": ["1"]}, {"rlnOpticsGroup": ["1", "3", "3"]}, "optics group 3, of 2 rows, is not in"),
        ({"rlnOpticsGroup": ["1"], "a": ["10"]}, {"rlnOpticsGroup": ["1"] * 2, "a": ["10", "10.009"]}, ""),
        (
            {"rlnOpticsGroup": ["1"], "a": ["10"]},
            {"rlnOpticsGroup": ["1"] * 3, "a": ["10", "9.98", "11"]},
            "a of row 2 is 9.98, of its optics group 10 (2 rows)",
        ),
    ],
)
def test_both_tables_say_the_same_of_every_row(files, optics, table, said):
    blocks = {"optics": pd.DataFrame(optics), "particles": pd.DataFrame(table)}
    if said:
        files.one_line(lambda: check_optics_groups(blocks, "particles", "p.star"), f"p.star: {said}")
    else:
        check_optics_groups(blocks, "particles", "p.star")


def test_the_first_table_with_a_column_is_meant(files):
    blocks = {"a": {"x": "1"}, "b": pd.DataFrame({"y": ["2"]}), "c": pd.DataFrame({"z": []})}
    assert table_with(blocks, "p.star", ["y", "x"], "give one") == "a"
    assert blocks["a"]["x"].tolist() == ["1"]
    assert table_with(blocks, "p.star", ["y"], "give one") == "b"
    files.one_line(lambda: table_with(blocks, "p.star", ["z"], "give one"), "p.star: lists no particles")
    files.one_line(lambda: table_with(blocks, "p.star", ["v", "w"], "give one"), "no column v or w in it; give one")
