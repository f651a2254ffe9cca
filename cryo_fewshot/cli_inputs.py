"""Options that say how an input is read: the same for every command, for all of its inputs or for one alone."""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer
import typer.core

from .errors import UserError

RENAMED_OPTIONS = {"--turns": "--rotations", "--labelled": "--support"}
"""Options of release 0.1, still taken in the next release, and their names since."""


class CommandWithOldOptions(typer.core.TyperCommand):
    """A command that takes renamed options by their old names as well, and says so on stderr."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse with every old name replaced."""
        known = {name for parameter in self.params for name in parameter.opts}
        for i, argument in enumerate(args):
            name, equals, value = argument.partition("=")
            new = RENAMED_OPTIONS.get(name)
            if new in known and name not in known:
                print(f"cryo-fewshot: {name} is now called {new}; the old name will go", file=sys.stderr)
                args[i] = f"{new}{equals}{value}"
        return super().parse_args(ctx, args)


class Reading(NamedTuple):
    """An option of how files are read: keyword of `open_particles`, option, type, help, whether inputs may share it."""

    keyword: str
    option: str
    kind: type
    help: str
    shared: bool = True


READINGS = (
    Reading("coordinates", "coordinates", str, "STAR or csv, where the input is a tomogram or a folder of them", False),
    Reading("tomogram", "tomogram", str, "tomogram(s), where the input is coordinates; wbp@10.0 of copick", False),
    Reading("picks", "picks", str, "user/session of a copick project's picks", False),
    Reading("tomograms_star", "tomograms-star", str, "tilt geometry of 2D stacks", False),
    Reading("root", "root", str, "folder that the names in STAR files are relative to"),
    Reading("file_voxel_size_nm", "voxel-size-nm", float, "of the files, whatever their headers say"),
    Reading("coordinate_voxel_size_nm", "coordinate-voxel-size-nm", float, "unit of coordinates in voxels"),
    Reading("box_nm", "box-nm", float, "edge of the boxes that are cut from tomograms; default 40"),
    Reading("pad_edges", "pad-edges", bool, "fill boxes that reach out of a tomogram with their mean"),
    Reading("dark_protein", "contrast", str, "protein in the files: dark, bright, or detect (default)"),
    Reading("mirror", "mirror", bool, "turn z: tomograms of the other handedness"),
)
NO_COLUMN = Reading("label_column", "label-column", str, "STAR column with the classes", False)
_DARK_PROTEIN = {"dark": True, "bright": False, "detect": None}


def reads(*inputs: str) -> Callable:
    """Give a command the options of READINGS, and pass it `readings`: by input the keywords of `open_particles`.

    Of a command with one input they are called `--option`, and `--input-option` as well; of one with several,
    `--option` is for all of them, where it can be, and `--input-option` for one alone.
    """

    def decorate(command: Callable) -> Callable:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "readings"]
        options = _options(inputs)

        @functools.wraps(command)
        def with_readings(**given):
            readings: dict[str, dict] = {name: {} for name in inputs}
            for parameter, (names, reading, _) in options.items():  # those of one input come later and win
                value = given.pop(parameter)
                if not (value is None or value is False or value == ""):
                    for name in names:
                        readings[name][reading.keyword] = _value(reading, value)
            return command(**given, readings=readings)

        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, (*_, annotation) in options.items()
        ]
        as_keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        with_readings.__signature__ = inspect.Signature([*as_keywords, *added])
        return with_readings

    return decorate


def _options(inputs: tuple[str, ...]) -> dict[str, tuple[tuple[str, ...], Reading, object]]:
    """By parameter: the inputs that an option is for, what it says, and its annotation for typer."""
    of_all = "the inputs are" if len(inputs) > 1 else "the files are"
    options = {"label_column": ((inputs[0],), NO_COLUMN, _annotation(NO_COLUMN, ["--label-column"], of_all))}
    for reading in READINGS:
        names = [f"--{reading.option}", *(f"--{name}-{reading.option}" for name in inputs)]
        if len(inputs) == 1:
            options[reading.keyword] = inputs, reading, _annotation(reading, names, of_all)
            continue
        if reading.shared:
            options[reading.keyword] = inputs, reading, _annotation(reading, names[:1], of_all)
    for name in inputs if len(inputs) > 1 else ():
        for reading in READINGS:
            annotation = _annotation(reading, [f"--{name}-{reading.option}"], f"the {name} alone is")
            options[f"{name}_{reading.keyword}"] = (name,), reading, annotation
    return options


def _annotation(reading: Reading, names: list[str], of: str) -> object:
    option = typer.Option(*names, help=reading.help, rich_help_panel=f"How {of} read", show_default=False)
    return Annotated[reading.kind | None, option]


def _value(reading: Reading, value):
    if reading.option != "contrast":
        return value
    if value not in _DARK_PROTEIN:
        raise UserError(f"contrast '{value}' is unknown: use dark, bright or detect")
    return _DARK_PROTEIN[value]
