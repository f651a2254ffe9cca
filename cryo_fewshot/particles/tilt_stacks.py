"""Particles as stacks of tilt images (RELION 5, WarpTools), back-projected when they are read.

A row of tomograms.star maps tomogram xyz to image xyz: image x is rlnTomoProjX . (x, y, z), and so on. By the
slice theorem an image's transform lies in the plane that the inverse, the transpose, of that rotation makes of
(kx, ky, 0).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from ..errors import UserError
from .ctf import DEFOCUS, OPTICS, PHASE_SHIFT, divided_by_ctf, read_ctf
from .mrc import checked_values, open_mrc, reading
from .mrc_particles import ParticleFiles
from .resampling import resampling_matrix
from .star import as_numbers, numbers, read_star_blocks, texts
from .stated import check_values

PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
EULER = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
EXPORT = "export particles and tomograms.star again"


@dataclass(frozen=True, kw_only=True)
class TiltStacks(ParticleFiles):
    """Stacks of images with their tilt geometry; plain data.

    tomograms : `(n,)` index into rotations; rotations : per tomogram `(n_tilts, 3, 3)` that map tomogram xyz to image
    xyz; visible : per particle a text of 0 and 1 for its tilts, or None where all are used; ctfs : per tomogram
    `(n_tilts, 7)`, what the images were multiplied by and are divided by when they are read, or None to leave them as
    they are; multiplied : `(n,)` whether a particle's images were
    """

    tomograms: np.ndarray
    rotations: tuple[np.ndarray, ...]
    visible: list[str] | None = None
    ctfs: tuple[np.ndarray | None, ...] | None = None
    multiplied: np.ndarray | None = None

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """As in `base.Source`; images are cropped in Fourier space to voxel_size_nm before they are projected."""
        find = self.finder()

        def volume_of(i: int) -> tuple[np.ndarray, float]:
            images, nm, path = self._images(i, find)
            rotations = self.rotations[self.tomograms[i]]
            seen = np.ones(len(rotations), bool) if self.visible is None else _flags(self.visible[i], path)
            if len(seen) != len(rotations):
                tilts = f"rlnTomoVisibleFrames names {len(seen)} tilts, but its tomogram has {len(rotations)}"
                raise UserError(f"{path}: {tilts}; {EXPORT}")
            if len(images) == len(seen):
                images = images[seen]
            elif len(images) != seen.sum():
                tilts = f"{len(images)} images for {len(seen)} tilts, of which {seen.sum()} are visible"
                raise UserError(f"{path}: {tilts}; {EXPORT}")
            kept = images.std(axis=(1, 2)) > 0  # an image outside the detector is all zeros
            if not kept.any():
                raise UserError(f"{path}: every image is empty; remove the file or extract it again")
            images = images[kept]
            if self.ctfs is not None and self.multiplied[i]:
                images = divided_by_ctf(images, nm, self.ctfs[self.tomograms[i]][seen][kept])
            images, nm = _coarser(images, nm, voxel_size_nm)
            return back_project(images, rotations[seen][kept]).double().numpy(), nm

        return volume_of

    def surveyed(self) -> "TiltStacks":
        """As in `ParticleFiles.surveyed`, of the images."""
        find = self.finder()
        return super().surveyed(lambda i: self._images(i, find)[:2])

    def _images(self, i: int, find) -> tuple[np.ndarray, float, Path]:
        path, index = find(i)
        file = open_mrc(path)
        if index is not None or file.data.ndim != 3 or file.data.shape[1] != file.data.shape[2]:
            shape = " x ".join(map(str, file.data.shape))
            raise UserError(f"{path}: {shape} pixels, not a stack of square tilt images of one particle; {EXPORT}")
        images = checked_values(file.data, path)
        return images, self.agreed_voxel_size(i, path, file.voxel_size_nm, images.shape[-1]), path


def back_project(images: np.ndarray, rotations: np.ndarray) -> torch.Tensor:
    """Volume `(b, b, b)` float32 from tilt images `(n, b, b)` by Fourier insertion; the missing wedge stays empty.

    rotations : `(n, 3, 3)`, each maps volume xyz to image xyz. torch-fourier-slice wants the matrices that map image
    frequencies to volume frequencies, their inverses.
    """
    from torch_fourier_slice import backproject_2d_to_3d

    matrices = torch.from_numpy(np.ascontiguousarray(rotations.transpose(0, 2, 1))).float()
    return backproject_2d_to_3d(torch.from_numpy(images).float(), matrices)


def open_tilt_stacks(
    files: ParticleFiles, blocks: dict, name: str, tomograms_star: str | Path | None
) -> tuple[TiltStacks, tuple[str, ...]]:
    """Stacks of a particle STAR file with the geometry of their tomograms, and notes; raises UserError."""
    table = blocks[name]
    if "rlnTomoName" not in table:
        what = "2D images without rlnTomoName, apparently of single particles, which have no tilt geometry"
        raise UserError(f"{files.listed_in}: lists {what}; give subtomograms")
    path = Path(tomograms_star) if tomograms_star is not None else find_tomograms_star(files)
    tomogram_names = sorted(set(table["rlnTomoName"]))
    series = read_series(path, tomogram_names)
    rotations = tuple(_rotations(*one) for one in series)
    tomograms = table["rlnTomoName"].map({t: k for k, t in enumerate(tomogram_names)}).to_numpy()
    visible = table["rlnTomoVisibleFrames"].tolist() if "rlnTomoVisibleFrames" in table else None
    multiplied, ctfs, said = _multiplied_by(blocks, name, tomograms, series)
    note = f"{files.listed_in}: tilt images, {said}, back-projected with the geometry of {path}"
    geometry = {"tomograms": tomograms, "rotations": rotations, "visible": visible, "multiplied": multiplied}
    return TiltStacks(**{**vars(files), **geometry, "ctfs": ctfs}).surveyed(), (note,)


def _multiplied_by(
    blocks: dict, name: str, tomograms: np.ndarray, series: list[tuple]
) -> tuple[np.ndarray, tuple[np.ndarray | None, ...] | None, str]:
    """Which particles were multiplied by their CTF, the CTFs of their tomograms where known, and this in words."""
    flags = numbers(blocks, name, "rlnCtfDataAreCtfPremultiplied")
    multiplied = np.zeros(len(tomograms), bool) if flags is None else flags == 1
    if not multiplied.any():
        return multiplied, None, "not corrected for their CTF"
    count = "" if multiplied.all() else f"{multiplied.sum()} of {len(multiplied)} "
    kept = f"{count}multiplied by their CTF already, which is not undone"
    optics = [texts(blocks, name, column) for column in OPTICS]
    if None in optics or not all(set(DEFOCUS) <= set(block) for block, _ in series):
        return multiplied, None, f"{kept} for lack of {', '.join((*DEFOCUS, *OPTICS))}"
    of_particles = numbers(blocks, name, PHASE_SHIFT)
    if of_particles is not None and of_particles.any() and not all(PHASE_SHIFT in block for block, _ in series):
        return multiplied, None, f"{kept}, as {PHASE_SHIFT} is not given for each tilt"
    ctfs = []
    for k, one in enumerate(series):
        rows = np.flatnonzero((tomograms == k) & multiplied)
        ctfs.append(read_ctf(*one, [column[rows[0]] for column in optics], EXPORT) if len(rows) else None)
    shifted = f" with its {PHASE_SHIFT}" if any(PHASE_SHIFT in block for block, _ in series) else ""
    return multiplied, tuple(ctfs), f"{count}multiplied by their CTF, which is undone{shifted}"


def find_tomograms_star(files: ParticleFiles) -> Path:
    """The tilt geometry: of the optimisation set that names the particle file, else tomograms.star near, else of the
    only set that names no particle file."""
    listed_in = files.named_in or files.listed_in
    folders = [*listed_in.absolute().parents, *files.listed_in.absolute().parents]
    sets = [optimisation_set(read_star_blocks(path)) for path in sorted(folders[0].glob("*optimisation_set.star"))]
    named = [tomograms for particles, tomograms in sets if Path(particles).name == listed_in.name]
    unnamed = [tomograms for particles, tomograms in sets if not particles]
    near = [folder / "tomograms.star" for folder in ([files.root] if files.root else []) + folders]
    for tomograms in (*named, *near, *(unnamed if len(unnamed) == 1 else ())):
        found = next((above / tomograms for above in folders if tomograms and (above / tomograms).is_file()), None)
        if found:
            return found
    beside = f" and none of {len(sets)} optimisation sets beside it names it" if sets else ""
    remedy = "give tomograms_star (--tomograms-star), or extract the particles as 3D subtomograms"
    raise UserError(f"{files.listed_in}: lists 2D stacks, but no tomograms.star is near it{beside}; {remedy}")


def optimisation_set(blocks: dict) -> tuple[str, str]:
    """Particle file and tomograms.star that an optimisation set names, each empty where none is named."""
    for block in blocks.values():
        if "rlnTomoTomogramsFile" in block:
            one = block if isinstance(block, dict) else block.iloc[0].fillna("").to_dict()
            return one.get("rlnTomoParticlesFile", ""), one["rlnTomoTomogramsFile"]
    return "", ""


def read_series(path: Path, names: list[str]) -> list[tuple]:
    """The table of each tilt series, and what to call it in a message."""
    blocks = read_star_blocks(path)
    elsewhere = {}  # RELION 5 keeps each tilt series in a STAR file of its own
    for block in blocks.values():
        if not isinstance(block, dict) and {"rlnTomoName", "rlnTomoTiltSeriesStarFile"} <= set(block):
            elsewhere = dict(zip(block["rlnTomoName"], block["rlnTomoTiltSeriesStarFile"], strict=True))
    series = []
    for name in names:
        block, where = blocks.get(name), path
        if block is None and isinstance(elsewhere.get(name), str):
            above = (folder / elsewhere[name] for folder in path.absolute().parents)
            where = next((candidate for candidate in above if candidate.is_file()), None)
            if where is None:
                raise UserError(f"{elsewhere[name]}: named in {path} but missing; correct the name")
            block = next(iter(read_star_blocks(where).values()), None)
        if block is None or isinstance(block, dict):
            raise UserError(f"{path}: no tilt geometry of tomogram {name}; give the right one (--tomograms-star)")
        check_values({name: block}, f"{where}: tomogram {name}")
        series.append((block, f"{where}: tomogram {name}"))
    return series


def _rotations(block, where: str) -> np.ndarray:
    with reading(where, "three rows of numbers in each projection", EXPORT):
        if set(PROJECTION) <= set(block):
            rows = [[[float(x) for x in text.strip("[]").split(",")[:3]] for text in block[c]] for c in PROJECTION]
            rotations = np.array(rows, dtype=np.float64).transpose(1, 0, 2)
        elif set(EULER) <= set(block):
            # As RELION 5 composes it: Rz(rlnTomoZRot) Ry(rlnTomoYTilt) Rx(rlnTomoXTilt), the last acts first.
            angles = np.stack([block[c].astype(float) for c in EULER], axis=1)
            rotations = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        else:
            raise UserError(f"{where}: no columns {PROJECTION[0]} or {EULER[0]}; {EXPORT}")
        product = rotations @ rotations.transpose(0, 2, 1)
    if not np.abs(product - np.eye(3)).max() < 0.01:
        raise UserError(f"{where}: a projection that is not a rotation; {EXPORT}")
    return rotations


def _flags(text: str, path: Path) -> np.ndarray:
    flags = as_numbers(str(text).strip("[] ").replace(",", " ").split())
    if not set(flags) <= {0, 1} or 1 not in flags:
        what = "not a list of 0 and 1 with at least one 1"
        raise UserError(f"{path}: rlnTomoVisibleFrames {str(text)[:40]} is {what}; {EXPORT}")
    return flags == 1


def _coarser(images: np.ndarray, nm: float, voxel_size_nm: float | None) -> tuple[np.ndarray, float]:
    """Images of voxel_size_nm over the same field, where that is coarser: back-projection costs their volume."""
    if voxel_size_nm is None or voxel_size_nm <= nm:
        return images, nm
    n = images.shape[-1]
    new_n = max(4, 2 * int(np.ceil(n * nm / voxel_size_nm / 2)))
    matrix = resampling_matrix(n, nm, new_n, voxel_size_nm).numpy()
    return matrix @ images @ matrix.T, voxel_size_nm
