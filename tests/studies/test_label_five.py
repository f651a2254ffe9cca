"""The page to play: its JavaScript gives the package's numbers, and it works by keyboard."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from studies.label_five import answers, drawn_labels, expected_frame, packed, principal, sheet

from cryo_fewshot.files import REPOSITORY

SCRIPTS = [(REPOSITORY / "book" / "_static" / f"{name}.js").as_uri() for name in ("few_shot", "label_five")]
N_KNOWN, N_UNKNOWN, PER_CLASS = 3, 1, 12


@pytest.fixture(scope="module")
def result():
    """Classes that overlap, in 4 and 6 dimensions, and a calibration."""
    rng = np.random.default_rng(5)
    n_classes = N_KNOWN + N_UNKNOWN
    truth = rng.permutation(np.repeat(np.arange(n_classes), PER_CLASS))
    between = np.array([4.0, 2.0, 1.0, 0.5])
    centres = rng.normal(size=(n_classes, 4)) * between**0.5
    pretrained = torch.from_numpy(centres[truth] + rng.normal(size=(len(truth), 4)))
    protonet = torch.from_numpy(rng.normal(size=(n_classes, 6))[truth] + rng.normal(size=(len(truth), 6)))
    pictures = sheet(rng.normal(size=(len(truth), 6, 6, 6)), 3)
    embeddings = {"pretrained": packed(pretrained.float()), "protonet": packed(protonet.float())}
    embeddings |= {"pictures": pictures, "log_snr": -2.0, "crowding": 0.25}
    return {
        "classes": ["1OEL", "3KUY", "4NMN", "3UWX"],
        "n_known": N_KNOWN,
        "truth": truth.tolist(),
        "snrs": {"0.1": embeddings, "0.03": embeddings},
        "references": pictures,
        "between": between.tolist(),
        "limits": {"n_shot": [1, 4], "n_way": [2, 10], "log_snr": [-3, -1], "crowding": [0, 1]},
        "temperature": [0.3, -0.1, 0.2, 0.05, 0.1, -0.05, 0.2, 0.1, 0.05],
        "thresholds": [
            [1.0, 0.1, -0.2, 0.1, 0.2, 0.0, 0.4, 0.1, 0.1],
            [0.5, 0.1, -0.2, 0.1, 0.2, 0.0, 0.4, 0.1, 0.1],
            [-0.5, 0.1, 0.2, 0.1, 0.2, 0, 0.4, 0.2, 0.1],
            [-1.0, -0.2, 0.3, 0.1, 0.3, 0.1, 0.4, 0.2, 0.1],
        ],
    }


def page(result, script: str) -> str:
    """A page like the published one, and a script that runs in it once it is drawn."""
    data = json.dumps({**result, "names": result["classes"]})
    scripts = "".join(f'<script src="{address}"></script>' for address in SCRIPTS)
    return f"""<div id="label-five"></div><script type="application/json" id="label-five-data">{data}</script>
    {scripts}<pre id="found">null</pre><script>addEventListener("load", () => {{
    const data = JSON.parse(document.getElementById("label-five-data").textContent);
    const found = (() => {{ {script} }})();
    document.getElementById("found").textContent = JSON.stringify(found); }});</script>"""


@pytest.fixture
def in_page(result, browse, tmp_path):
    def run(script: str):
        file = tmp_path / "page.html"
        file.write_text(page(result, script), encoding="utf-8")
        dom, console = browse(file.as_uri())
        assert [line for line in console if "rror" in line] == []
        return json.loads(dom.split('<pre id="found">')[1].split("</pre>")[0].replace("&amp;", "&"))

    return run


def test_the_browser_gives_the_packages_numbers(result, in_page):
    cases = [drawn_labels(result, n_shot, seed=n_shot) for n_shot in (1, 5)]
    uneven = dict(list(cases[1].items())[:8])  # five, three and none
    found = in_page(f"""return {json.dumps([list(case.items()) for case in [*cases, uneven]])}.map(pairs => {{
        const labels = new Map(pairs), of = data.snrs["0.1"], n = data.truth.length;
        const recognised = recognise(rowsOf(of.pretrained, n), labels, data, of).particles;
        return [nearestPrototype(rowsOf(of.protonet, n), labels), recognised];
    }});""")
    for labels, (nearest, recognised) in zip([*cases, uneven], found, strict=True):
        protonet, table = answers(result, "0.1", labels)
        assert nearest == protonet.tolist()
        assert [result["classes"][row["label"]] for row in recognised] == table["class"].tolist()
        for name in ("probability", "score"):
            assert [row[name] for row in recognised] == pytest.approx(table[name].tolist(), rel=1e-4, abs=1e-4)
        assert [row["accepted"] for row in recognised] == table["accepted"].tolist()
        assert 0 < table["accepted"].mean() < 1


def test_labels_by_keyboard_and_click_change_the_verdict(result, in_page):
    of = [[i for i, way in enumerate(result["truth"]) if way == k] for k in range(N_KNOWN)]
    found = in_page(f"""
        const before = document.querySelector("[aria-live]").textContent;
        const first = document.getElementById("particle-{of[0][0]}");
        first.focus();
        first.dispatchEvent(new KeyboardEvent("keydown", {{key: "1"}}));
        const kept = document.activeElement.id;
        document.getElementById("complex-1").click();
        document.getElementById("particle-{of[1][0]}").click();
        const verdict = document.querySelector(".verdict").textContent;
        const tables = [...document.querySelectorAll("table")].map(table => table.rows.length);
        document.getElementById("particle-{of[1][0]}").click();
        const after = document.querySelector("[aria-live]").textContent;
        return {{before, kept, verdict, tables, after}};""")
    assert found["before"] == found["after"] == "Label particles of at least two complexes."
    assert found["kept"] == f"particle-{of[0][0]}"
    assert f"Of {2 * PER_CLASS - 2} other particles" in found["verdict"]
    assert "All 2 labels are right" in found["verdict"] and found["tables"] == [N_KNOWN + 2] * 2


def test_what_to_expect_is_a_row_per_noise_and_number_of_labels(result):
    frame = expected_frame(result, shots=(1, 5), n_draws=3)
    assert frame["Labels per class"].tolist() == [1, 5] * 2
    rates = frame.iloc[:, 2:]
    assert rates.min(axis=None) >= 0 and rates.max(axis=None) <= 1
    assert frame["Pretrained"][1] > 1 / N_KNOWN


def test_principal_axes_keep_distances_and_pictures_their_place():
    x = torch.randn(30, 5) @ torch.randn(5, 40)
    kept, share = principal(x, 5)
    assert share == pytest.approx(1) and torch.allclose(torch.pdist(kept), torch.pdist(x), rtol=1e-4)
    volumes = np.zeros((3, 4, 4, 4))
    volumes[1, :, 0, 3] = 1  # last column of the lowest row, which is drawn at the bottom
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet(volumes + 1e-9, 1)))).convert("L"))
    assert image.shape == (4, 12) and np.argwhere(image > 128).tolist() == [[3, 7]]
