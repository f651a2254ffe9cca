"""What a page gains: one switch, frames and csv of tables, figures in the page, a line of origin."""

import json
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

pytest.importorskip("bs4", reason="the book's packages are not installed")

import bs4
from finished_pages import _finish_page, provenance_of

BODY = """<section><h1>Title</h1>
<div class="cell tag_parameters"><div class="cell_input"><pre>n = 5</pre></div></div>
<div class="cell"><details class="hide"><summary aria-label="Toggle hidden content">Show</summary>
<div class="cell_input"><pre>code</pre></div></details><div class="cell_output"><table>
<thead><tr><th>&nbsp;</th><th colspan="2">5-shot</th></tr></thead>
<tbody><tr><th rowspan="2">A</th><td>0.9<br>± 0.1</td><td>not run</td></tr>
<tr><td>1</td><td>2</td></tr></tbody></table></div></div>
<div class="cell tag_fold"><div class="cell_output"><table><caption>All rows</caption>
<tbody><tr><td>1</td></tr><tr><td>2</td></tr></tbody></table></div></div>
<div class="cell"><div class="cell_output">
<img src="../_images/f.svg" alt="../_images/f.svg"/></div></div></section>"""
SVG = """<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">
<title>Dots &amp; "lines"</title>
<metadata>x,y
1,2
</metadata><text>a</text></svg>"""
RESULTS = {"results": 2, "dates": ["2026-01-01", "2026-01-02"], "commits": ["abc"], "machines": ["CPU, 2 cores"],
           "torch": ["2"], "seconds": 1234.0}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    (tmp_path / "f.svg").write_text(SVG)
    made = {"cryo_fewshot": {"parameters": {"profile": "cpu"}, **RESULTS}}
    (tmp_path / "table9.ipynb").write_text(json.dumps({"metadata": made, "cells": []}))
    images = {str(tmp_path / "f.svg"): (set(), "f.svg")}
    app = SimpleNamespace(srcdir=tmp_path, env=SimpleNamespace(images=images))
    context = {"body": BODY}
    _finish_page(app, "table9", "page.html", context, None)
    return bs4.BeautifulSoup(context["body"], "html.parser")


def test_code_and_parameters_hide_behind_one_switch(page):
    assert len(page.select("#show-code")) == 1 and not page.select("details:not(.folded)")
    assert [part.get_text(strip=True) for part in page.select(".page-code")] == ["n = 5", "code"]


def test_empty_headings_are_none_and_others_say_what_they_head(page):
    assert [(th.get_text(), th["scope"]) for th in page.select("th")] == [("5-shot", "col"), ("A", "row")]
    frame = page.select_one(".table-frame")
    assert frame["tabindex"] == "0" and frame["aria-label"] == "Table: Title"


def test_a_long_table_is_folded_under_a_line_that_says_what_opens(page):
    (folded,) = page.select("details.folded")
    assert folded.summary.string == "Table of 2 rows: All rows" and not folded.has_attr("open")
    assert len(folded.select("tr")) == 2 and folded.select_one(".proof a[download]")


def test_tables_and_figures_have_their_numbers_and_their_origin(page):
    of_table, of_folded, of_figure = page.select(".proof")
    assert unquote(of_table.a["href"].partition(",")[2]) == ",5-shot,5-shot\nA,0.9 ± 0.1,not run\nA,1,2\n"
    assert unquote(of_figure.a["href"].partition(",")[2]) == "x,y\n1,2\n"
    assert [line.a["download"] for line in (of_table, of_folded, of_figure)] == [f"table9-{i}.csv" for i in (1, 2, 3)]
    for line in (of_table, of_figure):
        assert """make notebook NB=table9 P="profile='cpu'\"""" in line.get_text()
        assert (
            "2 stored results of 2026-01-01 to 2026-01-02, commit abc, on CPU, 2 cores, torch 2, 1,234 s in all"
            in line.get_text()
        )
    assert of_figure.button and not of_table.button


def test_a_figure_stands_in_the_page_with_a_name(page):
    svg = page.select_one(".book-figure > svg")
    assert svg["role"] == "img" and svg["aria-label"] == 'Dots & "lines"' and svg.text.strip() == "a"


def test_a_notebook_without_stored_results_gives_its_command_alone(tmp_path):
    path = Path(tmp_path, "figure3.ipynb")
    path.write_text(json.dumps({"metadata": {}, "cells": []}))
    assert provenance_of(path) == ("make notebook NB=figure3", "")
