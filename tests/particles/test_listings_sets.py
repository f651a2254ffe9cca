"""The tilt geometry of 2D stacks where several exports share a folder: that of the set which names the particles."""

import numpy as np
import pytest

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import write_star

mrcfile = pytest.importorskip("mrcfile")
pytest.importorskip("torch_fourier_slice")


def export(files, folder, name, tomogram):
    """Particles and tilt geometry called `<name>.star` and `<name>_tomograms.star`, with one stack of images."""
    images = np.random.default_rng(0).normal(size=(3, 8, 8))
    series = {"rlnTomoXTilt": [0] * 3, "rlnTomoYTilt": (-30, 0, 30), "rlnTomoZRot": [85] * 3}
    star = files.stack(folder, images, series, name=tomogram, row={"rlnTomoName": tomogram})
    (folder / "tomograms.star").rename(folder / f"{name}_tomograms.star")
    return star.rename(folder / f"{name}.star")


def optimisation_set(folder, name, particles="{}.star", tomograms="{}_tomograms.star"):
    lines = f"_rlnTomoParticlesFile   {particles}\n_rlnTomoTomogramsFile   {tomograms}\n".format(name, name)
    path = folder / f"{name}_optimisation_set.star"
    path.write_text(f"data_\n\n{lines}")
    return path


def geometry_note(particles):
    return next(note for note in particles.notes if "geometry of" in note)


def test_the_set_that_names_the_particles_counts(tmp_path, files):
    for name, tomogram in (("apo", "TS_1"), ("ribo", "TS_1")):  # the same name, so only the set tells them apart
        export(files, tmp_path, name, tomogram)
        optimisation_set(tmp_path, name)
    for name in ("apo", "ribo"):
        assert geometry_note(open_particles(tmp_path / f"{name}.star")).endswith(f"{name}_tomograms.star")
        given = open_particles(tmp_path / f"{name}_optimisation_set.star")
        assert len(given) == 1 and geometry_note(given).endswith(f"{name}_tomograms.star")
        write_star(tmp_path / "out" / "classes" / "a.star", given)  # what a run writes is an input again
        again = open_particles(tmp_path / "out" / "classes" / "a.star")
        assert geometry_note(again).endswith(f"{name}_tomograms.star") and not again.read([0])[1]
    (tmp_path / "ribo_optimisation_set.star").unlink()
    words = ("none of 1 optimisation sets beside it names it", "--tomograms-star")
    files.one_line(lambda: open_particles(tmp_path / "ribo.star"), *words)


def test_a_set_without_particles_counts_where_it_is_the_only_one(tmp_path, files):
    star = export(files, tmp_path, "ribo", "TS_1")
    optimisation_set(tmp_path, "ribo", particles="")
    assert geometry_note(open_particles(star)).endswith("ribo_tomograms.star")
    optimisation_set(tmp_path, "apo", particles="")
    files.one_line(lambda: open_particles(star), "2 optimisation sets")


def test_a_set_that_names_an_absent_file_is_one_line(tmp_path, files):
    export(files, tmp_path, "ribo", "TS_1")
    lost = optimisation_set(tmp_path, "ribo", particles="gone/{}.star")
    files.one_line(lambda: open_particles(lost), "gone/ribo.star", "missing")
    lost = optimisation_set(tmp_path, "ribo", tomograms="gone.star")
    files.one_line(lambda: open_particles(lost), "gone.star", "missing")


def test_a_set_of_picks_without_images_is_cut_from_its_tomograms(tmp_path, tomogram, array, files):
    columns = ("rlnTomoName", "rlnTomoReconstructedTomogram")
    text = files.table("global", columns, [("TS_1", tomogram.name)])
    (tmp_path / "ribo_tomograms.star").write_text(text)
    centred = 10.0 * (files.CENTRES - np.array(files.SHAPE) // 2)[:, ::-1]
    axes = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    files.star_of(tmp_path / "ribo.star", ["rlnTomoName", *axes], [["TS_1", *row] for row in centred])
    files.assert_cut(open_particles(optimisation_set(tmp_path, "ribo"), box_nm=12), array)
    unplaced = optimisation_set(tmp_path, "ribo", tomograms="")
    files.one_line(lambda: open_particles(unplaced), "no column rlnImageName", "--query-coordinates")
