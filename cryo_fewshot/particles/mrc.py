"""One MRC file: its array and voxel size, or one line that says what is wrong with it."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..files import write_atomically

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".em", ".hdf")  # each also with .gz; .st is a tilt series, not a volume
SAME_PIXEL = 1e-2  # as SAME_VOXEL, between a STAR file and a header, which round differently
SAME_VOXEL = 1e-3  # share by which two voxel sizes may differ and be one: 0.04 voxel over a box of 40
SMALLEST_NM, LARGEST_NM = 0.1, 10.0  # of a voxel; LARGEST_NM itself is no voxel size any more
DEFAULT_NM = 0.1  # 1.000 A, what programs write into a header when they know no voxel size
WRITE_AGAIN = "write it again as one volume of mode 2 (float32)"
IMOD_STAMP = 1146047817  # "IMOD" as an integer in word 38 of a header; the lowest bit of word 39 says signed bytes


class MrcData(NamedTuple):
    """One MRC file.

    data : the array zyx, memory-mapped unless packed; voxel_size_nm : nm, None where the header states none;
    is_images : a stack; remarks : what a user should know of how the header was read
    """

    data: np.ndarray
    voxel_size_nm: float | None
    is_images: bool
    remarks: tuple[str, ...] = ()


def open_mrc(path: Path) -> MrcData:
    """Map an MRC file of any real mode and any number of axes, EM or HDF of EMAN2; only its header is read yet."""
    import mrcfile

    if path.suffix.lower() in (".em", ".hdf"):
        return _open_em(path) if path.suffix.lower() == ".em" else _open_hdf(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes after the data, a header without voxel size: neither matters here
            opener = mrcfile.open if path.suffix.lower() == ".gz" else mrcfile.mmap  # what is packed is read whole
            with opener(path, permissive=False) as file:
                data, sizes, is_images = file.data, file.voxel_size.item(), file.is_image_stack()
                header = file.header.copy()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check that it is there") from error
    except Exception as error:  # what mrcfile and numpy raise for a damaged header has no common class
        raise UserError(f"{path}: not a whole MRC file ({first_line(error)}); {WRITE_AGAIN}") from error
    if data.dtype.kind == "c":
        raise UserError(f"{path}: complex numbers (mode 4), a Fourier transform; {WRITE_AGAIN}")
    _check_header(header, path)
    data, byte_remark = _bytes_by_header(data, header)
    data, section_axis, axis_remark = _zyx(data, header, path)
    remarks = tuple(remark for remark in (byte_remark, axis_remark) if remark)
    # Sections of an image stack have no thickness, even where the stack is a volume in truth.
    sizes = np.array([size for k, size in enumerate(sizes) if not (is_images and k == section_axis)]) / 10
    if not np.isfinite(sizes).all() or (sizes <= 0).any():
        return MrcData(data, None, is_images, remarks)
    if np.ptp(sizes) > SAME_VOXEL * sizes.max():
        raise UserError(f"{path}: voxels of {' x '.join(f'{s:.4g}' for s in sizes)} nm; resample it to cubic voxels")
    return MrcData(data, float(sizes[0]), is_images, remarks)


def _open_em(path: Path) -> MrcData:
    """An EM file, as Dynamo and the TOM toolbox write them; its header holds no voxel size that programs agree on."""
    import emfile

    try:
        header, data = emfile.read(path, mmap=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check that it is there") from error
    except Exception as error:  # what numpy and struct raise for a damaged header has no common class
        raise UserError(f"{path}: not a whole EM file ({first_line(error)}); {WRITE_AGAIN}") from error
    if header["machine"] != 6 or data.dtype.kind not in "if":
        said = f"machine code {header['machine']} and data type {header['dtype']}"
        raise UserError(f"{path}: {said}, not real numbers of a PC (6); {WRITE_AGAIN}")
    return MrcData(data, None, False)


class _HdfStack:
    """The volumes of an EMAN2 file as an array `(n, d, h, w)` of which one is read at a time."""

    ndim = 4

    def __init__(self, volumes: list):
        self.volumes = volumes

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.volumes[i][()]


def _open_hdf(path: Path) -> MrcData:
    """A volume or a stack of volumes as EMAN2 writes it."""
    import h5py

    try:
        images = h5py.File(path, "r")["MDF/images"]
        groups = [images[name] for name in sorted(filter(str.isdecimal, images), key=int)]
        volumes, size_a = [group["image"] for group in groups], float(groups[0].attrs.get("EMAN.apix_x", 0))
        n_axes = {volume.ndim for volume in volumes}
    except Exception as error:  # h5py says OSError or KeyError for whatever is wrong inside a file
        raise UserError(f"{path}: not a whole HDF file of EMAN2 ({first_line(error)}); {WRITE_AGAIN}") from error
    if n_axes != {3}:
        raise UserError(f"{path}: images of {n_axes} axes; cut 3D subtomograms")
    nm = size_a / 10 if np.isfinite(size_a) and size_a > 0 else None
    return MrcData(volumes[0] if len(volumes) == 1 else _HdfStack(volumes), nm, False)


def checked_voxel_size(nm: float, voxels: int, name: object, narrowest_nm: float = 30.0) -> float:
    """A stated voxel size, or a UserError where it cannot be one or is the 1.000 A of a program that knew none.

    Nothing in a file tells a true 1.000 A from that; its width can. Particles at a true 1.000 A come in boxes of some
    300 voxels, so what is narrower than narrowest_nm over its `voxels` has to be confirmed.
    """
    if not within_range(nm):
        said = f"voxel size {nm:.4g} nm ({10 * nm:.4g} A), not between {SMALLEST_NM:g} and {LARGEST_NM:g} nm"
        raise UserError(f"{name}: {said}; give file_voxel_size_nm (--voxel-size-nm), the right one")
    if abs(nm / DEFAULT_NM - 1) < 1e-4 and voxels * nm < narrowest_nm:
        said = f"voxel size 1.000 A, which is what programs write when they do not know; {voxels} voxels would be "
        remedy = f"if it is right give file_voxel_size_nm (--voxel-size-nm) {DEFAULT_NM:g}, if not the right one in nm"
        raise UserError(f"{name}: {said}{voxels * nm:.3g} nm; {remedy}")
    return nm


def overruled_remark(given_nm: float | None, known_nm: float | None) -> tuple[str, ...]:
    """A remark where the voxel size that the user gave is not the one that the files state."""
    if not given_nm or not known_nm or abs(given_nm / known_nm - 1) <= SAME_PIXEL:
        return ()
    return (f"voxel size {known_nm:.4g} nm, overruled by the {given_nm:.4g} nm that were given",)


def within_range(nm: float) -> bool:
    """Whether a length in nm can be the voxel size of a subtomogram or tomogram."""
    return SMALLEST_NM * (1 - SAME_VOXEL) <= nm < LARGEST_NM


def remark_lines(remarks: Mapping[Path, tuple[str, ...]]) -> tuple[str, ...]:
    """A line for each remark on the headers of some files, with its first file and how many share it."""
    having: dict[str, list[Path]] = {}
    for path, of_file in remarks.items():
        for remark in of_file:
            having.setdefault(remark, []).append(path)
    several = f" of {len(remarks)} files looked at" if len(remarks) > 1 else ""
    return tuple(
        f"{paths[0]}: {remark}" + (f" ({len(paths)}{several})" if several else "") for remark, paths in having.items()
    )


def _check_header(header, path: Path) -> None:
    """UserError for what a header says of the voxels that mrcfile does not act on.

    The rest of it changes no voxel's value or place in the box (origin, nxstart, statistics), or is acted on: mode,
    byte order, extended header and nx by mrcfile; cella with mx, mapc and IMOD's bytes here.
    """
    angles = [float(angle) for angle in header.cellb.item()]
    if not all(angle == 0 or abs(angle - 90) < 0.1 for angle in angles):
        raise UserError(f"{path}: axes at {', '.join(f'{a:g}' for a in angles)} degrees (cellb); {WRITE_AGAIN}")
    stamp, flags = _imod_words(header)
    if stamp == IMOD_STAMP and flags & 16 and header.mode == 0:
        raise UserError(f"{path}: two values of four bits in each byte, as IMOD's header says; {WRITE_AGAIN}")


def _imod_words(header) -> np.ndarray:
    return np.frombuffer(header.extra2.tobytes()[40:48], dtype=header.mode.dtype)  # words 38 and 39


def _bytes_by_header(data: np.ndarray, header) -> tuple[np.ndarray, str]:
    """Bytes (mode 0) as signed or unsigned, whichever the header means, and a remark where that is not the standard.

    MRC 2014 calls them signed, IMOD and all programs before it wrote unsigned ones. A negative minimum is signed;
    IMOD's stamp comes with a flag; else a maximum beyond 127 is unsigned.
    """
    if data.dtype != np.int8:
        return data, ""
    lowest, highest, mean = float(header.dmin), float(header.dmax), float(header.dmean)
    # dmin = 0, dmax = -1 is how MRC 2014 says that they are not known, and some programs leave all at 0.
    known = lowest < highest
    imod = _imod_words(header)
    if known and lowest < 0:
        return data, ""
    if imod[0] == IMOD_STAMP:
        return (data, "") if imod[1] & 1 else (data.view(np.uint8), "bytes read as unsigned, as IMOD's header says")
    if max(highest, mean) > 127:
        said = f"maximum {highest:g} and mean {mean:g}"
        return data.view(np.uint8), f"bytes read as unsigned, as the {said} of the header say"
    if known:
        return data, ""  # all from 0 to 127, which both readings share
    return data, "bytes read as signed, as MRC 2014 has it, for the header does not say; if they are not, write floats"


def _zyx(data: np.ndarray, header, path: Path) -> tuple[np.ndarray, int, str]:
    """Data with its last three axes in the order zyx; which of x, y, z (0, 1, 2) the sections follow; a remark."""
    order = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))  # axis of columns, rows, sections; x is 1
    if order in ((1, 2, 3), (0, 0, 0)):  # three zeros are how some programs leave it out
        return data, 2, ""
    if sorted(order) != [1, 2, 3]:
        said = f"axes mapc, mapr, maps {', '.join(map(str, order))} in its header, not 1, 2 and 3 in any order"
        raise UserError(f"{path}: {said}; {WRITE_AGAIN}")
    if data.ndim >= 3:
        before = tuple(range(data.ndim - 3))
        data = data.transpose(*before, *(data.ndim - 1 - order.index(axis) for axis in (3, 2, 1)))
    names = ", ".join("xyz"[axis - 1] for axis in order)
    return data, order[2] - 1, f"axes turned to the order x, y, z from {names}, as its header says (mapc, mapr, maps)"


def checked_volume(data: np.ndarray, name: object, is_images: bool = False) -> np.ndarray:
    """A copy `(n, n, n)` float64 of a cube of finite values that are not all one; else a UserError that names it."""
    if data.ndim != 3 or len(set(data.shape)) != 1:
        shape = " x ".join(map(str, data.shape))
        kind = "a stack of images" if data.ndim == 3 and is_images else "not a cube"
        raise UserError(f"{name}: {shape} voxels, {kind}; cut 3D subtomograms with a cubic box")
    return checked_values(data, name)


def checked_values(data: np.ndarray, name: object, remedy: str = "remove the file or cut it anew") -> np.ndarray:
    """A copy in float64 of values that are finite and not all one; else a UserError that names it."""
    volume = np.array(data, dtype=np.float64)
    lowest, highest = volume.min(), volume.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        n_bad = np.count_nonzero(~np.isfinite(volume))
        raise UserError(f"{name}: {n_bad} voxels are NaN or infinite; {remedy}")
    if lowest == highest:
        raise UserError(f"{name}: every voxel is {lowest:g}; {remedy}")
    return volume


def is_mrc(path: Path) -> bool:
    """Whether a name is an MRC file's; macOS leaves ._name.mrc beside name.mrc on foreign disks."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES) and not path.name.startswith(".")


def first_line(error: Exception) -> str:
    """What the error of a library says, on one line: its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_mrc(path: Path, volume: np.ndarray, voxel_size_nm: float) -> None:
    """Write a density `(d, h, w)` as float32 with its voxel size, whole or not at all."""
    import mrcfile

    with tempfile.TemporaryDirectory() as folder:
        mrcfile.write(Path(folder) / "map.mrc", np.asarray(volume, dtype=np.float32), voxel_size=10 * voxel_size_nm)
        write_atomically(path, (Path(folder) / "map.mrc").read_bytes())
