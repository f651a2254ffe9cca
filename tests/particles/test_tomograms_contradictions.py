"""A tomogram, MRC or OME-Zarr, with coordinates that all agree, then one contradiction: refused, rejected or said."""

import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.opening import open_particles

few = settings(derandomize=True, max_examples=4, deadline=None, database=None)
clean = settings(few, suppress_health_check=[HealthCheck.function_scoped_fixture])  # `files` keeps nothing
SHAPE, BOX = (20, 24, 28), 8
ARRAY = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
CENTRES = np.array([[10, 12, 8], [8, 7, 20], [11, 16, 14]])  # zyx


def scale(*factors):
    return {"type": "scale", "scale": list(factors)}


class Tomogram:
    """A tomogram and its coordinates in parts, which say the same until a contradiction changes one of them."""

    def __init__(self, files, folder, size_a, version):
        self.files = files
        self.folder, self.size_a, self.version, self.array = folder, size_a, version, ARRAY
        self.image = [scale(2.5, 2.5, 2.5)]  # what the image of an OME-Zarr states; its level the rest
        self.header, self.names = {}, ["TS_1"]
        self.rows = [{"rlnTomoName": "TS_1"} for _ in CENTRES]
        for row, centre in zip(self.rows, CENTRES, strict=True):
            for axis, c, n in zip("ZYX", centre, SHAPE, strict=True):
                row[f"rlnCoordinate{axis}"] = c
                row[f"rlnCenteredCoordinate{axis}Angst"] = (c - n // 2) * size_a

    def write_zarr(self):
        level = {"path": "0", "coordinateTransformations": [scale(*[self.size_a / 2.5] * 3)]}
        image = {"coordinateTransformations": self.image, "datasets": [level]}
        self.files.zarr_of(self.folder / "t" / "TS_1.zarr", self.array, version=self.version, **image)

    def write_mrc(self):
        for name in self.names:
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


# What is written, what of it is changed into what, and what then is said. Coordinates are in voxels and in angstrom:
# another voxel size is a contradiction of the two.
CONTRADICTIONS = {
    "an image of another size": ("zarr", "image", [scale(4, 4, 4)], "gives another position and is ignored"),
    "an axis of another size": ("zarr", "image", [scale(2.5, 4, 2.5)], "resample it to cubic voxels"),
    "complex values": ("zarr", "array", ARRAY.astype(np.complex64), "complex64, not real numbers"),
    "an origin": ("mrc", "header", {"origin": (0, 0, 150)}, "which is not subtracted"),
    "sections that are images": ("mrc", "header", {"ispg": 0, "mz": 1}, "stack of images"),
    "a space group": ("mrc", "header", {"ispg": 19}, "space group 19 in its header (ispg)"),
    "a cell of another size": ("mrc", "header", {"cella": (1960, 1680, 1400)}, "gives another position and is ignored"),
    "no file of that name": ("mrc", "names", ["TS_1_half1", "TS_11"], "no such tomogram as TS_1"),
    "two files of that name": ("mrc", "names", ["rec_TS_1", "TS_1_10.00Apx"], "2 files for tomogram TS_1"),
    "a place outside": ("mrc", "row", {"rlnCenteredCoordinateYAngst": 1e5}, "lie outside TS_1"),
    "another place": ("mrc", "row", {"rlnCoordinateY": 15}, "rlnCoordinateX of 1 rows gives another position"),
    "no number": ("mrc", "row", {"rlnCenteredCoordinateXAngst": "nan"}, "a coordinate is not a number"),
    "another pixel size": ("mrc", "rows", {"rlnMicrographPixelSize": 99}, "gives another position"),
    "a shift of turned boxes": (
        "mrc",
        "rows",
        {"rlnOriginZAngst": 15, "rlnTomoSubtomogramTilt": 90},
        "along whose axes",
    ),
    "a shift in pixels": ("mrc", "rows", {"rlnOriginX": 1.5}, "rlnOriginX of 3 rows"),
    "a mirror": ("mrc", "rows", {"rlnIsFlip": "True"}, "rlnIsFlip of row 1 is True"),
    "an unknown tomogram": ("mrc", "row", {"rlnTomoName": "TS_2"}, "no such tomogram as TS_2"),
}
several = given(size_a=st.floats(2, 40).map(lambda a: round(a, 3)), version=st.sampled_from([2, 3]))


@pytest.mark.parametrize("kind", ["zarr", "mrc"])
@clean
@several
def test_without_a_contradiction_all_is_cut(files, kind, size_a, version):
    with tempfile.TemporaryDirectory() as folder:
        particles, volumes, rejected = Tomogram(files, Path(folder), size_a, version).read(kind)
        assert not rejected and particles.voxel_size_nm == pytest.approx(size_a / 10, rel=1e-3)
        assert not any("another pos" in note or "not subtracted" in note for note in particles.notes)
        for volume, centre in zip(volumes, CENTRES, strict=True):
            piece = torch.from_numpy(ARRAY[tuple(slice(c - BOX // 2, c + BOX // 2) for c in centre)]).double()
            piece = (piece - piece.mean()) / piece.std(correction=0)
            torch.testing.assert_close(volume.double(), piece, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("kind", "part", "change", "word"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@clean
@several
def test_a_contradiction_is_refused_rejected_or_said(files, kind, part, change, word, size_a, version):
    with tempfile.TemporaryDirectory() as folder:
        tomogram = Tomogram(files, Path(folder), size_a, version)
        if part in ("row", "rows"):
            for row in tomogram.rows[: 1 if part == "row" else 3]:
                row |= change
        else:
            setattr(tomogram, part, change)
        try:
            particles, _, rejected = tomogram.read(kind)
        except UserError as error:
            assert word in str(error) and "\n" not in str(error)
            return
        assert set(rejected) <= {0} or len(rejected) == 3
        assert any(word in line for line in (*particles.notes, *rejected.values())), (particles.notes, rejected)
