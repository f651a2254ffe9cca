"""Subtomogram averages of one class before and after a few-shot classification.

One test task is classified whole: its support gives the prototypes, and every other test subtomogram of its classes is
assigned to one of them. Averaged are a mixture of all of these, those assigned to the class, or those of the class.
"""

import base64
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.adaptation import combined_logits
from cryo_fewshot.averaging.alignment import Poses, Search
from cryo_fewshot.averaging.averages import average, laid_onto, refine
from cryo_fewshot.averaging.fsc import resolution, shell_correlation
from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.surrogates import DOUBLE_CAPPED, SINGLE_CAPPED
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.simulation.microscope import Acquisition, Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import registry

SELECTIONS = ("single", "mixture", "assigned", "members")
FEWEST = 8
"""Particles that an average of two halves needs."""
PREFERRED = (DOUBLE_CAPPED, "1PMA", "3IPM", "1OEL")
"""Classes to average, first choice first: proteasomes as in the paper, then GroEL, a barrel as well."""
BARREL = Search(mask_radius_nm=11.0, coarse_low_pass_nm=4.0)
CAPPED = Search(coarse_low_pass_nm=6.0)
"""For a 26S proteasome, of up to 45 nm: the box is its mask."""
# 'cpu' and 'paper' take the defaults. A rough search tests the code alone.
_ROUGH = Search(grid_degrees=60.0, finest_degrees=30.0, n_candidates=1, coarse_low_pass_nm=8.0)
_REDUCED = {
    "smoke": {"n_particles": 8, "n_iterations": 1, "n_starts": 1, "search": _ROUGH},
    "quick": {"n_particles": 32, "n_iterations": 2, "n_starts": 1},
}


@dataclass(frozen=True, kw_only=True)
class ClassAverage:
    """One average of subtomograms of the first test task that holds a class.

    Parameters
    ----------
    evaluation : of ProtoNet-CE on simulated data; gives the test tasks
    target : the class
    selection : 'single' for one subtomogram of the class in its true pose, no average; 'mixture' for queries of all
        classes of the task, before classification; 'assigned' for what ProtoNet-CE assigned to the class, mistakes
        and all; 'members' for the class without mistakes
    n_particles : at most so many are averaged, drawn at random
    search : how poses are found
    n_iterations, n_starts, seed : of `averaging.refine`
    """

    evaluation: Evaluation
    target: str
    selection: str
    n_particles: int = 64
    search: Search = BARREL
    n_iterations: int = 3
    n_starts: int = 2
    seed: int = 0

    def __post_init__(self):
        if self.n_particles < FEWEST:
            raise UserError(f"n_particles={self.n_particles}: averaging two halves needs at least {FEWEST}")

    def run(self, runner) -> dict:
        """The average, how well its halves agree, and how well it agrees with the density that was simulated.

        Volumes are those of the test set, not binned. The average is laid onto the density, longest axis along y.

        Result: `classes` of the task; `selected` and `averaged`, counts per class; `n_members` among the queries;
        `voxel_size_nm`; `frequencies_per_nm`; `fsc_halves` (None for 'single') and `fsc_truth`, for 'single' the median
        over n_particles of them; `density`, see `unpacked`. With too few particles both FSCs and the density are None.
        """
        evaluation, data = self.evaluation, self.evaluation.novel_data
        ways, queries = _classified(runner, evaluation, self.target)
        is_member, is_assigned = (queries[column] == ways.index(self.target) for column in ("true", "predicted"))
        chosen = {"mixture": np.ones_like(is_member), "assigned": is_assigned}.get(self.selection, is_member)
        selected = np.flatnonzero(chosen)
        drawn = np.sort(np.random.default_rng(self.seed).permutation(selected)[: self.n_particles])
        result = {
            "classes": ways,
            "selected": np.bincount(queries["true"][selected], minlength=len(ways)).tolist(),
            "averaged": np.bincount(queries["true"][drawn], minlength=len(ways)).tolist(),
            "n_members": int(is_member.sum()),
            "fsc_halves": None,
            "fsc_truth": None,
            "density": None,
        }
        if len(drawn) < (1 if self.selection == "single" else FEWEST):
            return result
        microscope = replace(data.microscope, binning=1)
        names = [ways[way] for way in queries["true"][drawn]]
        numbers = queries["number"][drawn]
        seeds = [data.sample_seeds(name, evaluation.snr)[n][None] for name, n in zip(names, numbers, strict=True)]
        volumes = [
            simulate(data.beads_of(name, seed), seed, evaluation.snr, microscope, runner.device)
            for name, seed in zip(names, seeds, strict=True)
        ]
        truth, rotation = true_density(data, self.target)
        truth = truth.to(runner.device)
        if self.selection == "single":
            drawn_poses = draw_acquisition(torch.cat(seeds), microscope)
            return result | _singles(volumes, drawn_poses, truth, rotation, microscope)
        refined = refine(torch.cat(volumes), microscope, self.seed, self.search, self.n_iterations, self.n_starts)
        laid, _ = laid_onto(truth, refined.average.density, microscope, self.search)
        halves = {"fsc_halves": refined.fsc.round(4).tolist()}
        return result | halves | _compared([laid], truth, microscope)


def planned(profile: Profile, evaluation: Evaluation, n_particles: int = 0) -> list[ClassAverage]:
    """The averages of one evaluation, in the order of SELECTIONS; `n_particles` 0 takes the profile's."""
    target = target_of(evaluation.novel_classes)
    settings = {"search": CAPPED if target in (SINGLE_CAPPED, DOUBLE_CAPPED) else BARREL}
    settings |= _REDUCED.get(profile.name, {})
    if n_particles:
        settings["n_particles"] = n_particles
    return [ClassAverage(evaluation=evaluation, target=target, selection=part, **settings) for part in SELECTIONS]


def target_of(names: tuple[str, ...]) -> str:
    """The class to average among some: the first of PREFERRED, or the heaviest."""
    masses = registry()["mass_kda"]
    return next((name for name in PREFERRED if name in names), max(names, key=lambda name: masses.get(name, 0.0)))


def _singles(
    volumes: list[torch.Tensor], drawn: Acquisition, truth: torch.Tensor, rotation: Rotation, microscope: Microscope
) -> dict:
    """Single particles, each turned upright by its true pose."""
    rotations = Rotation.from_quat(drawn.quaternions) * rotation.inv()
    poses = [Poses(*pose) for pose in zip(rotations.as_quat()[:, None], drawn.shifts_nm[:, None], strict=True)]
    laid = [average(volume, pose, microscope).density for volume, pose in zip(volumes, poses, strict=True)]
    return _compared(laid, truth, microscope)


def _compared(laid: list[torch.Tensor], truth: torch.Tensor, microscope: Microscope) -> dict:
    """The median correlation of some densities with the true one, and the first of them."""
    curves = [shell_correlation(truth, density, microscope.voxel_size_nm) for density in laid]
    return {
        "voxel_size_nm": microscope.voxel_size_nm,
        "frequencies_per_nm": curves[0][0].tolist(),
        "fsc_truth": np.median([fsc for _, fsc in curves], axis=0).round(4).tolist(),
        "density": packed(laid[0]),
    }


def _classified(runner: Runner, evaluation: Evaluation, target: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """The first test task that holds the target, its queries replaced by all that its classes hold.

    Returns its classes; and per query the `true` and the `predicted` way, and its `number` within its class.
    """
    data, names = evaluation.novel_data, evaluation.novel_classes
    counts = [data.count_of(name, data.n_per_class) for name in names]
    labels, numbers = np.repeat(np.arange(len(names)), counts), np.concatenate([np.arange(count) for count in counts])
    episodes = evaluation.episodes()
    holding = np.flatnonzero((episodes.classes == names.index(target)).any(axis=1))
    if len(holding) == 0:
        raise UserError(f"no test task holds class '{target}': raise n_episodes={evaluation.n_episodes}")
    classes, support = episodes.classes[holding[0]], episodes.support[holding[0]]
    queries = np.setdiff1d(np.flatnonzero(np.isin(labels, classes)), support)
    model = runner.adaptation(evaluation.adaptation)
    embeddings = evaluation.embeddings(runner)
    with torch.no_grad():  # not around the above, which may have to train first
        projected = model.project(embeddings)
        logits = combined_logits(model, projected[torch.from_numpy(support)][None], projected[queries][None])
    return [names[label] for label in classes], {
        "true": np.argmax(labels[queries][:, None] == classes, axis=1),
        "predicted": logits[0].argmax(-1).cpu().numpy(),
        "number": numbers[queries],
    }


def true_density(data: SimulatedData, name: str) -> tuple[torch.Tensor, Rotation]:
    """What an average should come to: `(b, b, b)` without noise and wedge, longest axis along y, shortest along z.

    Also the rotation of xyz coordinates that takes the library's beads there.
    """
    microscope = replace(data.microscope, binning=1, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0)
    beads = data.beads_of(name, data.sample_seeds(name, 1.0, count=1))
    positions, masses = beads[0]
    centred = positions[:, ::-1] - np.average(positions[:, ::-1], axis=0, weights=masses)
    _, axes = np.linalg.eigh((centred * masses[:, None]).T @ centred)  # columns xyz, shortest extent first
    z, x, y = (axis * np.sign(axis[np.argmax(np.abs(axis))]) for axis in axes.T)
    z = z * np.sign(np.dot(np.cross(x, y), z))  # never the mirror image
    turn = Rotation.from_matrix(np.stack([x, y, z]))
    focus = (microscope.defocus_min_um + microscope.defocus_max_um) / 2
    pose = Acquisition(turn.as_quat()[None], np.zeros((1, 3)), np.array([focus]))
    return simulate(beads, torch.zeros(1, dtype=torch.int64), None, microscope, acquisition=pose)[0], turn


def packed(density: torch.Tensor) -> dict:
    """A density in 256 steps as text for a json file: box, low and high value, zlib in base 85."""
    low, high = float(density.min()), float(density.max())
    steps = ((density - low) * (255 / max(high - low, 1e-12))).round().to(torch.uint8).cpu().numpy()
    text = base64.b85encode(zlib.compress(steps.tobytes(), 9)).decode()
    return {"box": len(density), "low": low, "high": high, "zlib_b85": text}


def unpacked(content: dict) -> np.ndarray:
    """The density `(b, b, b)` float32 of `packed`."""
    steps = np.frombuffer(zlib.decompress(base64.b85decode(content["zlib_b85"])), np.uint8)
    volume = steps.reshape((content["box"],) * 3).astype(np.float32)
    return content["low"] + volume * ((content["high"] - content["low"]) / 255)


def average_frame(entries: dict[str, list[dict]]) -> pd.DataFrame:
    """Tidy table of stored averages: one row per data set and selection.

    Columns data_set, target, selection, n_particles, n_right (averaged ones that are of the target), purity and recall
    of the whole selection, halves_nm and truth_nm: resolution where the FSC of the half maps falls below 0.143, and
    where that with the true density falls below 0.5; NaN where there is no average.
    """
    rows = []
    for data_set, entry in ((data_set, entry) for data_set, of_set in entries.items() for entry in of_set):
        spec, result = entry["spec"], entry["result"]
        way = result["classes"].index(spec["target"])
        rows.append(
            {
                "data_set": data_set,
                "target": spec["target"],
                "selection": spec["selection"],
                "n_particles": sum(result["averaged"]),
                "n_right": result["averaged"][way],
                "purity": result["selected"][way] / max(sum(result["selected"]), 1),
                "recall": result["selected"][way] / result["n_members"],
                "halves_nm": _resolution(result, "fsc_halves", 0.143),
                "truth_nm": _resolution(result, "fsc_truth", 0.5),
            }
        )
    return pd.DataFrame(rows)


def _resolution(result: dict, curve: str, threshold: float) -> float:
    if result[curve] is None:
        return float("nan")
    frequencies = np.array(result["frequencies_per_nm"])
    found = resolution(np.array(result[curve]), frequencies, threshold)
    return 1 / frequencies[-1] if np.isnan(found) else found  # never below: as fine as the box can show
