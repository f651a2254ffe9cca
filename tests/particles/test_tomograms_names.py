"""Which file is the tomogram of a name: exactly the one that is called so."""

import pytest

from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tomograms import name_of_tomogram

pytest.importorskip("mrcfile")


@pytest.mark.parametrize(
    "name", ["TS_1", "TS_1.tomostar", "TS_1.mrc", "TS_1.MRC.gz", "TS_1.ome.zarr", "TS_1.rec", "TS_1.st", "TS_1.mrc.mrc"]
)
def test_what_says_the_kind_of_file_is_no_part_of_a_name(name):
    assert name_of_tomogram(name) == "TS_1"
    assert name_of_tomogram("a.b") == "a.b" and name_of_tomogram("t.1_rec") == "t.1_rec"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("TS_1_10.00Apx.mrc", "TS_1_10_10.00Apx.mrc"),
        ("TS_1.mrc", "TS_1_10.mrc"),
        ("TS_1_rec.mrc", "TS_1_10.rec"),
        ("TS_1_bin4_full_rec.mrc", "rec_TS_1_10.mrc"),
    ],
)
def test_names_that_begin_alike_are_told_apart(tmp_path, files, short, long):
    first, second = files.tomograms_of(tmp_path / "both", short, long)
    (tmp_path / "both" / f"{short}.gz").write_bytes(b"a packed copy is not opened")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1.tomostar", "TS_1_10", "TS_1.tomostar"])
    particles = open_particles(star_file, tomogram=tmp_path / "both", box_nm=12)
    files.assert_boxes(particles, [first, second, first])
    assert any(f"TS_1 is {short}, TS_1_10 is {long}" in note for note in particles.notes)
    for there, absent in ((short, "TS_1_10"), (long, "TS_1")):
        folder = tmp_path / f"no {absent}"
        files.tomograms_of(folder, there, "TS_1_2.mrc", "TS_11.mrc", "ts_1.mrc", f"{absent}_half1.mrc")
        lost = files.of_names(tmp_path / "b.star", [absent])
        files.one_line(lambda f=folder, s=lost: open_particles(s, tomogram=f), f"no such tomogram as {absent}, which")


def test_a_name_that_fits_several_files_or_a_file_two_names_is_refused(tmp_path, files):
    files.tomograms_of(tmp_path / "t", "TS_1_rec.mrc", "TS_1_denoised.mrc")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.one_line(lambda: open_particles(star_file, tomogram=tmp_path / "t"), "2 files for tomogram TS_1", "one file")
    star_file = files.of_names(tmp_path / "b.star", ["a/TS_1_rec.mrc", "b/TS_1_rec.mrc"], "rlnMicrographName")
    files.one_line(lambda: open_particles(star_file, tomogram=tmp_path / "t"), "both a/TS_1_rec.mrc and b/TS_1_rec.mrc")


def test_tomograms_of_relion_5(tmp_path, files):
    job = tmp_path / "Tomograms" / "job006"
    names = ["rec_TS_1.mrc", "rec_TS_1_half1.mrc", "rec_TS_1_half2.mrc", "odd.mrc"]
    first, _, _, second = files.tomograms_of(job / "tomograms", *names)
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.assert_boxes(open_particles(star_file, tomogram=job / "tomograms", box_nm=12), [first])
    # tomograms.star knows better than a name, and is found beside the folder or in it, or given itself
    rows = [
        [name, f"Tomograms/job006/tomograms/{file}"] for name, file in {"TS_1": "odd.mrc", "TS_2": names[0]}.items()
    ]
    listed = job / "tomograms.star"
    listed.write_text(files.table("global", ["rlnTomoName", "rlnTomoReconstructedTomogram"], rows))
    star_file = files.of_names(tmp_path / "a.star", ["TS_1", "TS_2"])
    for given in (job / "tomograms", job, listed):
        files.assert_boxes(open_particles(star_file, tomogram=given, box_nm=12), [second, first])
    lost = files.of_names(tmp_path / "lost.star", ["TS_3"])
    files.one_line(lambda: open_particles(lost, tomogram=listed), "no such tomogram as TS_3", "that names it")
    # but not for another folder than the one given
    (other,) = files.tomograms_of(job / "denoised", "rec_TS_1.mrc")
    star_file = files.of_names(tmp_path / "a.star", ["TS_1"])
    files.assert_boxes(open_particles(star_file, tomogram=job / "denoised", box_nm=12), [other])
    # a denoised one is named beside the plain one: the folder given says which is meant, else the plain one counts
    both = ["TS_1", "Tomograms/job006/tomograms/odd.mrc", "Tomograms/job006/denoised/rec_TS_1.mrc"]
    columns = ["rlnTomoName", "rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised"]
    listed.write_text(files.table("global", columns, [both]))
    for given, expected in {job / "denoised": other, job / "tomograms": second, listed: second}.items():
        files.assert_boxes(open_particles(star_file, tomogram=given, box_nm=12), [expected])
    listed.write_text(files.table("global", columns[::2], [both[::2]]))
    files.assert_boxes(open_particles(star_file, tomogram=listed, box_nm=12), [other])
    listed.write_text(files.table("global", ["rlnTomoName"], [["TS_1"]]))
    words = ("no column rlnTomoReconstructedTomogram", "folder")
    files.one_line(lambda: open_particles(star_file, tomogram=listed), *words)
