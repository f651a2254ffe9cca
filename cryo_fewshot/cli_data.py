"""Commands about files and real data: what would be read, how well particles can be told apart, how to fetch some."""

from pathlib import Path
from typing import Annotated

import typer

from .cli_inputs import EncoderOption, reads
from .errors import UserError


@reads("files")
def inspect(
    files: Annotated[list[str], typer.Argument(help="one or more inputs, as classify and train take them")],
    readings: dict,
    picture: Annotated[str, typer.Option(help="PNG to write: central slices, one row per class")] = "",
):
    """Print what would be read from an input and how: a line for each thing found, scaled, undone or left out."""
    from .particles.opening import open_particles

    rows = {}
    for file in files:
        particles = open_particles(file, **readings["files"])
        print(*particles.notes, sep="\n")
        if particles.labels is None:
            print(f"{file}: no labels; to use it as support, give --label-column")
        if not any("axes turned" in note for note in particles.notes):
            print(f"{file}: axes x, y, z as they lie in the file{', z reversed' if particles.mirror else ''}")
        if picture:
            rows |= {(file, label): slices for label, slices in particles.central_slices().items()}
    if picture:
        from .figures.volumes import contact_sheet

        names = [f"{Path(file).name} {label or ''}".strip() for file, label in rows]
        try:
            contact_sheet(list(rows.values()), names).savefig(picture)
        except (OSError, ValueError) as error:  # no such folder, or a format that is none
            raise UserError(f"{picture}: cannot be written ({error}); give a .png in a folder that exists") from error
        print(f"Done: {picture}")


@reads("files")
def benchmark_real(
    path: Annotated[str, typer.Argument(help="tomogram, folder of tomograms with picks, or of npz and csv")],
    readings: dict,
    classes: Annotated[str, typer.Option(help="only these classes, separated by commas")] = "",
    shots: Annotated[str, typer.Option(help="labelled particles per class")] = "1,5,10,20",
    episodes: int = 100,
    encoder: EncoderOption = "",
    out: Annotated[str, typer.Option(help="csv to write the results to; by default none")] = "",
):
    """Measure the accuracy of `classify` on your labelled tomogram, beside simple features, on one half and on all."""
    import tempfile

    from tqdm import tqdm

    from .files import write_atomically
    from .recognition.benchmark import benchmark, labelled_tomogram, numbers_in, open_labelled, wide_table
    from .recognition.calibration import Calibration
    from .weights import load_encoder

    network, card = load_encoder(Path(encoder) if encoder else None)
    with tempfile.TemporaryDirectory() as temporary:
        particles = open_labelled(Path(path), Path(temporary), **readings["files"])
        data = labelled_tomogram(particles, network, card, Path(temporary))
    names = tuple(name for name in classes.split(",") if name) or tuple(sorted(set(data.labels.tolist())))
    numbers, calibration = numbers_in(shots), Calibration.from_json(card.get("calibration"))
    with tqdm(total=2 * len(numbers), unit=" tasks", disable=None) as bar:
        tasks = {", ".join(names): names}
        found = benchmark(data, calibration, tasks, shots=numbers, n_episodes=episodes, progress=bar.update)
    print(wide_table(found).to_string())
    if out:
        write_atomically(Path(out), found.to_csv(index=False, lineterminator="\n").encode())


def fetch_portal(
    out: Annotated[str, typer.Argument(help="folder, for `benchmark-real` and `classify`; the same command resumes")],
    dataset: Annotated[int, typer.Option(help="number in the CZ cryoET Data Portal")] = 10440,
    processing: Annotated[str, typer.Option(help="of the tomograms: raw, filtered or denoised")] = "raw",
):
    """Fetch tomograms and picks of a dataset of the CZ cryoET Data Portal; needs `pip install cryoet-data-portal`."""
    from .particles.portal import fetch_dataset

    print(f"Done: {fetch_dataset(dataset, Path(out), processing=processing, say=print)}")
