"""Stacks of tilt images: back-projected where the tilt geometry says, against sums in real space and real particles."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from cryo_fewshot.particles.ctf import ctf_values
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.tilt_stacks import _coarser, back_project

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


def list_of(rows):
    return ["[" + ",".join(f"{x:.6f}" for x in row) + ",0]" for row in rows]


def matrices(rotations=None):
    """The tilts as WarpTools writes them."""
    x, y, z = (geometry() if rotations is None else rotations).transpose(1, 0, 2)
    return {"rlnTomoProjX": list_of(x), "rlnTomoProjY": list_of(y), "rlnTomoProjZ": list_of(z)}


ANGLES = {"rlnTomoXTilt": [3.0] * len(TILTS), "rlnTomoYTilt": TILTS, "rlnTomoZRot": [85.0] * len(TILTS)}
FLAG = {"rlnImagePixelSize": 10.0, "rlnCtfDataAreCtfPremultiplied": 1}
OPTICS = FLAG | {"rlnVoltage": 300, "rlnSphericalAberration": 2.7, "rlnAmplitudeContrast": 0.1}


def defocus(u=20000, **more):
    """The tilts with the defocus that `multiplied` has."""
    values = {"rlnDefocusU": u, "rlnDefocusV": 18000, "rlnDefocusAngle": 30} | more
    return matrices() | {name: [value] * len(TILTS) for name, value in values.items()}


@pytest.fixture
def project(files, tmp_path):
    """`project(images, ...)`: the STAR file of one stack; as `files.stack`, in a folder of that name."""

    def made(images, folder="x", series=None, **columns):
        images = images.astype(np.float16)
        return files.stack(tmp_path / folder, images, series or matrices(), **({"optics": FLAG} | columns))

    return made


def correlation(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def test_back_projection_puts_points_where_they_are():
    volume = back_project(images_of(geometry()), geometry())
    truth = blobs(POINTS_XYZ, 3)
    assert correlation(volume, truth) > 0.8
    assert correlation(volume.flip(0), truth) < 0.3
    assert correlation(back_project(images_of(geometry()), geometry().transpose(0, 2, 1)), truth) < 0.3
    for point in POINTS_XYZ:
        z, y, x = (point[::-1] + N // 2).astype(int)
        assert volume[z, y, x] > 0.6 * volume.max()


@pytest.mark.parametrize("series", [matrices(), ANGLES], ids=["matrices", "angles"])
@pytest.mark.parametrize("voxel_size_nm", [1.0, 2.0])
def test_a_stack_is_read_as_a_volume(project, series, voxel_size_nm):
    particles = open_particles(project(images_of(geometry()), series=series), dark_protein=True)
    assert particles.box == N and particles.voxel_size_nm == 1.0
    assert "multiplied by their CTF already" in particles.notes[1]
    (volume,), rejected = particles.read([0], int(N / voxel_size_nm), voxel_size_nm)
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


def test_hidden_tilts_are_left_out_whether_their_images_are_there_or_not(project):
    images = images_of(geometry())
    spoilt = images.copy()
    spoilt[:3] = np.random.default_rng(0).normal(size=spoilt[:3].shape) * 9
    hidden = "000" + "1" * (len(TILTS) - 3)

    def read(images, visible=None):
        row = {} if visible is None else {"rlnTomoVisibleFrames": visible}
        return open_particles(project(images, row=row)).read([0], N, 1.0)[0]

    same = partial(torch.testing.assert_close, rtol=0, atol=1e-5)  # the last bits of an FFT hang on where its data lie
    absent = read(images[3:], f"[{','.join(hidden)}]")
    same(read(spoilt, f"[{','.join(hidden)}]"), absent)
    for text in (", ".join(hidden), " ".join(hidden), ",".join(f"{flag}.0" for flag in hidden)):
        same(read(images[3:], f'"[{text}]"'), absent)
    images[:3] = 0  # outside the detector
    same(read(images), absent)


def test_too_few_images_are_rejected_in_one_line(project):
    (reason,) = open_particles(project(images_of(geometry())[1:])).read([0], N, 1.0)[1].values()
    assert "p.mrcs" in reason and "20 images for 21 tilts, of which 21 are visible" in reason and "\n" not in reason


def test_missing_or_wrong_geometry_is_one_line(project, files):
    images = images_of(geometry())
    for settings, words in (
        ({"name": "TS_2"}, ("tomograms.star", "TS_1", "--tomograms-star")),
        ({"series": matrices(2 * geometry())}, ("TS_1", "not a rotation")),
        ({"series": {"rlnOther": [1]}}, ("TS_1", "no columns rlnTomoProjX")),
    ):
        star = project(images, **settings)
        files.one_line(lambda star=star: open_particles(star), *words)
    star = project(images)
    star.with_name("tomograms.star").rename(star.with_name("other.star"))
    files.one_line(lambda: open_particles(star), "no tomograms.star", "tomograms_star", "3D subtomograms")
    assert len(open_particles(star, tomograms_star=star.with_name("other.star"))) == 1


def multiplied(phase_degrees=0.0):
    """Images, and these times the CTF that `defocus` names."""
    images = images_of(geometry())
    images -= images.mean(axis=(1, 2), keepdims=True)
    k = torch.from_numpy(np.fft.fftfreq(N, 10.0))
    angle = torch.atan2(k[:, None], k) - np.deg2rad(30)
    values = ctf_values(k[:, None] ** 2 + k**2, 1.9 + 0.1 * torch.cos(2 * angle), (300.0, 2.7, 0.1), phase_degrees)
    return images, np.fft.ifft2(np.fft.fft2(images) * values.numpy()).real


def read_undone(star):
    particles = open_particles(star, dark_protein=True)
    assert "multiplied by their CTF, which is undone" in particles.notes[1]
    return particles.read([0], N, 1.0)[0][0]


def test_a_ctf_that_images_were_multiplied_by_is_divided_out(project, files):
    images, spoilt = multiplied()
    assert correlation(spoilt, images) < 0.9
    plain = open_particles(project(images, "plain"), dark_protein=True)
    assert "not undone for lack of rlnDefocusU" in plain.notes[1]
    expected = plain.read([0], N, 1.0)[0]
    # Flags and groups may be written as real numbers.
    for changed in ({}, {"rlnCtfDataAreCtfPremultiplied": "1.0"}, {"rlnOpticsGroup": "1.000000"}):
        star = project(spoilt, series=defocus(), optics=OPTICS | changed)
        assert correlation(read_undone(star), expected) > 0.97
    particles = open_particles(star, dark_protein=True)
    as_it_is = replace(particles, source=replace(particles.source, ctfs=None))
    assert correlation(as_it_is.read([0], N, 1.0)[0], expected) < 0.9
    for u, words in {"x": ("rlnDefocusU of row 1 is x", "not angstrom"), "nan": ("missing",)}.items():
        star = project(spoilt, series=defocus(u), optics=OPTICS)
        files.one_line(lambda star=star: open_particles(star), "TS_1", *words)


def test_only_particles_that_were_multiplied_are_divided(project, files):
    images, spoilt = multiplied()
    star = project(spoilt, series=defocus())
    files.write(star.with_name("plain.mrcs"), images.astype(np.float16))
    groups = [(*OPTICS.values(), 1), (*(OPTICS | {"rlnCtfDataAreCtfPremultiplied": 0}).values(), 2)]
    optics = files.optics_table(*groups, columns=[*OPTICS, "rlnOpticsGroup"])
    rows = [("TS_1", "p.mrcs", 1), ("TS_1", "plain.mrcs", 2)]
    general = "data_general\n\n_rlnTomoSubTomosAre2DStacks 1.0\n\n"
    files.star_of(star, ["rlnTomoName", "rlnImageName", "rlnOpticsGroup"], rows, optics, general)
    particles = open_particles(star, dark_protein=True)
    assert "1 of 2 multiplied by their CTF, which is undone" in particles.notes[1]
    assert correlation(*particles.read([0, 1], N, 1.0)[0]) > 0.97


@pytest.mark.parametrize("phase", [90, 45])
def test_the_phase_shift_of_a_phase_plate_is_part_of_the_ctf(project, files, phase):
    images, spoilt = multiplied(phase)
    star = project(spoilt, series=defocus(rlnPhaseShift=phase), optics=OPTICS)
    expected = open_particles(project(images, "plain"), dark_protein=True).read([0], N, 1.0)[0][0]
    assert correlation(read_undone(star), expected) > 0.97
    assert "undone with its rlnPhaseShift" in open_particles(star).notes[1]
    # Stated with the particles only, it is no phase shift of each tilt.
    star = project(spoilt, series=defocus(), optics=OPTICS, row={"rlnPhaseShift": phase})
    assert "not undone, as rlnPhaseShift is not given for each tilt" in open_particles(star).notes[1]
    star = project(spoilt, series=defocus(rlnPhaseShift="nan"), optics=OPTICS)
    files.one_line(lambda: open_particles(star), "TS_1", "rlnPhaseShift", "missing")


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
