"""Does a published page follow from the stored results? It is run again and compared, output by output."""

import json
import tempfile
from pathlib import Path

from ..errors import UserError
from ..files import REPOSITORY
from .notebooks import run_notebook

_RICH = ("text/html", "text/markdown", "image/svg+xml")


def verify(name: str, *, repository: Path = REPOSITORY) -> tuple[int, list[str]]:
    """Run a page's notebook with the parameters of its published copy; how many outputs it has, and which differ.

    Trainings and evaluations are read from the store, tables and figures are made anew. Each difference is one line:
    the cell, the kind of output, and the first place where the two part.
    """
    path = Path(repository) / "book" / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.ipynb")))
        raise UserError(f"no published page {name!r}; known: {known}")
    published = json.loads(path.read_text(encoding="utf-8"))
    if "cryo_fewshot" not in published["metadata"]:
        raise UserError(f"{path} does not say with which parameters it was made: publish it anew (make publish)")
    parameters, sources = published["metadata"]["cryo_fewshot"]["parameters"], Path(repository) / "notebooks"
    with tempfile.TemporaryDirectory() as folder:
        again = run_notebook(name, parameters, Path(folder, "again.ipynb"), source_dir=sources)
        made = json.loads(again.read_text(encoding="utf-8"))
    old, new = _outputs(published), _outputs(made)
    differences = [f"{place}: only in one of the two" for place in sorted(old.keys() ^ new.keys())]
    both = [place for place in old if place in new and old[place] != new[place]]
    return len(old), differences + [f"{place}: {_parting(old[place], new[place])}" for place in both]


def _outputs(notebook: dict) -> dict[str, str]:
    """Text of each output by its place: what a page shows, plain text only where there is nothing richer."""
    found = {}
    for number, cell in enumerate(notebook["cells"]):
        for position, output in enumerate(cell.get("outputs", [])):
            data = {"text": output.get("text", ""), **output.get("data", {})}
            for kind in [kind for kind in _RICH if kind in data] or ["text/plain" if "text/plain" in data else "text"]:
                found[f"cell {number}, output {position}, {kind}"] = "".join(data[kind])
    return found


def _parting(old: str, new: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, at - 20)
    return f"published {old[start : at + 30]!r}, now {new[start : at + 30]!r}"
