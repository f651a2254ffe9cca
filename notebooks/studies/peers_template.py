"""Template matching: the class of the template that correlates best with the particle, over rotations and shifts.

The score is the package's constrained cross-correlation (`averaging.alignment`): whitened by the particles' own noise,
over the frequencies that both tilt series have sampled. `by_package` asks other packages the same, as a check.
"""

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from cryo_fewshot.averaging.alignment import ParticleSpectra, Poses, Search, align_particles, rotation_grid
from cryo_fewshot.averaging.averages import average
from cryo_fewshot.averaging.spectra import soft_sphere
from cryo_fewshot.recognition.benchmark import Predict
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.structures import load_complex

from .bounds import reference_volume
from .peers_features import Boxes

UPRIGHT = np.array([[0.0, 0.0, 0.0, 1.0]])
PROTEIN_KDA_PER_NM3 = 0.81
"""Density of protein, 1.35 g/cm3."""
BLOB_NM = 6.0
"""Radius of the ball that a labelled particle is centred on before it becomes a template."""
N_ROUNDS = 3
OF_MEANS = {"grid_degrees": 30.0, "mask_nm": 8.0, "band_nm": 6.0, "is_refined": True}
"""How the mean is aligned that other packages get: as chosen for the matching of this package."""


class Matching:
    """Scores of particles against templates.

    grid_degrees : step of the grid of rotations; band_nm : resolution of the comparison; mask_nm : radius
    is_refined : the best rotations are refined by half and a quarter of the step, which takes twice the time
    """

    def __init__(self, boxes: Boxes, grid_degrees: float, mask_nm: float, band_nm: float, is_refined: bool = False):
        self.boxes, self.grid = boxes, rotation_grid(grid_degrees)
        self.search = Search(
            grid_degrees=grid_degrees, finest_degrees=grid_degrees / 4 if is_refined else 2 * grid_degrees,
            mask_radius_nm=mask_nm, low_pass_nm=band_nm, coarse_low_pass_nm=band_nm,
        )  # fmt: skip
        spectra = partial(ParticleSpectra, tilt_series=boxes.microscope, search=self.search)
        self.labelled, self.asked = boxes.of_both(spectra)

    def scores(self, queries: np.ndarray, template: torch.Tensor, is_round: bool = False) -> np.ndarray:
        """Best correlation of each particle that is asked for, `(m,)`; a round template is only shifted."""
        return self._poses(self.asked, queries, template, is_round).scores

    def mean_of(self, members: np.ndarray) -> torch.Tensor:
        """The aligned mean of labelled particles: each centred, then aligned to the first and to their mean."""
        volumes, box = self.boxes.labelled[members], self.boxes.labelled.shape[-1]
        ball = -soft_sphere(box, BLOB_NM * box / self.boxes.microscope.width_nm)
        poses = self._poses(self.labelled, members, ball, is_round=True)
        first = Poses(UPRIGHT, poses.shifts_nm[:1])
        density = average(volumes[:1], first, self.boxes.microscope).density
        for _ in range(N_ROUNDS if len(members) > 1 else 0):
            poses = self._poses(self.labelled, members, density)
            density = average(volumes, poses, self.boxes.microscope).density
        return density

    def _poses(self, particles: ParticleSpectra, which: np.ndarray, template, is_round: bool = False) -> Poses:
        some = copy.copy(particles)
        some.spectra, some.norms = particles.spectra[which], particles.norms[which]
        grid, local = (UPRIGHT, False) if is_round else (self.grid, True)
        return align_particles(some, template, self.search, grid, local)


def by_structures(boxes: Boxes, of: Callable[..., torch.Tensor], is_round: bool = False, **search) -> Predict:
    """Templates that are known beforehand, of the name of the class; each particle meets each of them once."""
    matching, templates, known = Matching(boxes, **search), {}, {}

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        scores = []
        for name in boxes.labels[support[:, -1]]:  # only the first may have a wrong label
            if name not in templates:
                templates[name] = of(name, boxes.microscope)
            new = np.array([i for i in dict.fromkeys(queries.tolist()) if (name, i) not in known], dtype=int)
            if len(new):
                found = matching.scores(new, templates[name], is_round)
                known.update({(name, i): score for i, score in zip(new.tolist(), found, strict=True)})
            scores.append([known[name, i] for i in queries.tolist()])
        return np.argmax(scores, axis=0)

    return predict


def by_labelled(boxes: Boxes, **search) -> Predict:
    """The template of a class is the aligned mean of its labelled particles."""
    matching = Matching(boxes, **search)

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.argmax([matching.scores(queries, matching.mean_of(members)) for members in support], axis=0)

    return predict


def by_package(boxes: Boxes, package: str, templates: str, grid_degrees: float, mask_nm: float) -> Predict:
    """Another package's normalised cross-correlation with its defaults, over the same shifts.

    package : 'acryo' or 'pyTME'; templates : 'structures', 'balls', which need no rotation, or 'labelled': a single
    particle as it is, of several the mean that this package aligns
    """
    box, width = boxes.asked.shape[-1], boxes.microscope.width_nm
    mask, known = soft_sphere(box, mask_nm * box / width).numpy(), {"structures": structure, "balls": sphere}
    rotations = Rotation.from_quat(UPRIGHT if templates == "balls" else rotation_grid(grid_degrees))
    tilts, shift = (boxes.microscope.tilt_min, boxes.microscope.tilt_max), Search().max_shift_nm * box / width
    matching = Matching(boxes, **OF_MEANS) if templates == "labelled" else None

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        if templates in known:
            volumes = [known[templates](name, boxes.microscope) for name in boxes.labels[support[:, -1]]]
        else:
            volumes = [boxes.labelled[of[0]] if len(of) == 1 else matching.mean_of(of) for of in support]
        best = PACKAGES[package]([volume.numpy() for volume in volumes], mask, rotations, tilts, shift)
        return np.array([best(boxes.asked[i].numpy()) for i in queries.tolist()])

    return predict


def _acryo(templates: list[np.ndarray], mask, rotations: Rotation, tilts, shift: float) -> Callable[[np.ndarray], int]:
    from acryo.alignment import ZNCCAlignment

    model = ZNCCAlignment(templates, mask=mask, rotations=rotations, tilt=tilts)
    return lambda volume: model.align(volume, (shift,) * 3).label


def _pytme(templates: list[np.ndarray], mask, rotations: Rotation, tilts, shift: float) -> Callable[[np.ndarray], int]:
    from tme.analyzer import MaxScoreOverRotations
    from tme.filters import Compose, WedgeReconstructed
    from tme.matching_data import MatchingData
    from tme.matching_exhaustive import MATCHING_EXHAUSTIVE_REGISTER, match_exhaustive

    setup, score = MATCHING_EXHAUSTIVE_REGISTER["FLCSphericalMask"]
    # Axes are z, y, x; what it calls the tilt's axis is the one that the wedge lies in with z.
    wedge = WedgeReconstructed(angles=tilts, opening_axis=0, tilt_axis=2, create_continuous_wedge=True)
    near = (slice(len(mask) // 2 - int(shift), len(mask) // 2 + int(shift) + 1),) * 3

    def score_of(volume: np.ndarray, template: np.ndarray) -> float:
        data = MatchingData(volume, template, template_mask=mask, rotations=rotations.as_matrix())
        data.template_filter = Compose((wedge,))
        found = match_exhaustive(data, score, setup, MaxScoreOverRotations, {"score_threshold": -1.0})
        return found[0][near].max()

    return lambda volume: int(np.argmax([score_of(volume, template) for template in templates]))


PACKAGES = {"acryo": _acryo, "pyTME": _pytme}


# ---------------------------------------------------------------- templates


def structure(name: str, microscope: Microscope) -> torch.Tensor:
    """Noiseless volume of a complex."""
    return reference_volume(SimulatedData().beads_of(name, torch.zeros(1))[0], microscope)


def sphere(name: str, microscope: Microscope) -> torch.Tensor:
    """The same of a ball of protein as heavy as the complex: its mass is all that is known."""
    radius = (3 * load_complex(name).mass_kda / (4 * np.pi * PROTEIN_KDA_PER_NM3)) ** (1 / 3)
    line = np.arange(-np.ceil(radius), radius + 1)
    places = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    places = places[np.linalg.norm(places, axis=1) <= radius].astype(np.float32)
    return reference_volume((places, np.ones(len(places), dtype=np.float32)), microscope)
