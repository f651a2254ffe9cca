"""One MRC file: its array and voxel size, or one line that says what is wrong with it."""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from ..files import write_atomically
from . import headers

SUFFIXES = (".mrc", ".mrcs", ".map", ".rec", ".em", ".hdf")  # each also with .gz; .st is a tilt series, not a volume
SAME_PIXEL = 1e-2  # as SAME_VOXEL, between a STAR file and a header, which round differently
SAME_VOXEL = 1e-3  # share by which two voxel sizes may differ and be one: 0.04 voxel over a box of 40
SMALLEST_NM, LARGEST_NM = 0.1, 10.0  # of a voxel; LARGEST_NM itself is no voxel size any more
DEFAULT_NM = 0.1  # 1.000 A, what programs write into a header when they know no voxel size
OVERRULED = "overridden by the"
WRITE_AGAIN = "write it again as one volume of mode 2 (float32)"


class MrcData(NamedTuple):
    """One MRC file.

    data : the array zyx, memory-mapped unless packed; voxel_size_nm : nm, None where the header states none;
    is_images : its header says for sure that sections are images; remarks : what a user should know of how the header
    was read; of_place : what else where coordinates count voxels of it
    """

    data: np.ndarray
    voxel_size_nm: float | None
    is_images: bool
    remarks: tuple[str, ...] = ()
    of_place: tuple[str, ...] = ()


def open_mrc(path: Path) -> MrcData:
    """Map an MRC file of any real mode and any number of axes, EM or HDF of EMAN2; only its header is read yet."""
    if path.suffix.lower() in (".em", ".hdf"):
        return _open_em(path) if path.suffix.lower() == ".em" else _open_hdf(path)
    packed = path.suffix.lower() == ".gz"
    with reading(path, "a whole MRC file", WRITE_AGAIN):
        data, sizes, header = _mapped(path, packed)
    if refusal := headers.refusal(header):
        raise UserError(f"{path}: {refusal}; {WRITE_AGAIN}")
    section = data[(0,) * (data.ndim - 2)].nbytes if data.size else 1
    unread = 0 if packed else (path.stat().st_size - 1024 - int(header.nsymbt) - data.nbytes) // section
    beyond = f"{unread} more sections than its header counts (nz), which are not read" if unread > 0 else ""
    data, byte_remark = headers.bytes_by_header(data, header)
    data, section_axis, axis_remark = headers.as_zyx(data, header)
    remarks = (byte_remark, axis_remark, beyond, *headers.remarks(header))
    # Sections of an image stack have no thickness, even where the stack is a volume in truth.
    nm = cubic_nm([size / 10 for k, size in enumerate(sizes) if header.ispg or k != section_axis], path)
    return MrcData(data, nm, headers.is_images(header), tuple(filter(None, remarks)), headers.places(header))


def _mapped(path: Path, packed: bool) -> tuple[np.ndarray, tuple, np.ndarray]:
    """Array, voxel sizes in angstrom and header, as mrcfile has them; what is packed is read whole.

    A file of old, without the map ID or machine stamp that MRC has now, is one where its size is what its header says.
    """
    import mrcfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes after the data, a header without voxel size: looked at by the caller
        opener = mrcfile.open if packed else mrcfile.mmap
        try:
            with opener(path, permissive=False) as file:
                return file.data, file.voxel_size.item(), file.header.copy()
        except ValueError:
            if packed:
                raise
            with mrcfile.open(path, header_only=True, permissive=True) as file:
                header = file.header.copy()
            if not headers.is_old(header) or path.stat().st_size != 1024 + header.nsymbt + headers.n_bytes(header):
                raise
            with opener(path, permissive=True) as file:
                return file.data, file.voxel_size.item(), file.header.copy()


def _open_em(path: Path) -> MrcData:
    """An EM file, as Dynamo and the TOM toolbox write them; its header holds no voxel size that programs agree on."""
    import emfile

    with reading(path, "a whole EM file", WRITE_AGAIN):
        header, data = emfile.read(path, mmap=True)
    if header["machine"] != 6 or data.dtype.kind not in "if":
        said = f"machine code {header['machine']} and data type {header['dtype']}"
        raise UserError(f"{path}: {said}, not real numbers of a PC (6); {WRITE_AGAIN}")
    return MrcData(data, None, False)


class _HdfStack(list):
    """The volumes of an EMAN2 file as an array `(n, d, h, w)` of which one is read at a time."""

    ndim = 4

    def __getitem__(self, i: int) -> np.ndarray:
        return super().__getitem__(i)[()]


def _open_hdf(path: Path) -> MrcData:
    """A volume or a stack of volumes as EMAN2 writes it."""
    import h5py

    with reading(path, "a whole HDF file of EMAN2", WRITE_AGAIN):
        images = h5py.File(path, "r")["MDF/images"]
        groups = [images[name] for name in sorted(filter(str.isdecimal, images), key=int)]
        volumes = [group["image"] for group in groups]
        attributes = [group.attrs for group in groups]
        sizes_a = {float(a.get(f"EMAN.apix_{axis}", a.get("EMAN.apix_x", 0))) for a in attributes for axis in "xyz"}
        is_complex = any(a.get("EMAN.is_complex") for a in attributes) or any(v.dtype.kind == "c" for v in volumes)
        n_axes = {volume.ndim for volume in volumes}
    if n_axes != {3} or is_complex:
        what = "Fourier transforms" if is_complex else f"images of {n_axes} axes"
        raise UserError(f"{path}: {what}; cut 3D subtomograms")
    nm = cubic_nm([size_a / 10 for size_a in sorted(sizes_a)], f"{path} (EMAN.apix_x, y, z)")
    return MrcData(volumes[0] if len(volumes) == 1 else _HdfStack(volumes), nm, False)


def cubic_nm(sizes_nm: Sequence[float], name: object) -> float | None:
    """The voxel size that several axes or volumes share; None where one is unknown, UserError where they differ."""
    if not all(np.isfinite(size) and size > 0 for size in sizes_nm):
        return None
    if max(sizes_nm) - min(sizes_nm) > SAME_VOXEL * max(sizes_nm):
        sizes = " x ".join(f"{size:.4g}" for size in sizes_nm)
        raise UserError(f"{name}: voxels of {sizes} nm; resample it to cubic voxels of one size")
    return float(sizes_nm[0])


def checked_voxel_size(nm: float, voxels: int, name: object, narrowest_nm: float = 30.0) -> float:
    """A stated voxel size, or a UserError where it cannot be one or is the 1.000 A of a program that knew none.

    Nothing in a file tells a true 1.000 A from that; its width can. Particles at a true 1.000 A come in boxes of some
    300 voxels, so what is narrower than narrowest_nm over its `voxels` has to be confirmed.
    """
    if not within_range(nm):
        said = f"voxel size {nm:.4g} nm ({10 * nm:.4g} A), not between {SMALLEST_NM:g} and {LARGEST_NM:g} nm"
        raise UserError(f"{name}: {said}; give the right one as file_voxel_size_nm (--voxel-size-nm)")
    if abs(nm / DEFAULT_NM - 1) < 1e-4 and voxels * nm < narrowest_nm:
        said = f"voxel size 1.000 A, which programs write when they do not know it; {voxels} voxels would be "
        remedy = f"if that is right give file_voxel_size_nm (--voxel-size-nm) {DEFAULT_NM:g}, else the right one in nm"
        raise UserError(f"{name}: {said}{voxels * nm:.3g} nm; {remedy}")
    return nm


def overruled_remark(given_nm: float | None, known_nm: float | None) -> tuple[str, ...]:
    """A remark where the voxel size that the user gave is not the one that the files state."""
    if not given_nm or not known_nm or abs(given_nm / known_nm - 1) <= SAME_PIXEL:
        return ()
    if abs(known_nm / DEFAULT_NM - 1) < 1e-4:
        return (f"voxel size 1.000 A, a program's default, replaced by the {given_nm:.4g} nm given",)
    return (f"voxel size {known_nm:.4g} nm, {OVERRULED} {given_nm:.4g} nm given",)


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


def checked_volume(data: np.ndarray, name: object, is_images: bool = False) -> np.ndarray:
    """A copy `(n, n, n)` float64 of a cube of finite values that are not all one; else a UserError that names it."""
    if data.ndim != 3 or len(set(data.shape)) != 1 or is_images:
        shape = " x ".join(map(str, data.shape))
        kind = "a stack of images by its header (ispg 0, mz 1)" if is_images else "not a cube"
        kind += ", perhaps a stack of images" if data.shape[0] != data.shape[-1] == data.shape[-2] else ""
        raise UserError(f"{name}: {shape} voxels, {kind}; cut 3D subtomograms with a cubic box")
    return checked_values(data, name)


def checked_values(data: np.ndarray, name: object, remedy: str = "remove the file or extract it again") -> np.ndarray:
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


@contextmanager
def reading(path: object, kind: str, remedy: str) -> Iterator[None]:
    """A UserError of one line for whatever the libraries raise that read a file: their errors have no common class."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check that it is there") from error
        raise UserError(f"{path}: not {kind} ({first_line(error)}); {remedy}") from error


def first_line(error: Exception) -> str:
    """What the error of a library says, on one line: its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def write_mrc(path: Path, volume: np.ndarray, voxel_size_nm: float) -> None:
    """Write a density `(d, h, w)` as float32 with its voxel size, whole or not at all."""
    import mrcfile

    with tempfile.TemporaryDirectory() as folder:
        mrcfile.write(Path(folder) / "map.mrc", np.asarray(volume, dtype=np.float32), voxel_size=10 * voxel_size_nm)
        write_atomically(path, (Path(folder) / "map.mrc").read_bytes())
