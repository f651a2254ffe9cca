"""A tomogram, MRC or OME-Zarr, with coordinates that all agree, then one contradiction: refused, rejected or said."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles

hypothesis, mrcfile, zarr = map(pytest.importorskip, ("hypothesis", "mrcfile", "zarr"))
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

few = settings(derandomize=True, max_examples=4, deadline=None, database=None)
SHAPE, BOX = (20, 24, 28), 8
ARRAY = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
CENTRES = np.array([[10, 12, 8], [8, 7, 20], [11, 16, 14]])  # zyx


class Tomogram:
    """A tomogram and its coordinates in parts, which say the same until a contradiction changes one of them.

    outer : share of the voxel size that the image of an OME-Zarr states, its level the rest
    """

    def __init__(self, folder, size_a, outer, version):
        self.folder, self.size_a, self.version, self.array = folder, size_a, version, ARRAY
        self.level = [{"type": "scale", "scale": [size_a / outer] * 3}]
        self.image = [{"type": "scale", "scale": [outer] * 3}]
        self.axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
        self.header, self.images = {}, 1
        self.rows = [{"rlnTomoName": "TS_1"} for _ in CENTRES]
        for row, centre in zip(self.rows, CENTRES, strict=True):
            for axis, c, n in zip("ZYX", centre, SHAPE, strict=True):
                row[f"rlnCoordinate{axis}"] = c
                row[f"rlnCenteredCoordinate{axis}Angst"] = (c - n // 2) * size_a
        self.names = {"TS_1": "TS_1"}

    def write_zarr(self):
        group = zarr.open_group(str(self.folder / "t" / "TS_1.zarr"), mode="w", zarr_format=self.version)
        array = group.create_array("0", shape=self.array.shape, chunks=(16,) * self.array.ndim, dtype=self.array.dtype)
        array[...] = self.array
        image = {"axes": self.axes, "coordinateTransformations": self.image}
        image |= {"datasets": [{"path": "0", "coordinateTransformations": self.level}]}
        images = {"multiscales": [image] * self.images}
        group.attrs.update(images if self.version == 2 else {"ome": {"version": "0.5", **images}})

    def write_mrc(self):
        for name in self.names.values():
            with mrcfile.new(self.folder / "t" / f"{name}.mrc", self.array, overwrite=True) as file:
                file.voxel_size = self.size_a
                for field, value in self.header.items():
                    file.header[field] = value

    def read(self, kind):
        (self.folder / "t").mkdir(exist_ok=True)
        (self.write_zarr if kind == "zarr" else self.write_mrc)()
        lines = [" ".join(map(str, row.values())) for row in self.rows]
        columns = [f"_{name}" for name in self.rows[0]]
        (self.folder / "c.star").write_text("\n".join(["data_particles", "", "loop_", *columns, *lines, ""]))
        particles = open_particles(
            self.folder / "c.star", tomogram=self.folder / "t", box_nm=BOX * self.size_a / 10, dark_protein=True
        )
        return particles, *particles.read(range(len(CENTRES)), BOX, particles.voxel_size_nm)


def an_axis_of_another_size(tomogram, factor):
    tomogram.level[0]["scale"][1] *= factor
    return "resample it to cubic voxels"


def a_size_that_only_one_of_two_levels_has(tomogram, factor):
    tomogram.image[0]["scale"] = [tomogram.image[0]["scale"][0] * factor] * 3
    return "gives another position and is ignored"


def a_scale_of_too_few_axes(tomogram, factor):
    tomogram.level[0]["scale"] = tomogram.level[0]["scale"][:2]
    return "coordinateTransformations of other than 3 axes"


def a_transformation_that_is_not_known(tomogram, factor):
    tomogram.image.append({"type": "affine", "affine": [[factor, 0, 0, 0], [0, factor, 0, 0], [0, 0, factor, 0]]})
    return "coordinateTransformations of type affine"


def a_translation(tomogram, factor):
    tomogram.level.append({"type": "translation", "translation": [0.0, 100 * factor, 0.0]})
    return "a translation, which is not subtracted"


def no_unit(tomogram, factor):
    del tomogram.axes[2]["unit"]
    return "states no voxel size with its unit"


def axes_in_another_order(tomogram, factor):
    tomogram.axes.reverse()
    return "axes x y z"


def two_channels(tomogram, factor):
    tomogram.array = np.stack([ARRAY, ARRAY])
    tomogram.axes.insert(0, {"name": "c", "type": "channel"})
    return "axes c z y x"


def complex_values(tomogram, factor):
    tomogram.array = ARRAY.astype(np.complex64)
    return "complex64, not real numbers"


def a_second_image(tomogram, factor):
    tomogram.images = 2
    return "2 images in its multiscales"


OF_ZARR = [
    an_axis_of_another_size, a_size_that_only_one_of_two_levels_has, a_scale_of_too_few_axes,
    a_transformation_that_is_not_known, a_translation, no_unit, axes_in_another_order, two_channels, complex_values,
    a_second_image,
]  # fmt: skip


def an_origin(tomogram, factor):
    tomogram.header["origin"] = (0, 0, 100 * factor)
    return "which is not subtracted"


def sections_that_are_images(tomogram, factor):
    tomogram.header |= {"ispg": 0, "mz": 1}
    return "stack of images"


def a_cell_of_another_size(tomogram, factor):
    tomogram.header["cella"] = tuple(n * tomogram.size_a * factor for n in reversed(SHAPE))
    return "gives another position and is ignored"


def no_tomogram_of_that_name(tomogram, factor):
    tomogram.names = {"TS_1": "TS_1_half1", "TS_11": "TS_11"}
    return "no such tomogram as TS_1"


def two_tomograms_of_that_name(tomogram, factor):
    tomogram.names = {"TS_1": "rec_TS_1", "TS_1 again": "TS_1_10.00Apx"}
    return "2 files for tomogram TS_1"


OF_MRC = [
    an_origin, sections_that_are_images, a_cell_of_another_size, no_tomogram_of_that_name, two_tomograms_of_that_name
]  # fmt: skip


def a_place_outside(tomogram, factor):
    tomogram.rows[0] |= {f"rlnCenteredCoordinate{axis}Angst": 1000 * factor * tomogram.size_a for axis in "XYZ"}
    return "lie outside TS_1"


def another_place(tomogram, factor):
    tomogram.rows[0]["rlnCoordinateY"] += 2 * factor
    return "rlnCoordinateX of 1 rows gives another position"


def a_coordinate_that_is_no_number(tomogram, factor):
    tomogram.rows[0]["rlnCenteredCoordinateXAngst"] = "nan"
    return "a coordinate is not a number"


def another_pixel_size(tomogram, factor):
    for row in tomogram.rows:
        row["rlnMicrographPixelSize"] = tomogram.size_a * factor
    return "gives another position"


def a_shift_of_turned_boxes(tomogram, factor):
    for row in tomogram.rows:
        row |= {"rlnOriginZAngst": 10 * factor, "rlnTomoSubtomogramTilt": 90}
    return "along whose axes the shift is"


def a_shift_in_pixels(tomogram, factor):
    for row in tomogram.rows:
        row["rlnOriginX"] = factor
    return "rlnOriginX of 3 rows"


def a_mirror(tomogram, factor):
    for row in tomogram.rows:
        row["rlnIsFlip"] = "True"
    return "rlnIsFlip of row 1 is True"


def an_unknown_tomogram(tomogram, factor):
    tomogram.rows[0]["rlnTomoName"] = "TS_2"
    return "no such tomogram as TS_2"


OF_ROWS = [
    a_place_outside, another_place, a_coordinate_that_is_no_number, another_pixel_size, a_shift_of_turned_boxes,
    a_shift_in_pixels, a_mirror, an_unknown_tomogram,
]  # fmt: skip
sizes = {"size_a": st.floats(2, 40).map(lambda a: round(a, 3)), "outer": st.sampled_from([1.0, 2.0, 2.5])}
versions = st.sampled_from([2, 3])


@pytest.mark.parametrize("kind", ["zarr", "mrc"])
@few
@given(**sizes, version=versions)
def test_without_a_contradiction_all_is_cut(kind, size_a, outer, version):
    with tempfile.TemporaryDirectory() as folder:
        particles, volumes, rejected = Tomogram(Path(folder), size_a, outer, version).read(kind)
        assert not rejected and particles.voxel_size_nm == pytest.approx(size_a / 10, rel=1e-3)
        assert not any("another place" in note or "not subtracted" in note for note in particles.notes)
        for volume, centre in zip(volumes, CENTRES, strict=True):
            piece = torch.from_numpy(ARRAY[tuple(slice(c - BOX // 2, c + BOX // 2) for c in centre)]).double()
            piece = (piece - piece.mean()) / piece.std(correction=0)
            torch.testing.assert_close(volume.double(), piece, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("kind", "contradiction"),
    [(kind, c) for kind, all_of in (("zarr", OF_ZARR), ("mrc", OF_MRC), ("mrc", OF_ROWS)) for c in all_of],
    ids=lambda part: getattr(part, "__name__", part),
)
@few
@given(**sizes, version=versions, factor=st.floats(1.5, 2))
def test_a_contradiction_is_refused_rejected_or_said(kind, contradiction, size_a, outer, version, factor):
    with tempfile.TemporaryDirectory() as folder:
        tomogram = Tomogram(Path(folder), size_a, outer, version)
        word = contradiction(tomogram, round(factor, 3))
        try:
            particles, _, rejected = tomogram.read(kind)
        except UserError as error:
            assert word in str(error) and "\n" not in str(error)
            return
        assert set(rejected) <= {0} or len(rejected) == 3
        assert any(word in line for line in (*particles.notes, *rejected.values())), (particles.notes, rejected)
