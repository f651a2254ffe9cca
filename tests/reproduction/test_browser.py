"""The pages as a browser shows them: no error, nothing that keeps a reader out, letters that can be read on a phone."""

import pytest

pytest.importorskip("jupyter_book", reason="the book's packages are not installed")

from bs4 import BeautifulSoup

from .conftest import AXE, chapters

PHONE_WIDTH = 390
AUDIT = """async page => {
    page.document.querySelectorAll("details").forEach(folded => folded.open = true);
    const axe = page.document.createElement("script");
    axe.src = "AXE";
    await new Promise(done => { axe.onload = done; page.document.head.append(axe); });
    page.document.head.append(Object.assign(page.document.createElement("style"),
        {textContent: "* { transition: none !important }"}));
    const complaints = [];
    for (const [theme, rules] of [["light", undefined], ["dark", ["color-contrast"]]]) {
        page.document.documentElement.dataset.theme = theme;
        const found = await page.axe.run(page.document, {resultTypes: ["violations"], runOnly: rules});
        complaints.push(...found.violations.filter(v => ["serious", "critical"].includes(v.impact)).map(
            v => `${theme}: ${v.id}, ${v.nodes.length} times: ${v.nodes[0].html} ${v.nodes[0].failureSummary}`));
    }
    return complaints;
}"""
WIDTHS = """async page => {
    page.document.querySelectorAll("details").forEach(folded => folded.open = true);
    const root = page.document.documentElement;
    const letters = [...page.document.querySelectorAll(".book-figure svg")].flatMap(svg => {
        const scale = 720 / svg.viewBox.baseVal.width;    // as wide as a figure that was opened
        return [...svg.querySelectorAll("text")].map(text => scale * parseFloat(page.getComputedStyle(text).fontSize));
    });
    return [root.scrollWidth, Math.min(99, ...letters)];
}"""


def addresses(html):
    return [(html / f"{chapter}.html").as_uri() for chapter in chapters()]


def test_nothing_keeps_a_reader_out_and_no_script_fails(html, in_frames):
    if not AXE.is_file():
        pytest.skip(f"axe-core is not installed: npm install --prefix {AXE.parents[2]} axe-core@4")
    found, console = in_frames(addresses(html), AUDIT.replace("AXE", AXE.as_uri()), milliseconds=600_000)
    complaints = dict(zip(chapters(), found, strict=True))
    assert not any(found), "\n".join(f"{chapter}: {one}" for chapter, all_ in complaints.items() for one in all_)
    assert [line for line in console if "rror" in line] == []


def test_pages_fit_a_phone_and_figures_open_with_letters_that_can_be_read(html, in_frames):
    found, _ = in_frames(addresses(html), WIDTHS, width=PHONE_WIDTH)
    widths, letters = (dict(zip(chapters(), part, strict=True)) for part in zip(*found, strict=True))
    assert {chapter: width for chapter, width in widths.items() if width > PHONE_WIDTH} == {}
    assert {chapter: size for chapter, size in letters.items() if size < 10} == {}


def test_a_touch_opens_a_figure_and_one_switch_shows_the_code(html, in_frames):
    script = """async page => {
        const of = selector => page.document.querySelector(selector), code = of(".page-code");
        const hidden = code.getClientRects().length;
        of("#show-code").click();
        const shown = code.getClientRects().length;
        of(".book-figure svg, .cell_output img").dispatchEvent(new page.MouseEvent("click", {bubbles: true}));
        const large = of(".figure-dialog[open] .figure-room > *").getBoundingClientRect().width;
        of(".figure-dialog button").click();
        await new Promise(done => setTimeout(done, 500));
        return [hidden, shown, large >= 720, of(".figure-dialog")];
    }"""
    page = (html / "notebooks" / "table1.html").as_uri()
    assert in_frames([page], script, width=PHONE_WIDTH)[0] == [[0, 1, True, None]]


def test_what_the_page_for_own_particles_loads_lies_beside_it_and_is_small(html):
    sizes = [(html / "_static" / f"{name}.js").stat().st_size for name in ("encoder", "example")]
    assert min(sizes) > 1e5 and sum(sizes) < 4e6


def test_math_is_rendered_without_network(html, browse):
    body = BeautifulSoup(browse((html / "methods.html").as_uri())[0], "html.parser").article
    for spoken in body.select("mjx-assistive-mml"):
        spoken.decompose()
    assert len(body.select("mjx-container")) > 30
    assert "\\begin" not in body.get_text()
    assert not body.select('[data-mml-node="merror"]')


def test_links_and_anchors_lead_somewhere(html):
    pages = {
        page: BeautifulSoup(page.read_text(), "html.parser")
        for page in map(html.joinpath, map("{}.html".format, chapters()))
    }
    names = {page: {tag["id"] for tag in soup.select("[id]")} for page, soup in pages.items()}
    dead = []
    for page, soup in pages.items():
        for link in soup.select("main a[href]"):
            target, _, anchor = link["href"].partition("#")
            if ":" in target:
                continue
            file = (page.parent / target).resolve() if target else page
            if not file.is_file() or (anchor and file in names and anchor not in names[file]):
                dead.append((page.name, link["href"]))
    assert dead == []
