"""One MRC file: its array and voxel size, or one line that says what is wrong with it."""

import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..files import write_atomically

SUFFIXES = (".mrc", ".mrcs")
SAME_VOXEL = 1e-3  # share by which two voxel sizes may differ and be one: 0.04 voxel over a box of 40
WRITE_AGAIN = "write it again as one volume of mode 2 (float32)"


class MrcData(NamedTuple):
    """data : the array, memory-mapped; voxel_size_nm : nm, None where the header states none; is_images : a stack."""

    data: np.ndarray
    voxel_size_nm: float | None
    is_images: bool


def open_mrc(path: Path) -> MrcData:
    """Map an MRC file of any real mode and any number of axes; nothing but its header is read yet."""
    import mrcfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes after the data, a header without voxel size: neither matters here
            with mrcfile.mmap(path, permissive=False) as file:
                data, sizes, is_images = file.data, file.voxel_size.item(), file.is_image_stack()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check that it is there") from error
    except Exception as error:  # what mrcfile and numpy raise for a damaged header has no common class
        raise UserError(f"{path}: not a whole MRC file ({first_line(error)}); {WRITE_AGAIN}") from error
    if data.dtype.kind == "c":
        raise UserError(f"{path}: complex numbers (mode 4), a Fourier transform; {WRITE_AGAIN}")
    # Sections of an image stack have no thickness, even where the stack is a volume in truth.
    sizes = np.array(sizes[:2] if is_images else sizes, dtype=np.float64) / 10
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        return MrcData(data, None, is_images)
    if np.ptp(sizes) > SAME_VOXEL * sizes.max():
        raise UserError(f"{path}: voxels of {' x '.join(f'{s:.4g}' for s in sizes)} nm; resample it to cubic voxels")
    return MrcData(data, float(sizes[0]), is_images)


def checked_volume(data: np.ndarray, name: object, is_images: bool = False) -> np.ndarray:
    """A copy `(n, n, n)` float64 of a cube of finite values that are not all one; else a UserError that names it."""
    if data.ndim != 3 or len(set(data.shape)) != 1:
        shape = " x ".join(map(str, data.shape))
        kind = "a stack of images" if data.ndim == 3 and is_images else "not a cube"
        raise UserError(f"{name}: {shape} voxels, {kind}; cut 3D subtomograms with a cubic box")
    return checked_values(data, name)


def checked_values(data: np.ndarray, name: object, remedy: str = "remove the file or cut it anew") -> np.ndarray:
    """A copy in float64 of values that are finite and not all one; else a UserError that names it."""
    volume = data.astype(np.float64)
    lowest, highest = volume.min(), volume.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        n_bad = np.count_nonzero(~np.isfinite(volume))
        raise UserError(f"{name}: {n_bad} voxels are NaN or infinite; {remedy}")
    if lowest == highest:
        raise UserError(f"{name}: every voxel is {lowest:g}; {remedy}")
    return volume


def is_mrc(path: Path) -> bool:
    """Whether a name is an MRC file's; macOS leaves ._name.mrc beside name.mrc on foreign disks."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def first_line(error: Exception) -> str:
    """What the error of a library says, on one line: its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_mrc(path: Path, volume: np.ndarray, voxel_size_nm: float) -> None:
    """Write a density `(d, h, w)` as float32 with its voxel size, whole or not at all."""
    import mrcfile

    with tempfile.TemporaryDirectory() as folder:
        mrcfile.write(Path(folder) / "map.mrc", np.asarray(volume, dtype=np.float32), voxel_size=10 * voxel_size_nm)
        write_atomically(path, (Path(folder) / "map.mrc").read_bytes())
