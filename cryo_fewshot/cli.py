"""The command line: thin calls into the package; bad input ends in one line and exit code 2."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_data import benchmark_real, fetch_portal, inspect
from .cli_inputs import CommandOfInputs, EncoderOption, as_files, opened, reads
from .errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
ProfileOption = Annotated[str, typer.Option(help="smoke, quick, cpu, extended, paper; auto: paper on GPU, else quick")]
MinutesOption = Annotated[float | None, typer.Option(help="stop cleanly after this time; run the same again to resume")]


@app.command()
def reproduce(
    profile: ProfileOption = "auto",
    book: bool = True,
    minutes: MinutesOption = None,
):
    """Run every experiment of a profile and build the book from the results; resumes after an interruption."""
    from .reproduction import pipeline as pipeline
    from .training import DeadlineReached

    try:
        path = pipeline.reproduce(pipeline.default_profile() if profile == "auto" else profile, book, minutes)
        print(f"Done: {path}")
    except DeadlineReached:
        print(f"\nStopped after {minutes:g} minutes; run the same command to resume.")


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="name of a notebook, such as table1")],
    parameters: Annotated[str, typer.Argument(help="such as \"snrs='0.1' n_shot=3\"")] = "",
    output: Annotated[str, typer.Option(help="folder of the executed notebook")] = "",
):
    """Run one notebook with new parameters; the result lands beside the book, never over it."""
    from .reproduction.notebooks import parse_parameters, run_notebook
    from .reproduction.store import results_folder

    folder = Path(output) if output else results_folder("notebooks")
    print(f"Done: {run_notebook(name, parse_parameters(parameters), folder / f'{name}.ipynb')}")


@app.command()
def publish(profile: ProfileOption = "cpu"):
    """Run the notebooks on a profile's stored results into book/notebooks, the published pages."""
    from .files import REPOSITORY
    from .reproduction.pipeline import build_profile_book

    print(f"Done: {build_profile_book(profile, publish_in=REPOSITORY / 'book' / 'notebooks')}")


@app.command()
def verify(name: Annotated[str, typer.Argument(help="name of a published page, such as table1")]):
    """Make a published page anew from the stored results, and say whether every table and figure is the same."""
    from .reproduction.verify import verify

    n_outputs, differences = verify(name)
    for difference in differences:
        print(difference)
    if differences:
        raise UserError(f"{len(differences)} of {n_outputs} outputs of {name} differ from the published page")
    print(f"Equal: all {n_outputs} outputs of {name}")


@app.command()
def book():
    """Build the published book from the executed notebooks in book/notebooks."""
    from .reproduction.book import build_book

    print(f"Done: {build_book()}")


@app.command()
def pretrain(
    out: Annotated[str, typer.Option(help="output file; by default the pretrained encoder is replaced")] = "",
    epochs: Annotated[int, typer.Option(help="epochs of the first training, 10,000 volumes each; 8 more follow")] = 40,
    minutes: MinutesOption = None,
):
    """Train the general encoder on the whole library, alone in the box and then as in cells, and measure it."""
    from .recognition.model_card import pretrain_in_two
    from .training import DeadlineReached
    from .weights import PRETRAINED

    path = Path(out) if out else PRETRAINED
    try:
        card = pretrain_in_two(path, epochs, minutes)
    except DeadlineReached:
        print(f"\nStopped after {minutes:g} minutes; run the same command to resume.")
        return
    for row in card["expected_accuracy"]:
        task = f"SNR {row['snr']:g}, {row['n_way']}-way {row['n_shot']}-shot"
        print(f"{task}: {row['accuracy']:.3f} ± {row['ci95']:.3f} on held-out classes")
    print(f"Done: {path}")


SupportOption = Annotated[str, typer.Option(help="labelled particles: STAR, folder with a folder per class, npz, ...")]


@app.command()
def calibrate(
    encoder: Annotated[str, typer.Option(help="file of `pretrain`")],
    out: Annotated[str, typer.Option(help="output file: the encoder with its new calibration")],
    cross_fitted: Annotated[list[str], typer.Option(help="encoder of the same recipe; may be repeated")] = [],  # noqa: B006
):
    """Measure an encoder's probabilities and thresholds again, on classes that cross-fitted encoders left out too."""
    from .recognition.model_card import recalibrate

    card = recalibrate(Path(encoder), list(map(Path, cross_fitted)), Path(out))
    print(f"Done: {out}, measured on {card['calibration']['n_classes']} classes")


@app.command(cls=CommandOfInputs)
@reads("support")
def train(
    support: SupportOption,
    out: Annotated[str, typer.Option(help="file of the new encoder")],
    readings: dict,
    encoder: EncoderOption = "",
    epochs: int = 20,
    seed: int = 0,
):
    """Finetune an encoder on your own labelled particles, and keep the epoch that is best on held-out ones."""
    from .particles.opening import open_particles
    from .recognition.finetuning import finetune_on_particles

    particles = open_particles(support, **readings["support"])
    print(*particles.notes, sep="\n")
    accuracies = finetune_on_particles(
        particles, Path(out), Path(encoder) if encoder else None, n_epochs=epochs, seed=seed
    )
    print(f"Accuracy on held-out particles: {accuracies[0]:.3f} before, {max(accuracies):.3f} after finetuning")
    print(f"Done: {out}")


@app.command(cls=CommandOfInputs)
@reads("support", "query")
def classify(
    support: SupportOption,
    query: Annotated[str, typer.Option(help="particles to classify")],
    out: Annotated[str, typer.Option(help="output folder; the same command resumes there")],
    readings: dict,
    encoder: EncoderOption = "",
    false_accept_rate: Annotated[
        float, typer.Option(help="accept at most this share of the particles of unknown classes, 0.01 to 0.2")
    ] = 0.05,
    fdr: Annotated[
        float | None, typer.Option(help="instead: at most this share of the accepted particles of each class is wrong")
    ] = None,
    junk: Annotated[str, typer.Option(help="classes of the support that are never accepted, separated by commas")] = "",
    adapt: Annotated[bool, typer.Option(help="fit the scatter within classes to these data, without labels")] = True,
    background: Annotated[
        str,
        typer.Option(help="boxes to stand out from; by default some of tomograms, away from the picks; 0: none"),
    ] = "",
    transductive: Annotated[bool, typer.Option(help="let the unlabelled particles refine the classes")] = False,
    rotations: Annotated[
        int,
        typer.Option(help="test-time augmentation: 1, 2, or 4 (symmetric tilt range), at as many times the cost"),
    ] = 1,
    averages: Annotated[int, typer.Option(help="particles per class average; 0 for none")] = 100,
    tilt_min: Annotated[float, typer.Option(help="degrees, for the averages")] = -60.0,
    tilt_max: Annotated[float, typer.Option(help="degrees, for the averages")] = 60.0,
    workers: Annotated[int, typer.Option(help="number of processes that read files")] = 0,
    cache: Annotated[str, typer.Option(help="folder of embeddings shared between runs; default in OUT")] = "",
    shard: Annotated[str, typer.Option(help="embed this share, such as 3/8, and stop; run without to merge")] = "",
):
    """Give every particle a class and a probability, or reject it, from a few labelled examples of each class."""
    from tqdm import tqdm

    from .particles.base import class_indices
    from .particles.opening import open_particles
    from .recognition.classify import classify, embed_shard
    from .recognition.settings import Settings

    asked = opened("query", query, readings)
    encoder_path, cache_path = Path(encoder) if encoder else None, Path(cache) if cache else None
    with tqdm(total=len(asked), unit=" particles", mininterval=1, desc="embedding", disable=None) as bar:
        if shard:
            print(*asked.notes, sep="\n")
            folder = embed_shard(
                asked, Path(out), shard, encoder_path=encoder_path, cache=cache_path, n_workers=workers,
                rotations=rotations, progress=bar.update,
            )  # fmt: skip
            print(f"Done: share {shard} in {folder}")
            return
        labelled = opened("support", support, readings)
        class_indices(labelled, support)  # refused here by its name
        boxes = None if background in ("", "0") else open_particles(background, **as_files(readings["query"]))
        outcome = classify(
            labelled,
            asked,
            Path(out),
            encoder_path=encoder_path,
            settings=Settings(
                false_accept_rate=false_accept_rate,
                fdr=fdr,
                junk=tuple(name for name in junk.split(",") if name),
                adapt=adapt,
                transductive=transductive,
                rotations=rotations,
                n_averaged=averages,
                tilt_min=tilt_min,
                tilt_max=tilt_max,
                n_background=0 if background == "0" else Settings.n_background,
            ),
            background=boxes,
            cache=cache_path,
            n_workers=workers,
            say=lambda line: tqdm.write(line),
            progress=bar.update,
        )
    print(outcome.counts.to_string(index=False, float_format="{:.2f}".format))
    check = outcome.recogniser.check
    print(
        f"Labelled particles, each left out in turn: accuracy {check.accuracy:.2f} "
        f"({check.low:.2f} to {check.high:.2f} at 95 %, {check.n_tested} tested)"
    )
    print(f"Done: {Path(out) / 'report.html'}")


for command in (inspect, benchmark_real, fetch_portal):
    app.command(cls=CommandOfInputs)(command)


@app.command()
def doctor():
    """Print what a bug report needs: versions, device, memory, free disk."""
    import shutil

    from .device import fast_precision, machine
    from .reproduction.store import results_folder

    for name, value in machine().items():
        print(f"{name:<12} {value}")
    print(f"{'precision':<12} {fast_precision()}")
    print(f"{'free disk':<12} {shutil.disk_usage(results_folder('quick').parents[1]).free / 1e9:.1f} GB")


def main() -> None:
    """Entry point: errors meant for the user are one line on stderr and exit code 2."""
    logging.basicConfig(format="cryo-fewshot: %(message)s", level=logging.WARNING)
    try:
        app()
    except UserError as error:
        print(f"cryo-fewshot: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("cryo-fewshot: interrupted; run the same command to resume", file=sys.stderr)
        sys.exit(130)
