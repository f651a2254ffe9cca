"""A training of seconds; the published book, built once, and a look at its pages in frames; scripts in a page."""

import base64
import json
import re
import shutil
import sys
from pathlib import Path

import browser_files as browser
import pytest
import yaml

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.training import Schedule

RUN = EncoderRun(
    data=SimulatedData(n_per_class=12, microscope=Microscope(box=24, binning=2, voxel_size_nm=1.5)),
    snr_counts=((0.5, 12),),
    n_query=3,
    n_blocks=2,
    width=4,
    n_validation_episodes=5,
    schedule=Schedule(n_epochs=2, steps_per_epoch=3, learning_rate=1e-2),
)
"""A training that takes a second."""
SCRIPTS = ("few_shot", "particle_files", "npz", "volumes", "adaptation", "embedding", "your_particles")
AXE = Path(sys.prefix, "node_modules", "axe-core", "axe.min.js")


def chapters() -> list[str]:
    """Pages of the book, as its table of contents names them."""
    toc = yaml.safe_load((REPOSITORY / "book" / "_toc.yml").read_text())
    return [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    """The published book, built once."""
    from cryo_fewshot.reproduction import book

    published = REPOSITORY / "book" / "notebooks"
    missing = [name for name in book.book_notebooks() if not (published / f"{name}.ipynb").exists()]
    if missing:
        pytest.skip(f"book/notebooks has no executed {', '.join(missing)} yet")
    return book.build_book(output_dir=tmp_path_factory.mktemp("book")).parent


@pytest.fixture
def in_frames(browse, tmp_path):
    """`in_frames(urls, script)`: what `async (window) => ...` gives on each page, and the console's lines."""

    def run(urls: list[str], script: str, width: int = 1300, milliseconds: int = 60_000):
        wrapper = tmp_path / "frames.html"
        wrapper.write_text(
            f"""<pre id="found">null</pre><script>
            async function look(url) {{
                const frame = document.createElement("iframe");
                Object.assign(frame, {{src: url, width: {width}, height: 800}});
                frame.style.border = 0;
                document.body.append(frame);
                await new Promise(done => frame.onload = done);
                await new Promise(done => setTimeout(done, 50));
                const found = await ({script})(frame.contentWindow);
                frame.remove();
                return found;
            }}
            window.onload = async () => {{
                const found = [];
                for (const url of {json.dumps(urls)}) found.push(await look(url).catch(String));
                document.getElementById("found").textContent = JSON.stringify(found);
            }};</script>"""
        )
        dom, console = browse(wrapper.as_uri(), milliseconds)
        text = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL).group(1)
        for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            text = text.replace(entity, sign)
        return json.loads(text), console

    return run


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The scripts, and beside them what the page loads on demand."""
    folder = tmp_path_factory.mktemp("site")
    for name in SCRIPTS:
        shutil.copy(REPOSITORY / "book" / "_static" / f"{name}.js", folder)
    (folder / "encoder.js").write_text(browser.encoder_script())
    return folder


@pytest.fixture
def in_page(site, browse):
    """`in_page(files, script)`: what an async script gives, with `files` [{file, path}] of bytes by path."""

    def run(files: dict[str, bytes], script: str):
        packed = json.dumps({path: base64.b64encode(content).decode() for path, content in files.items()})
        scripts = "".join(f'<script src="{name}.js"></script>' for name in SCRIPTS)
        (site / "page.html").write_text(
            f"""<div id="your-particles"></div>{scripts}<pre id="found">null</pre><script>
            const files = Object.entries({packed}).map(([path, data]) => ({{path, file: new Blob([binary(data)])}}));
            // The browser's clock runs ahead while workers compute: some work holds it back.
            const wait = () => new Promise(done => setTimeout(() => done(new Float64Array(3e6).fill(1).sort()), 10));
            const settled = async promise => {{
                let open = true;
                promise.finally(() => {{ open = false; }});
                while (open) await wait();
                return promise;
            }};
            addEventListener("load", async () => {{
                const found = await (async () => {{ {script} }})().catch(error => ["error", String(error)]);
                document.getElementById("found").textContent = JSON.stringify(found);
            }});</script>"""
        )
        dom, console = browse((site / "page.html").as_uri())
        assert [line for line in console if "rror" in line] == []
        return json.loads(dom.split('<pre id="found">')[1].split("</pre>")[0].replace("&amp;", "&"))

    return run
