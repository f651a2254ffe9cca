"""Particles in a numpy archive, without unpickling anything.

numpy maps an .npy file but no member of an archive. What savez writes lies in it uncompressed and is mapped here, so
that memory stays flat; what savez_compressed writes has to be unpacked whole, and is refused above a size.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import UserError
from .base import Particles, known_labels
from .mrc import checked_values, checked_voxel_size, overruled_remark, reading

WHOLE = "a whole npz of plain arrays"
WRITE_SO = "write it with numpy.savez(path, volumes=..., labels=..., voxel_size_nm=...)"
LARGEST_COMPRESSED = 2 * 1024**3  # bytes; a compressed archive has to be unpacked whole


@dataclass(frozen=True)
class ArchivedVolumes:
    """Volumes of the array `volumes` of an npz: mapped where it lies as it is, unpacked where it is compressed.

    rows : which of them; order : C or F, as numpy stores it; offset : bytes from the start of the file, None where it
    is compressed
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    order: str
    offset: int | None
    voxel_size_nm: float
    rows: Sequence[int]

    def opened(self, voxel_size_nm: float | None = None) -> Callable[[int], tuple[np.ndarray, float]]:
        """As in `base.Source`."""
        with reading(self.path, WHOLE, "write it again"):
            if self.offset is None:
                volumes = _unpacked(self.path, self.path.stat().st_mtime_ns)
            else:
                volumes = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        remedy = "remove it or extract it again"
        return lambda i: (
            checked_values(volumes[self.rows[i]], f"{self.path}[{self.rows[i]}]", remedy),
            self.voxel_size_nm,
        )

    def identities(self, indices: Iterable[int]) -> Iterator[tuple[int, tuple]]:
        """As in `base.Source`."""
        path = str(self.path.resolve())
        return ((i, (path, self.rows[i])) for i in indices)


def archived_names(names: list[str]) -> tuple[str, list[int]] | None:
    """The archive and the indices in it that names such as `all.npz[3]` mean, None where they are other names."""
    found = [re.fullmatch(r"(.+\.npz)\[(\d+)\]", name) for name in names]
    if not all(found) or len({match[1] for match in found}) > 1:
        return None
    return found[0][1], [int(match[2]) for match in found]


def open_npz(path: Path, file_voxel_size_nm: float | None) -> Particles:
    """Particles of an npz with `volumes` `(n, b, b, b)`, and if need be `labels` `(n,)` and `voxel_size_nm`."""
    with reading(path, WHOLE, WRITE_SO):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("labels", "voxel_size_nm") if name in archive}
        shape, dtype, order, offset = _layout(path)
    if len(shape) != 4 or len(set(shape[1:])) != 1 or not all(shape):
        raise UserError(f"{path}: volumes of shape {shape}; {WRITE_SO}, volumes of shape (n, box, box, box)")
    if dtype.kind not in "iuf":
        raise UserError(f"{path}: volumes are {dtype}, not real numbers; {WRITE_SO}")
    stated = arrays.get("voxel_size_nm", np.empty(0))
    stated_nm = float(stated.item()) if stated.size == 1 and stated.dtype.kind in "iuf" else None
    if not file_voxel_size_nm and not (stated_nm and 0 < stated_nm < np.inf):
        says = f"voxel_size_nm {stated!s:.40}; store one positive length in nm"
        none = "states no voxel_size_nm; give file_voxel_size_nm (--voxel-size-nm) or store it"
        raise UserError(f"{path}: {says if stated.size else none}")
    nm = file_voxel_size_nm or checked_voxel_size(stated_nm, shape[1], path)
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if offset is None and n_bytes > LARGEST_COMPRESSED:
        size = f"{n_bytes / 1e9:.1f} GB compressed, which cannot be read in parts"
        raise UserError(f"{path}: {size}; write it with numpy.savez")
    labels = arrays.get("labels")
    if labels is not None and labels.shape != (shape[0],):
        raise UserError(f"{path}: labels of shape {labels.shape} for {shape[0]} volumes; give one each")
    return Particles(
        names=[f"{path.name}[{i}]" for i in range(shape[0])],
        source=ArchivedVolumes(path, shape, dtype.str, order, offset, nm, range(shape[0])),
        voxel_size_nm=nm,
        voxel_size_from="given" if file_voxel_size_nm else "archive",
        box=shape[1],
        labels=None if labels is None else known_labels(labels),
        notes=tuple(f"{path}: {remark}" for remark in overruled_remark(file_voxel_size_nm, stated_nm)),
    )


def _layout(path: Path) -> tuple[tuple[int, ...], np.dtype, str, int | None]:
    """Shape, type and order of the array `volumes`, and where its bytes start; KeyError where there is none."""
    with zipfile.ZipFile(path) as archive, archive.open("volumes.npy") as stream:
        start = archive.fp.tell()  # zipfile has read the headers of the file and stands before its bytes
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
        shape, fortran, dtype = read_header(stream)
        member, length = archive.getinfo("volumes.npy"), stream.tell()
    if dtype.hasobject:
        raise ValueError("volumes are Python objects, which would have to be unpickled")
    expected = length + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if member.file_size < expected:
        raise ValueError(f"{expected} bytes of volumes expected, the file ends before")
    return shape, dtype, "F" if fortran else "C", start + length if member.compress_type == zipfile.ZIP_STORED else None


@lru_cache(maxsize=1)
def _unpacked(path: Path, modified: int) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return archive["volumes"]
