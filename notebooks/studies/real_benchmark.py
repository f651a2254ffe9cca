"""Few-shot tasks on real boxes with labels: a tomogram of a cell, microtubules against ice, and a confounded trio.

The files are no part of the project. Their stored result is shown where they are absent.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.mrc import open_mrc
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.benchmark import LabelledTomogram, benchmark, labelled_tomogram, open_labelled
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.descriptors import descriptors, log_power
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.weights import AnyEncoder

from . import spectra
from .pretrained import Pretrained

REAL = REPOSITORY.parent / "shared" / "real"
YEAST = REAL / "yeast_tomogram_11658"
RIBOSOME, ER, MEMBRANE = "ribosome80S", "ER_cisterna", "second_double_membrane"
CYTOSOL, VACUUM = "cytosol_no_listed_ribosome", "outside_lamella"
TASKS = {
    "all five": (RIBOSOME, ER, MEMBRANE, CYTOSOL, VACUUM),
    "without cytosol": (RIBOSOME, ER, MEMBRANE, VACUUM),
    "ribosome, ER, cytosol": (RIBOSOME, ER, CYTOSOL),
    "ribosome, cytosol": (RIBOSOME, CYTOSOL),
}
SMALL_SETS = (("microtubule", "ice"), ("70S", "80S", "microtubule"))
MATCHED = "nearest prototype, shells matched and centred"
POWER, CLASSIFY = "power alone (control)", "classify"


@dataclass(frozen=True, kw_only=True)
class RealBenchmark:
    """Tasks of `recognition.benchmark` on a labelled tomogram.

    encoder, boxes : digests of the weights and of the boxes, which name the result
    n_training : simulated particles that give the mean spectrum of the encoder's training
    """

    encoder: str
    boxes: str
    shots: tuple[int, ...] = (1, 5, 10, 20)
    halves: tuple[str, ...] = ("odd", "all")
    n_episodes: int = 100
    n_training: int = 2000
    seed: int = 0

    version = 2  # the calibration's geometry has other axes

    def run(self, runner: Runner, pretrained: Pretrained, data: LabelledTomogram) -> dict:
        """Result: `rows`, a column each of `benchmark`'s table; `boxes`, how many of each class in each half."""
        tasks = {name: classes for name, classes in TASKS.items() if set(classes) <= set(data.labels)}
        tasks = tasks or {"all classes": tuple(np.unique(data.labels))}
        training = spectra.training_like(pretrained.card, self.n_training)
        alike = spectra.matched(data.volumes, training, spectra.radii(data.volumes.shape[-1]))
        matched = unit_embeddings(pretrained.encoder, alike)
        centred = torch.nn.functional.normalize(matched - matched.mean(0), dim=1)
        found = benchmark(
            data,
            pretrained.calibration,
            tasks,
            shots=self.shots,
            halves=self.halves,
            n_episodes=self.n_episodes,
            further={MATCHED: centred},
            seed=self.seed,
            progress=lambda n: runner.check_time(),
        )
        boxes = {half: pd.Series(data.labels[data.half(half)]).value_counts().to_dict() for half in ("all", "odd")}
        found = found.astype(object).where(found.notna(), None)  # NaN is no JSON
        return {"rows": found.to_dict("list"), "boxes": boxes, "tasks": {name: list(of) for name, of in tasks.items()}}


def tomogram_of(folder: str | Path, encoder: AnyEncoder, card: dict) -> LabelledTomogram:
    """Labelled tomograms of a folder, as `open_labelled` takes it, with the embeddings of their boxes."""
    with tempfile.TemporaryDirectory() as temporary:
        return labelled_tomogram(open_labelled(Path(folder), Path(temporary)), encoder, card, Path(temporary))


@dataclass(frozen=True, kw_only=True)
class RealSlices:
    """Some boxes of each class of a labelled tomogram to look at; `boxes` is the digest of all."""

    boxes: str
    n_shown: int = 6
    thickness: int = 3
    seed: int = 0

    def run(self, runner: Runner, volumes: torch.Tensor, labels: np.ndarray) -> dict:
        """Result: `slices`, by class the mean of the middle slices of boxes drawn at random, standardised."""
        rng, start = np.random.default_rng(self.seed), (volumes.shape[1] - self.thickness) // 2
        slices = {}
        for name in np.unique(labels).tolist():
            drawn = rng.permutation(np.flatnonzero(labels == name))[: self.n_shown]
            middles = volumes[drawn, start : start + self.thickness].mean(1)
            slices[name] = middles.double().numpy().round(2).tolist()
        return {"slices": slices}


@dataclass(frozen=True, kw_only=True)
class RealBoxes:
    """Few real boxes of some kinds; what their power per Fourier shell gives away is the control."""

    encoder: str
    boxes: str
    kinds: tuple[str, ...]
    shots: tuple[int, ...] = (1, 3)
    n_draws: int = 100
    seed: int = 0

    version = 3  # fitted to few particles as well

    def run(self, runner: Runner, pretrained: Pretrained, volumes: dict[str, torch.Tensor]) -> dict:
        """Result: `rows` with n_shot, method, accuracy (mean over kinds) and 5 to 95 % of the draws; `boxes`."""
        counts = [len(volumes[kind]) for kind in self.kinds]
        labels, together = np.repeat(self.kinds, counts), torch.cat([volumes[kind] for kind in self.kinds])
        plain = descriptors(together)
        features, power = torch.cat([unit_embeddings(pretrained.encoder, together), plain], dim=1), log_power(plain)
        power = (power - power.mean(0)) / power.std(0)

        def by_tool(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
            parts, widths = (features[support], labels[support]), (plain.shape[1],)
            known = recogniser_of(*parts, pretrained.calibration, features[queries], Settings(), widths)
            return np.array(known.class_names)[known.recognise(features[queries]).label]

        def by_power(support: np.ndarray, queries: np.ndarray) -> np.ndarray:
            of_kind = [power[support[labels[support] == kind]] for kind in self.kinds]
            return np.array(self.kinds)[prototype_logits(torch.stack(of_kind)[None], power[queries][None])[0].argmax(1)]

        rows = []
        for n_shot in self.shots:
            for method, predict in {CLASSIFY: by_tool, POWER: by_power}.items():
                rng, right = np.random.default_rng([self.seed, n_shot]), []
                for _ in range(self.n_draws):
                    drawn = [rng.permutation(np.flatnonzero(labels == kind))[:n_shot] for kind in self.kinds]
                    queries = np.setdiff1d(np.arange(len(labels)), drawn)
                    hit = predict(np.concatenate(drawn), queries) == labels[queries]
                    right.append(np.mean([hit[labels[queries] == kind].mean() for kind in self.kinds]))
                low, high = np.percentile(right, [5, 95])
                numbers = {"accuracy": float(np.mean(right)), "low": float(low), "high": float(high)}
                rows.append({"n_shot": n_shot, "method": method, **numbers})
        return {
            "rows": pd.DataFrame(rows).round(4).to_dict("list"),
            "boxes": dict(zip(self.kinds, counts, strict=True)),
        }


def real_boxes(runner: Runner, pretrained: Pretrained, kinds: tuple[str, ...], folder: Path = REAL) -> dict:
    """The stored entry about some kinds of `boxes_of`."""
    volumes = {kind: boxes_of(kind, pretrained.card, folder) for kind in kinds}
    spec = RealBoxes(encoder=pretrained.digest, boxes=digest_of(*volumes.values()), kinds=kinds)
    return runner(spec, pretrained, volumes)


def boxes_of(kind: str, card: dict, folder: Path = REAL) -> torch.Tensor:
    """Boxes `(n, b, b, b)` as the encoder takes them: '70S', '80S', 'microtubule' or 'ice'."""
    box, nm = card["box"], card["voxel_size_nm"]
    if kind == "70S":
        particles = open_particles(folder / "ribosome70S_subtomograms")
        return band_limited(particles.read(range(len(particles)), box, nm)[0])
    if kind == "80S":  # in the particle's own frame, so each is rotated at random; protein is bright
        volumes = [open_mrc(path).data for path in sorted((folder / "ribosome80S_insitu").glob("particle_*_32.mrc"))]
        turned, size = rotated(-np.stack(volumes).astype(float), np.random.default_rng(0)), 1.568
    else:
        name = {"microtubule": "microtubule", "ice": "ice_background"}[kind]
        with np.load(folder / "microtubule_tomogram" / f"boxes32_12A_{name}.npz", allow_pickle=False) as content:
            turned, size = -content["boxes"].astype(float), 1.2
    return band_limited(torch.stack([resample(volume, size, box, nm, kind) for volume in turned]))


def rotated(volumes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Volumes `(n, b, b, b)`, each rotated at random about its centre; what comes from outside is the edge's value."""
    middle, found = volumes.shape[-1] // 2, []
    for volume, matrix in zip(volumes, Rotation.random(len(volumes), rng=rng).as_matrix(), strict=True):
        shift = np.full(3, middle) - matrix @ np.full(3, middle)
        found.append(affine_transform(volume, matrix, shift, order=1, mode="nearest"))
    return np.stack(found)
