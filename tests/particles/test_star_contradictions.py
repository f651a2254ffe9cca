"""Valid files of one meaning, then one contradiction in it: refused, rejected or said, never answered silently."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.base import copies
from cryo_fewshot.particles.opening import open_particles

hypothesis = pytest.importorskip("hypothesis")
mrcfile = pytest.importorskip("mrcfile")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

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
            lines = [" ".join(str(value) for value in row.values()) for row in rows]
            text += "\n".join(["", f"data_{block}", "", "loop_", *(f"_{name}" for name in rows[0]), *lines, ""])
        (self.folder / "p.star").write_text(text)
        particles = open_particles(self.folder / "p.star", dark_protein=True)
        assert len(particles) == len(self.rows)
        return particles, particles.read(range(len(particles)), BOX, particles.voxel_size_nm)[1]


def another_header(project, i, factor):
    project.write(i, size_a=project.size_a * factor)
    return "voxel size"


def another_box(project, i, factor):
    project.write(i, box=2 * BOX)
    return "box of 16 voxels"


def another_stated_box(project, i, factor):
    project.rows[i]["rlnImageSize"] = round(BOX * factor) + 1
    return "rlnImageSize"


def an_unknown_optics_group(project, i, factor):
    project.rows[i]["rlnOpticsGroup"] = 7
    return "optics group 7"


def an_optics_group_twice(project, i, factor):
    project.optics.append({**project.optics[0], "rlnImagePixelSize": project.size_a * factor})
    return "appears twice"


def a_second_pixel_size(project, i, factor):
    for row in project.rows:
        row["rlnPixelSize"] = project.size_a * factor
    return "rlnPixelSize"


def a_binning_that_does_not_fit(project, i, factor):
    project.optics[0] |= {"rlnTomoTiltSeriesPixelSize": project.size_a, "rlnTomoSubtomogramBinning": factor}
    return "rlnTomoSubtomogramBinning"


def images_by_one_column(project, i, factor):
    project.optics[0]["rlnImageDimensionality"] = 2
    return "2D images"


def images_by_another(project, i, factor):
    project.general["rlnTomoSubTomosAre2DStacks"] = 1
    return "2D images"


def premultiplied_by_nobody_knows_what(project, i, factor):
    project.optics[0]["rlnCtfDataAreCtfPremultiplied"] = 1
    return "not undone"


def a_volume_that_the_stack_lacks(project, i, factor):
    project.rows[i]["rlnImageName"] = f"3@{i}.mrc"
    return "not a stack"


def an_absent_file(project, i, factor):
    (project.folder / f"{i}.mrc").unlink()
    return f"{i}.mrc"


def a_mirror(project, i, factor):
    for k, row in enumerate(project.rows):
        row["rlnIsFlip"] = int(k == i)
    return "rlnIsFlip"


CONTRADICTIONS = [
    another_header, another_box, another_stated_box, an_unknown_optics_group, an_optics_group_twice,
    a_second_pixel_size, a_binning_that_does_not_fit, images_by_one_column, images_by_another,
    premultiplied_by_nobody_knows_what, a_volume_that_the_stack_lacks, an_absent_file, a_mirror,
]  # fmt: skip


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


@pytest.mark.parametrize("contradiction", CONTRADICTIONS, ids=lambda c: c.__name__)
@few
@given(n=st.integers(4, 6), size_a=st.floats(2, 40), factor=st.floats(1.05, 4), which=st.integers(0, 3))
def test_a_contradiction_is_refused_rejected_or_said(contradiction, n, size_a, factor, which):
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), n, round(size_a, 3))
        word = contradiction(project, which, round(factor, 3))
        try:
            particles, rejected = project.read()
        except UserError as error:
            assert word in str(error) and "\n" not in str(error)
            return
        assert set(rejected) <= {which}, "only the particle that it concerns"
        assert any(word in line for line in (*particles.notes[1:], *rejected.values())), (particles.notes, rejected)
