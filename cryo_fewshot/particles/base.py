"""Particles of any kind of file, read in pieces: what a classifier streams over."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from ..errors import UserError
from .mrc_particles import ParticleFiles
from .resampling import checked_sizes, resample

NO_LABEL = ("", "<NA>", "nan", "NaN", "None")  # how STAR files, pandas and spreadsheets write that there is none


class Source(Protocol):
    """What can read particle i; plain data that travels to worker processes."""

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """A function: i -> volume `(n, n, n)` and its voxel size in nm, or UserError; it may keep a file open.

        voxel_size_nm : nm, detail finer than this is not needed
        """

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """Index and a key that is equal for two particles that are the same piece of the same file."""


@dataclass(frozen=True, kw_only=True)
class Particles:
    """n particles that are read in pieces, in constant memory; holds no open file and is cheap to pickle.

    names : what to call each in messages and tables
    source : reads one of them
    voxel_size_nm, box : nm and voxels, of the files (of their largest group)
    voxel_size_from : what says the voxel size, in words
    labels : class of each particle where the input says so, None for one without, else None for all
    label_column : the column that they are from, None where they are from no table
    table : every column of the input's table as text, in order; None for folders and npz
    blocks, block_name : the input's other STAR blocks, and which of them `table` is
    dark_protein : whether protein is dark in the files, as given or as detected; None where neither
    mirror : whether z is reversed, which changes handedness
    notes : what was found and assumed, one line each, to be told to the user
    """

    names: Sequence[str]
    source: Source
    voxel_size_nm: float
    box: int
    voxel_size_from: str = ""
    labels: list[str | None] | None = None
    label_column: str | None = None
    table: object | None = None
    blocks: dict = field(default_factory=dict)
    block_name: str = "particles"
    dark_protein: bool | None = None
    mirror: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def read(
        self, indices: Sequence[int], box: int = 20, voxel_size_nm: float = 2.0
    ) -> tuple[torch.Tensor, dict[int, str]]:
        """Read some particles into one box and voxel size, protein dark: where `dark_protein` is False, inverted.

        indices : which, in the order of the result
        box, voxel_size_nm : voxels and nm of the result; where a file shows less, the rest is its mean

        Returns `(len(indices), box, box, box)` float32, each with mean 0 and variance 1; and, by particle index, one
        line for each particle that cannot be used: its volume is all zeros.
        """
        volumes, _, rejected = self.read_with_grey(indices, box, voxel_size_nm)
        return volumes, rejected

    def read_with_grey(
        self, indices: Sequence[int], box: int, voxel_size_nm: float
    ) -> tuple[torch.Tensor, torch.Tensor, dict[int, str]]:
        """As `read`, with what the standardisation takes away between the two.

        That is `(len(indices), 3)` float32, in the files' own grey values, protein dark: mean and standard deviation of
        the whole box as it lies in the file, and mean of its middle 12 nm; NaN for a particle that cannot be used.
        """
        checked_sizes(box, voxel_size_nm=voxel_size_nm)
        volumes = torch.zeros(len(indices), box, box, box)
        grey = torch.full((len(indices), 3), torch.nan)
        rejected = {}
        volume_of = self.source.opened(voxel_size_nm)
        for row, i in enumerate(map(int, indices)):
            try:
                volume, nm = volume_of(i)
                volume = -volume if self.dark_protein is False else volume
                volumes[row] = resample(volume, nm, box, voxel_size_nm, self.names[i], self.mirror)
                grey[row] = torch.tensor([volume.mean(), volume.std(), _middle(volume, nm).mean()])
            except UserError as error:
                rejected[i] = str(error)
        return volumes, grey, rejected

    def central_slices(self, n: int = 10, largest_box: int = 24) -> dict[str | None, np.ndarray]:
        """Central xy slices `(m, box, box)` of the first n particles of each class that can be read, protein dark."""
        labels = self.labels or [None] * len(self)
        box = min(self.box, largest_box)
        slices = {}
        for label in dict.fromkeys(labels):
            chosen = [i for i, other in enumerate(labels) if other == label][:n]
            volumes, rejected = self.read(chosen, box, self.box * self.voxel_size_nm / box)
            slices[label] = volumes[[i not in rejected for i in chosen], box // 2].numpy()
        return slices

    def without_table(self) -> "Particles":
        """The same particles for a worker that only reads: a table of a million rows stays at home."""
        return replace(self, table=None, blocks={})


def class_indices(particles: Particles, path: object = "support", at_least: int = 2) -> dict[str, list[int]]:
    """Indices of each class by name, numbers in their order; raises UserError for no labels or too few classes.

    A particle without a label is in none. One that is listed again counts once, or whatever is left out to test on
    would be known by its copy; under two labels it is refused.
    """
    known = {label for label in particles.labels or () if label is not None}
    columns = "" if particles.table is None else f", one of {', '.join(particles.table)}"
    remedy = f"give label_column (--label-column){columns}, or"
    if not known:
        raise UserError(f"{path}: has no class labels; {remedy} a folder with one sub-folder per class")
    classes: dict[str, list[int]] = {name: [] for name in sorted(known, key=in_number_order)}
    again, first = copies(particles), {}
    for i, label in enumerate(particles.labels):
        if label is None:
            continue
        other = first.setdefault(again.get(i, i), i)
        if particles.labels[other] != label:
            both = f"is labelled {particles.labels[other]} and {label}"
            raise UserError(f"{path}: {particles.names[i]} {both}; correct its label, or remove both rows")
        if other == i:
            classes[label].append(i)
    if len(classes) < at_least:
        only = f"only one class ({next(iter(classes))}, {len(*classes.values())} particles)"
        of = f" in {particles.label_column}" if particles.label_column else ""
        raise UserError(f"{path}: {only}{of}; {remedy} add labelled particles of another")
    return classes


def duplicates(support: Particles, query: Particles) -> list[tuple[int, int]]:
    """Pairs (index in support, index in query) of particles that are the same piece of the same file."""
    known: dict[tuple, list[int]] = {}
    for i, key in support.source.identities(range(len(support))):
        known.setdefault(key, []).append(i)
    alike = range(len(query))
    if isinstance(query.source, ParticleFiles):
        # A file is only looked for on disk where its name is a support file's: a query may have a million.
        last_names = {_last_name(name) for name in support.names}
        alike = [i for i in alike if _last_name(query.names[i]) in last_names]
    return [(s, q) for q, key in query.source.identities(alike) for s in known.get(key, [])]


def share_files(support: Particles, query: Particles, looked_at: int = 256) -> bool:
    """Whether some of the query's particles lie in a file, such as a tomogram or a stack, that the support's lie in."""
    files = {path for _, (path, *_) in support.source.identities(range(len(support)))}
    some = np.unique(np.linspace(0, len(query) - 1, looked_at).astype(int)).tolist()
    return any(path in files for _, (path, *_) in query.source.identities(some))


def copies(particles: Particles) -> dict[int, int]:
    """By index, the first particle that is the same piece of the same file; of those alone that come again."""
    alike = range(len(particles))
    if isinstance(particles.source, ParticleFiles):
        counts = Counter(map(_last_name, particles.names))  # only files called alike are looked for on disk
        alike = [i for i in alike if counts[_last_name(particles.names[i])] > 1]
    first: dict[tuple, int] = {}
    return {i: first[key] for i, key in particles.source.identities(alike) if first.setdefault(key, i) != i}


def known_labels(labels: Iterable) -> list[str | None]:
    """Labels as texts, None where there is none; what a library of tables wrote as 1.0 is 1, but 01 is not.

    Letters are composed (Unicode's NFC): macOS writes an accent behind its letter.
    """
    texts = (label.decode() if isinstance(label, bytes) else str(label) for label in labels)
    found = (re.sub(r"^(\d+)\.0+$", r"\1", composed(text).strip()) for text in texts)
    return [None if label in NO_LABEL else label for label in found]


def composed(text: str) -> str:
    """A text of which two that look alike are equal."""
    return unicodedata.normalize("NFC", text)


def in_number_order(text: str) -> tuple:
    """Key that sorts 9 before 10, and numbers before words."""
    return (0, int(text), text) if text.isdecimal() else (1, 0, text)


def _middle(volume: np.ndarray, voxel_size_nm: float) -> np.ndarray:
    """The middle of a box, a cube of 12 nm."""
    centre, half = len(volume) // 2, max(1, round(6 / voxel_size_nm))
    return volume[(slice(max(0, centre - half), centre + half),) * 3]


def _last_name(name: str) -> str:
    return re.split(r"[/\\@]", name)[-1]
