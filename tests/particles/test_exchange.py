"""Files of Dynamo, IMOD and EMAN2, written by the libraries that others write them with, where there are any."""

import json

import dynamotable
import imodmodel
import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.base import class_indices
from cryo_fewshot.particles.exchange import MOTIVE_LIST, exchange_table, write_dynamo, write_peet
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import read_star_blocks, write_star

CENTRED = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]


def dynamo(files, path, **columns):
    """CENTRES as Dynamo counts, with a shift that is part of the position."""
    xyz = dict(zip("zyx", files.CENTRES.T, strict=True))
    moved = {axis: values + 1 - 2.0 for axis, values in xyz.items()} | {f"d{axis}": 2.0 for axis in "xyz"}
    dynamotable.write(pd.DataFrame({**moved, "class": [1, 2, 2], "tomo": 1, **columns}), str(path))
    return path


def imod(files, path):
    xyz = files.CENTRES[:, ::-1] + np.array([0.5, 0.5, 0])
    table = pd.DataFrame({"object_id": [0, 1, 1], "contour_id": 0, **dict(zip("xyz", xyz.T, strict=True))})
    imodmodel.write(table, path)
    return path


def eman(files, path, **changes):
    centred = 2 * (files.CENTRES - np.array(files.SHAPE) // 2)[:, ::-1]  # unbinned pixels of 0.5 nm
    boxes = [[*map(float, row), "manual", 0.0, number] for row, number in zip(centred, (0, 1, 1), strict=True)]
    names = {"0": {"name": "ribosome", "boxsize": 32}, "1": {"name": "membrane", "boxsize": 32}}
    path.write_text(json.dumps({"apix_unbin": 5.0, "boxes_3d": boxes, "class_list": names} | changes))
    return path


@pytest.mark.parametrize(
    ("write", "name", "labels", "columns"),
    [
        (dynamo, "a.tbl", ["1", "2", "2"], [*"xyz", "tomogram", "dynamoClass"]),
        (imod, "a.mod", ["object 1", "object 2", "object 2"], [*"xyz", "imodObject"]),
        (eman, "TS_1_info.json", ["ribosome", "membrane", "membrane"], [*CENTRED, "emanClass"]),
    ],
)
def test_coordinates_and_classes_of_other_programs(tmp_path, tomogram, array, files, write, name, labels, columns):
    path = write(files, tmp_path / name)
    assert list(exchange_table(path)) == columns
    for given in ((tomogram, {"coordinates": path}), (path, {"tomogram": tomogram})):
        particles = open_particles(given[0], box_nm=12, **given[1])
        files.assert_cut(particles, array)
        assert particles.labels == labels and len(class_indices(particles)) == 2
    write_star(tmp_path / "out.star", particles, rows=[0, 1, 2])
    table = read_star_blocks(tmp_path / "out.star")["particles"]
    assert {"rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateZAngst"} <= set(table)
    files.assert_cut(open_particles(tmp_path / "out.star", tomogram=tomogram, box_nm=12), array)


def test_tables_of_dynamo_name_their_tomograms_and_their_voxels(tmp_path, tomogram, array, files):
    path = dynamo(files, tmp_path / "a.tbl", tomo=[1, 1, 2])
    words = ("2 tomograms in tomogram (2 of 1, 1 of 2)", "a folder")
    files.one_line(lambda: open_particles(path, tomogram=tomogram), *words)
    (tmp_path / "indices_column20.doc").write_text(f"1 {tomogram}\n2 {tomogram}\n")
    files.assert_cut(open_particles(path, tomogram=tomogram, box_nm=12), array)
    coarser = files.write(tmp_path / "coarse" / tomogram.name, array, voxel_size_nm=2.0)
    stated = dynamo(files, tmp_path / "b.tbl", apix=10.0)
    particles = open_particles(stated, tomogram=coarser, box_nm=24)
    np.testing.assert_allclose(particles.source.centres, files.CENTRES / 2)
    first = open_particles(path, tomogram=tomogram, box_nm=12)
    write_dynamo(tmp_path / "c.tbl", first.source.centres, first.source.which + 1, np.array([1, 2, 2]))
    files.assert_cut(open_particles(tmp_path / "c.tbl", tomogram=tomogram, box_nm=12), array)


@pytest.mark.parametrize("name", ["a.tbl", "a.mod", "a_info.json"])
def test_damaged_files_are_one_line(name, tmp_path, tomogram, files):
    (tmp_path / name).write_bytes(b"boxes_3d 1 2 3\n4 x")
    files.one_line(lambda: open_particles(tmp_path / name, tomogram=tomogram), name)


def test_what_has_no_unit_or_no_coordinates_is_refused(tmp_path, tomogram, files):
    lost = tmp_path / "a_info.json"
    lost.write_text('{"boxes_3d": [], "class_list": {}}')
    files.one_line(lambda: open_particles(lost, tomogram=tomogram), "no apix_unbin")
    (tmp_path / "motl.csv").write_text("CCC,reserved,reserved,pIndex\n1,0,0,1\n")
    files.one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "motl.csv"), "PEET", ".mod")
    files.one_line(lambda: open_particles(dynamo(files, tmp_path / "a.tbl")), "--tomogram")


def test_motive_lists_of_peet_are_read_with_the_model_of_their_name_and_written(tmp_path, tomogram, array, files):
    centres, labels = files.CENTRES[[2, 0, 1]], np.array([3, 7, 7])
    write_peet(tmp_path / "a.mod", centres, np.array([0.5, 0.25, np.nan]), labels)
    rows = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["CCC", "0.5", "0.25", "0"] and rows[0] == list(MOTIVE_LIST)
    # as PEET leaves it: rows of some points, in another order, with a shift, and its name behind the header
    shifted = [[*rows[i][:10], "1", "0", "-2", *rows[i][13:]] for i in (2, 3, 1)]
    lines = [[*rows[0], "CREATED WITH PEET Version 1.16"], *shifted]
    write_peet(tmp_path / "a.mod", centres - np.array([-2, 0, 1]), np.zeros(3), labels)
    (tmp_path / "a.csv").write_text("\n".join(",".join(line) for line in lines) + "\n")
    particles = open_particles(tomogram, coordinates=tmp_path / "a.csv", box_nm=12)
    files.assert_cut(particles, array)
    assert particles.labels == ["7", "7", "3"] and particles.label_column == "peetClass"
    assert list(particles.table) == ["x", "y", "z", "imodObject", "peetClass"]
    lines[1][3] = "9"
    (tmp_path / "a.csv").write_text("\n".join(",".join(line) for line in lines) + "\n")
    said = "does not fit the 3 points of a.mod"
    files.one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "a.csv"), said)
    (tmp_path / "a.mod").unlink()
    files.one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "a.csv"), "a.mod is not beside it")


def test_models_say_on_which_voxels_they_were_drawn(tmp_path, tomogram, array, files):
    xyz = 2 * files.CENTRES[:, ::-1] + np.array([0.5, 0.5, 0])
    model = imodmodel.ImodModel.from_dataframe(pd.DataFrame(xyz, columns=list("xyz")))
    still = dict.fromkeys(("oscale", "otrans", "orot", "ctrans", "crot"), (0.0, 0.0, 0.0))
    model.minx = imodmodel.models.MINX(**still, cscale=(5.0, 5.0, 5.0))
    model.to_file(tmp_path / "a.mod")
    files.assert_cut(open_particles(tomogram, coordinates=tmp_path / "a.mod", box_nm=12), array)
    content = bytearray((tmp_path / "a.mod").read_bytes())
    content[8 + 128 + 16 + 1] |= 1  # bit 16 of the flags, big-endian
    (tmp_path / "a.mod").write_bytes(content)
    files.one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "a.mod"), "y and z exchanged", "imodtrans")


def test_written_coordinates_are_relions_and_those_that_artiax_reads(tmp_path, tomogram, array, files):
    """ArtiaX reads rlnCoordinateX, Y, Z alone, as voxels of the tomogram that is shown."""
    csv = open_particles(tomogram, coordinates=files.csv_of(tmp_path / "c.csv"), box_nm=12)
    write_star(tmp_path / "a.star", csv)
    columns = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    rows = read_star_blocks(tmp_path / "a.star")["particles"][columns].astype(float).to_numpy()
    files.star_of(tmp_path / "r5.star", columns, rows)  # RELION 5 writes no others
    shift = np.full_like(rows, [10.0, -20.0, 30.0])  # of a refinement, which all programs subtract
    shifted = [*columns, *(f"rlnOrigin{axis}Angst" for axis in "XYZ")]
    files.star_of(tmp_path / "shifted.star", shifted, np.hstack([rows + shift, shift]))
    for name, out in (("r5.star", "b.star"), ("shifted.star", "c.star")):
        write_star(tmp_path / out, open_particles(tmp_path / name, tomogram=tomogram, box_nm=12))
    for name, by in (("a.star", 0), ("b.star", 0), ("c.star", shift / 10)):
        table = read_star_blocks(tmp_path / name)["particles"]
        xyz = table[[f"rlnCoordinate{axis}" for axis in "XYZ"]].astype(float).to_numpy()
        np.testing.assert_allclose(xyz - by, files.CENTRES[:, ::-1])
        again = open_particles(tmp_path / name, tomogram=tomogram, box_nm=12)
        files.assert_cut(again, array)


@pytest.mark.parametrize(
    ("header", "row"), [("x,y,z,", "{},"), ("", "0,{}"), (",x,y,z", "5,{}"), ('"x","y","z","of, all"', '{},"a, b"')]
)
def test_columns_without_a_name_or_with_a_separator_in_it_are_left_alone(header, row, tmp_path, tomogram, array, files):
    lines = [header or "number,x,y,z", *(row.format(",".join(map(str, c[::-1]))) for c in files.CENTRES)]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    files.assert_cut(open_particles(tomogram, coordinates=tmp_path / "a.csv", box_nm=12), array)
