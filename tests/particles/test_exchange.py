"""Files of Dynamo, IMOD and EMAN2, written by the libraries that others write them with, where there are any."""

import json

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.base import class_indices
from cryo_fewshot.particles.exchange import write_dynamo
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import read_star_blocks, write_star

dynamotable, emfile, imodmodel = map(pytest.importorskip, ("dynamotable", "emfile", "imodmodel"))


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
    ("write", "name", "labels"),
    [
        (dynamo, "a.tbl", ["1", "2", "2"]),
        (imod, "a.mod", ["object 1", "object 2", "object 2"]),
        (eman, "TS_1_info.json", ["ribosome", "membrane", "membrane"]),
    ],
)
def test_coordinates_and_classes_of_other_programs(tmp_path, tomogram, array, files, write, name, labels):
    path = write(files, tmp_path / name)
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


def test_volumes_of_em_files(tmp_path, files):
    (tmp_path / "set").mkdir()
    for i in range(3):
        emfile.write(tmp_path / "set" / f"particle_{i}.em", files.noise(i))
        files.write(tmp_path / "same" / f"particle_{i}.mrc", seed=i)
    files.one_line(lambda: open_particles(tmp_path / "set"), "states no voxel size", "--voxel-size-nm")
    found = open_particles(tmp_path / "set", file_voxel_size_nm=1.0).read(range(3), 12, 1.0)[0]
    assert bool((found == open_particles(tmp_path / "same").read(range(3), 12, 1.0)[0]).all())


@pytest.mark.parametrize("name", ["a.tbl", "a.mod", "a.em", "a.hdf", "a_info.json"])
def test_damaged_files_are_one_line(name, tmp_path, tomogram, files):
    (tmp_path / name).write_bytes(b"boxes_3d 1 2 3\n4 x")
    given = {} if name in ("a.em", "a.hdf") else {"tomogram": tomogram}
    files.one_line(lambda: open_particles(tmp_path / name, **given), name)


def test_what_has_no_unit_or_no_coordinates_is_refused(tmp_path, tomogram, files):
    lost = eman(files, tmp_path / "a_info.json")
    info = json.loads(lost.read_text())
    del info["apix_unbin"]
    lost.write_text(json.dumps(info))
    files.one_line(lambda: open_particles(lost, tomogram=tomogram), "no apix_unbin")
    (tmp_path / "motl.csv").write_text("CCC,reserved,reserved,pIndex\n1,0,0,1\n")
    files.one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "motl.csv"), "PEET", ".mod")
    files.one_line(lambda: open_particles(dynamo(files, tmp_path / "a.tbl")), "--tomogram")


def hdf(path, *volumes, size_a=10.0):
    """As EMAN2 lays it out."""
    with pytest.importorskip("h5py").File(path, "w") as file:
        for i, volume in enumerate(volumes):
            group = file.create_group(f"MDF/images/{i}")
            group.create_dataset("image", data=volume, compression="gzip")
            group.attrs["EMAN.apix_x"] = size_a
    return path


def test_volumes_of_hdf_files(tmp_path, tomogram, array, files):
    stack = [files.noise(i) for i in range(11)]
    particles = open_particles(hdf(tmp_path / "stack.hdf", *stack))
    for i, volume in enumerate(stack):
        files.write(tmp_path / "same" / f"{i:02d}.mrc", volume)
    expected = open_particles(tmp_path / "same").read(range(11), 12, 1.0)[0]
    assert particles.voxel_size_nm == 1.0 and bool((particles.read(range(11), 12, 1.0)[0] == expected).all())
    single = open_particles(hdf(tmp_path / "one.hdf", stack[3]))
    assert bool((single.read([0], 12, 1.0)[0] == expected[3]).all())
    csv = files.csv_of(tmp_path / "a.csv")
    files.assert_cut(open_particles(hdf(tmp_path / "TS_1.hdf", array), coordinates=csv, box_nm=12), array)
    files.one_line(lambda: open_particles(hdf(tmp_path / "images.hdf", stack[0][0])), "images of {2} axes")
    files.one_line(lambda: open_particles(hdf(tmp_path / "no.hdf", stack[0], size_a=0.0)), "states no voxel size")
