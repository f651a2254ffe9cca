"""A training of seconds; the published book, built once, and a look at its pages in frames."""

import json
import re
import sys
from pathlib import Path

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
