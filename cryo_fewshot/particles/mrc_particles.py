"""Particles that lie in MRC files: one volume a file, or many in a stack; found, surveyed and read one at a time."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import UserError
from .ctf import volume_divided_by_ctf
from .mrc import (
    SAME_PIXEL,
    SAME_VOXEL,
    MrcData,
    checked_volume,
    checked_voxel_size,
    open_mrc,
    overruled_remark,
    remark_lines,
)

SURVEYED = 5  # files of each group that are opened to learn its box and voxel size
TRIED = 100  # files that are tried before a group is given up


@dataclass(frozen=True)
class ParticleFiles:
    """Where each particle lies and what the files of its group should be; plain data, no open file.

    names : a path, or `3@path` for the third volume of a stack, relative to `listed_in` or a folder above it
    listed_in : the STAR file or folder that names them; root : the user's own folder to look in first;
    named_in : the STAR file or folder whose names these were before they were written to `listed_in`
    groups : `(n,)` the group (optics group, voxel size) of each particle
    stated_nm : nm, voxel size of each group as the STAR file states it, None where it does not
    file_voxel_size_nm : nm, whatever headers and STAR file say
    boxes, voxel_sizes_nm : of each group as surveyed, None before
    ctfs : `(n, 7)` what volumes were multiplied by and are divided by, as from `ctf.read_ctf`; NaN where they were not
    """

    names: list[str]
    listed_in: Path
    groups: np.ndarray
    stated_nm: tuple[float | None, ...] = (None,)
    file_voxel_size_nm: float | None = None
    root: Path | None = None
    named_in: Path | None = None
    boxes: tuple[int | None, ...] = ()
    voxel_sizes_nm: tuple[float | None, ...] = ()
    ctfs: np.ndarray | None = None

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """A function that reads particle i: the volume float64 and its voxel size in nm; raises UserError.

        Its file stays mapped for the next particle as long as the function lives.
        """
        find, open_file = self.finder(), lru_cache(maxsize=1)(open_mrc)

        def volume_of(i: int) -> tuple[np.ndarray, float]:
            path, index = find(i)
            file = open_file(path)
            volume = self._volume(file, index, path)
            nm = self.agreed_voxel_size(i, path, file.voxel_size_nm, len(volume))
            if self.ctfs is not None and np.isfinite(self.ctfs[i]).all():
                volume = volume_divided_by_ctf(volume, nm, self.ctfs[i])
            return volume, nm

        return volume_of

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """Index and identity, file on disk and number of the volume in it; absent files are left out."""
        find, resolve = self.finder(), cache(Path.resolve)
        for i in indices:
            try:
                path, index = find(i)
            except UserError:
                continue  # it is rejected when it is read
            yield i, (str(resolve(path)), index or 1)

    def finder(self) -> Callable[[int], tuple[Path, int | None]]:
        """A function that finds particle i's file and its number there, None where no number is given."""
        known: dict[Path, Path] = {}  # folder as named -> folder on disk, so that most files are looked for once

        def find(i: int) -> tuple[Path, int | None]:
            number, at, name = self.names[i].rpartition("@")
            if at and not (number.strip().isdecimal() and int(number) > 0):
                number, name = "", self.names[i]  # an @ of a path's own
            path = Path(name.strip())
            if not name.strip() or "\0" in name:
                raise UserError(f"{self.listed_in}: row {i + 1} names no file; correct rlnImageName")
            near = [known[path.parent] / path.name] if path.parent in known else []
            # Path.exists raises for a name too long, and in a folder that may not be entered.
            looked_at = chain(near, self._candidates(name.strip()))
            found = next((candidate for candidate in looked_at if os.path.exists(candidate)), None)
            if found is not None:
                if found.name == path.name:  # not so of a Windows path, all of which is its name here
                    known[path.parent] = found.parent
                return found, int(number) if number else None
            where = f"named in {self.listed_in} but neither beside it nor in a folder above it"
            raise UserError(f"{path}: {where}; give root (--root), the folder it is relative to, or correct the name")

        return find

    def _candidates(self, name: str) -> Iterator[Path]:
        """Where a file may lie, the likeliest first; backslashes are also read as Windows has them."""
        places = [place.absolute() for place in (self.named_in, self.listed_in) if place is not None]
        for path in map(Path, dict.fromkeys((name, re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/"))))):
            for place in places:
                above = [*([place] if place.is_dir() else []), *place.parents]
                if not path.is_absolute():
                    yield from (folder / path for folder in ([self.root] if self.root else []) + above)
                    continue
                yield path
                # A project that was moved: the end of the old path, its folder at least, below a folder of here.
                ends = [Path(*path.parts[k:]) for k in range(1, len(path.parts))]
                yield from (self.root / end for end in ends if self.root)
                yield from (folder / end for folder in above for end in ends[:-1])

    def agreed_voxel_size(self, i: int, path: Path, header_nm: float | None, box: int) -> float:
        """nm; raises UserError where header and STAR file contradict each other or neither states a likely one, and
        after the survey where box or voxel size of a particle is not its group's."""
        group = self.groups[i]
        stated_nm, nm = self.stated_nm[group], self.file_voxel_size_nm
        if not nm:
            if header_nm is None and stated_nm is None:
                raise UserError(f"{path}: its header states no voxel size; give file_voxel_size_nm (--voxel-size-nm)")
            if header_nm is not None and stated_nm is not None and abs(header_nm / stated_nm - 1) > SAME_PIXEL:
                both = f"voxel size {header_nm:.4g} nm in its header but {stated_nm:.4g} nm in the STAR file"
                raise UserError(f"{path}: {both}; give the right one as file_voxel_size_nm (--voxel-size-nm)")
            nm = checked_voxel_size(stated_nm or header_nm, box, path)
        if not self.boxes or self.boxes[group] is None:
            return nm
        there = f"but most of {self.listed_in} have"
        if box != self.boxes[group]:
            raise UserError(f"{self.names[i]}: box of {box} voxels {there} {self.boxes[group]}; cut all to one box")
        if abs(nm / self.voxel_sizes_nm[group] - 1) > SAME_VOXEL:
            sizes = f"voxel size {nm:.4g} nm {there} {self.voxel_sizes_nm[group]:.4g} nm"
            raise UserError(f"{self.names[i]}: {sizes}; bring all to one, or give file_voxel_size_nm (--voxel-size-nm)")
        return nm

    def surveyed(self, read: Callable[[int], tuple[np.ndarray, float]] | None = None) -> "ParticleFiles":
        """With box and voxel size of each group: what most of a few files of it, from all over, have.

        `read` as what `opened` returns, which it is by default. Raises UserError, that of the first file, where no
        group has a file that can be read.
        """
        read = read or self.opened()
        found, first_error = [], None
        for group in range(len(self.stated_nm)):
            seen: Counter = Counter()
            for i in _spread(np.flatnonzero(self.groups == group)):
                try:
                    volume, nm = read(i)
                    seen[volume.shape[-1], round(nm, 6)] += 1
                except UserError as error:
                    first_error = first_error or error
                if sum(seen.values()) == SURVEYED:
                    break
            found.append(seen.most_common(1)[0][0] if seen else (None, None))
        if all(box is None for box, _ in found):
            raise first_error or UserError(f"{self.listed_in}: lists no particles; export it again")
        boxes, sizes = zip(*found, strict=True)
        return replace(self, boxes=boxes, voxel_sizes_nm=sizes)

    def header_notes(self) -> tuple[str, ...]:
        """What a user should know of how headers were read, from some of the files, from all over."""
        find, remarks = self.finder(), {}
        for i in _spread(np.arange(len(self.names)))[: 4 * SURVEYED]:
            try:
                path, _ = find(i)
                if path not in remarks:
                    file = open_mrc(path)
                    known_nm = self.stated_nm[self.groups[i]] or file.voxel_size_nm
                    remarks[path] = file.remarks + overruled_remark(self.file_voxel_size_nm, known_nm)
            except UserError:
                continue  # it is rejected when it is read
        return remark_lines(remarks)

    def _volume(self, file: MrcData, index: int | None, path: Path) -> np.ndarray:
        if file.data.ndim == 4:
            if index is None and len(file.data) > 1:
                raise UserError(f"{path}: a stack of {len(file.data)} volumes; name one as 1@{path.name}")
            if (index or 1) > len(file.data):
                raise UserError(f"{index}@{path}: the stack has {len(file.data)} volumes; correct the number")
            return checked_volume(file.data[(index or 1) - 1], f"{index or 1}@{path}")
        if index is not None and index > 1:
            raise UserError(f"{index}@{path}: not a stack of volumes; correct the name")
        return checked_volume(file.data, path, file.is_images)


def file_groups(n: int, stated_nm: np.ndarray | None, optics_groups: list | None) -> tuple[np.ndarray, tuple]:
    """Group of each of n particles, `(n,)`, by stated voxel size in nm and optics group; and each group's size."""
    sizes = np.full(n, np.nan) if stated_nm is None else np.where(stated_nm > 0, stated_nm, np.nan)
    optics = "" if optics_groups is None else pd.Series(optics_groups, dtype=str).fillna("").to_numpy()
    groups = pd.DataFrame({"nm": sizes, "optics": optics}).groupby(["nm", "optics"], dropna=False).ngroup().to_numpy()
    first = np.unique(groups, return_index=True)[1]
    return groups, tuple(float(nm) if np.isfinite(nm) else None for nm in sizes[first])


def _spread(indices: np.ndarray) -> list[int]:
    """At most TRIED of the indices, from all over."""
    return np.random.default_rng(0).permutation(indices)[:TRIED].tolist()
