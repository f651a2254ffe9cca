"""The Sphinx extension of the book: scripts beside the pages, and what a page gains once its text is set.

Code and parameters hide behind one switch per page; tables scroll inside a frame and are offered as csv; figures stand
in the page as SVG, open large, and have their numbers as csv; a line under each says how to make it. The output of a
cell with the tag `fold` opens on request.
"""

import html
import json
import re
import shutil
from itertools import count, product
from pathlib import Path
from urllib.parse import quote

from cryo_fewshot.reproduction.notebooks import book_extra, origin_text

_SWITCH = (
    '<p class="code-switch"><input type="checkbox" id="show-code"/> '
    '<label for="show-code">Show the code and parameters of this page</label></p>'
)
_LARGE = '<button type="button" class="figure-large" aria-haspopup="dialog">Open large</button>'


def setup(app):
    """Connect the steps below to Sphinx. Jupyter Book itself adds the scripts and styles of `book/_static`."""
    app.connect("builder-inited", _copy_scripts)
    app.connect("html-page-context", _load_scripts)
    app.connect("html-page-context", _finish_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _copy_scripts(app):
    from plotly.offline import get_plotlyjs

    static = Path(app.outdir) / "_static"
    (static / "mathjax").mkdir(parents=True, exist_ok=True)
    bundle = Path(book_extra("sphinx-mathjax-offline").__file__).parent / "static" / "mathjax"
    shutil.copy(bundle / "tex-svg.js", static / "mathjax")
    (static / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
    if (Path(app.srcdir) / "your_particles.md").is_file():
        from browser_files import encoder_script, example_script

        (static / "encoder.js").write_text(encoder_script(), encoding="utf-8")
        (static / "example.js").write_text(example_script(), encoding="utf-8")


def _load_scripts(app, pagename, templatename, context, doctree):
    """Scripts of a page where it needs them. Thebe nowhere: it is declared twice, and the book runs no code."""
    if "Plotly.newPlot" in context.get("body", ""):
        app.add_js_file("plotly.min.js")
    for name in ("script_files", "css_files"):
        context[name] = [file for file in context[name] if "thebe" not in _text_of(file)]


def _text_of(file) -> str:
    return f"{file.filename} {getattr(file, 'attributes', {}).get('body', '')}".lower()


def _finish_page(app, pagename, templatename, context, doctree):
    if "body" not in context:
        return
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(context["body"], "html.parser")
    for script in soup.find_all("script"):
        if "thebe" in script.get("type", "") or (script.string or "").startswith("kernelName"):
            script.decompose()
    for references in soup.select("div.citation-list"):
        references.attrs.pop("role")  # a list with more than items
    inlined = _inline_figures(soup, {name: Path(app.srcdir, path) for path, (_, name) in app.env.images.items()})
    _gather_code(soup)
    for table in soup.find_all("table"):
        _finish_table(soup, table)
    _prove(soup, pagename, Path(app.srcdir))
    _fold(soup)
    body = soup.decode(formatter="minimal")
    for mark, figure in inlined.items():
        body = body.replace(mark, figure)
    context["body"] = body


def _gather_code(soup) -> None:
    """One switch per page in the place of a toggle per cell."""
    hidden = soup.select("div.tag_parameters, div.tag_injected-parameters")
    for toggle in soup.select("details.hide"):
        toggle.summary.decompose()
        toggle.name, toggle.attrs = "div", {}
        hidden.append(toggle)
    for part in hidden:
        part["class"] = [*part.get("class", []), "page-code"]
    if hidden and soup.h1:
        from bs4 import BeautifulSoup

        soup.h1.insert_after(BeautifulSoup(_SWITCH, "html.parser"))


def _finish_table(soup, table) -> None:
    """Headings that say what they head, empty ones that are none, and a frame that scrolls."""
    for heading in table.find_all("th"):
        if not heading.get_text(strip=True):
            heading.name = "td"
        else:
            heading["scope"] = "col" if heading.find_parent("thead") else "row"
    label = table.caption.get_text(strip=True) if table.caption else _heading_of(table)
    frame = {"class": "table-frame", "tabindex": "0", "role": "region", "aria-label": f"Table: {label}"}
    table.wrap(soup.new_tag("div", attrs=frame))


def _heading_of(tag) -> str:
    heading = tag.find_previous(["h1", "h2", "h3", "h4"])
    return heading.get_text(strip=True).rstrip("#") if heading else "table"


def _inline_figures(soup, images: dict[str, Path]) -> dict[str, str]:
    """Put SVG outputs into the page, so that they follow its theme; marks in the soup and what takes their place."""
    inlined, numbers = {}, count(1)
    for image in soup.select(".cell_output img"):
        path = images.get(Path(image["src"]).name)
        if path is None or path.suffix != ".svg":
            if not image.get("alt") or image["alt"].startswith("../_images"):
                image["alt"] = f"Figure of the section {_heading_of(image)}"
            continue
        svg = path.read_text(encoding="utf-8")
        title, data = (re.search(f"<{tag}>(.*?)</{tag}>", svg, re.DOTALL) for tag in ("title", "metadata"))
        svg = re.sub("<metadata>.*?</metadata>|<title>.*?</title>|^.*?(?=<svg)", "", svg, flags=re.DOTALL)
        alt = image.get("alt") or ""
        if not alt or alt.startswith("../_images"):
            alt = html.unescape(title.group(1)) if title else f"Figure of the section {_heading_of(image)}"
        mark = f"@@figure-{next(numbers)}@@"
        inlined[mark] = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}"', 1)
        figure = soup.new_tag("div", attrs={"class": "book-figure"})
        figure.string = mark
        if data and data.group(1).count("\n") > 1:
            figure["data-csv"] = html.unescape(data.group(1))
        image.replace_with(figure)
    return inlined


def _prove(soup, pagename: str, source: Path) -> None:
    """Under each figure and table of a notebook: command, data, commit, machine, seconds."""
    from bs4 import BeautifulSoup

    notebook = source / f"{pagename}.ipynb"
    if not notebook.is_file():
        return
    command, made = provenance_of(notebook)
    name, numbers = Path(pagename).name, count(1)
    for output in soup.select("div.cell_output"):
        shown = output.select(".book-figure, .table-frame")
        for thing in shown:
            parts = [f"<code>{html.escape(command)}</code>"]
            table = "table-frame" in thing["class"]
            data = _csv_of(thing.table) if table else thing.attrs.pop("data-csv", "")
            if data:
                address = f"data:text/csv;charset=utf-8,{quote(data)}"
                file = f"{name}-{next(numbers)}.csv"
                parts.append(
                    f'<a download="{file}" href="{address}">data as csv<span class="hidden"> {file}</span></a>'
                )
            parts += [html.escape(made)] if made else []
            line = f'<p class="proof">{"" if table else _LARGE + " "}{" · ".join(parts)}</p>'
            thing.insert_after(BeautifulSoup(line, "html.parser"))


def provenance_of(path: Path) -> tuple[str, str]:
    """The command that makes an executed notebook, and where its stored results come from ("" where it has none)."""
    made = json.loads(Path(path).read_text(encoding="utf-8"))["metadata"].get("cryo_fewshot", {})
    given = " ".join(f"{key}={value!r}" for key, value in made.get("parameters", {}).items())
    command = f"make notebook NB={Path(path).stem}" + (f' P="{given}"' if given else "")
    return command, origin_text(made)


def _fold(soup) -> None:
    """Close outputs that only some readers want; their first line says what opens."""
    for output in soup.select("div.tag_fold div.cell_output"):
        n_rows, caption = len(output.select("tbody tr")), output.find("caption")
        label = caption.extract().get_text(strip=True) if caption else _heading_of(output)
        summary = soup.new_tag("summary")
        summary.string = f"{f'Table of {n_rows} rows' if n_rows else 'Figure'}: {label}"
        output.wrap(soup.new_tag("details", attrs={"class": "folded"})).insert(0, summary)


def _csv_of(table) -> str:
    """A table as it is shown, headings of several rows joined; a cell counts in every row and column that it spans."""
    import pandas as pd

    grid = {}
    for y, row in enumerate(row for row in table.find_all("tr") if row.find(["th", "td"])):
        x = 0
        for cell in row.find_all(["th", "td"]):
            text = " ".join(cell.get_text(" ", strip=True).replace("\u00a0", " ").split())
            while (y, x) in grid:  # reached by a cell above
                x += 1
            for below, beside in product(*(range(int(cell.get(f"{name}span", 1))) for name in ("row", "col"))):
                grid[y + below, x + beside] = text
    return pd.Series(grid).unstack().to_csv(index=False, header=False, lineterminator="\n")
