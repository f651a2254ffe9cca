"""The page to play: its JavaScript gives the package's numbers, and it works by keyboard."""

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from studies.label_five import packed, principal, sheet

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.calibration import RATES, Calibration, Promises
from cryo_fewshot.recognition.plda import PLDA
from cryo_fewshot.recognition.recogniser import build_recogniser

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


def unpacked(text: str, n: int) -> torch.Tensor:
    """Embeddings `(n, dim)` of a result."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").reshape(n, -1).copy())


def calibration_of(result: dict, snr: str) -> Calibration:
    """The calibration whose space is the one that the stored embeddings are in already, and whose noise is known."""
    between = np.array(result["between"])
    rows = [tuple(row) for row in result["thresholds"]]
    promises = Promises(
        temperature=tuple(result["temperature"]),
        adapted_temperature=tuple(result["temperature"]),
        thresholds=(*rows, *rows[-1:] * (len(RATES) - len(rows))),
        limits={name: tuple(pair) for name, pair in result["limits"].items()},
        excess=1.0,
        doubt=1.0,
        measured=(),
        by_class={},
        choices=(),
    )
    noise, crowd = (np.r_[np.zeros(len(between)), result["snrs"][snr][name]] for name in ("log_snr", "crowding"))
    return Calibration(
        space=PLDA(mean=np.zeros(len(between)), axes=np.eye(len(between)), between=between),
        noise=noise,
        promises=promises,
        n_classes=0,
        crowd=crowd,
    )


def answers(result: dict, snr: str, labels: dict[int, int]) -> tuple[np.ndarray, pd.DataFrame]:
    """What the package says of all particles when some are labelled: ProtoNet3D's classes; the recogniser's table.

    labels : class index by particle
    """
    n, chosen = len(result["truth"]), list(labels)
    names = np.array(result["classes"])[[labels[i] for i in chosen]]
    embeddings = result["snrs"][snr]
    of_pretrained = unpacked(embeddings["pretrained"], n)
    recogniser = build_recogniser(of_pretrained[chosen], names, calibration_of(result, snr))
    of_protonet = unpacked(embeddings["protonet"], n)
    ways = sorted(set(labels.values()))
    prototypes = torch.stack([of_protonet[[i for i in chosen if labels[i] == way]].mean(0) for way in ways])
    logits = prototype_logits(prototypes[None, :, None], of_protonet[None])[0]
    return np.array(ways)[logits.argmax(-1).numpy()], recogniser.recognise(of_pretrained).to_frame()


def drawn_labels(result: dict, n_shot: int, seed: int) -> dict[int, int]:
    """Right labels of `n_shot` particles of each known class."""
    truth, rng = np.array(result["truth"]), np.random.default_rng(seed)
    known = range(result["n_known"])
    return {int(i): way for way in known for i in rng.choice(np.flatnonzero(truth == way), n_shot, replace=False)}


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


def test_principal_axes_keep_distances_and_pictures_their_place():
    x = torch.randn(30, 5) @ torch.randn(5, 40)
    kept, share = principal(x, 5)
    assert share == pytest.approx(1) and torch.allclose(torch.pdist(kept), torch.pdist(x), rtol=1e-4)
    volumes = np.zeros((3, 4, 4, 4))
    volumes[1, :, 0, 3] = 1  # last column of the lowest row, which is drawn at the bottom
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet(volumes + 1e-9, 1)))).convert("L"))
    assert image.shape == (4, 12) and np.argwhere(image > 128).tolist() == [[3, 7]]
