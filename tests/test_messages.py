"""Every message of the package: the options it names exist, and who meets it on the command line is told an option."""

import ast
import inspect
import re
from pathlib import Path

import typer.main

import cryo_fewshot
from cryo_fewshot import cli
from cryo_fewshot.cli_inputs import READINGS
from cryo_fewshot.particles.opening import open_particles

PACKAGE = Path(cryo_fewshot.__file__).parent
REPOSITORY = PACKAGE.parent
PAGES = REPOSITORY / "notebooks"
COMMANDS = typer.main.get_command(cli.app).commands
OPTION_OF = {reading.keyword: f"--{reading.option}" for reading in READINGS} | {"label_column": "--label-column"}


def messages():
    """Texts of every module but its docstrings and helps, f-strings joined, with where each stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name.startswith("cli") or path.name == "labelled.py":  # met in notebooks alone
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield where, "".join(part.value for part in node.values if isinstance(part, ast.Constant))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | inner:
                yield where, node.value


def options(*commands):
    parameters = [parameter for command in commands for parameter in COMMANDS[command].params]
    return {name for parameter in parameters for name in [*parameter.opts, *parameter.secondary_opts]}


def test_every_option_that_a_message_names_exists():
    """One of an input's reading on every command that reads; any other on some command."""
    found = {
        (where, name)
        for where, text in messages()
        for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if " " in text
    }
    assert len(found) > 15
    assert not {pair for pair in found if pair[1] not in options(*COMMANDS)}
    in_reading = {name for where, name in found if where.startswith("particles")} - options("fetch-portal")
    assert in_reading <= options("classify")
    alone = {re.sub("^--(support|query)-", "--", name) for name in in_reading}
    assert alone <= options("train") & options("inspect"), "one input takes them with and without its name"


def test_every_keyword_of_open_particles_is_an_option_and_no_message_names_it_without():
    keywords = set(inspect.signature(open_particles).parameters) - {"path"}
    assert keywords == set(OPTION_OF)
    for command in ("classify", "train", "inspect"):
        for option in OPTION_OF.values():
            assert any(name.endswith(option[1:]) for name in options(command)), (command, option)
    alone = [
        (where, keyword)
        for where, text in messages()
        for keyword in re.findall(r"\bgive ([a-z]+_[a-z_]+)\b", text) + re.findall(r"\b([a-z_]+)=", text)
        if keyword in OPTION_OF and OPTION_OF[keyword][2:] not in text
    ]
    assert not alone


def test_every_option_that_the_pages_name_exists():
    """But those of sbatch, snakemake, pip and git."""
    others = {"--array", "--wrap", "--cores", "--config", "--help"}
    texts = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "README.md", PAGES / "own_data.py")}
    found = {name for text in texts.values() for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", text)}
    assert len(found) > 15 and not found - options(*COMMANDS) - others
