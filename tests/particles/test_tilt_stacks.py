"""Stacks of tilt images: back-projected where the tilt geometry says, against sums in real space and real particles."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.ctf import ctf_values
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tilt_stacks import _coarser, back_project

mrcfile = pytest.importorskip("mrcfile")
pytest.importorskip("starfile")
pytest.importorskip("torch_fourier_slice")

REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
TILT_STACKS = REAL / "ribosome70S_relion5_2dstacks" / "particles.star"
VOLUMES = REAL / "ribosome70S_subtomograms" / "particles.star"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the real ribosomes (../shared/real) are absent")

N = 24
TILTS = np.arange(-60, 61, 6.0)
POINTS_XYZ = np.array([[6.0, 1.0, -3.0], [-2.0, 5.0, 4.0], [0.0, -6.0, 5.0]])  # no mirror image of itself


def blobs(points, axes):
    grid = np.stack(np.meshgrid(*[np.arange(N) - N // 2] * axes, indexing="ij")[::-1], axis=-1)  # xyz, or xy
    return sum(np.exp(-((grid - p) ** 2).sum(-1) / 4) for p in points[:, :axes]).astype(np.float32)


def geometry():
    """Rotations, tomogram xyz to image xyz, about an axis that is none of the image's own."""
    return Rotation.from_euler("xyz", [(3.0, tilt, 85.0) for tilt in TILTS], degrees=True).as_matrix()


def images_of(rotations):
    return np.stack([blobs(POINTS_XYZ @ rotation.T, 2) for rotation in rotations])


def list_of(row):
    return "[" + ",".join(f"{x:.6f}" for x in row) + ",0]"


def project(folder, images, *, matrices=True, visible=None, premultiplied=1, name="TS_1", rotations=None):
    """A project of one particle as RELION 5 and WarpTools write it."""
    rotations = geometry() if rotations is None else rotations
    folder.mkdir(exist_ok=True)
    mrcfile.write(folder / "p.mrcs", images.astype(np.float16), overwrite=True, voxel_size=10)
    if matrices:
        columns = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
        rows = [" ".join(list_of(row) for row in rotation) for rotation in rotations]
        series = f"data_{name}\n\nloop_\n" + "".join(f"_{c}\n" for c in columns) + "\n".join(rows) + "\n\n"
        (folder / "tomograms.star").write_text(f"data_global\n\nloop_\n_rlnTomoName\n{name}\n\n{series}")
    else:
        rows = "\n".join(f"3.0 {tilt} 85.0" for tilt in TILTS)
        header = "data_tilts\n\nloop_\n_rlnTomoXTilt\n_rlnTomoYTilt\n_rlnTomoZRot\n"
        (folder / "series.star").write_text(f"{header}{rows}\n")
        listed = f"data_global\n\nloop_\n_rlnTomoName\n_rlnTomoTiltSeriesStarFile\n{name} series.star\n"
        (folder / "tomograms.star").write_text(listed)
    star = folder / "particles.star"
    visible = "[" + ",".join("1" * len(TILTS) if visible is None else visible) + "]"
    star.write_text(
        "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\ndata_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n"
        f"_rlnCtfDataAreCtfPremultiplied\n1 10.0 {premultiplied}\n\ndata_particles\n\nloop_\n_rlnTomoName\n"
        f"_rlnImageName\n_rlnOpticsGroup\n_rlnTomoVisibleFrames\nTS_1 p.mrcs 1 {visible}\n"
    )
    return star


def real_space_sum(images, rotations):
    """Plain back-projection: every voxel collects the ramp-filtered images at the place where it is seen."""
    n, frequency = images.shape[-1], np.fft.fftfreq(images.shape[-1])
    across = rotations[0][:2, 2] / np.hypot(*rotations[0][:2, 2])  # where a tilt moves what lies above the axis
    ramp = np.abs(frequency * across[0] + frequency[:, None] * across[1])
    z, y, x = np.indices((n,) * 3) - n // 2
    total = np.zeros(n**3)
    for image, rotation in zip(images, rotations, strict=True):
        filtered = np.fft.ifft2(np.fft.fft2(image) * ramp).real
        u, v, _ = rotation @ np.stack([x, y, z]).reshape(3, -1) + n // 2
        total += map_coordinates(filtered, [v, u], order=1)
    return total.reshape((n,) * 3)


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def one_line(call, *words):
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_back_projection_puts_points_where_they_are():
    volume = back_project(images_of(geometry()), geometry())
    truth = blobs(POINTS_XYZ, 3)
    assert correlation(volume, truth) > 0.8
    assert correlation(volume.flip(0), truth) < 0.3
    assert correlation(back_project(images_of(geometry()), geometry().transpose(0, 2, 1)), truth) < 0.3
    for point in POINTS_XYZ:
        z, y, x = (point[::-1] + N // 2).astype(int)
        assert volume[z, y, x] > 0.6 * volume.max()


def test_it_agrees_with_a_sum_in_real_space():
    images = images_of(geometry())
    assert correlation(back_project(images, geometry()), real_space_sum(images, geometry())) > 0.9


@pytest.mark.parametrize("matrices", [True, False])
@pytest.mark.parametrize("voxel_size_nm", [1.0, 2.0])
def test_a_stack_is_read_as_a_volume(tmp_path, matrices, voxel_size_nm):
    particles = open_particles(project(tmp_path, images_of(geometry()), matrices=matrices), dark_protein=True)
    assert (
        particles.box == N
        and particles.voxel_size_nm == 1.0
        and "multiplied by their CTF already" in particles.notes[1]
    )
    box = int(N / voxel_size_nm)
    (volume,), rejected = particles.read([0], box, voxel_size_nm)
    step = int(voxel_size_nm)
    expected = back_project(images_of(geometry()), geometry())[::step, ::step, ::step]
    assert not rejected and correlation(volume, expected) > 0.97


def test_images_are_cropped_in_fourier_space_where_coarser_voxels_are_asked_for():
    images = images_of(geometry())
    for asked in (None, 0.5, 1.0):
        same, nm = _coarser(images, 1.0, asked)
        assert same is images and nm == 1.0
    coarse, nm = _coarser(images, 1.0, 2.0)
    assert coarse.shape == (len(TILTS), N // 2, N // 2) and nm == 2.0
    # What is left of the frequencies is what it was, up to Nyquist of the new pixels.
    before = np.fft.fftshift(np.fft.fft2(images), axes=(1, 2)) / N**2
    after = np.fft.fftshift(np.fft.fft2(coarse), axes=(1, 2)) / (N // 2) ** 2
    kept = slice(N // 2 - N // 4 + 1, N // 2 + N // 4)
    np.testing.assert_allclose(after[:, 1:, 1:], before[:, kept, kept], atol=1e-6)
    assert _coarser(images, 1.0, 2.1)[0].shape[-1] == 12 and _coarser(images, 1.0, 20.0)[0].shape[-1] == 4


def test_hidden_tilts_are_left_out_whether_their_images_are_there_or_not(tmp_path):
    images = images_of(geometry())
    spoilt = images.copy()
    spoilt[:3] = np.random.default_rng(0).normal(size=spoilt[:3].shape) * 9
    hidden = "000" + "1" * (len(TILTS) - 3)
    all_there = open_particles(project(tmp_path / "a", spoilt, visible=hidden)).read([0], N, 1.0)[0]
    absent = open_particles(project(tmp_path / "b", images[3:], visible=hidden)).read([0], N, 1.0)[0]
    same = partial(torch.testing.assert_close, rtol=0, atol=1e-5)  # the last bits of an FFT hang on where its data lie
    same(all_there, absent)
    for text in (", ".join(hidden), " ".join(hidden), ",".join(f"{flag}.0" for flag in hidden)):
        star = project(tmp_path / "b", images[3:], visible=hidden)
        star.write_text(star.read_text().replace(f"[{','.join(hidden)}]", f'"[{text}]"'))
        same(open_particles(star).read([0], N, 1.0)[0], absent)
    images[:3] = 0  # outside the detector
    same(open_particles(project(tmp_path / "c", images)).read([0], N, 1.0)[0], absent)


def test_bad_stacks_are_rejected_in_one_line(tmp_path):
    images = images_of(geometry())

    def reason(images, **settings):
        (text,) = open_particles(project(tmp_path / "x", images, **settings)).read([0], N, 1.0)[1].values()
        assert "p.mrcs" in text and "\n" not in text
        return text

    assert "20 images for 21 tilts, of which 21 are visible" in reason(images[1:])
    assert "names 2 tilts" in reason(images, visible="11")
    assert "not a list of 0 and 1" in reason(images, visible="12")
    assert "not a list of 0 and 1" in reason(images, visible="0" * len(TILTS))


def test_missing_or_wrong_geometry_is_one_line(tmp_path):
    images = images_of(geometry())
    star = project(tmp_path, images, name="TS_2")
    one_line(lambda: open_particles(star), "tomograms.star", "TS_1", "--tomograms-star")
    star = project(tmp_path, images, rotations=2 * geometry())
    one_line(lambda: open_particles(star), "TS_1", "not a rotation")
    text = (tmp_path / "tomograms.star").read_text()
    (tmp_path / "tomograms.star").write_text(text.replace("rlnTomoProjX", "rlnOther"))
    one_line(lambda: open_particles(star), "TS_1", "no columns rlnTomoProjX")
    (tmp_path / "tomograms.star").rename(tmp_path / "other.star")
    one_line(lambda: open_particles(star), "no tomograms.star", "tomograms_star", "3D subtomograms")
    project(tmp_path, images)
    (tmp_path / "tomograms.star").rename(tmp_path / "other.star")
    assert len(open_particles(star, tomograms_star=tmp_path / "other.star")) == 1
    columns = "data_\n\nloop_\n_rlnTomoParticlesFile\n_rlnTomoTomogramsFile\nparticles.star other.star\n"
    (tmp_path / "run_optimisation_set.star").write_text(columns)
    assert len(open_particles(star)) == 1


def with_defocus(folder, images, defocus=("20000", "18000", "30")):
    """The project with the columns that say what the images were multiplied by."""
    star = project(folder, images)
    text = star.read_text().replace(
        "_rlnCtfDataAre", "_rlnVoltage\n_rlnSphericalAberration\n_rlnAmplitudeContrast\n_rlnCtfDataAre"
    )
    star.write_text(text.replace("1 10.0 1", "1 10.0 300 2.7 0.1 1"))
    columns = ("DefocusU", "DefocusV", "DefocusAngle", "PhaseShift")
    series = (
        (folder / "tomograms.star")
        .read_text()
        .replace("_rlnTomoProjZ\n", "_rlnTomoProjZ\n" + "".join(f"_rln{c}\n" for c in columns[: len(defocus)]))
    )
    rows = [f"{line} {' '.join(defocus)}" if line.startswith("[") else line for line in series.splitlines()]
    (folder / "tomograms.star").write_text("\n".join(rows) + "\n")
    return star


def multiplied(images, phase_degrees=0.0):
    """Images times the CTF that `with_defocus` names."""
    k = torch.from_numpy(np.fft.fftfreq(N, 10.0))
    angle = torch.atan2(k[:, None], k) - np.deg2rad(30)
    values = ctf_values(k[:, None] ** 2 + k**2, 1.9 + 0.1 * torch.cos(2 * angle), (300.0, 2.7, 0.1), phase_degrees)
    return np.fft.ifft2(np.fft.fft2(images) * values.numpy()).real


def test_a_ctf_that_images_were_multiplied_by_is_divided_out(tmp_path):
    images = images_of(geometry())
    images -= images.mean(axis=(1, 2), keepdims=True)
    spoilt = multiplied(images)
    assert correlation(spoilt, images) < 0.9
    particles = open_particles(with_defocus(tmp_path, spoilt), dark_protein=True)
    assert "multiplied by their CTF, which is undone" in particles.notes[1]
    plain = open_particles(project(tmp_path / "plain", images), dark_protein=True)
    assert "not undone for lack of rlnDefocusU" in plain.notes[1]
    (read,), (expected,) = particles.read([0], N, 1.0)[0], plain.read([0], N, 1.0)[0]
    assert correlation(read, expected) > 0.97
    as_it_is = replace(particles, source=replace(particles.source, ctfs=None))
    assert correlation(as_it_is.read([0], N, 1.0)[0], expected) < 0.9
    one_line(
        lambda: open_particles(with_defocus(tmp_path, spoilt, ("x", "1", "2"))),
        "TS_1",
        "rlnDefocusU of row 1 is x",
        "not angstrom",
    )
    one_line(lambda: open_particles(with_defocus(tmp_path, spoilt, ("nan", "1", "2"))), "TS_1", "missing")


def assert_undone(star, expected, at_least=0.97):
    particles = open_particles(star, dark_protein=True)
    assert "multiplied by their CTF, which is undone" in particles.notes[1]
    assert correlation(particles.read([0], N, 1.0)[0][0], expected) > at_least


def without_mean(images):
    return images - images.mean(axis=(1, 2), keepdims=True)


def test_flags_and_groups_may_be_written_as_real_numbers(tmp_path):
    images = without_mean(images_of(geometry()))
    star = with_defocus(tmp_path, multiplied(images))
    expected = open_particles(project(tmp_path / "plain", images), dark_protein=True).read([0], N, 1.0)[0][0]
    text = star.read_text()
    for before, after in (("2.7 0.1 1", "2.7 0.1 1.0"), ("p.mrcs 1 ", "p.mrcs 1.000000 "), ("Stacks 1", "Stacks 1.0")):
        assert text.count(before) == 1
        star.write_text(text.replace(before, after))
        assert_undone(star, expected)


def test_only_particles_that_were_multiplied_are_divided(tmp_path):
    images = without_mean(images_of(geometry()))
    star = with_defocus(tmp_path, multiplied(images))
    mrcfile.write(tmp_path / "plain.mrcs", images.astype(np.float16), voxel_size=10)
    (row,) = [line for line in star.read_text().splitlines() if line.startswith("TS_1")]
    plain = row.replace("p.mrcs 1 ", "plain.mrcs 2 ")
    text = star.read_text().replace(row, f"{row}\n{plain}")
    star.write_text(text.replace("1 10.0 300 2.7 0.1 1\n", "1 10.0 300 2.7 0.1 1\n2 10.0 300 2.7 0.1 0\n"))
    particles = open_particles(star, dark_protein=True)
    assert "1 of 2 multiplied by their CTF, which is undone" in particles.notes[1]
    volumes, _ = particles.read([0, 1], N, 1.0)
    assert correlation(*volumes) > 0.97


@pytest.mark.parametrize("phase", [90, 45])
def test_the_phase_shift_of_a_phase_plate_is_part_of_the_ctf(tmp_path, phase):
    images = without_mean(images_of(geometry()))
    spoilt = multiplied(images, phase)
    star = with_defocus(tmp_path, spoilt, ("20000", "18000", "30", str(phase)))
    expected = open_particles(project(tmp_path / "plain", images), dark_protein=True).read([0], N, 1.0)[0][0]
    assert_undone(star, expected)
    assert "undone with its rlnPhaseShift" in open_particles(star).notes[1]
    # Stated with the particles only, it is no phase shift of each tilt.
    star = with_defocus(tmp_path / "other", spoilt)
    text = star.read_text().replace("_rlnTomoVisible", "_rlnPhaseShift\n_rlnTomoVisible")
    star.write_text(text.replace("p.mrcs 1 ", f"p.mrcs 1 {phase} "))
    assert "not undone, as rlnPhaseShift is not given for each tilt" in open_particles(star).notes[1]
    star = with_defocus(tmp_path, spoilt, ("20000", "18000", "30", "nan"))
    one_line(lambda: open_particles(star), "TS_1", "rlnPhaseShift", "missing")


@needs_real
def test_real_ribosomes_come_out_as_another_program_made_them():
    stacks, volumes = open_particles(TILT_STACKS), open_particles(VOLUMES)
    assert stacks.dark_protein is volumes.dark_protein is False
    stacks = replace(stacks, source=replace(stacks.source, ctfs=None))  # the other program left the CTF as it was
    projected, rejected = stacks.read(range(20), 32, 1.2)
    others, _ = volumes.read(range(20), 32, 1.2)
    assert not rejected
    where = {xyz: i for i, xyz in enumerate(zip(*(volumes.table[f"rlnCoordinate{c}"] for c in "XYZ"), strict=True))}
    order = [where[xyz] for xyz in zip(*(stacks.table[f"rlnCoordinate{c}"] for c in "XYZ"), strict=True)]
    # These volumes were written with z the other way round.
    alike = (projected * others[order].flip(1)).mean(dim=(1, 2, 3))
    assert alike.min() > 0.75 and alike.median() > 0.8
    assert (projected * others[order]).mean(dim=(1, 2, 3)).max() < 0.3


@needs_real
def test_real_ribosomes_fit_each_other_at_their_refined_angles():
    """RELION's angles turn the particles onto each other: only with the right hand and convention do halves agree."""
    stacks = open_particles(TILT_STACKS)
    projected, _ = stacks.read(range(20), 32, 1.2)
    angles = stacks.table[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].astype(float).to_numpy()
    grid = np.stack(np.indices((32,) * 3)[::-1] - 16).reshape(3, -1)  # xyz
    inside = (grid**2).sum(0) < 12**2

    def agreement(volumes):
        turned = []
        for volume, euler in zip(volumes, angles, strict=True):
            x, y, z = Rotation.from_euler("ZYZ", euler, degrees=True).as_matrix().T @ grid + 16
            turned.append(map_coordinates(volume, [z, y, x], order=1)[inside])
        return correlation(sum(turned[::2]), sum(turned[1::2]))

    smooth = torch.nn.functional.avg_pool3d(projected[:, None], 3, 1, 1)[:, 0]
    right, mirrored = agreement(smooth.numpy()), agreement(smooth.flip(1).roll(1, 1).numpy())
    assert right > 0.15 and right > mirrored + 0.05
