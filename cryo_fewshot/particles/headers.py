"""The fields of an MRC header: used, said, refused by name, or without meaning for the voxels.

dmin, dmax, dmean and extra2, where IMOD's stamp and flags are, say whether bytes are signed; nsymbt where the voxels
begin; mx, my, mz and cella the voxel size, mz also what one volume of a stack is. exttyp, nversion, extra1, rms, nlabl
and label change neither a voxel nor its place.
"""

import numpy as np

IMOD_STAMP = 1146047817  # "IMOD" as an integer in word 38 of a header; the lowest bit of word 39 says signed bytes


def refusal(header) -> str:
    """What in a header refuses the file, empty where nothing does; modes that it does not know mrcfile refuses."""
    stamp, flags = imod_words(header)
    if header.mode == 0 and stamp == IMOD_STAMP and flags & 16:
        return "two values of four bits in each byte, as IMOD's header says"
    if header.mode == 4:
        return "complex numbers (mode 4), a Fourier transform"
    if 401 <= header.ispg <= 630 and (header.mz < 1 or header.nz % header.mz):
        return f"a stack of volumes of {header.mz} sections (mz), but {header.nz} sections in all (nz)"
    angles = [float(angle) for angle in header.cellb.item()]
    if not all(angle == 0 or abs(angle - 90) < 0.1 for angle in angles):
        return f"axes at {', '.join(f'{a:g}' for a in angles)} degrees (cellb)"
    order = axis_order(header)
    if order != (0, 0, 0) and sorted(order) != [1, 2, 3]:
        return f"axes mapc, mapr, maps {', '.join(map(str, order))} in its header, not 1, 2 and 3 in any order"
    return ""


def remarks(header) -> tuple[str, ...]:
    """What a user should know of a header."""
    said = []
    if is_old(header):
        said.append("no map ID or machine stamp in its header; read as the MRC file that its size fits")
    if (group := header.ispg % 400) > 1:
        said.append(f"space group {group} in its header (ispg), whose symmetry is not applied")
    return tuple(said)


def places(header) -> tuple[str, ...]:
    """Where coordinates could mean another place than they do here."""
    start = [int(header[f"n{axis}start"]) for axis in "xyz"]
    origin = [float(c) for c in header.origin.item()]
    counted = "which is not subtracted: coordinates count from the first voxel"
    said = (("first voxel at", start, "(nxstart, nystart, nzstart)"), ("origin", origin, "A"))
    return tuple(
        f"{what} {', '.join(f'{c:g}' for c in place)} {unit}, {counted}"
        for what, place, unit in said
        if np.isfinite(place).all() and any(place)
    )


def is_old(header) -> bool:
    """Whether map ID or machine stamp are missing, as in files from before 2000 and of programs that go on so."""
    return not header.map.item().startswith(b"MAP") or not header.machst.any()


def n_bytes(header) -> int:
    """Of all voxels, 0 for a mode that is none."""
    size = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}.get(int(header.mode), 0)
    return size * int(header.nx) * int(header.ny) * int(header.nz)


def is_images(header) -> bool:
    """Whether a header says for sure that sections are images; what IMOD and RELION write leaves it open."""
    return bool(header.ispg == 0 and header.mz == 1 and header.nz > 1)


def axis_order(header) -> tuple[int, int, int]:
    """Axis of columns, rows and sections; x is 1. Three zeros are how some programs leave it out."""
    return tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))


def imod_words(header) -> np.ndarray:
    """Stamp and flags of IMOD, words 38 and 39."""
    return np.frombuffer(header.extra2.tobytes()[40:48], dtype=header.mode.dtype)


def bytes_by_header(data: np.ndarray, header) -> tuple[np.ndarray, str]:
    """Bytes (mode 0) as signed or unsigned, whichever the header means, and a remark where that is not the standard.

    MRC 2014 calls them signed, IMOD and all programs before it wrote unsigned ones. A negative minimum is signed;
    IMOD's stamp comes with a flag; else a maximum beyond 127 is unsigned.
    """
    if data.dtype != np.int8:
        return data, ""
    lowest, highest, mean = float(header.dmin), float(header.dmax), float(header.dmean)
    # dmin = 0, dmax = -1 is how MRC 2014 says that they are not known, and some programs leave all at 0.
    known = lowest < highest
    stamp, flags = imod_words(header)
    if known and lowest < 0:
        return data, ""
    if stamp == IMOD_STAMP:
        return (data, "") if flags & 1 else (data.view(np.uint8), "bytes read as unsigned, as IMOD's header says")
    if max(highest, mean) > 127:
        said = f"maximum {highest:g} and mean {mean:g}"
        return data.view(np.uint8), f"bytes read as unsigned, because of the {said} in the header"
    if known:
        return data, ""  # all from 0 to 127, which both readings share
    return (
        data,
        "bytes read as signed, as MRC 2014 has it, because the header does not say; if they are unsigned, save floats",
    )


def as_zyx(data: np.ndarray, header) -> tuple[np.ndarray, int, str]:
    """Data with its last three axes in the order zyx; which of x, y, z (0, 1, 2) the sections follow; a remark."""
    order = axis_order(header)
    if order in ((1, 2, 3), (0, 0, 0)):
        return data, 2, ""
    if data.ndim >= 3:
        before = tuple(range(data.ndim - 3))
        data = data.transpose(*before, *(data.ndim - 1 - order.index(axis) for axis in (3, 2, 1)))
    names = ", ".join("xyz"[axis - 1] for axis in order)
    return data, order[2] - 1, f"axes turned to the order x, y, z from {names}, as its header says (mapc, mapr, maps)"
