"""Axes and transformations of too few numbers, and what chunks that are missing are read as."""

import numpy as np
import pytest

from cryo_fewshot.particles.zarr_images import zarr_image

zarr = pytest.importorskip("zarr")
SCALE = [{"type": "scale", "scale": [10.0] * 3}]


def image(path, steps=SCALE, shape=(8, 8, 8), names="zyx", fill=0):
    """One level of ones; its first chunk is missing."""
    group = zarr.open_group(str(path), mode="w")
    create = getattr(group, "create_array", None) or group.create_dataset  # zarr 2 and 3
    level = create("0", shape=shape, chunks=(4,) * len(shape), dtype="float32", fill_value=fill)
    if np.prod(shape):
        level[..., 4:, :, :] = 1
    axes = [{"name": name, "unit": "angstrom"} for name in names]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": steps}]}]
    return path


@pytest.mark.parametrize("fill", [0, 7])
def test_missing_chunks_are_read_as_what_fills_them(fill, tmp_path):
    _, shape, nm, (said,) = zarr_image(image(tmp_path / "a.zarr", fill=fill))
    assert said.startswith("4 of 8 chunks are missing and read as ") and float(said.split()[-1]) == fill
    assert shape == (8, 8, 8) and nm == 1.0


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("kind", ["scale", "translation"])
def test_a_transformation_has_a_number_for_each_axis(n, kind, tmp_path, files):
    path = image(tmp_path / "a.zarr", [*SCALE, {"type": kind, kind: [1.0] * n}])
    files.one_line(lambda: zarr_image(path), "coordinateTransformations of other than 3 axes")


@pytest.mark.parametrize("first", [0, 2])
def test_axes_before_z_are_of_one(first, tmp_path, files):
    steps = [{"type": "scale", "scale": [10.0] * 4}]
    path = image(tmp_path / "a.zarr", steps, (first, 8, 8, 8), "czyx")
    files.one_line(lambda: zarr_image(path), f"axes c z y x of ({first}, 8, 8, 8), not one volume")
