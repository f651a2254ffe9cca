"""Options that say how an input is read: the same for every command, for all of its inputs or for one alone."""

import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer
import typer.core

from .errors import UserError

RENAMED_OPTIONS = {"--turns": "--rotations", "--labelled": "--support", "--false-accept": "--false-accept-rate"}
"""Options of release 0.1, still taken in the next release, and their names since."""


class CommandOfInputs(typer.core.TyperCommand):
    """A command that takes options by other names: `--support-root` as `--root` where there is one input, old ones."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse with every other name replaced; a name that will go is replaced with a word on stderr."""
        known = {name for parameter in self.params for name in parameter.opts}
        for i, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            plain, new = re.sub(r"^--(support|query)-", "--", name), RENAMED_OPTIONS.get(name)
            if new in known and name not in known:
                print(f"cryo-fewshot: {name} is now called {new}; the old name will be removed", file=sys.stderr)
                args[i] = f"{new}{equals}{value}"
            elif plain in known and name not in known:
                args[i] = f"{plain}{equals}{value}"
        return super().parse_args(ctx, args)


class Reading(NamedTuple):
    """An option of how files are read: keyword of `open_particles`, option, type, help, whether inputs may share it."""

    keyword: str
    option: str
    kind: type
    help: str
    shared: bool = True


READINGS = (
    Reading("coordinates", "coordinates", str, "STAR, csv, tbl, mod, EMAN2 json, where tomograms are the input", False),
    Reading("tomogram", "tomogram", str, "tomogram(s), where the input is coordinates; wbp@10.0 of copick"),
    Reading("picks", "picks", str, "user/session of a copick project's picks"),
    Reading("tomograms_star", "tomograms-star", str, "tilt geometry of 2D stacks"),
    Reading("root", "root", str, "folder that the names in STAR files are relative to"),
    Reading("file_voxel_size_nm", "voxel-size-nm", float, "voxel size of the files, overriding their headers"),
    Reading("coordinate_voxel_size_nm", "coordinate-voxel-size-nm", float, "unit of coordinates in voxels"),
    Reading("box_nm", "box-nm", float, "edge of the boxes to cut from tomograms; default 40"),
    Reading("pad_edges", "pad-edges", bool, "pad boxes that extend beyond a tomogram with their mean"),
    Reading("dark_protein", "contrast", str, "protein in the files: dark, bright, or detect (default)"),
    Reading("mirror", "mirror", bool, "reverse z: tomograms of the other handedness"),
)
EncoderOption = Annotated[str, typer.Option(help="encoder of `pretrain` or `train`; by default the pretrained one")]
LABELS = Reading("label_column", "label-column", str, "STAR column with the classes", False)
_DARK_PROTEIN = {"dark": True, "bright": False, "detect": None}


def reads(*inputs: str) -> Callable:
    """Give a command the options of READINGS, and pass it `readings`: by input the keywords of `open_particles`; and
    "shared", whether the value of an input and keyword came from an option for all inputs.

    `--option` is for all of its inputs, where they can share it, and `--input-option` for one of several alone.
    """

    several = len(inputs) > 1
    options = {LABELS.keyword: (inputs[:1], LABELS, LABELS.option)}
    options |= {r.keyword: (inputs, r, r.option) for r in READINGS if r.shared or not several}
    alone = {f"{name}_{r.keyword}": ((name,), r, f"{name}-{r.option}") for name in inputs for r in READINGS if several}
    options |= alone  # come later and win

    def annotation(parameter: str) -> object:
        (name, *_), reading, option = options[parameter]
        of = f"the {name} alone is" if parameter in alone else "the inputs are" if several else "the files are"
        shown = typer.Option(f"--{option}", help=reading.help, rich_help_panel=f"How {of} read", show_default=False)
        return Annotated[reading.kind | None, shown]

    def decorate(command: Callable) -> Callable:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "readings"]

        @functools.wraps(command)
        def with_readings(**given):
            readings: dict[str, dict] = {name: {} for name in inputs} | {"shared": {}}
            for parameter, (names, reading, _) in options.items():
                value = given.pop(parameter)
                if not (value is None or value is False or value == ""):
                    for name in names:
                        readings[name][reading.keyword] = _value(reading, value)
                        readings["shared"][name, reading.keyword] = len(names) > 1
            return command(**given, readings=readings)

        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(name, keyword, default=None, annotation=annotation(name)) for name in options]
        with_readings.__signature__ = inspect.Signature([*(p.replace(kind=keyword) for p in own), *added])
        return with_readings

    return decorate


def _value(reading: Reading, value):
    if reading.option != "contrast":
        return value
    if value not in _DARK_PROTEIN:
        raise UserError(f"contrast '{value}' is unknown: use dark, bright or detect")
    return _DARK_PROTEIN[value]


def opened(name: str, path: str, readings: dict):
    """`open_particles` of one of several inputs, whose errors name the options of this input alone.

    UserError where an option for all inputs contradicts the files of this one: it may be meant for the other.
    """
    from .particles.mrc import OVERRULED
    from .particles.opening import AGAINST, open_particles

    options = "|".join(reading.option for reading in READINGS)
    try:
        particles = open_particles(path, **readings[name])
    except UserError as error:
        raise UserError(re.sub(rf"--({options})\b", rf"--{name}-\1", str(error))) from error
    for keyword, option, said in (
        ("file_voxel_size_nm", "voxel-size-nm", OVERRULED),
        ("dark_protein", "contrast", AGAINST),
    ):
        note = next((note for note in particles.notes if said in note), None)
        if note and readings["shared"].get((name, keyword)):
            meant = f"give --support-{option} or --query-{option}, or both if both are meant"
            raise UserError(f"{note.partition(';')[0]}; --{option} is for both inputs: {meant}")
    return particles


def as_files(reading: dict) -> dict:
    """Of a reading, what says how its files are read, for other files from the same place."""
    return {key: reading[key] for key in ("root", "file_voxel_size_nm", "dark_protein", "mirror") if key in reading}
