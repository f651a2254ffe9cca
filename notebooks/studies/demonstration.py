"""The command on particles whose classes are known: simulated ones as the files of a RELION project."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cryo_fewshot.evaluation import expected_calibration_error
from cryo_fewshot.files import write_atomically
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.mrc import write_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.recognition.classify import Outcome, classify
from cryo_fewshot.recognition.output import average_voxel_nm
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope

from .averages import packed


def write_particles(
    folder: str | Path,
    recipe: SimulatedData,
    class_names: Sequence[str],
    counts: Mapping[float, int],
    *,
    with_labels: bool,
) -> tuple[Path, list[str]]:
    """Simulate particles and write them as RELION 4 does; returns the STAR file and the true classes.

    Parameters
    ----------
    folder : receives `particles.star` and a folder `Subtomograms` with one MRC file per particle
    recipe : of the volumes; samples are its first ones, another recipe seed gives others
    counts : particles of each class at each SNR
    with_labels : write the class of each particle into the column rlnClassName, as in a labelled set
    """
    folder = Path(folder)
    subtomograms = simulate_set(recipe, dict(counts), class_names)
    order = np.random.default_rng(0).permutation(len(subtomograms))
    truth = [class_names[subtomograms.labels[i]] for i in order]
    names = [f"Subtomograms/TS_01/{number:06d}.mrc" for number in range(1, len(order) + 1)]
    for name, i in zip(names, order, strict=True):
        write_mrc(folder / name, subtomograms.volumes[i].numpy(), recipe.voxel_size_nm)
    group = {"rlnOpticsGroup": 1, "rlnOpticsGroupName": "opticsGroup1", "rlnImageDimensionality": 3}
    optics = pd.DataFrame([{**group, "rlnImagePixelSize": 10 * recipe.voxel_size_nm, "rlnImageSize": recipe.box}])
    table = pd.DataFrame({"rlnTomoName": "TS_01", "rlnImageName": names, "rlnOpticsGroup": 1})
    places = np.random.default_rng(1).uniform(40, 900, size=(len(order), 3)).round(2)
    table[["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]] = places
    if with_labels:
        table["rlnClassName"] = truth
    import starfile

    text = starfile.to_string({"optics": optics, "particles": table}, float_format="%.2f")
    write_atomically(folder / "particles.star", text[text.index("data_") :].encode())
    return folder / "particles.star", truth


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A whole run of `cryo-fewshot classify` on simulated particles.

    encoder : digest of its weights; classes : with labelled particles; outsiders : unknown classes among the particles
    n_labelled, n_particles : of each class; n_averaged : particles per class average
    """

    version = 5  # what the run prints and its report

    encoder: str
    classes: tuple[str, ...] = ("3KUY", "1OEL", "3M6A", "1QVR", "3UWX")
    outsiders: tuple[str, ...] = ("1HTQ", "4NMN", "1E0T")
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=1))
    snr: float = 0.1
    n_labelled: int = 5
    n_particles: int = 60
    n_averaged: int = 40
    false_accept_rate: float = 0.05
    seed: int = 11

    def run(self, runner) -> dict:
        """Write the particles, run the command, and compare its answer with the truth.

        Result: `star`, the first lines of the particles' STAR file; `printed`, what the command said; `files`, what it
        wrote; `rows`, the first rows of its table; `counts`; `accuracy` of particles of a labelled class, accepted or
        not, and `accuracy_accepted` of those accepted; `kept`, the recall, the share of them that is accepted;
        `false_accepts`, the share of particles of unknown classes that is accepted; `calibration_error`;
        `leave_one_out`, the accuracy that the command foresees, with its interval; `averages`, by class.
        """
        recipe = SimulatedData(n_per_class=self.n_particles, microscope=self.microscope, seed=self.seed)
        labelled = replace(recipe, n_per_class=self.n_labelled, seed=self.seed + 1)
        settings = Settings(n_averaged=self.n_averaged, false_accept_rate=self.false_accept_rate, seed=self.seed)
        everything = [*self.classes, *self.outsiders]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_particles(folder / "labelled", labelled, self.classes, {self.snr: self.n_labelled}, with_labels=True)
            counts = {self.snr: self.n_particles}
            star, truth = write_particles(folder / "all", recipe, everything, counts, with_labels=False)
            support, query = open_particles(folder / "labelled" / "particles.star"), open_particles(star)
            outcome, printed = _classified(support, query, folder, settings)
            files = sorted(
                path.relative_to(folder).as_posix() for path in (folder / "run1").rglob("*") if path.is_file()
            )
            head = star.read_text().splitlines()[:24]
        table, truth = outcome.table, np.array(truth)
        known, accepted = np.isin(truth, self.classes), table["accepted"].to_numpy()
        right, check = table["class"].to_numpy() == truth, outcome.recogniser.check
        return {
            "star": head,
            "printed": printed,
            "files": [path for path in files if "/embeddings/" not in path],
            "rows": table.drop(columns=["reason", "labelled"]).assign(truth=truth).head(8).round(3).to_dict("list"),
            "counts": outcome.counts.round(3).to_dict("list"),
            "accuracy": float(right[known].mean()),
            "accuracy_accepted": float(right[known & accepted].mean()) if (known & accepted).any() else None,
            "kept": float(accepted[known].mean()),
            "false_accepts": float(accepted[~known].mean()),
            "calibration_error": expected_calibration_error(table["probability"].to_numpy()[known], right[known]),
            "leave_one_out": [check.accuracy, check.low, check.high],
            "averages": {
                name: {
                    "density": packed(-refined.average.density),
                    "voxel_size_nm": average_voxel_nm(query, settings),
                    "resolution_nm": resolution if np.isfinite(resolution := refined.resolutions_nm[0.143]) else None,
                    "n_particles": len(refined.halves),
                }
                for name, refined in outcome.averages.items()
            },
        }


def _classified(support: Particles, query: Particles, folder: Path, settings: Settings) -> tuple[Outcome, list[str]]:
    """The command's outcome, written to `run1`, and the lines that it printed, without the folder's name."""
    printed = []
    outcome = classify(support, query, folder / "run1", settings=settings, say=printed.append)
    return outcome, [line.replace(f"{folder}/", "") for line in printed]
