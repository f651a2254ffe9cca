"""Fetching a dataset of the CZ cryoET Data Portal into a folder that `copick_projects` reads."""

import json
from collections.abc import Callable
from pathlib import Path

import pooch

from ..errors import UserError
from ..files import write_atomically
from .mrc import first_line


def fetch_dataset(
    dataset: int, folder: Path, *, processing: str = "raw", say: Callable[[str], object] = lambda line: None
) -> Path:
    """Fetch tomograms and picks of a dataset; called again it goes on where it stopped.

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
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent))
    except OSError as error:  # requests' errors are OSErrors
        raise UserError(f"{url}: could not be fetched ({first_line(error)}); run the same command to resume") from error
