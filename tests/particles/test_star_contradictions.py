"""Valid files of one meaning, then one contradiction in it: refused, rejected or said, never answered silently."""

import tempfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.base import copies
from cryo_fewshot.particles.opening import open_particles

few = settings(derandomize=True, max_examples=12, deadline=None, database=None)
BOX = 8


class Project:
    """A STAR file in parts, and its MRC files: all say the same until a contradiction changes one of them."""

    def __init__(self, folder, n, size_a):
        self.folder, self.size_a = folder, size_a
        self.general = {"rlnTomoSubTomosAre2DStacks": 0}
        self.optics = [{"rlnOpticsGroup": 1, "rlnImagePixelSize": size_a, "rlnImageDimensionality": 3}]
        self.rows = [{"rlnImageName": f"{i}.mrc", "rlnOpticsGroup": 1, "rlnImageSize": BOX} for i in range(n)]
        for i in range(n):
            self.write(i)

    def write(self, i, box=BOX, size_a=None):
        volume = np.random.default_rng(i).normal(size=(box,) * 3).astype(np.float32)
        mrcfile.write(self.folder / f"{i}.mrc", volume, voxel_size=size_a or self.size_a, overwrite=True)

    def read(self):
        """Notes, and reasons by index, of all particles; UserError where the whole is refused."""
        text = "data_general\n\n" + "".join(f"_{name} {value}\n" for name, value in self.general.items())
        for block, rows in (("optics", self.optics), ("particles", self.rows)):
            names = dict.fromkeys(name for row in rows for name in row)
            lines = [" ".join(str(row.get(name, 0)) for name in names) for row in rows]
            text += "\n".join(["", f"data_{block}", "", "loop_", *(f"_{name}" for name in names), *lines, ""])
        (self.folder / "p.star").write_text(text)
        particles = open_particles(self.folder / "p.star", dark_protein=True)
        assert len(particles) == len(self.rows)
        return particles, particles.read(range(len(particles)), BOX, particles.voxel_size_nm)[1]


# What of a project is changed into what, and what then is said.
CONTRADICTIONS = {
    "another header": ("file", {"size_a": 99}, "voxel size"),
    "another box": ("file", {"box": 2 * BOX}, "box of 16 voxels"),
    "another stated box": ("row", {"rlnImageSize": BOX + 5}, "rlnImageSize"),
    "an unknown optics group": ("row", {"rlnOpticsGroup": 7}, "optics group 7"),
    "an optics group twice": ("group", {"rlnImagePixelSize": 99}, "appears twice"),
    "a second pixel size": ("rows", {"rlnPixelSize": 99}, "rlnPixelSize"),
    "a binning that does not fit": (
        "optics",
        {"rlnTomoTiltSeriesPixelSize": 50, "rlnTomoSubtomogramBinning": 2},
        "ning",
    ),
    "images by one column": ("optics", {"rlnImageDimensionality": 2}, "2D images"),
    "images by another": ("general", {"rlnTomoSubTomosAre2DStacks": 1}, "2D images"),
    "premultiplied by nobody knows what": ("optics", {"rlnCtfDataAreCtfPremultiplied": 1}, "not undone"),
    "a volume that the stack lacks": ("row", {"rlnImageName": "3@0.mrc"}, "not a stack"),
    "an absent file": ("row", {"rlnImageName": "absent.mrc"}, "absent.mrc"),
    "a mirror": ("row", {"rlnIsFlip": 1}, "rlnIsFlip"),
}


def contradict(project, part, change, i):
    """Change the file or the row of particle i, all rows, the optics table or the general values."""
    if part == "file":
        project.write(i, **change)
    elif part == "group":
        project.optics.append(project.optics[0] | change)
    else:
        of_all = {"row": project.rows[i : i + 1], "rows": project.rows, "optics": project.optics}
        for values in of_all.get(part, [project.general]):
            values |= change


@few
@given(n=st.integers(4, 6), size_a=st.floats(2, 40).map(lambda a: round(a, 3)), again=st.data())
def test_without_a_contradiction_all_is_read(n, size_a, again):
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), n, size_a)
        particles, rejected = project.read()
        assert not rejected and abs(particles.voxel_size_nm / size_a * 10 - 1) < 1e-3
        assert not copies(particles)
        i = again.draw(st.integers(0, n - 1))
        project.rows.append(dict(project.rows[i]))
        assert copies(project.read()[0]) == {n: i}


@pytest.mark.parametrize(("part", "change", "word"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
@few
@given(n=st.integers(4, 6), size_a=st.floats(2, 40), which=st.integers(0, 3))
def test_a_contradiction_is_refused_rejected_or_said(part, change, word, n, size_a, which):
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), n, round(size_a, 3))
        contradict(project, part, change, which)
        try:
            particles, rejected = project.read()
        except UserError as error:
            assert word in str(error) and "\n" not in str(error)
            return
        assert set(rejected) <= {which}, "only the particle that it concerns"
        assert any(word in line for line in (*particles.notes[1:], *rejected.values())), (particles.notes, rejected)
