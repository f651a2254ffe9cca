"""Accuracy on a labelled tomogram: few-shot tasks with the decision of `classify`, beside simple features.

One tomogram, so that the acquisition gives nothing away. Boxes overlap where particles crowd, so queries keep clear of
every support box of their episode, and intervals are drawn over blocks of the tomogram.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..errors import UserError
from ..evaluation import area_under_roc
from ..particles.base import Particles
from ..particles.copick_projects import is_copick
from ..particles.mrc import write_mrc
from ..particles.opening import open_particles
from ..particles.resampling import band_limited
from ..particles.tomograms import Boxes
from ..protonet import prototype_logits
from .background import background_of
from .calibration import Calibration
from .classify import recogniser_of
from .descriptors import GREY
from .embedding_cache import embed_particles
from .grey_scale import common_grey_scale
from .recogniser import Recogniser
from .settings import Settings

BLOCK = 40
"""Edge in voxels, x and y, of the blocks that halves and intervals are made of."""
N_QUERY, FEWEST_QUERIES, TRIES, N_BACKGROUND = 10, 3, 50, 200
TOOL, FILES, UNFITTED = "classify", "classify, boxes normalised one by one", "classify --no-adapt"
CENTRED = "nearest prototype, centred"
Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(support `(n_way, n_shot)`, queries `(m,)`, all boxes of the task) -> class of each query, `(m,)`."""


@dataclass(frozen=True)
class LabelledTomogram:
    """Particles of a tomogram, or of several of one acquisition, as numbers, from `labelled_tomogram`.

    labels, tomograms : `(n,)` class of each, and number of its tomogram
    centres : `(n, 3)` zyx voxels; edge : voxels, boxes nearer than this on every axis overlap
    features : `(n, dim)` embeddings, descriptors and grey values, the last two of `widths` columns
    volumes : `(n, b, b, b)` as the encoder takes them
    background : `(m, dim)` features of boxes away from all of these, None where there is no room
    """

    labels: np.ndarray
    tomograms: np.ndarray
    centres: np.ndarray
    edge: int
    features: torch.Tensor
    widths: tuple[int, int]
    volumes: torch.Tensor
    background: torch.Tensor | None = None

    def half(self, name: str) -> np.ndarray:
        """Which particles are of a half, `(n,)` bool: 'odd' to report on, 'even' to choose on, 'all' for both.

        Halves are columns in a checkerboard; of the even ones no box overlaps an odd one.
        """
        odd = self._columns().sum(axis=1) % 2 == 1
        near = self.overlaps(np.flatnonzero(odd)).any(axis=0)
        return {"all": np.full(len(odd), True), "odd": odd, "even": ~odd & ~near}[name]

    def overlaps(self, chosen: np.ndarray) -> np.ndarray:
        """Whether boxes `(k,)` share a voxel with each box, `(k, n)` bool."""
        near = np.abs(self.centres[chosen, None] - self.centres).max(-1) < self.edge
        return near & (self.tomograms[chosen, None] == self.tomograms)

    def blocks(self) -> np.ndarray:
        """Number of the block that each particle lies in, `(n,)`."""
        return np.unique(self._columns(), axis=0, return_inverse=True)[1].ravel()

    def _columns(self) -> np.ndarray:
        return np.column_stack([self.tomograms, self.centres[:, 1:] // BLOCK]).astype(int)


def labelled_tomogram(particles: Particles, encoder, card: dict, cache: Path) -> LabelledTomogram:
    """Embed the labelled boxes of tomograms, and some of their background; those that cannot be used are left out."""
    if not isinstance(particles.source, Boxes):
        raise UserError("benchmark: give tomograms with labelled coordinates, so that no two boxes share a voxel")
    if not particles.labels:
        raise UserError("benchmark: the coordinates have no classes; give --label-column")
    features, rejected = _features(particles, encoder, card, cache)
    background = None
    if empty := background_of(particles, N_BACKGROUND, seed=0):
        background = _features(empty, encoder, card, cache)[0]
        background = background[torch.isfinite(background).all(dim=1)]
    usable = [i for i in range(len(particles)) if i not in rejected and particles.labels[i] is not None]
    volumes, _ = particles.read(usable, card["box"], card["voxel_size_nm"])
    nm = min(tomogram.voxel_size_nm for tomogram in particles.source.tomograms)
    return LabelledTomogram(
        labels=np.array([particles.labels[i] for i in usable]),
        tomograms=particles.source.which[usable],
        centres=particles.source.centres[usable],
        edge=int(np.ceil(card["box"] * card["voxel_size_nm"] / nm)),
        features=features[usable],
        widths=(card["box"] - 3, GREY),
        volumes=band_limited(volumes),
        background=background,
    )


def _features(particles: Particles, encoder, card: dict, cache: Path) -> tuple[torch.Tensor, dict[int, str]]:
    """Embeddings, descriptors and grey values in units of the tomograms, and the reasons of those that are no use."""
    embedded = embed_particles(particles, encoder, card, cache)
    grey = embedded.with_parts("grey").all()[0]
    reference = common_grey_scale(particles, particles, grey, grey).query
    return embedded.with_parts("embeddings", "descriptors", "grey", grey_reference=reference).all()


def open_labelled(path: Path, unpacked: Path, **reading) -> Particles:
    """Labelled tomograms of any kind; reading : keywords of `open_particles`."""
    if path.is_dir() and not reading.get("coordinates") and not is_copick(path):
        return open_tomogram_folder(path, unpacked)
    return open_particles(path, **reading)


def numbers_in(shots: str) -> tuple[int, ...]:
    """'1,5,10' as numbers; raises UserError."""
    numbers = [number.strip() for number in shots.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise UserError(f"shots '{shots}': give whole numbers above 0, as in 1,5,10")
    return tuple(map(int, numbers))


def open_tomogram_folder(folder: Path, unpacked: Path) -> Particles:
    """Particles of a folder with one npz of a tomogram's grey values and one csv of coordinates with a column `class`.

    The npz holds `codes` (z, y, x), `min`, `max`, `num_steps` and `voxel_A`; it is written as MRC to `unpacked`.
    """
    archives, tables = sorted(folder.glob("*_bin*.npz")), sorted(folder.glob("*coordinates*.csv"))
    if len(archives) != 1 or len(tables) != 1:
        raise UserError(
            f"{folder}: {len(archives)} files *_bin*.npz and {len(tables)} *coordinates*.csv, one of each is needed; "
            "or give a tomogram file with --coordinates"
        )
    with np.load(archives[0], allow_pickle=False) as content:
        step = (content["max"] - content["min"]) / (content["num_steps"] - 1)
        volume = (content["codes"] * step + content["min"]).astype(np.float32)
        nm = float(content["voxel_A"]) / 10
    path = unpacked / f"{archives[0].stem}.mrc"
    write_mrc(path, volume, nm)
    return open_particles(path, coordinates=tables[0], label_column="class")


def benchmark(
    data: LabelledTomogram,
    calibration: Calibration | None,
    tasks: Mapping[str, Sequence[str]],
    *,
    shots: Sequence[int] = (1, 5, 10, 20),
    halves: Sequence[str] = ("odd", "all"),
    n_episodes: int = 200,
    further: Mapping[str, torch.Tensor] | None = None,
    methods: Mapping[str, Predict] | None = None,
    seed: int = 0,
    progress: Callable[[int], object] = lambda n: None,
) -> pd.DataFrame:
    """Accuracy of every method on every task, all on the same episodes; a row each.

    Parameters
    ----------
    tasks : classes of each, by its name
    shots : labelled particles per class; where a class has too few that keep clear of each other, there is no row
    halves : of `LabelledTomogram.half`
    further : more features `(n, dim)` for the nearest prototype, by the name of their row
    methods : asked instead of the tool and its features, by the name of their row

    Returns columns task, half, n_shot, method, accuracy (mean over classes), low, high (95 %, blocks of the tomogram
    drawn with replacement), n_episodes, n_blocks; and of the tool background_auroc, how well its scores tell queries
    from background boxes as an unknown class.
    """
    for name in {name for names in tasks.values() for name in names} - set(data.labels.tolist()):
        raise UserError(
            f"benchmark: no box of class '{name}'; there are {', '.join(sorted(set(data.labels.tolist())))}"
        )
    methods = methods or methods_of(data, calibration, further or {})
    rows = []
    for half in halves:
        for task, names in tasks.items():
            pools = [np.flatnonzero(data.half(half) & (data.labels == name)) for name in names]
            for n_shot in shots:
                rng = np.random.default_rng([seed, n_shot, len(names)])
                episodes = list(draw_episodes(data, pools, n_shot, n_episodes, rng))
                progress(1)
                if len(episodes) < n_episodes:
                    continue
                for method, predict in methods.items():
                    found = _accuracy(data, pools, episodes, predict)
                    if method == TOOL and data.background is not None:
                        found["background_auroc"] = _against_background(data, calibration, pools, episodes)
                    rows.append({"task": task, "half": half, "n_shot": n_shot, "method": method, **found})
    if not rows:
        raise UserError(
            f"benchmark: no task has {min(shots)} labels and {FEWEST_QUERIES} queries of each class clear of them; "
            "label more places, farther apart, or ask for fewer --shots"
        )
    return pd.DataFrame(rows)


def wide_table(found: pd.DataFrame) -> pd.DataFrame:
    """A row per method, a column per task, half and number of labels: accuracy with its interval as text."""
    text = [f"{row.accuracy:.3f} ({row.low:.3f} to {row.high:.3f})" for row in found.itertuples()]
    table = found.assign(text=text).pivot_table(
        index="method", columns=["task", "half", "n_shot"], values="text", aggfunc="first", sort=False
    )
    return table.rename_axis(index=None)


def draw_episodes(data: LabelledTomogram, pools, n_shot: int, n_episodes: int, rng) -> Iterator[tuple]:
    """Support `(n_way, n_shot)` and the queries of each class, none of which overlaps a support box."""
    for _ in range(n_episodes):
        for _ in range(TRIES):
            if min(map(len, pools)) < n_shot:
                return
            support = np.stack([rng.choice(pool, n_shot, replace=False) for pool in pools])
            clear = ~data.overlaps(support.ravel()).any(axis=0)
            queries = [rng.permutation(pool[clear[pool]])[:N_QUERY] for pool in pools]
            if min(map(len, queries)) >= FEWEST_QUERIES:
                yield support, queries
                break
        else:
            return


def methods_of(data: LabelledTomogram, calibration: Calibration, further: Mapping) -> dict[str, Predict]:
    dim = data.features.shape[1] - sum(data.widths)
    embeddings, profile, grey = data.features.split([dim, *data.widths], dim=1)
    profile, grey = (_standardised(part) / part.shape[1] ** 0.5 for part in (profile, grey))
    centred = torch.nn.functional.normalize(embeddings - embeddings.mean(0), dim=1)
    together = torch.cat([profile, grey, further.get(CENTRED, centred)], dim=1)
    features = {
        "nearest prototype": embeddings,
        CENTRED: centred,
        "profile and power": profile,
        "voxels": torch.nn.functional.normalize(data.volumes.flatten(1), dim=1),
        "three grey values": grey,
        **further,
        "all together": together,
    }
    return {
        TOOL: partial(_tool, data.features, data.widths, calibration, Settings()),
        FILES: partial(_tool, data.features[:, : -data.widths[1]], data.widths[:1], calibration, Settings()),
        UNFITTED: partial(_tool, embeddings, (), calibration, Settings(adapt=False)),
        **{name: partial(_nearest_prototype, values) for name, values in features.items()},
    }


def _tool(features, widths, calibration, settings: Settings, support: np.ndarray, queries, boxes) -> np.ndarray:
    """What `classify` answers where all boxes of the task but the support are its query."""
    return _fitted(features, widths, calibration, settings, support, boxes).recognise(features[queries]).label


def _fitted(features, widths, calibration, settings: Settings, support: np.ndarray, boxes: np.ndarray) -> Recogniser:
    labels = [f"{k:03d}" for k in np.repeat(np.arange(len(support)), support.shape[1])]
    unlabelled = features[np.setdiff1d(boxes, support)]
    return recogniser_of(features[support.ravel()], labels, calibration, unlabelled, settings, widths, one_source=True)


def _against_background(data: LabelledTomogram, calibration: Calibration, pools, episodes) -> float:
    areas = []
    for support, queries in episodes[:20]:
        boxes = np.concatenate(pools)
        recogniser = _fitted(data.features, data.widths, calibration, Settings(), support, boxes)
        known, unknown = (
            recogniser.recognise(part).score for part in (data.features[np.concatenate(queries)], data.background)
        )
        areas.append(area_under_roc(known, unknown))
    return round(float(np.mean(areas)), 4)


def _nearest_prototype(features: torch.Tensor, support: np.ndarray, queries: np.ndarray, boxes) -> np.ndarray:
    return prototype_logits(features[support][None], features[queries][None])[0].argmax(1).numpy()


def _standardised(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean(0)) / values.std(0).clamp(min=1e-9)


def block_counts(data: LabelledTomogram, pools, episodes, predict: Predict) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and questions by class and block, `(n_way, n_blocks)` each."""
    n_way, blocks = len(pools), data.blocks()
    right, asked = (np.zeros((n_way, blocks.max() + 1), dtype=int) for _ in range(2))
    for support, queries in episodes:
        together = np.concatenate(queries)
        truth = np.repeat(np.arange(n_way), list(map(len, queries)))
        predicted = predict(support, together, np.concatenate(pools))
        np.add.at(right, (truth, blocks[together]), predicted == truth)
        np.add.at(asked, (truth, blocks[together]), 1)
    return right, asked


def resampled(right: np.ndarray, asked: np.ndarray, n_resamples: int = 1000) -> np.ndarray:
    """Mean accuracy over classes with columns (blocks) drawn with replacement; equal for all that share columns."""
    used = np.flatnonzero(asked.sum(0))
    drawn = np.random.default_rng(0).choice(used, (n_resamples, len(used)))
    with np.errstate(invalid="ignore"):  # a resample without any box of a class
        return np.nanmean(right[:, drawn].sum(-1) / asked[:, drawn].sum(-1), axis=0)


def _accuracy(data: LabelledTomogram, pools, episodes, predict: Predict) -> dict:
    right, asked = block_counts(data, pools, episodes, predict)
    low, high = np.nanpercentile(resampled(right, asked), [2.5, 97.5])
    numbers = {"accuracy": (right.sum(1) / asked.sum(1)).mean(), "low": low, "high": high}
    return {
        **{name: round(float(value), 4) for name, value in numbers.items()},
        "n_episodes": len(episodes),
        "n_blocks": int((asked.sum(0) > 0).sum()),
    }
