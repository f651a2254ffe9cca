"""Boxes cut from tomograms about coordinates of every kind."""

import copy
import json
import tracemalloc

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.base import duplicates
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import write_star

mrcfile = pytest.importorskip("mrcfile")
pytest.importorskip("starfile")

SHAPE = (30, 44, 52)
CENTRES = np.array([[14, 20, 25], [12, 30, 16], [2, 20, 25]])  # zyx; the box of the last reaches out


@pytest.fixture
def array():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def tomogram(tmp_path, array):
    path = tmp_path / "TS_1_10.00Apx.mrc"
    mrcfile.write(path, array, voxel_size=10)
    return path


def csv(path, names="x,y,z", rows=CENTRES[:, ::-1], labels="aab"):
    lines = [",".join(map(str, [*row, label])) for row, label in zip(rows, labels, strict=True)]
    path.write_text(f"{names},kind\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def star(path, columns, rows, tomogram="TS_1"):
    header = "_rlnTomoName\n" + "".join(f"_{column}\n" for column in columns)
    body = "".join(" ".join(map(str, [tomogram, *row])) + "\n" for row in rows)
    path.write_text(f"data_particles\n\nloop_\n{header}{body}\n")
    return path


def standardised(array, centre, box=12):
    piece = array[tuple(slice(c - box // 2, c + box // 2) for c in centre)].astype(np.float64)
    return torch.from_numpy((piece - piece.mean()) / piece.std()).float()


def one_line(call, *words):
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def assert_cut(particles, array):
    volumes, rejected = particles.read(range(3), 12, 1.0)
    for volume, centre in zip(volumes[:2], CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [2] and "reaches out of the tomogram" in rejected[2] and "pad_edges" in rejected[2]


def test_a_csv_in_voxels_or_nm(tomogram, tmp_path, array):
    particles = open_particles(csv(tmp_path / "é.csv"), tomogram=tomogram, box_nm=12, label_column="kind")
    assert_cut(particles, array)
    assert particles.labels == list("aab") and particles.box == 12 and particles.voxel_size_nm == 1.0
    other_way = open_particles(tomogram, coordinates=tmp_path / "é.csv", box_nm=12)
    assert_cut(copy.deepcopy(other_way.without_table()), array)
    assert_cut(open_particles(csv(tmp_path / "nm.csv", "x_nm,y_nm,z_nm"), tomogram=tomogram, box_nm=12), array)
    assert duplicates(particles, other_way) == [(i, i) for i in range(3)]
    shuffled = open_particles(csv(tmp_path / "b.csv", rows=CENTRES[[2, 0], ::-1], labels="ab"), tomogram=tomogram)
    assert duplicates(particles, shuffled) == [(2, 0), (0, 1)]


def test_star_files_of_every_convention(tomogram, tmp_path, array):
    xyz = CENTRES[:, ::-1]
    plain = star(tmp_path / "a.star", [f"rlnCoordinate{c}" for c in "XYZ"], xyz)
    assert_cut(open_particles(plain, tomogram=tomogram, box_nm=12), array)
    unbinned = star(tmp_path / "b.star", [f"rlnCoordinate{c}" for c in "XYZ"], xyz * 8)
    one_line(lambda: open_particles(unbinned, tomogram=tomogram), "no coordinate lies in", "coordinate_voxel_size_nm")
    assert_cut(open_particles(unbinned, tomogram=tomogram, box_nm=12, coordinate_voxel_size_nm=0.125), array)
    centred = (xyz - np.array(SHAPE)[::-1] // 2) * 10.0
    relion5 = star(tmp_path / "c.star", [f"rlnCenteredCoordinate{c}Angst" for c in "XYZ"], centred)
    assert_cut(open_particles(relion5, tomogram=tomogram, box_nm=12), array)
    columns = [f"rlnCoordinate{c}" for c in "XYZ"] + [f"rlnOrigin{c}Angst" for c in "XYZ"]
    shifted = star(
        tmp_path / "d.star", columns, np.hstack([xyz + np.array([1, -2, 3]), np.full((3, 3), [10.0, -20.0, 30.0])])
    )
    assert_cut(open_particles(shifted, tomogram=tomogram, box_nm=12), array)
    write_star(tmp_path / "out.star", open_particles(shifted, tomogram=tomogram))
    assert_cut(open_particles(tmp_path / "out.star", tomogram=tomogram, box_nm=12), array)


def test_a_folder_of_tomograms(tomogram, tmp_path, array):
    mrcfile.write(tmp_path / "TS_10_10.00Apx.mrc", -array, voxel_size=10)
    columns = [f"rlnCoordinate{c}" for c in "XYZ"]
    path = star(tmp_path / "a.star", columns, CENTRES[:, ::-1])
    path.write_text(path.read_text().replace("TS_1 16", "TS_10.tomostar 16"))
    volumes, _ = open_particles(path, tomogram=tmp_path, box_nm=12).read(range(2), 12, 1.0)
    torch.testing.assert_close(volumes[0], standardised(array, CENTRES[0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(volumes[1], standardised(-array, CENTRES[1]), atol=1e-4, rtol=0)
    one_line(lambda: open_particles(path, tomogram=tomogram), "2 tomograms", "a folder")
    absent = star(tmp_path / "b.star", columns, CENTRES[:, ::-1], "TS_2")
    one_line(lambda: open_particles(absent, tomogram=tmp_path), "none there begins with TS_2")


def test_edges_are_filled_on_request(tomogram, tmp_path, array):
    particles = open_particles(csv(tmp_path / "a.csv"), tomogram=tomogram, box_nm=12, pad_edges=True)
    (volume,), rejected = particles.read([2], 12, 1.0)
    assert not rejected and volume[:4].abs().max() < 1e-5
    inside = torch.from_numpy(array[:8, 14:26, 19:31])
    assert np.corrcoef(volume[4:].flatten(), inside.flatten())[0, 1] > 0.9999


def test_boxes_are_resampled(tomogram, tmp_path):
    particles = open_particles(csv(tmp_path / "a.csv"), tomogram=tomogram, box_nm=20)
    volumes, rejected = particles.read([0], 10, 2.0)
    assert volumes.shape == (1, 10, 10, 10) and not rejected and particles.box == 20


def test_only_the_boxes_are_read(tmp_path):
    """A tomogram of 4 GB that is a hole on disk: opened and read within a few MB."""
    path = tmp_path / "large.mrc"
    mrcfile.write(path, np.zeros((2, 1024, 1024), np.float32), voxel_size=10)
    content = bytearray(path.read_bytes()[:1024])
    content[8:12] = content[36:40] = (1000).to_bytes(4, "little")  # nz and mz
    content[48:52] = np.float32(10000).tobytes()  # and the length of z in angstrom
    noise = np.random.default_rng(0).normal(size=(8, 1024, 1024)).astype(np.float32)
    with open(path, "wb") as file:
        file.write(content)
        file.seek(1024 + 496 * 4 * 1024**2)
        file.write(noise.tobytes())
        file.truncate(1024 + 1000 * 4 * 1024**2)
    coordinates = csv(tmp_path / "a.csv", rows=[[500, 500, 500]], labels="a")
    tracemalloc.start()
    (volume,), rejected = open_particles(coordinates, tomogram=path, box_nm=8).read([0], 8, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not rejected and peak < 20e6
    torch.testing.assert_close(volume, standardised(noise, (4, 500, 500), 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("leading", [0, 2])
@pytest.mark.parametrize("unit", ["angstrom", "nanometer"])
def test_ome_zarr(tmp_path, array, leading, unit):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "tömogram.zarr"
    group = zarr.open_group(str(path), mode="w")
    shape = (1,) * leading + SHAPE
    create = getattr(group, "create_array", None) or group.create_dataset  # zarr 2 and 3
    level = create("0", shape=shape, chunks=(1,) * leading + (16, 16, 16), dtype="float32")
    level[...] = array.reshape(shape)
    axes = [{"name": n} for n in "tc"[:leading]] + [{"name": n, "type": "space", "unit": unit} for n in "zyx"]
    scale = [1.0] * leading + [{"angstrom": 10.0, "nanometer": 1.0}[unit]] * 3
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    image = [{"axes": axes, "datasets": [dataset]}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": image}} if leading else {"multiscales": image})
    particles = open_particles(csv(tmp_path / "a.csv"), tomogram=path, box_nm=12)
    assert_cut(copy.deepcopy(particles.without_table()), array)
    for chunk in sorted(p for p in (path / "0").rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray")):
        chunk.write_bytes(b"damaged")
    _, rejected = particles.read([0], 12, 1.0)
    assert "cannot be read" in rejected[0] and "\n" not in rejected[0]
    group.attrs.put({})
    one_line(lambda: open_particles(tmp_path / "a.csv", tomogram=path), "not an OME-Zarr image", "write it again")


def test_a_project_that_copick_wrote(tmp_path, array):
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
    for name, centres in (("ribosome", CENTRES[:2]), ("proteasome", CENTRES[2:])):
        picks = run.new_picks(name, session_id="1", user_id="me")
        # Angstrom, of the middle of voxels of 1 nm counted from 0, as copick has it
        picks.points = [CopickPoint(location=dict(zip("xyz", map(float, c[::-1] * 10), strict=True))) for c in centres]
        picks.store()
    one_line(lambda: open_particles(path, tomogram="wbp@10.0"), "TS_1", "has no tomogram wbp@10.0")
    run.new_voxel_spacing(10.0).new_tomogram("wbp").from_numpy(array)
    particles = open_particles(path, tomogram="wbp@10.0", box_nm=12, label_column="copickObject")
    assert sorted(particles.labels) == ["proteasome", "ribosome", "ribosome"]
    order = sorted(range(3), key=lambda i: particles.labels[i] == "proteasome")
    volumes, rejected = particles.read(order, 12, 1.0)
    for volume, centre in zip(volumes[:2], CENTRES[:2], strict=True):
        torch.testing.assert_close(volume, standardised(array, centre), atol=1e-4, rtol=0)
    assert list(rejected) == [order[2]]
    one_line(lambda: open_particles(path, tomogram="wbp"), "as in wbp@10.0")


def test_bad_tomograms_and_coordinates_are_one_line(tomogram, tmp_path, array):
    good = csv(tmp_path / "a.csv")
    one_line(lambda: open_particles(good, tomogram=tmp_path / "absent.mrc"), "absent.mrc", "no such tomogram")
    one_line(lambda: open_particles(tomogram, coordinates=tmp_path / "absent.csv"), "absent.csv", "cannot be read")
    one_line(lambda: open_particles(good, tomogram=good), "a.csv", "not a tomogram")
    mrcfile.write(tmp_path / "no_size.mrc", array)
    one_line(lambda: open_particles(good, tomogram=tmp_path / "no_size.mrc"), "voxel size 0", "file_voxel_size_nm")
    assert_cut(open_particles(good, tomogram=tmp_path / "no_size.mrc", file_voxel_size_nm=1.0, box_nm=12), array)
    one_line(lambda: open_particles(csv(tmp_path / "b.csv", "a,b,c"), tomogram=tomogram), "x, y, z in voxels")
    (tmp_path / "c.csv").write_text("x,y,z\n")
    one_line(lambda: open_particles(tmp_path / "c.csv", tomogram=tomogram), "c.csv", "lists no particles")
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00x,y\n1")
    one_line(lambda: open_particles(tmp_path / "c.csv", tomogram=tomogram), "c.csv", "not a csv in UTF-8")
    rows = [[25, 20, 14], ["far", 20, 14], [25, 900, 14]]
    _, rejected = open_particles(csv(tmp_path / "d.csv", rows=rows), tomogram=tomogram, box_nm=12).read(range(3))
    assert sorted(rejected) == [1, 2]
    assert "d.csv:2" in rejected[1] and "not a number" in rejected[1] and "lie outside TS_1" in rejected[2]
    constant = array.copy()
    constant[:, :, :40] = 3
    mrcfile.write(tomogram, constant, voxel_size=10, overwrite=True)
    _, rejected = open_particles(good, tomogram=tomogram, box_nm=12).read([0])
    assert "every voxel is 3" in rejected[0]
    (tmp_path / "p.json").write_text("{}")
    one_line(lambda: open_particles(tmp_path / "p.json", tomogram="wbp"), "p", "copick")
