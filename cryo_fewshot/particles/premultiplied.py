"""3D subtomograms that were multiplied by their CTF, as RELION 4 writes them; divided by it when they are read.

Such a volume is the sum of its tilt images, each times its CTF. Their defoci differ by little, so that at a few nm one
CTF of the particle's defocus stands for all.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import UserError
from .ctf import DEFOCUS, OPTICS, PHASE_SHIFT
from .mrc_particles import ParticleFiles
from .star import as_numbers, numbers
from .tilt_stacks import find_tomograms_star, read_series


def open_volumes(
    files: ParticleFiles, blocks: dict, name: str, tomograms_star: str | Path | None
) -> tuple[ParticleFiles, tuple[str, ...]]:
    """Volumes of a particle STAR file, surveyed, and what was said of their CTF."""
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
    none = np.zeros(len(flags))
    columns = [defocus_a, defocus_a, none, *optics, none if phase is None else phase]
    ctfs = np.where((flags == 1)[:, None], np.stack(columns, axis=1), np.nan)
    if lost := int((~np.isfinite(ctfs).all(axis=1) & (flags == 1)).sum()):
        raise UserError(f"{what}, but {lost} rows lack a defocus or optics value ({source}); export them again")
    return replace(files, ctfs=ctfs), (f"{what}, which is undone with the defocus of {source}",)


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
