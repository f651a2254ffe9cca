"""The rendered book: executed notebooks and chapters to pages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import UserError
from ..files import REPOSITORY


def book_notebooks(repository: Path = REPOSITORY) -> list[str]:
    """Notebooks that are pages of the book, in the order of its table of contents; UserError where there is none."""
    book = Path(repository) / "book"
    if not (book / "_toc.yml").is_file():
        raise UserError(f"no book at {book}: build it in a checkout of the repository, not from an installed package")
    return re.findall(r"notebooks/(\w+)$", (book / "_toc.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)


def build_book(
    *, notebooks_dir: Path | None = None, output_dir: Path | None = None, repository: Path = REPOSITORY
) -> Path:
    """Build the pages from ``book/`` and executed notebooks; returns the absolute path of ``index.html``.

    Parameters
    ----------
    notebooks_dir : holds an executed ``.ipynb`` for each of `book_notebooks`; by default the published ones
    output_dir : receives ``_build/`` with ``source``, ``html`` (both replaced) and ``build.log``; by default the
        checkout
    repository : the checkout with ``_config.yml`` and ``book/``

    Raises UserError where the book's files or an executed notebook are missing, and where Sphinx errs or warns.
    """
    book, names = Path(repository) / "book", book_notebooks(repository)
    notebooks_dir = Path(notebooks_dir or book / "notebooks")
    missing = [name for name in names if not (notebooks_dir / f"{name}.ipynb").is_file()]
    if missing:
        raise UserError(f"{notebooks_dir} lacks the executed {', '.join(missing)}: make reproduce runs them")

    output_dir = Path(output_dir or repository).resolve()
    build = output_dir / "_build"
    for stale in ("source", "html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(build / stale, ignore_errors=True)
    source = build / "source"
    shutil.copytree(book, source, ignore=lambda folder, _: ["notebooks"] if Path(folder) == book else [])
    shutil.copy(Path(repository) / "_config.yml", source)
    (source / "notebooks").mkdir()
    for name in names:
        shutil.copy(notebooks_dir / f"{name}.ipynb", source / "notebooks")

    log = build / "build.log"
    command = "from jupyter_book.cli.main import main; main(prog_name='jupyter-book')"
    options = ["build", source, "--path-output", output_dir, "-W", "-n", "--keep-going"]
    done = subprocess.run([sys.executable, "-P", "-c", command, *options], capture_output=True, text=True)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    log.write_text(output, encoding="utf-8")
    index = build / "html" / "index.html"
    if done.returncode or not index.is_file():
        lines = output.splitlines()
        print(*lines[-40:], sep="\n", file=sys.stderr)
        warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
        raise UserError(f"the book was not built: {(warnings or lines or ['no output'])[0]} (whole log: {log})")
    return index
