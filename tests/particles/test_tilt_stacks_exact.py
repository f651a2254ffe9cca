"""Which geometry is that of a stack of tilt images, and what is said where its CTF is not undone."""

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.particles.mrc_particles import ParticleFiles
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tilt_stacks import find_tomograms_star, optimisation_set, read_series

OPTICS = {"rlnVoltage": 300, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}
DEFOCUS = {"rlnDefocusU": 20000, "rlnDefocusV": 18000, "rlnDefocusAngle": 30}
FLAG = {"rlnCtfDataAreCtfPremultiplied": 1}


def stack(files, folder, *, series=None, n=5, box=8, **settings):
    """A STAR file of one stack of n images, of which further columns of the tilt series are the same for each."""
    images = np.random.default_rng(0).normal(size=(n, box, box)).astype(np.float32)
    tilts = {name: [value] * n for name, value in ({"rlnTomoXTilt": 0, "rlnTomoZRot": 85} | (series or {})).items()}
    return files.stack(folder, images, tilts | {"rlnTomoYTilt": range(0, 10 * n, 10)}, **settings)


@pytest.mark.parametrize(
    ("optics", "series", "said"),
    [
        ({}, DEFOCUS, "not corrected for their CTF"),
        (FLAG | OPTICS, DEFOCUS, "multiplied by their CTF, which is undone"),
        (FLAG | OPTICS, DEFOCUS | {"rlnPhaseShift": 90}, "which is undone with its rlnPhaseShift"),
        (FLAG | OPTICS, {}, "which is not undone for lack of rlnDefocusU, rlnDefocusV, rlnDefocusAngle, rlnVoltage"),
        *(
            (FLAG | OPTICS, {n: v for n, v in DEFOCUS.items() if n != name}, "not undone for lack of")
            for name in DEFOCUS
        ),
        *(
            (FLAG | {n: v for n, v in OPTICS.items() if n != name}, DEFOCUS, "not undone for lack of")
            for name in OPTICS
        ),
    ],
)
def test_the_ctf_is_undone_where_all_of_it_is_known(optics, series, said, tmp_path, files):
    particles = open_particles(stack(files, tmp_path, optics=optics, series=series), dark_protein=True)
    (note,) = (note for note in particles.notes if "back-projected with the geometry of" in note)
    assert said in note
    assert ("is undone" in note) == ("is undone" in said) and not particles.read([0], 8, 1.0)[1]


def test_pixels_of_one_angstrom_are_judged_by_the_width_of_the_images(tmp_path, files):
    star = stack(files, tmp_path, box=40, voxel_size_nm=0.1)
    files.one_line(lambda: open_particles(star), "voxel size 1.000 A", "40 voxels would be 4 nm")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("0,1,1", "names 3 tilts, but its tomogram has 5"),
        ("0123456789" * 5, f" {'0123456789' * 4} is not a list of 0 and 1 with at least one 1"),
        ("[0,0,0,0,0]", " [0,0,0,0,0] is not a list"),
    ],
)
def test_wrong_flags_are_quoted_up_to_40_letters(flags, said, tmp_path, files):
    star = stack(files, tmp_path, row={"rlnTomoVisibleFrames": flags})
    (reason,) = open_particles(star, dark_protein=True).read([0], 8, 1.0)[1].values()
    assert f"rlnTomoVisibleFrames {said.strip()}" in reason


def test_the_set_that_names_the_particles_tells_their_geometry(tmp_path):
    def named(name, particles, tomograms):
        lines = f"_rlnTomoParticlesFile   {particles}\n_rlnTomoTomogramsFile   {tomograms}\n"
        (tmp_path / f"{name}_optimisation_set.star").write_text(f"data_\n\n{lines}")
        (tmp_path / tomograms).write_text("data_\n\n_a 1\n")

    files = ParticleFiles(["p.mrcs"], tmp_path / "ribo.star", np.zeros(1, int))
    named("a", "Refine/job1/ribo.star", "first.star")
    named("b", "apo.star", "second.star")
    assert find_tomograms_star(files).name == "first.star"
    assert find_tomograms_star(ParticleFiles(["p"], tmp_path / "apo.star", np.zeros(1, int))).name == "second.star"
    unnamed = ParticleFiles(["p"], tmp_path / "other.star", np.zeros(1, int))
    named("c", '""', "third.star")
    assert find_tomograms_star(unnamed).name == "third.star"
    (tmp_path / "tomograms.star").write_text("data_\n\n_a 1\n")
    assert find_tomograms_star(unnamed).name == "tomograms.star" and find_tomograms_star(files).name == "first.star"
    written = ParticleFiles(["p"], tmp_path / "out" / "x.star", np.zeros(1, int), named_in=tmp_path / "apo.star")
    assert find_tomograms_star(written).name == "second.star"
    rooted = ParticleFiles(["p"], tmp_path / "out" / "x.star", np.zeros(1, int), root=tmp_path / "root")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "tomograms.star").write_text("data_\n\n_a 1\n")
    assert find_tomograms_star(rooted).parent.name == "root"


def test_a_set_names_both_files_or_one():
    both = {"rlnTomoParticlesFile": "p.star", "rlnTomoTomogramsFile": "t.star"}
    assert optimisation_set({"a": {"x": "1"}, "b": both}) == ("p.star", "t.star")
    assert optimisation_set({"b": pd.DataFrame([both, both])}) == ("p.star", "t.star")
    assert optimisation_set({"b": {"rlnTomoTomogramsFile": "t.star"}}) == ("", "t.star")
    assert optimisation_set({"b": {"rlnTomoParticlesFile": "p.star"}}) == ("", "") == optimisation_set({})


def test_each_series_is_the_block_of_its_name_or_a_file_that_is_named(tmp_path, files):
    tilts = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
    (tmp_path / "own.star").write_text(files.table("tilts", tilts, [(0, 3, 85)]))
    listed = files.table(
        "global", ("rlnTomoName", "rlnTomoTiltSeriesStarFile"), [("TS_2", "own.star"), ("TS_3", "gone.star")]
    )
    path = tmp_path / "tomograms.star"
    path.write_text(listed + files.table("TS_1", tilts, [(0, 7, 85)]))
    (one, where), (other, there) = read_series(path, ["TS_1", "TS_2"])
    assert one["rlnTomoYTilt"].tolist() == ["7"] and other["rlnTomoYTilt"].tolist() == ["3"]
    assert (where, there) == (f"{path}: tomogram TS_1", f"{tmp_path / 'own.star'}: tomogram TS_2")
    files.one_line(lambda: read_series(path, ["TS_3"]), "gone.star: named in", "but missing")
    files.one_line(lambda: read_series(path, ["TS_4"]), "no tilt geometry of tomogram TS_4")
