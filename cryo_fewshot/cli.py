"""The command line: thin calls into the package; bad input ends in one line and exit code 2."""

import logging
import sys
from typing import Annotated

import typer

from .errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

ProfileOption = Annotated[
    str, typer.Option(help="smoke, quick, cpu or paper; auto takes paper where a GPU is found, else quick")
]


@app.command()
def reproduce(
    profile: ProfileOption = "auto",
    book: bool = True,
    minutes: Annotated[float | None, typer.Option(help="stop cleanly after this time; the next call goes on")] = None,
):
    """Run every experiment of a profile and build the book from the results; resumes after an interruption."""
    from . import reproduce as pipeline
    from .laboratory import OutOfTime

    try:
        path = pipeline.reproduce(pipeline.default_profile() if profile == "auto" else profile, book, minutes)
        print(f"Done: {path}")
    except OutOfTime:
        print(f"\n{minutes:g} minutes are over; the same command goes on from here.")


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="a notebook of the notebooks folder, such as table1")],
    parameters: Annotated[str, typer.Argument(help="such as \"snrs='0.1' n_shot=3\"")] = "",
    output: Annotated[str, typer.Option(help="folder of the executed notebook")] = "",
):
    """Run one notebook with new parameters; the result lands beside the book, never over it."""
    from pathlib import Path

    from .book import parse_parameters, run_notebook
    from .results import results_folder

    folder = Path(output) if output else results_folder("notebooks")
    print(f"Done: {run_notebook(name, parse_parameters(parameters), folder / f'{name}.ipynb')}")


@app.command()
def publish(profile: ProfileOption = "cpu"):
    """Run the notebooks on a profile's stored results into book/notebooks, the published pages."""
    from .book import REPOSITORY
    from .reproduce import build_profile_book

    print(f"Done: {build_profile_book(profile, publish_in=REPOSITORY / 'book' / 'notebooks')}")


@app.command()
def book():
    """Build the published book from the executed notebooks in book/notebooks."""
    from .book import build_book

    print(f"Done: {build_book()}")


@app.command()
def doctor():
    """Print what a bug report needs: versions, device, memory, free disk."""
    import shutil

    from .compute import fast_precision, machine
    from .results import results_folder

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
        sys.exit(_say(str(error), 2))
    except KeyboardInterrupt:
        sys.exit(_say("interrupted; the same command goes on from here", 130))


def _say(message: str, code: int) -> int:
    print(f"cryo-fewshot: {message}", file=sys.stderr)
    return code
