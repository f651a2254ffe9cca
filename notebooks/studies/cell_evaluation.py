"""Encoders asked with and without surroundings: held-out complexes in simulation, and a real tomogram.

The tomogram and what is cut from it stay outside the project: `ROOM` says where, and only accuracies are stored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import correct_counts, mean_and_interval, predict
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.resampling import band_limited, resample
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, Pretraining, pretrained_spec, spec_of
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import Acquisitions, simulate_on_the_fly
from cryo_fewshot.simulation.surroundings import Surroundings
from cryo_fewshot.weights import AnyEncoder

from . import spectra
from .cell_trainings import SHOWN

ROOM = REPOSITORY.parent / "shared" / "real" / "yeast_tomogram_11658"
"""Boxes of 16 voxels of one in situ tomogram of yeast (EMPIAR-11658), an npz archive for each class."""
VOXEL_NM, APART, COLUMN = 3.136, 13, 40
"""Edge of a voxel; voxels between a query and every support box of its task; edge of a column of the checkerboard."""
REAL = ("ribosome80S", "ER_cisterna", "second_double_membrane", "cytosol_no_listed_ribosome", "outside_lamella")
PLAIN, MATCHED = "boxes as cut", "spectrum matched, embeddings centred"
ALONE = "alone in the box"
AROUND = {ALONE: None, "among neighbours": {"neighbours": 1.0}, "beside a membrane": {"membranes": 1.0}}
"""What lies in the boxes of held-out complexes: settings of `Surroundings`, whose complexes are training classes."""


@dataclass(frozen=True, kw_only=True)
class CellEvaluation:
    """One encoder by nearest prototypes among unit embeddings, five classes at a time.

    name : of the training; volumes : that it took, fewer than planned where its time was over; encoder : digest of its
    weights; boxes : digest of the real boxes, "" without them
    """

    name: str
    training: Pretraining
    volumes: int
    encoder: str
    boxes: str
    classes: tuple[str, ...] = TEST_CLASSES
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    shots: tuple[int, ...] = (5, 1)
    real_shots: tuple[int, ...] = (1, 5, 10)
    n_per_class: int = 60
    n_episodes: int = 500

    @property
    def settings(self) -> dict[str, object]:
        """What the surroundings stand for."""
        return {"around": AROUND, "apart": APART, "column": COLUMN}

    def run(self, runner: Runner, encoder: AnyEncoder, boxes: "RealBoxes | None") -> dict:
        """Result: `simulated`, rows of around, snr, n_shot, accuracy, ci95; `real`, rows of boxes (as cut, or
        matched to the training), half, n_shot, the same.
        """
        encoder = encoder.to(runner.device)
        simulated = []
        for around in AROUND:
            for snr in self.snrs:
                volumes = held_out(around, snr, self.classes, self.n_per_class)
                embeddings = unit_embeddings(encoder, volumes.to(runner.device)).cpu()
                for n_shot in self.shots:
                    row = {"around": around, "snr": snr, "n_shot": n_shot}
                    simulated.append(row | self._accuracy(embeddings, n_shot))
        real = []
        if boxes is not None:
            training = training_samples(self.training.acquisitions, self.training.classes)
            real = list(boxes.rows(encoder, training, self.real_shots, self.n_episodes))
        return {"simulated": simulated, "real": real}

    def _accuracy(self, embeddings: torch.Tensor, n_shot: int) -> dict[str, float]:
        n_way, n_query = min(5, len(self.classes)), min(15, self.n_per_class - n_shot)
        episodes = sample_episodes(
            np.repeat(np.arange(len(self.classes)), self.n_per_class),
            range(len(self.classes)),
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            n_episodes=self.n_episodes,
            seed=seed_from("surroundings"),
            class_names=self.classes,
        )
        right = correct_counts(predict(embeddings, episodes, prototype_logits)) / (n_way * n_query)
        return _rounded(right)


def _rounded(right: np.ndarray) -> dict[str, float]:
    accuracy, interval = mean_and_interval(right)
    return {"accuracy": round(accuracy, 4), "ci95": round(interval, 4)}


@lru_cache(maxsize=16)
def held_out(around: str, snr: float, classes: tuple[str, ...], n_per_class: int) -> torch.Tensor:
    """Volumes of held-out classes, class by class, the same for every encoder."""
    microscope = Microscope(binning=2)
    if AROUND[around] is None:
        return simulate_set(
            SimulatedData(microscope=microscope, n_per_class=n_per_class), {snr: n_per_class}, classes
        ).volumes
    return surrounded(classes, n_per_class, microscope, snr, seed_from("held out", around, snr), **AROUND[around])


def surrounded(
    classes: Sequence[str], n_per_class: int, microscope: Microscope, snr: float, seed: int, **settings: float
) -> torch.Tensor:
    """Volumes, class by class, in surroundings of training complexes; settings : of `Surroundings`."""
    complexes = tuple(name for name in pretrained_spec().classes if name != EMPTY)
    surroundings = Surroundings(complexes=complexes, **settings)
    acquisitions = Acquisitions(microscope=microscope, snrs=(snr,), surroundings=surroundings)
    names = [name for name in classes for _ in range(n_per_class)]
    return simulate_on_the_fly(names, acquisitions, np.random.default_rng(seed))


@lru_cache(maxsize=8)
def training_samples(acquisitions: Acquisitions, classes: tuple[str, ...], n: int = 300) -> torch.Tensor:
    """Samples as a training meets them, for their mean spectrum."""
    names = [classes[i % len(classes)] for i in range(n)]
    return simulate_on_the_fly(names, acquisitions, np.random.default_rng(seed_from("spectrum")))


# ---------------------------------------------------------------- the real tomogram


@dataclass(frozen=True)
class RealBoxes:
    """Boxes of one tomogram as the encoder takes them `(n, b, b, b)`, centres xyz in its voxels `(n, 3)`, classes."""

    volumes: torch.Tensor
    centres: np.ndarray
    labels: np.ndarray

    def half(self, name: str) -> np.ndarray:
        """Indices of 'all' boxes, of the 'odd' columns of the checkerboard, or of the 'even', far from the odd."""
        columns = (self.centres[:, :2] // COLUMN).sum(1).astype(int) % 2
        if name == "all":
            return np.arange(len(columns))
        if name == "odd":
            return np.flatnonzero(columns == 1)
        near = (self._distances()[:, columns == 1] < APART).any(axis=1)
        return np.flatnonzero((columns == 0) & ~near)

    def _distances(self) -> np.ndarray:
        return np.linalg.norm(self.centres[:, None] - self.centres, axis=2)

    def rows(self, encoder: AnyEncoder, training: torch.Tensor, shots: tuple[int, ...], n_tasks: int) -> Iterator[dict]:
        """Accuracy in tasks of all classes, by how the boxes are given to the encoder, half and number of labels."""
        device = next(encoder.parameters()).device
        fitted = spectra.matched(self.volumes, training, spectra.radii(self.volumes.shape[-1]))
        plain, matched = (unit_embeddings(encoder, part.to(device)).cpu() for part in (self.volumes, fitted))
        for boxes, embeddings in {PLAIN: plain, MATCHED: matched - matched.mean(0)}.items():
            for half in ("even", "odd", "all"):
                for n_shot in shots:
                    # The same tasks for every encoder.
                    rng = np.random.default_rng(seed_from("real tasks", half, n_shot))
                    right = [self._right(embeddings, *self._task(self.half(half), n_shot, rng)) for _ in range(n_tasks)]
                    yield {"boxes": boxes, "half": half, "n_shot": n_shot, **_rounded(np.array(right))}

    def _task(self, chosen: np.ndarray, n_shot: int, rng: np.random.Generator, n_query: int = 10):
        """Support `(n_way, n_shot)`, and for each class at most `n_query` boxes that share no voxel with it."""
        by_class = [chosen[self.labels[chosen] == label] for label in np.unique(self.labels)]
        while True:
            support = np.stack([rng.choice(members, n_shot, replace=False) for members in by_class])
            taken = self.centres[support.ravel()]
            far = [m[(np.linalg.norm(self.centres[m][:, None] - taken, axis=2) >= APART).all(1)] for m in by_class]
            if all(map(len, far)):
                return support, [rng.choice(m, min(n_query, len(m)), replace=False) for m in far]

    @staticmethod
    def _right(embeddings: torch.Tensor, support: np.ndarray, queries: list[np.ndarray]) -> float:
        embeddings = F.normalize(embeddings, dim=1)
        prototypes = embeddings[support].mean(1)
        found = [torch.cdist(embeddings[query], prototypes).argmin(1).numpy() for query in queries]
        return float(np.mean([(answers == way).mean() for way, answers in enumerate(found)]))


def read_boxes(folder: Path = ROOM, box: int = 20, voxel_size_nm: float = 2.0) -> RealBoxes | None:
    """The real boxes; None where the folder is absent."""
    if not folder.is_dir():
        return None
    archives = [np.load(folder / f"tomo171_boxes16_{name}.npz", allow_pickle=False) for name in REAL]
    raw = [volume for archive in archives for volume in archive["boxes"].astype(float)]
    volumes = torch.stack([resample(volume, VOXEL_NM, box, voxel_size_nm, folder) for volume in raw])
    labels = np.repeat(np.arange(len(REAL)), [len(archive["boxes"]) for archive in archives])
    return RealBoxes(band_limited(volumes), np.concatenate([archive["xyz"] for archive in archives]), labels)


def cell_evaluation(
    runner: Runner, name: str, card: dict, encoder: AnyEncoder, boxes: RealBoxes | None, **settings
) -> dict:
    """The stored entry of one encoder and its card."""
    spec = CellEvaluation(
        name=name,
        training=spec_of(card),
        volumes=card["volumes"],
        encoder=digest_of(*encoder.state_dict().values()),
        boxes=digest_of(boxes.volumes) if boxes else "",
        **settings,
    )
    return runner(spec, encoder, boxes)


def rows_of(entries: list[dict], part: str) -> pd.DataFrame:
    """Rows of all entries: `part` 'simulated' or 'real', with the training's name and volumes."""
    return pd.concat(
        [pd.DataFrame(entry["result"][part]).assign(**_training(entry["spec"])) for entry in entries],
        ignore_index=True,
    )


def _training(spec: dict) -> dict[str, object]:
    return {"training": SHOWN.get(spec["name"], spec["name"]), "volumes": f"{spec['volumes']:,}"}


def finding(entries: list[dict], first: str, second: str, half: str = "odd", n_shot: int = 5) -> str:
    """What training `second` changes over `first`, in words."""
    by_name = {entry["spec"]["name"]: entry for entry in entries}
    pair = [by_name[first], by_name[second]]

    def both(part: str, **chosen: object) -> str:
        frames = [pd.DataFrame(entry["result"][part]) for entry in pair]
        kept = [frame[(frame[list(chosen)] == list(chosen.values())).all(axis=1)] for frame in frames]
        return " to ".join(f"{frame['accuracy'].mean():.3f}" for frame in kept)

    said = [f"{around} {both('simulated', around=around, n_shot=n_shot)}" for around in AROUND]
    if all(entry["result"]["real"] for entry in pair):
        for boxes in (PLAIN, MATCHED):
            said.append(f"real tomogram, {half} columns, {boxes} {both('real', boxes=boxes, half=half, n_shot=n_shot)}")
    names = " to ".join("*{training}* ({volumes} volumes)".format(**_training(entry["spec"])) for entry in pair)
    return f"From {names}, {n_shot} labels: {'; '.join(said)}."


def shown_simulated(entries: list[dict]) -> pd.DataFrame:
    """Accuracy by training: means over the SNRs, columns surroundings and labels."""
    return _by_training(rows_of(entries, "simulated"), "around", list(AROUND))


def shown_real(entries: list[dict], half: str) -> pd.DataFrame:
    """Accuracy by training on a half of the real tomogram, columns how its boxes are given and labels."""
    with_boxes = [entry for entry in entries if entry["result"]["real"]]
    frame = rows_of(with_boxes, "real")
    return _by_training(frame[frame["half"] == half].copy(), "boxes", [PLAIN, MATCHED])


def _by_training(frame: pd.DataFrame, column: str, order: list[str]) -> pd.DataFrame:
    names = frame[["training", "volumes"]].drop_duplicates().itertuples(index=False)
    frame["n_shot"] = frame["n_shot"].map("{}-shot".format)
    table = frame.pivot_table(index=["training", "volumes"], columns=[column, "n_shot"], values="accuracy", sort=False)
    return table.loc[list(map(tuple, names)), order].rename_axis([None, None], axis=1)
