"""An OME-Zarr image, 0.4 or 0.5, as one volume: what its attributes say of the voxels is used, said or refused."""

from pathlib import Path

import numpy as np

from ..errors import UserError
from .mrc import cubic_nm, reading

UNITS_NM = {"angstrom": 0.1, "nanometer": 1.0, "micrometer": 1000.0}
STEPS = ("scale", "translation")  # what a coordinateTransformation may be here


def open_group(path: Path):
    """The group, whose levels are arrays."""
    import zarr

    return zarr.open_group(str(path), mode="r")


def zarr_image(path: Path) -> tuple[str, tuple[int, int, int], float | None, tuple[str, ...]]:
    """The finest level of an image: its path in the group, zyx voxels, nm or None where it states none, and remarks.

    Raises UserError for what is not one volume of real numbers in cubic voxels.
    """
    with reading(path, "an OME-Zarr image", "write it again"):
        group = open_group(path)
        attributes = group.attrs.asdict()
        image, *others = attributes.get("ome", attributes)["multiscales"]  # OME-Zarr 0.5 nests, 0.4 does not
        level = max(image["datasets"], key=lambda level: group[level["path"]].size)
        array = group[level["path"]]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image["axes"]]
        # Those of the level act first, then those of the image: voxels are their product.
        steps = [step for part in (level, image) for step in part.get("coordinateTransformations", ())]
        values = {kind: [np.array(s[kind], dtype=float) for s in steps if s["type"] == kind] for kind in STEPS}
        unknown = {step["type"] for step in steps} - {*STEPS, "identity"}
        names, shape = [axis["name"] for axis in axes], tuple(map(int, array.shape))
        missing = array.nchunks - array.nchunks_initialized
    if names[-3:] != ["z", "y", "x"] or any(n != 1 for n in shape[:-3]) or len(shape) != len(axes):
        raise UserError(f"{path}: axes {' '.join(names)} of {shape}, not one volume zyx; write it as one")
    if unknown or any(len(value) != len(axes) for kind in values.values() for value in kind):
        what = f"type {', '.join(sorted(unknown))}" if unknown else f"other than {len(axes)} axes"
        raise UserError(f"{path}: coordinateTransformations of {what}; write it with a scale for each axis alone")
    if any((scale <= 0).any() for scale in values["scale"]):
        raise UserError(f"{path}: a scale that is not positive in its coordinateTransformations; write it again")
    if array.dtype.kind not in "iuf":
        raise UserError(f"{path}: values are {array.dtype}, not real numbers; write it again")
    remarks = {
        "a translation, which is not subtracted: coordinates count from the first voxel": np.any(values["translation"]),
        f"{missing} of {array.nchunks} chunks are missing and read as {array.fill_value or 0}": missing,
        f"{len(others) + 1} images in its multiscales, of which the first is read": others,
    }
    units = [UNITS_NM.get(axis.get("unit")) for axis in axes[-3:]]
    scales = values["scale"]
    nm = None if not scales or None in units else cubic_nm((np.prod(scales, axis=0)[-3:] * units).tolist(), path)
    return level["path"], shape[-3:], nm, tuple(said for said, holds in remarks.items() if holds)
