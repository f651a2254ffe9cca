"""Notebooks as text, run with new parameters by papermill."""

import ast
import importlib
import json
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import REPOSITORY, write_atomically

NOTEBOOKS = REPOSITORY / "notebooks"
_METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


def parse_parameters(text: str) -> dict[str, object]:
    """Read ``name=value`` pairs as typed on a command line, such as ``"snrs='0.1' n_shot=3"``.

    A value is a Python literal without blanks outside of quotes; anything else (``profile=smoke``) is a string. Raises
    UserError where a part of the text is not such a pair, or a name is given twice.
    """
    parameters = {}
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise UserError(f"cannot read the parameters {text!r}: {error}") from error
    for part in parts:
        name, _, value = part.partition("=")
        if not name.isidentifier() or not value:
            raise UserError(f"cannot read the parameter {part!r}: write name=value, as in snrs='0.1' n_shot=3")
        if name in parameters:
            raise UserError(f"parameter {name} is given twice")
        try:
            parameters[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parameters[name] = value
    return parameters


def notebook_parameters(name: str, *, source_dir: Path | None = None) -> dict[str, object]:
    """Parameters of a notebook and their defaults, in the order of its cell tagged ``parameters``.

    name : stem of the text file, such as ``"table1"``; source_dir : its folder, by default ``notebooks/`` of the
    checkout. Raises UserError where there is no such notebook, or its parameters are not plain literals.
    """
    return _defaults(_read_text(name, source_dir), name)


def run_notebook(
    name: str,
    parameters: dict[str, object],
    output_path: Path,
    *,
    source_dir: Path | None = None,
    tables: Path | None = None,
    threads: int | None = None,
) -> Path:
    """Execute a notebook with new parameters; returns `output_path`.

    It runs in the interpreter that calls this function, in the current folder. The result carries no path, time or
    version of the machine: the same outputs give the same bytes.

    Parameters
    ----------
    name, source_dir : as in `notebook_parameters`
    parameters : values that replace the defaults; an empty dict runs the notebook as it stands
    output_path : the executed notebook (.ipynb), replaced only when every cell has run
    tables : folder that the notebook's tables are written to as csv; by default none is
    threads : that it computes with; by default as many as there are cores

    Raises UserError for an unknown notebook or parameter, a value of another type than the default, and a cell that
    fails: then the notebook with its traceback is kept as ``<output stem>.failed.ipynb``.
    """
    papermill, nbclient = book_extra("papermill"), book_extra("nbclient")
    output_path = Path(output_path)
    notebook = _read_text(name, source_dir)
    parameters = _checked(parameters, _defaults(notebook, name), name)
    failed = output_path.with_suffix(".failed.ipynb")
    error = None
    with tempfile.TemporaryDirectory() as folder:
        executed, seen = Path(folder, "executed.ipynb"), Path(folder, "seen.jsonl")
        try:
            papermill.execute_notebook(
                notebook,
                executed,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                kernel_manager_class=_this_interpreter(tables, threads, seen),
                request_save_on_cell_execute=False,
            )
        except papermill.PapermillExecutionError as exception:
            error = exception
        except nbclient.exceptions.DeadKernelError as exception:
            raise UserError(f"notebook {name}: its Python process died, perhaps for lack of memory") from exception
        _clean(executed, name, {"parameters": parameters, **_results_seen(seen)})
        write_atomically(output_path if error is None else failed, executed.read_bytes())
    if error is not None:
        message = (str(error.evalue).strip() or "(no message)").splitlines()[-1]
        raise UserError(
            f"notebook {name} failed in its cell [{error.exec_count}]: {error.ename}: {message} "
            f"(the whole traceback is in {failed})"
        ) from error
    failed.unlink(missing_ok=True)
    return output_path


def _read_text(name: str, source_dir: Path | None) -> Any:
    jupytext = book_extra("jupytext")
    source_dir = Path(source_dir or NOTEBOOKS)
    path = source_dir / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in source_dir.glob("*.py"))) or "none"
        raise UserError(f"no notebook {name!r} in {source_dir}; known: {known}")
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = _METADATA
    return notebook


def book_extra(module: str) -> Any:
    """A package of the extra [book]; UserError where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module} is missing: pip install 'cryo-fewshot[book]' (or make setup)") from error


def _defaults(notebook: Any, name: str) -> dict[str, object]:
    defaults = {}
    for key, parameter in book_extra("papermill").inspect_notebook(notebook).items():
        try:
            defaults[key] = ast.literal_eval(parameter["default"])
        except (ValueError, SyntaxError):
            raise UserError(f"notebook {name}: the default of {key} is not a plain literal") from None
    return defaults


def _checked(parameters: dict, defaults: dict, name: str) -> dict:
    checked = {}
    for key, value in parameters.items():
        if key not in defaults:
            raise UserError(f"notebook {name} has no parameter {key!r}; it knows: {', '.join(defaults)}")
        default = defaults[key]
        if isinstance(default, str) and isinstance(value, tuple | list):  # snrs=0.1,0.05
            value = ",".join(map(str, value))
        elif isinstance(default, str | float) and type(value) in (int, float):
            value = type(default)(value)
        if default is not None and type(value) is not type(default):
            raise UserError(
                f"parameter {key} of notebook {name} is of type {type(default).__name__} "
                f"(default {default!r}), not {type(value).__name__} ({value!r})"
            )
        checked[key] = value
    return checked


def _this_interpreter(tables: Path | None, threads: int | None, seen: Path) -> type:
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    # Studies lie beside the notebooks and are imported from there.
    paths = os.pathsep.join(filter(None, [str(NOTEBOOKS), os.getenv("PYTHONPATH")]))
    environment = {"TQDM_DISABLE": "1", "PYTHONPATH": paths, "CRYO_FEWSHOT_SEEN": str(seen)}
    environment |= {"CRYO_FEWSHOT_TABLES": str(tables)} if tables else {}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}

    class ThisInterpreter(AsyncKernelManager):
        """Starts the kernel in the running interpreter, whatever kernel is registered as python3 on this machine."""

        kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]), env=environment)
        transport_encryption = "auto"  # off by default, and each kernel then warns on the terminal

    return ThisInterpreter


def _results_seen(path: Path) -> dict:
    """What the stored results that a notebook read have in common: how many, when, where, by which code."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    results = {result["name"]: result for result in map(json.loads, lines)}.values()
    if not results:
        return {}
    machines = {
        f"{r['processor']}, {r['cores']} cores" + (f", {r['gpu']}" if r["gpu"] not in ("", "none") else "")
        for r in results
    }
    dates = sorted(result["date"] for result in results)
    return {
        "results": len(results),
        "dates": sorted({dates[0], dates[-1]}),
        "commits": sorted({result["commit"] for result in results}),
        "machines": sorted(machines),
        "torch": sorted({result["torch"] for result in results}),
        "seconds": round(sum(result["seconds"] for result in results), 1),
    }


def origin_text(made: dict) -> str:
    """Where stored results come from, in words; "" where there are none."""
    if "dates" not in made:
        return ""
    commits = ", ".join(made["commits"][:3]) + (" and others" if len(made["commits"]) > 3 else "")
    plural = "s" if made["results"] > 1 else ""
    return (
        f"{made['results']} stored result{plural} of {' to '.join(made['dates'])}, commit {commits}, on "
        f"{'; '.join(made['machines'])}, torch {', '.join(made['torch'])}, {made['seconds']:,.0f} s in all"
    )


def _clean(path: Path, name: str, made: dict) -> None:
    """Remove what belongs to the machine and the moment: timings, versions, paths in outputs.

    made : what is kept instead, in the metadata and a last cell: parameters, and what the results have in common
    """
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {**_METADATA, "cryo_fewshot": made}
    if origin := origin_text(made):
        cell = nbformat.v4.new_markdown_cell(f"**Provenance.** {origin}.", metadata={"tags": ["provenance"]})
        notebook.cells.append(cell)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{name}-{number}"  # jupytext draws them at random, and every rerun would differ
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for holder, key in ((output, "text"), (data, "text/plain"), (data, "text/html")):
                if key in holder:
                    holder[key] = _without_paths(holder[key])
    nbformat.write(notebook, path)


def _without_paths(text: str) -> str:
    places = {REPOSITORY: ".", Path(sys.prefix): "(python)", Path(tempfile.gettempdir()): "(tmp)", Path.home(): "~"}
    for place, shown in sorted(places.items(), key=lambda item: -len(str(item[0]))):
        if len(place.parts) > 1:  # a home or prefix of "/" would be everywhere; the look-behind spares base64 data
            text = re.sub(rf"(?<![\w+/=]){re.escape(str(place))}(?![\w-]|\.\w)", shown, text)
    return text
