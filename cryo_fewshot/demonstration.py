"""Simulated particles as the files that a processing project would hold, to try the tool where the answer is known."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .dataset import SimulatedData, simulate_set
from .files import write_atomically
from .mrc import write_mrc


def write_particles(
    folder: str | Path,
    recipe: SimulatedData,
    class_names: Sequence[str],
    counts: Mapping[float, int],
    *,
    with_labels: bool,
    shuffle_seed: int = 0,
) -> tuple[Path, list[str]]:
    """Simulate particles and write them as RELION 4 lays them out; returns the STAR file and the true classes.

    Parameters
    ----------
    folder : receives `particles.star` and a folder `Subtomograms` with one MRC file per particle
    recipe : of the volumes; samples are its first ones, another recipe seed gives others
    counts : particles of each class at each SNR
    with_labels : write the class of each particle into the column rlnClassName, as in a labelled set
    shuffle_seed : of the order of the particles
    """
    folder = Path(folder)
    subtomograms = simulate_set(recipe, dict(counts), class_names)
    order = np.random.default_rng(shuffle_seed).permutation(len(subtomograms))
    truth = [class_names[subtomograms.labels[i]] for i in order]
    names = [f"Subtomograms/TS_01/{number:06d}.mrc" for number in range(1, len(order) + 1)]
    for name, i in zip(names, order, strict=True):
        write_mrc(folder / name, subtomograms.volumes[i].numpy(), recipe.voxel_size_nm)
    optics = pd.DataFrame(
        {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnImagePixelSize": [10 * recipe.voxel_size_nm],
            "rlnImageSize": [recipe.box],
            "rlnImageDimensionality": [3],
        }
    )
    rng = np.random.default_rng(shuffle_seed + 1)
    places = pd.DataFrame(
        rng.uniform(40, 900, size=(len(order), 3)).round(2), columns=[f"rlnCoordinate{axis}" for axis in "XYZ"]
    )
    table = pd.DataFrame({"rlnTomoName": "TS_01", "rlnImageName": names, "rlnOpticsGroup": 1}).join(places)
    if with_labels:
        table["rlnClassName"] = truth
    import starfile

    text = starfile.to_string({"optics": optics, "particles": table})
    write_atomically(folder / "particles.star", text.encode())
    return folder / "particles.star", truth
