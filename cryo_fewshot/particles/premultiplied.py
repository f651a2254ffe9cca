"""3D subtomograms that were multiplied by their CTF, as RELION 4 writes them; divided by it when they are read.

Such a volume is the sum of its tilt images, each times its CTF. Their defoci differ by little, so that at a few nm one
CTF of the particle's defocus stands for all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError
from .ctf import DEFOCUS, OPTICS, PHASE_SHIFT, volume_divided_by_ctf
from .mrc_particles import ParticleFiles
from .star import as_numbers, numbers
from .tilt_stacks import find_tomograms_star, read_series


@dataclass(frozen=True)
class PremultipliedVolumes:
    """Volumes and what each was multiplied by; plain data.

    ctfs : `(n, 5)` defocus in um, kV, mm of spherical aberration, amplitude contrast, phase shift in degrees of each
    particle; NaN where it is left as it is
    """

    files: ParticleFiles
    ctfs: np.ndarray

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """As in `base.Source`."""
        read = self.files.opened()

        def volume_of(i: int) -> tuple[np.ndarray, float]:
            volume, nm = read(i)
            return (volume_divided_by_ctf(volume, nm, self.ctfs[i]) if np.isfinite(self.ctfs[i]).all() else volume), nm

        return volume_of

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """As in `base.Source`."""
        return self.files.identities(indices)


def open_volumes(
    files: ParticleFiles, blocks: dict, name: str, tomograms_star: str | Path | None
) -> tuple[ParticleFiles | PremultipliedVolumes, tuple[str, ...]]:
    """Volumes of a particle STAR file, and what was said of their CTF."""
    flags = numbers(blocks, name, "rlnCtfDataAreCtfPremultiplied")
    files = files.surveyed()
    if flags is None or not (flags == 1).any():
        said = "" if flags is None else f"{files.listed_in}: volumes that were not multiplied by their CTF"
        return files, (said,) if said else ()
    optics = [numbers(blocks, name, column) for column in OPTICS]
    defocus_a, source = _defocus(files, blocks, name, tomograms_star)
    what = f"{files.listed_in}: {(flags == 1).sum()} of {len(flags)} volumes were multiplied by their CTF"
    if defocus_a is None or any(values is None for values in optics):
        return files, (f"{what}, which is not undone for lack of {', '.join((*DEFOCUS[:2], *OPTICS))}",)
    phase = numbers(blocks, name, PHASE_SHIFT)
    columns = [defocus_a / 1e4, *optics, np.zeros(len(flags)) if phase is None else phase]
    ctfs = np.where((flags == 1)[:, None], np.stack(columns, axis=1), np.nan)
    if (lost := int((~np.isfinite(ctfs).all(axis=1) & (flags == 1)).sum())) or not (ctfs[flags == 1, 1] > 0).all():
        raise UserError(f"{what}, but {lost} rows lack a defocus or optics value ({source}); export them again")
    return PremultipliedVolumes(files, ctfs), (f"{what}, which is undone with the defocus of {source}",)


def _defocus(files: ParticleFiles, blocks: dict, name: str, tomograms_star) -> tuple[np.ndarray | None, str]:
    """Defocus of each particle in angstrom, mean of both axes: its own, else its tilt series' mean; and where from."""
    own = [numbers(blocks, name, column) for column in DEFOCUS[:2]]
    if all(values is not None for values in own):
        return np.mean(own, axis=0), "each row"
    if "rlnTomoName" not in blocks[name]:
        return None, ""
    try:
        path = Path(tomograms_star) if tomograms_star is not None else find_tomograms_star(files)
        names = sorted(set(blocks[name]["rlnTomoName"]))
        series = read_series(path, names)
    except UserError:
        return None, ""
    if not all(set(DEFOCUS[:2]) <= set(block) for block, _ in series):
        return None, ""
    means = [np.mean([as_numbers(block[column]) for column in DEFOCUS[:2]]) for block, _ in series]
    return blocks[name]["rlnTomoName"].map(dict(zip(names, means, strict=True))).to_numpy(float), f"{path}"
