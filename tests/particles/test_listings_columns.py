"""Classes, voxel sizes and kinds that the columns of a table tell, and the volumes of a stack."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.listings import _lists_images, column_labels, open_stack, stated_nm
from cryo_fewshot.particles.opening import open_particles

pytest.importorskip("mrcfile")
HERE = Path("p.star")


def test_a_stack_lists_its_volumes_from_one_and_a_file_of_one_itself(tmp_path, files):
    files.write(tmp_path / "s.mrcs", np.stack([files.noise(i) for i in range(3)]))
    assert open_stack(tmp_path / "s.mrcs", None).names == ["1@s.mrcs", "2@s.mrcs", "3@s.mrcs"]
    assert open_stack(files.write(tmp_path / "one.mrc"), None).names == ["one.mrc"]


@pytest.mark.parametrize(
    ("shape", "nm", "given", "refused"),
    [
        ((12, 12, 12), 1.0, None, False),
        ((12, 12, 12), 9.0, 20.0, True),
        ((24, 24, 24), 9.0, None, True),
        ((20, 20, 20), 1.0, 10.0, False),
        ((20, 20, 20), 9.9, None, False),
        ((21, 21, 21), 9.9, None, True),
        ((24, 24, 24), 9.0, 1.0, False),
        ((12, 12, 14), 1.0, None, True),
    ],
)
def test_a_wide_cube_and_what_is_no_cube_are_tomograms(tmp_path, files, shape, nm, given, refused):
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = files.write(tmp_path / "t.mrc", volume, voxel_size_nm=nm)
    if refused:
        files.one_line(lambda: open_stack(path, given), "apparently a tomogram", " x ".join(map(str, shape)))
    else:
        assert len(open_stack(path, given)) == 1


def test_the_first_column_with_several_classes_counts():
    table = pd.DataFrame({"rlnClassNumber": ["1", "2.0", "2"], "rlnClassName": ["a", "a", np.nan], "mine": list("xyy")})
    assert column_labels(table, HERE, None) == (["1", "2", "2"], "rlnClassNumber")
    assert column_labels(table, HERE, "mine") == (list("xyy"), "mine")
    assert column_labels(table[["rlnClassName"]], HERE, None) == (["a", "a", None], "rlnClassName")
    assert column_labels(table.assign(rlnClassName=list("abb")), HERE, None)[1] == "rlnClassName"
    assert column_labels(table[["mine"]], HERE, None) == (None, None)


def test_of_the_classes_of_a_run_those_that_it_accepted_count():
    table = pd.DataFrame({"fewshotClass": list("aab"), "fewshotAccepted": ["1", "0", "1"], "other": list("xyz")})
    assert column_labels(table, HERE, "fewshotClass")[0] == ["a", None, "b"]
    assert column_labels(table, HERE, "other")[0] == list("xyz")
    assert column_labels(table[["fewshotClass"]], HERE, "fewshotClass")[0] == list("aab")
    for other in ("2", "-1", "x", "1.0"):  # accepted is 1, whoever wrote it
        labels = column_labels(table.assign(fewshotAccepted=["1", other, "1"]), HERE, "fewshotClass")[0]
        assert labels == ["a", "a" if other == "1.0" else None, "b"]


@pytest.mark.parametrize(
    ("columns", "nm"),
    [
        ({"rlnImagePixelSize": "12", "rlnPixelSize": "20"}, 1.2),
        ({"rlnPixelSize": "20"}, 2.0),
        ({"rlnDetectorPixelSize": "5", "rlnMagnification": "25000"}, 0.2),
        ({"rlnTomoTiltSeriesPixelSize": "2.5", "rlnTomoSubtomogramBinning": "4"}, 1.0),
        ({"rlnDetectorPixelSize": "5"}, None),
        ({"rlnTomoTiltSeriesPixelSize": "2.5"}, None),
        ({"rlnTomoSubtomogramBinning": "4", "rlnMagnification": "25000"}, None),
    ],
)
def test_voxel_sizes_that_columns_state(columns, nm):
    found = stated_nm({"particles": pd.DataFrame([columns] * 2)}, "particles")
    assert found is None if nm is None else found.tolist() == pytest.approx([nm, nm])


@pytest.mark.parametrize(
    ("block", "images"),
    [
        ({"rlnTomoSubTomosAre2DStacks": "1"}, True),
        ({"rlnTomoSubTomosAre2DStacks": "0"}, False),
        ({"rlnTomoSubTomosAre2DStacks": "2"}, False),
        (pd.DataFrame({"rlnImageDimensionality": ["3", "2"]}), True),
        (pd.DataFrame({"rlnImageDimensionality": ["3", "3"]}), False),
        ({"other": "1"}, False),
    ],
)
def test_stacks_of_images_are_told_by_a_flag_or_their_dimension(block, images):
    assert _lists_images({"general": {"x": "1"}, "optics": block}) is images


def test_other_blocks_of_particles_and_other_boxes_are_said(tmp_path, files):
    for i, box in enumerate((12, 12, 14)):
        files.write(tmp_path / f"{i}.mrc", box=box, seed=i)
    blocks = [files.table(name, ["rlnImageName", "rlnOpticsGroup"], [("0.mrc", 1), ("1.mrc", 1)]) for name in "ab"]
    (tmp_path / "p.star").write_text("".join(blocks) + files.table("c", ["rlnKind"], [("x",), ("y",)]))
    said = [note for note in open_particles(tmp_path / "p.star").notes if "ignored" in note or "kinds of box" in note]
    assert said == [f"{tmp_path / 'p.star'}: block data_b lists particles as well and is ignored"]
    optics = files.optics_table((1, 10.0, 3), (2, 10.0, 3))
    rows = [("0.mrc", 1), ("1.mrc", 1), ("2.mrc", 2)]
    two = files.star_of(tmp_path / "q.star", ["rlnImageName", "rlnOpticsGroup"], rows, optics)
    assert any("2 kinds of box or voxel size, all resampled" in note for note in open_particles(two).notes)
