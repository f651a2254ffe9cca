"""OME-Zarr images, 0.4 and 0.5: voxel size, axes, and what damages them."""

import copy

import pytest

from cryo_fewshot.particles.opening import open_particles


def zarr_of(path, array, unit="angstrom", leading=0, **image):
    """An OME-Zarr image of one level."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w")
    shape = (1,) * leading + array.shape
    create = getattr(group, "create_array", None) or group.create_dataset  # zarr 2 and 3
    level = create("0", shape=shape, chunks=(1,) * leading + (16, 16, 16), dtype="float32")
    level[...] = array.reshape(shape)
    axes = [{"name": n} for n in "tc"[:leading]] + [{"name": n, "type": "space", "unit": unit} for n in "zyx"]
    image = [{"axes": axes, **image}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": image}} if leading else {"multiscales": image})
    return group


def scaled(*scales):
    return [{"type": "scale", "scale": list(scale)} for scale in scales]


@pytest.mark.parametrize("leading", [0, 2])
@pytest.mark.parametrize("unit", ["angstrom", "nanometer"])
def test_ome_zarr(tmp_path, array, leading, unit, files):
    path = tmp_path / "tömogram.zarr"
    scale = [1.0] * leading + [{"angstrom": 10.0, "nanometer": 1.0}[unit]] * 3
    group = zarr_of(path, array, unit, leading, datasets=[{"path": "0", "coordinateTransformations": scaled(scale)}])
    particles = open_particles(files.csv_of(tmp_path / "a.csv"), tomogram=path, box_nm=12)
    files.assert_cut(copy.deepcopy(particles.without_table()), array)
    for chunk in sorted(p for p in (path / "0").rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray")):
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
    zarr_of(tmp_path / "t.zarr", array, leading=leading, datasets=[dataset], coordinateTransformations=steps[1])
    nm = files.csv_of(tmp_path / "nm.csv", "x_nm,y_nm,z_nm")
    particles = open_particles(nm, tomogram=tmp_path / "t.zarr", box_nm=12)
    assert particles.voxel_size_nm == pytest.approx(1.0) and particles.box == 12
    files.assert_cut(particles, array)
