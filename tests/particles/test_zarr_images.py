"""OME-Zarr images, 0.4 and 0.5: voxel size, axes, and what damages them."""

import copy

import pytest

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.zarr_images import zarr_image

HEADERS = ("zarr.json", ".zarray")


def scaled(*scales):
    return [{"type": "scale", "scale": list(scale)} for scale in scales]


@pytest.mark.parametrize("leading", [0, 2])
@pytest.mark.parametrize("unit", ["angstrom", "nanometer"])
def test_ome_zarr(tmp_path, array, leading, unit, files):
    path = tmp_path / "tömogram.zarr"
    scale = [1.0] * leading + [{"angstrom": 10.0, "nanometer": 1.0}[unit]] * 3
    level = {"path": "0", "coordinateTransformations": scaled(scale)}
    group = files.zarr_of(path, array, unit, leading, datasets=[level])
    particles = open_particles(files.csv_of(tmp_path / "a.csv"), tomogram=path, box_nm=12)
    files.assert_cut(copy.deepcopy(particles.without_table()), array)
    for chunk in sorted(p for p in (path / "0").rglob("*") if p.is_file() and p.name not in HEADERS):
        chunk.write_bytes(b"damaged")
    _, rejected = particles.read([0], 12, 1.0)
    assert "cannot be read" in rejected[0] and "\n" not in rejected[0]
    group.attrs.put({})
    files.one_line(lambda: open_particles(tmp_path / "a.csv", tomogram=path), "not an OME-Zarr image", "write it again")


@pytest.mark.parametrize(("of_level", "of_image"), [(1.0, 10.0), (5.0, 2.0), (None, 10.0), (10.0, None)])
@pytest.mark.parametrize("leading", [0, 1])
def test_a_scale_may_be_split_between_the_level_and_the_image(tmp_path, array, of_level, of_image, leading, files):
    steps = [scaled([1.0] * leading + [a] * 3) if a else [{"type": "identity"}] for a in (of_level, of_image)]
    dataset = {"path": "0", "coordinateTransformations": steps[0]}
    files.zarr_of(tmp_path / "t.zarr", array, leading=leading, datasets=[dataset], coordinateTransformations=steps[1])
    nm = files.csv_of(tmp_path / "nm.csv", "x_nm,y_nm,z_nm")
    particles = open_particles(nm, tomogram=tmp_path / "t.zarr", box_nm=12)
    assert particles.voxel_size_nm == pytest.approx(1.0) and particles.box == 12
    files.assert_cut(particles, array)


def test_what_is_said_and_read_of_an_image(tmp_path, array, files):
    """The finest level, whatever its place; chunks that are missing, further images, a translation."""
    steps = [*scaled([10.0] * 3), {"type": "translation", "translation": [0.0, 5.0, 0.0]}]
    levels = [{"path": name, "coordinateTransformations": steps} for name in ("1", "0")]
    group = files.zarr_of(tmp_path / "t.zarr", array, datasets=levels)
    create = getattr(group, "create_array", None) or group.create_dataset
    create("1", shape=(15, 22, 26), chunks=(15, 22, 26), dtype="float32")[...] = 1
    image = group.attrs["multiscales"][0]
    group.attrs["multiscales"] = [image, image, image]
    chunks = sorted(p for p in (tmp_path / "t.zarr" / "0").rglob("*") if p.is_file() and p.name not in HEADERS)
    chunks[0].unlink()
    level, shape, nm, remarks = zarr_image(tmp_path / "t.zarr")
    assert level == "0" and shape == array.shape and nm == pytest.approx(1.0)
    said = " ".join(remarks)
    assert "a translation, which is not subtracted" in said and "3 images in its multiscales" in said
    assert f"1 of {len(chunks)} chunks are missing and read as 0" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axes": [{"name": n} for n in "xyz"]}, "axes x y z of (30, 44, 52), not one volume zyx"),
        ({"axes": [{"name": n} for n in "czyx"]}, "not one volume zyx"),
        ({"coordinateTransformations": [{"type": "affine"}]}, "coordinateTransformations of type affine"),
        ({"coordinateTransformations": scaled([10.0] * 4)}, "of other than 3 axes"),
        ({"coordinateTransformations": scaled([10.0, 10.0, 10.02])}, "voxels of 1 x 1 x 1.002 nm"),
        ({"coordinateTransformations": scaled([10.0, 10.0, 0.0])}, "a scale that is not positive"),
        ({"coordinateTransformations": scaled([10.0, 10.0, 10.005])}, ""),
    ],
)
def test_images_that_are_not_one_volume_in_cubic_voxels(tmp_path, array, files, changes, said):
    group = files.zarr_of(tmp_path / "t.zarr", array, datasets=[{"path": "0"}])
    group.attrs["multiscales"] = [group.attrs["multiscales"][0] | changes]
    if said:
        files.one_line(lambda: zarr_image(tmp_path / "t.zarr"), "t.zarr", said)
    else:
        assert zarr_image(tmp_path / "t.zarr")[2] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("unit", "nm"), [("micrometer", 1000.0), ("nanometer", 1.0), ("parsec", None)])
def test_lengths_have_units(tmp_path, array, unit, nm, files):
    datasets = [{"path": "0", "coordinateTransformations": scaled([1.0] * 3)}]
    files.zarr_of(tmp_path / "t.zarr", array, unit, datasets=datasets)
    assert zarr_image(tmp_path / "t.zarr")[2] == nm
    files.zarr_of(tmp_path / "u.zarr", array, unit, datasets=[{"path": "0"}])
    assert zarr_image(tmp_path / "u.zarr")[2] is None
