"""A folder of tomograms with picks, as copick and the CZII challenge lay it out, and the command that fetches one.

ExperimentRuns/<run>/VoxelSpacing10.000/<type>.zarr     or .mrc
ExperimentRuns/<run>/Picks/<object>.json                angstrom, possibly below another folder
"""

import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..files import write_atomically
from .copick_projects import location_of, tomogram_of_spacing
from .mrc import first_line
from .tomograms import Tomogram

COLUMNS = ("copickRun", "copickObject", "copickUser", "copickSession", "x_nm", "y_nm", "z_nm")


def is_picks_folder(path: Path) -> bool:
    """Whether a folder holds runs with picks."""
    return path.is_dir() and any(path.glob("**/ExperimentRuns/*/Picks"))


def picks_table(
    folder: Path, tomogram: str | None, file_voxel_size_nm: float | None
) -> tuple[pd.DataFrame, list[Tomogram]]:
    """Every pick, and the tomogram of each, as `copick_projects.copick_table` gives them.

    tomogram : type and voxel size in angstrom, as in denoised@10.0; may be left out where each run has one tomogram
    """
    rows, tomograms = [], []
    runs = sorted({path.parent.name for path in folder.glob("**/ExperimentRuns/*/Picks")})
    for run in runs:
        path = _tomogram_of(folder, run, tomogram)
        one = tomogram_of_spacing(path, _spacing_a(path), file_voxel_size_nm)
        for path in sorted(folder.glob(f"**/ExperimentRuns/{run}/Picks/*.json")):
            for row in _picks_of(path):
                rows.append((run, *row))
                tomograms.append(one)
    if not rows:
        raise UserError(f"{folder}: no picks in its {len(runs)} runs; add some")
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=str), tomograms


def _tomogram_of(folder: Path, run: str, tomogram: str | None) -> Path:
    kind, _, size = (tomogram or "").partition("@")
    found = [
        path
        for path in sorted(folder.glob(f"**/ExperimentRuns/{run}/VoxelSpacing*/*"))
        if path.suffix in (".zarr", ".mrc")
        and kind in ("", path.stem)
        and (not size or abs(_spacing_a(path) - float(size)) < 1e-3)
    ]
    if len(found) != 1:
        there = ", ".join(f"{path.stem}@{path.parent.name.removeprefix('VoxelSpacing')}" for path in found) or "none"
        raise UserError(f"{folder}: tomograms of run {run}: {there}; give one as type@angstrom, as in denoised@10.0")
    return found[0]


def _spacing_a(path: Path) -> float:
    """Angstrom, as the folder of a tomogram says; NaN for one that is called otherwise."""
    try:
        return float(path.parent.name.removeprefix("VoxelSpacing"))
    except ValueError:
        return float("nan")


def _picks_of(path: Path) -> Iterator[tuple[str, ...]]:
    try:
        content = json.loads(path.read_bytes())
        if content.get("unit", "angstrom") != "angstrom":
            raise ValueError(f"unit {content['unit']}")
        who = [str(content.get(key, "")) for key in ("pickable_object_name", "user_id", "session_id")]
        who[0] = who[0] or path.stem
        for point in content["points"]:
            location = location_of(point["location"], point.get("transformation_"))
            yield (*who, *(repr(float(location[axis]) / 10) for axis in "xyz"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not picks of copick ({first_line(error)}); write it again") from error


def fetch_dataset(
    dataset: int, folder: Path, *, processing: str = "raw", say: Callable[[str], object] = lambda line: None
) -> Path:
    """Fetch tomograms and picks of a dataset of the CZ cryoET Data Portal into such a folder; goes on where it stopped.

    processing : 'raw', 'filtered' or 'denoised', of the portal's tomograms
    """
    try:
        import cryoet_data_portal as portal
    except ImportError:
        raise UserError("fetching needs the portal's client; run pip install cryoet-data-portal") from None
    client = portal.Client()
    of_dataset = portal.Tomogram.run.dataset_id == dataset
    tomograms = portal.Tomogram.find(client, [of_dataset, portal.Tomogram.processing == processing])
    files = portal.AnnotationFile.find(
        client,
        [
            portal.AnnotationFile.annotation_shape.annotation.run.dataset_id == dataset,
            portal.AnnotationFile.format == "ndjson",
        ],
    )
    spacing = {}
    for tomogram in tomograms:
        run = folder / "ExperimentRuns" / tomogram.run.name
        spacing[tomogram.run.name] = tomogram.voxel_spacing
        say(f"{tomogram.run.name}: {tomogram.https_mrc_file}")
        _download(tomogram.https_mrc_file, run / f"VoxelSpacing{tomogram.voxel_spacing:.3f}" / f"{processing}.mrc")
    if not spacing:
        raise UserError(f"dataset {dataset}: has no tomogram with processing {processing}; give another --processing")
    for file in files:
        annotation = file.annotation_shape.annotation
        name, run = annotation.object_name.replace("/", "-"), annotation.run.name
        path = folder / "ExperimentRuns" / run / "Picks" / f"{name}.json"
        if run in spacing and not path.exists():
            lines = _download(file.https_path, path.with_suffix(".ndjson")).read_text().splitlines()
            places = [json.loads(line)["location"] for line in lines if line.strip()]
            # The portal counts voxels of the annotation's own spacing, copick angstrom.
            edge = file.tomogram_voxel_spacing.voxel_spacing
            points = [{"location": {axis: place[axis] * edge for axis in "xyz"}} for place in places]
            content = {"pickable_object_name": name, "user_id": "portal", "unit": "angstrom", "points": points}
            write_atomically(path, json.dumps(content).encode())
    return folder


def _download(url: str, path: Path) -> Path:
    """A file from the network, once; what was cut off is fetched again."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            urllib.request.urlretrieve(url, part)  # raises where fewer bytes come than were announced
        except OSError as error:
            raise UserError(
                f"{url}: could not be fetched ({first_line(error)}); run the same command to resume"
            ) from error
        os.replace(part, path)
    return path
