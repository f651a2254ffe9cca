"""What the columns of a table, and the tables beside it, tell of its particles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.particles.listings import _lists_images, column_labels, open_stack, size_notes, stated_nm
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.star import write_star

HERE = Path("p.star")


def test_a_stack_lists_its_volumes_from_one_and_a_file_of_one_itself(tmp_path, files):
    files.write(tmp_path / "s.mrcs", np.stack([files.noise(i) for i in range(3)]))
    assert open_stack(tmp_path / "s.mrcs", None).names == ["1@s.mrcs", "2@s.mrcs", "3@s.mrcs"]
    assert open_stack(files.write(tmp_path / "one.mrc"), None).names == ["one.mrc"]


@pytest.mark.parametrize(
    ("shape", "nm", "given", "refused"),
    [
        ((12, 12, 12), 1.0, None, False),
        ((12, 12, 12), 9.0, 20.0, True),
        ((24, 24, 24), 9.0, None, True),
        ((20, 20, 20), 1.0, 10.0, False),
        ((20, 20, 20), 9.9, None, False),
        ((21, 21, 21), 9.9, None, True),
        ((24, 24, 24), 9.0, 1.0, False),
        ((12, 12, 14), 1.0, None, True),
    ],
)
def test_a_wide_cube_and_what_is_no_cube_are_tomograms(tmp_path, files, shape, nm, given, refused):
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = files.write(tmp_path / "t.mrc", volume, voxel_size_nm=nm)
    if refused:
        files.one_line(lambda: open_stack(path, given), "apparently a tomogram", " x ".join(map(str, shape)))
    else:
        assert len(open_stack(path, given)) == 1


def test_the_first_column_with_several_classes_counts():
    table = pd.DataFrame({"rlnClassNumber": ["1", "2.0", "2"], "rlnClassName": ["a", "a", np.nan], "mine": list("xyy")})
    assert column_labels(table, HERE, None) == (["1", "2", "2"], "rlnClassNumber")
    assert column_labels(table, HERE, "mine") == (list("xyy"), "mine")
    assert column_labels(table[["rlnClassName"]], HERE, None) == (["a", "a", None], "rlnClassName")
    assert column_labels(table.assign(rlnClassName=list("abb")), HERE, None)[1] == "rlnClassName"
    assert column_labels(table[["mine"]], HERE, None) == (None, None)


def test_of_the_classes_of_a_run_those_that_it_accepted_count():
    table = pd.DataFrame({"fewshotClass": list("aab"), "fewshotAccepted": ["1", "0", "1"], "other": list("xyz")})
    assert column_labels(table, HERE, "fewshotClass")[0] == ["a", None, "b"]
    assert column_labels(table, HERE, "other")[0] == list("xyz")
    assert column_labels(table[["fewshotClass"]], HERE, "fewshotClass")[0] == list("aab")
    for other in ("2", "-1", "x", "1.0"):  # accepted is 1, whoever wrote it
        labels = column_labels(table.assign(fewshotAccepted=["1", other, "1"]), HERE, "fewshotClass")[0]
        assert labels == ["a", "a" if other == "1.0" else None, "b"]


@pytest.mark.parametrize(
    ("columns", "nm"),
    [
        ({"rlnImagePixelSize": "12", "rlnPixelSize": "20"}, 1.2),
        ({"rlnPixelSize": "20"}, 2.0),
        ({"rlnDetectorPixelSize": "5", "rlnMagnification": "25000"}, 0.2),
        ({"rlnTomoTiltSeriesPixelSize": "2.5", "rlnTomoSubtomogramBinning": "4"}, 1.0),
        ({"rlnDetectorPixelSize": "5"}, None),
        ({"rlnTomoTiltSeriesPixelSize": "2.5"}, None),
        ({"rlnTomoSubtomogramBinning": "4", "rlnMagnification": "25000"}, None),
    ],
)
def test_voxel_sizes_that_columns_state(columns, nm):
    found = stated_nm({"particles": pd.DataFrame([columns] * 2)}, "particles")
    assert found is None if nm is None else found.tolist() == pytest.approx([nm, nm])


DETECTOR = {"rlnDetectorPixelSize": [5, 5, 5], "rlnMagnification": [50000, 49000, 50000]}
TILTS = {"rlnTomoTiltSeriesPixelSize": [2.5, 2.5, 2], "rlnTomoSubtomogramBinning": [4, 4, 4]}


@pytest.mark.parametrize(
    ("used", "other", "said"),
    [
        ({"rlnImagePixelSize": [1, 1.009, 1]}, DETECTOR, "say 0.102 nm, rlnImagePixelSize 0.1009 nm"),
        ({"rlnPixelSize": [10, 10, 10]}, TILTS, "say 0.8 nm, rlnPixelSize 1 nm"),
        ({"rlnImagePixelSize": [10]}, {"rlnPixelSize": [10.05]}, None),
        ({"rlnKind": ["x"]}, {}, None),
    ],
)
def test_voxel_sizes_that_differ_by_more_than_rounding_are_said(used, other, said, files):
    notes = size_notes(files.blocks_of(**used, **other), "particles", "p")
    whole = f"p: {' and '.join(other)} {said}, and the latter is used (1 rows)"
    assert notes == ((whole,) if said else ())


@pytest.mark.parametrize(
    ("block", "images"),
    [
        ({"rlnTomoSubTomosAre2DStacks": "1"}, True),
        ({"rlnTomoSubTomosAre2DStacks": "0"}, False),
        ({"rlnTomoSubTomosAre2DStacks": "2"}, False),
        (pd.DataFrame({"rlnImageDimensionality": ["3", "2"]}), True),
        (pd.DataFrame({"rlnImageDimensionality": ["3", "3"]}), False),
        ({"other": "1"}, False),
    ],
)
def test_stacks_of_images_are_told_by_a_flag_or_their_dimension(block, images):
    assert _lists_images({"general": {"x": "1"}, "optics": block}) is images


def test_other_blocks_of_particles_and_other_boxes_are_said(tmp_path, files):
    for i, box in enumerate((12, 12, 14)):
        files.write(tmp_path / f"{i}.mrc", box=box, seed=i)
    blocks = [files.table(name, ["rlnImageName", "rlnOpticsGroup"], [("0.mrc", 1), ("1.mrc", 1)]) for name in "ab"]
    (tmp_path / "p.star").write_text("".join(blocks) + files.table("c", ["rlnKind"], [("x",), ("y",)]))
    said = [note for note in open_particles(tmp_path / "p.star").notes if "ignored" in note or "kinds of box" in note]
    assert said == [f"{tmp_path / 'p.star'}: block data_b lists particles as well and is ignored"]
    optics = files.optics_table((1, 10.0, 3), (2, 10.0, 3))
    rows = [("0.mrc", 1), ("1.mrc", 1), ("2.mrc", 2)]
    two = files.star_of(tmp_path / "q.star", ["rlnImageName", "rlnOpticsGroup"], rows, optics)
    assert any("2 kinds of box or voxel size, all resampled" in note for note in open_particles(two).notes)


OPTICS = ("rlnOpticsGroup", "rlnImagePixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")


def premultiplied(files, folder, volumes, defocus_columns=True, flag="1"):
    """Volumes times the CTF of 3 um, and the STAR file that says so."""
    full, half = np.fft.fftfreq(16), np.fft.rfftfreq(16)
    squared = (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2) / 10.0**2  # voxels of 10 angstrom
    wave = 0.0196875  # angstrom, of 300 kV
    chi = np.pi * wave * 30000 * squared - np.pi / 2 * 2.7e7 * wave**3 * squared**2 + np.arcsin(0.1)
    for i, volume in enumerate(volumes):
        files.write(folder / f"{i}.mrc", np.fft.irfftn(np.fft.rfftn(volume) * np.sin(chi), s=(16,) * 3, axes=(0, 1, 2)))
    optics = files.optics_table((1, 10.0, 300, 2.7, 0.1, flag), columns=(*OPTICS, "rlnCtfDataAreCtfPremultiplied"))
    columns = ["rlnTomoName", "rlnImageName", "rlnOpticsGroup"]
    row = ["30500", "29500"] if defocus_columns else []
    columns += ["rlnDefocusU", "rlnDefocusV"] if defocus_columns else []
    rows = [["TS_1", f"{i}.mrc", 1, *row] for i in range(len(volumes))]
    return files.star_of(folder / "p.star", columns, rows, optics)


def correlation(particles, volumes):
    read, rejected = particles.read(range(len(volumes)), 16, 1.0)
    assert not rejected
    return torch.corrcoef(torch.stack([read.flatten(), torch.from_numpy(volumes).flatten()]))[0, 1].item()


def test_volumes_multiplied_by_their_ctf_are_divided_by_it(tmp_path, files):
    g = np.arange(16) - 8
    blob = np.exp(-(((g[:, None, None] - 2) ** 2 + g[:, None] ** 2 + (g + 1) ** 2) / 8.0)).astype(np.float32)
    volumes = -np.stack([blob, blob[::-1], blob.T]) * 10
    volumes = (volumes - volumes.mean((1, 2, 3), keepdims=True)) / volumes.std((1, 2, 3), keepdims=True)
    star = premultiplied(files, tmp_path, volumes)
    particles = open_particles(star, dark_protein=True)
    assert any("3 of 3 volumes were multiplied by their CTF, which is undone" in note for note in particles.notes)
    assert correlation(particles, volumes) > 0.99
    left = open_particles(premultiplied(files, tmp_path, volumes, flag="0"), dark_protein=True)
    assert correlation(left, volumes) < 0.95 and any("not multiplied by their CTF" in note for note in left.notes)
    # the defocus of the tilt series, where a row has none
    star = premultiplied(files, tmp_path, volumes, defocus_columns=False)
    particles = open_particles(star, dark_protein=True)
    assert any("not undone for lack of rlnDefocusU" in note for note in particles.notes)
    series = files.table("TS_1", ("rlnDefocusU", "rlnDefocusV"), [(29000, 29000), (31000, 31000)])
    (tmp_path / "tomograms.star").write_text(series)
    assert correlation(open_particles(star, dark_protein=True), volumes) > 0.99
    bad = premultiplied(files, tmp_path, volumes)
    bad.write_text(bad.read_text().replace("30500", "none", 1))
    files.one_line(lambda: open_particles(bad), "rlnDefocusU of row 1 is none, not angstrom", "1 rows")
    bad.write_text(bad.read_text().replace("none", "nan", 1))
    files.one_line(lambda: open_particles(bad), "1 rows lack a defocus", "each row")


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
