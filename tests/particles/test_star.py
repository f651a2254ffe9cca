"""STAR files as texts: what is read, and what is written back."""

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import read_star_blocks, write_star

pytest.importorskip("mrcfile")
starfile = pytest.importorskip("starfile")


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
        files.write(tmp_path / f"p {i}.mrc", seed=i, voxel_size_nm=1.37)
    particles = open_particles(tmp_path)
    write_star(tmp_path / "out.star", particles, pd.DataFrame({"share": [0.1, np.nan, 1e-9]}))
    back = open_particles(tmp_path / "out.star")
    assert back.voxel_size_nm == pytest.approx(1.37)
    torch.testing.assert_close(back.read(range(3))[0], particles.read(range(3))[0], atol=1e-4, rtol=0)
    share = starfile.read(tmp_path / "out.star")["particles"]["share"]
    np.testing.assert_array_equal(share, [0.1, np.nan, 1e-9])


def test_a_star_file_that_cannot_be_written_leaves_the_old_one(project, tmp_path, files):
    particles = open_particles(project)
    files.one_line(lambda: write_star(tmp_path / "x.star", particles, pd.DataFrame({"a": [1]})), "1 values of a for 6")
    (tmp_path / "blocked").write_text("a file")
    files.one_line(lambda: write_star(tmp_path / "blocked" / "x.star", particles), "x.star", "cannot be written")
