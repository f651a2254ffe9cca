"""The book: the published notebooks, and the pages as a browser shows them."""

import re
import shutil

import pytest

pytest.importorskip("jupytext", reason="the book's packages are not installed")
pytest.importorskip("jupyter_book", reason="the book's packages are not installed")

import jupytext
import nbformat

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction import book
from cryo_fewshot.reproduction.notebooks import NOTEBOOKS, notebook_parameters

from .conftest import chapters

SOURCES = sorted(NOTEBOOKS.glob("*.py"))
PUBLISHED = REPOSITORY / "book" / "notebooks"
EXECUTED = sorted(PUBLISHED.glob("*.ipynb"))

# ---------------------------------------------------------------- the notebooks


def _is_injected(cell):
    return {"injected-parameters", "provenance"} & set(cell.metadata.get("tags", []))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_source_starts_with_one_title_and_plain_parameters(source):
    notebook = jupytext.read(source, fmt="py:percent")
    assert notebook_parameters(source.stem)
    first_code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    assert "parameters" in first_code.metadata.get("tags", [])
    titles = [
        line
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines()
        if line.startswith("# ")
    ]
    assert len(titles) == 1 and notebook.cells[0].source.startswith(titles[0])


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: path.stem)
def test_published_notebook_is_small_clean_and_as_its_source(path):
    assert path.stem in book.book_notebooks()
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    shown = [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs]
    assert not re.search(r"(?<![\w~.)])/(home|root|Users|tmp|usr|opt|mnt|var)/", "\n".join(shown))
    assert not any(str(REPOSITORY) in text for text in shown)
    source = jupytext.read(NOTEBOOKS / f"{path.stem}.py", fmt="py:percent")
    cells = [cell for cell in notebook.cells if not _is_injected(cell)]
    assert [cell.source for cell in cells] == [cell.source for cell in source.cells], "run the notebook again"


# ---------------------------------------------------------------- the pages


@pytest.fixture(scope="session")
def placeholders(tmp_path_factory):
    """Executed notebooks with a title each; figure2 has a plotly figure."""
    folder = tmp_path_factory.mktemp("placeholders")
    for name in book.book_notebooks():
        title = nbformat.v4.new_markdown_cell(f"# Page {name}", id="title")
        notebook = nbformat.v4.new_notebook(cells=[title], metadata={"language_info": {"name": "python"}})
        if name == "figure2":
            figure = {"text/html": '<div id="f"></div><script>Plotly.newPlot("f", [{"y": [1, 2]}])</script>'}
            output = nbformat.v4.new_output("display_data", figure)
            notebook.cells.append(nbformat.v4.new_code_cell("figure", outputs=[output], id="figure"))
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


def test_book_needs_every_notebook(placeholders, tmp_path):
    with pytest.raises(UserError, match=r"lacks the executed introduction, label_five, figure1"):
        book.build_book(notebooks_dir=tmp_path, output_dir=tmp_path / "out")
    with pytest.raises(UserError, match="not from an installed package"):
        book.build_book(notebooks_dir=placeholders, output_dir=tmp_path / "out", repository=tmp_path)


def test_scripts_are_local_and_plotly_is_loaded_where_used(placeholders, tmp_path):
    index = book.build_book(notebooks_dir=placeholders, output_dir=tmp_path)
    assert index.is_absolute() and index.name == "index.html"
    using = [page.stem for page in index.parent.rglob("*.html") if "plotly.min.js" in page.read_text()]
    assert using == ["figure2"]
    assert (index.parent / "_static" / "plotly.min.js").stat().st_size > 1e6
    assert (index.parent / "_static" / "mathjax" / "tex-svg.js").stat().st_size > 1e6
    assert 'src="_static/mathjax/tex-svg.js' in (index.parent / "methods.html").read_text()


def test_warning_stops_the_build(placeholders, tmp_path, capsys):
    broken = shutil.copytree(placeholders, tmp_path / "notebooks")
    text = (broken / "status.ipynb").read_text().replace("Page status", "Page {ref}`no-such-label`")
    (broken / "status.ipynb").write_text(text)
    with pytest.raises(UserError, match=r"WARNING.*no-such-label"):
        book.build_book(notebooks_dir=broken, output_dir=tmp_path)
    assert "no-such-label" in capsys.readouterr().err


@pytest.mark.parametrize("chapter", chapters())
def test_chapter_is_whole(html, chapter):
    page = html / f"{chapter}.html"
    text = page.read_text()
    assert "Traceback (most recent call last)" not in text
    assert 'class="problematic"' not in text
    assert not re.search(r"<script[^>]+src=[\"'](https?:)?//|<link[^>]+href=[\"'](https?:)?//", text)
    scripts = re.findall(r"<script[^>]+src=\"([^\"]+)\"", text)
    assert len(scripts) == len(set(scripts)), "a script that is loaded twice runs twice"
    for source in re.findall(r"<img[^>]+src=\"([^\"]+)\"", text):
        assert source.startswith("data:") or (page.parent / source).is_file(), source


def test_methods_has_the_eight_equations(html):
    text = (html / "methods.html").read_text()
    assert re.findall(r'class="eqno">\((\d+)\)', text) == [str(number) for number in range(1, 9)]
