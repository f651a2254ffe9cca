"""Every stored result has a spec that produces it, and every spec a notebook that asks for it."""

import ast
import importlib
from dataclasses import is_dataclass
from pathlib import Path

import studies

from cryo_fewshot import reproduction
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.recognition.pretraining import Pretraining

NOTEBOOKS = REPOSITORY / "notebooks"
RUN_FROM_OUTSIDE = {Pretraining: "studies.head_comparison"}
"""Specs of a wing that knows no runner, and the module that runs them."""


def spec_classes() -> dict[str, type]:
    """Dataclasses with a method `run`, by the kind of their results."""
    found = list(RUN_FROM_OUTSIDE)
    for package in (reproduction, studies):
        for path in sorted(Path(package.__path__[0]).glob("*.py")):
            module = importlib.import_module(f"{package.__name__}.{path.stem}")
            classes = [item for item in vars(module).values() if isinstance(item, type)]
            found += [item for item in classes if item.__module__ == module.__name__ and is_dataclass(item)]
    return {item.__name__.lower(): item for item in found if hasattr(item, "run") or item in RUN_FROM_OUTSIDE}


def module_path(name: str) -> Path | None:
    """The file of a module of the package or of the studies."""
    parent = NOTEBOOKS if name.split(".")[0] == "studies" else REPOSITORY
    path = parent.joinpath(*name.split(".")).with_suffix(".py")
    return path if path.is_file() else None


def imported_modules(path: Path, name: str = "") -> set[str]:
    """Modules of this project that a file imports, read off its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: -node.level] if node.level else []
            origin = ".".join([*parts, *filter(None, [node.module])])
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
    return {module for module in found if module_path(module)}


def reached_by_notebooks() -> set[str]:
    waiting = {module for path in NOTEBOOKS.glob("*.py") for module in imported_modules(path)}
    reached = set()
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= imported_modules(module_path(name), name) - reached
    return reached


def test_every_kind_of_stored_result_has_a_spec_that_produces_it():
    stored = {path.stem for path in (REPOSITORY / "results").glob("*/*.parquet")}
    assert stored, "no results in this checkout"
    assert stored <= set(spec_classes())


def test_every_spec_is_reached_by_a_notebook():
    reached = reached_by_notebooks()
    homes = {kind: RUN_FROM_OUTSIDE.get(spec, spec.__module__) for kind, spec in spec_classes().items()}
    assert {kind: home for kind, home in homes.items() if home not in reached} == {}
