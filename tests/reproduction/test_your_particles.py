"""Your own particles in the browser: every number that its JavaScript gives is the package's."""

import base64
import gzip
import io
import json
import re

import browser_files as browser
import mrcfile
import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.encoder import Encoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.particles.headers import IMOD_STAMP
from cryo_fewshot.particles.listings import NO_PARTICLE
from cryo_fewshot.particles.opening import open_particles
from cryo_fewshot.particles.resampling import _extremes, band_limited
from cryo_fewshot.recognition.calibration import CROWDED, RATES, Calibration
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.descriptors import descriptors, relative_grey
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.weights import load_encoder, save_encoder


def blobs(n: int, count: int, seed: int = 0) -> np.ndarray:
    """Dark lopsided blobs of three kinds in noise, `(count, n, n, n)`."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.arange(n) / n - 0.5] * 3, indexing="ij")
    widths = [(0.1, 0.1, 0.1), (0.05, 0.2, 0.1), (0.2, 0.05, 0.05)]
    shapes = [np.exp(-(((z - 0.03) / a) ** 2 + (y / b) ** 2 + (x / c) ** 2)) for a, b, c in widths]
    return np.stack([rng.normal(size=(n,) * 3) * 0.5 - 2 * shapes[i % 3] for i in range(count)])


def mrc(tmp_path, values: np.ndarray, nm: float = 2.0, **header) -> bytes:
    path = tmp_path / "written.mrc"
    mrcfile.write(path, values, voxel_size=10 * nm, overwrite=True)
    with mrcfile.open(path, "r+", permissive=True) as file:
        for name, value in header.items():
            file.header[name] = value
    return path.read_bytes()


def stretched(content: bytes) -> bytes:
    """With voxels twice as long along z."""
    length = np.frombuffer(content[48:52], "<f4") * 2
    return content[:48] + length.tobytes() + content[52:]


def imod(flags: int) -> bytes:
    """`extra2` of a header with IMOD's stamp and flags."""
    return b"\0" * 40 + np.array([IMOD_STAMP, flags], "<i4").tobytes() + b"\0" * 36


def swapped(content: bytes) -> bytes:
    """The same file in the other byte order, for numbers of two bytes."""
    words = np.frombuffer(content[:1024], "<u4").byteswap().tobytes()
    header = bytearray(words)
    header[208:216] = content[208:212] + b"\x11\x11\0\0"
    return bytes(header) + np.frombuffer(content[1024:], "<u2").byteswap().tobytes()


def test_files_are_read_resampled_and_embedded_as_in_the_package(in_page, tmp_path):
    integers = (blobs(25, 1)[0] * 1000).astype(np.int16)
    files = {
        "floats.mrc": mrc(tmp_path, blobs(20, 1)[0].astype(np.float32)),
        "halves.map": mrc(tmp_path, blobs(40, 1)[0].astype(np.float16), 1.0),
        "signed.mrc": mrc(tmp_path, (blobs(16, 1)[0] * 20).astype(np.int8), 3.136),
        "unsigned.mrc": mrc(
            tmp_path, (blobs(32, 1)[0] * 20 + 128).astype(np.uint8).view(np.int8), 1.2, dmin=0, dmax=255
        ),
        "big_endian.mrc": swapped(mrc(tmp_path, integers, 1.7)),
        "words.rec": mrc(tmp_path, (blobs(24, 1)[0] * 500 + 5000).astype(np.uint16), 1.5),
        "turned.mrc.gz": gzip.compress(mrc(tmp_path, integers, 1.7, mapc=3, mapr=1, maps=2)),
    }
    found = in_page(
        files,
        """const encoder = await openEncoder(), tools = volumeTools(encoder), found = [];
        for (const {file, path} of files) {
            const {particles: [{layout, blob, from, to}]} = await settled(particlesOf(file, path));
            const bytes = await settled(blob.slice(from, to).arrayBuffer());
            const resampled = tools.resampled(tools.decoded(bytes, layout), layout, encoder.voxel_size_nm);
            const answer = await settled(encoder.workers[0]({dark: true, layout, blob: blob.slice(from, to)}));
            const {extremes} = tools.answer({bytes, layout, look: true});
            found.push([[...resampled], [...answer.embedding], extremes, answer.descriptors, answer.grey]);
        }
        return found;""",
    )
    encoder, _ = load_encoder()
    for (name, content), (resampled, embedding, extremes, numbers, in_file) in zip(files.items(), found, strict=True):
        (tmp_path / name).write_bytes(content)
        particles = open_particles(tmp_path / name, dark_protein=True)
        volumes, grey, rejected = particles.read_with_grey([0], 20, 2.0)
        assert not rejected and resampled == pytest.approx(volumes.flatten().tolist(), abs=1e-5), name
        expected = unit_embeddings(encoder, band_limited(volumes))[0]
        assert embedding == pytest.approx(expected.tolist(), abs=1e-4), name
        assert np.square(expected.numpy() - embedding).sum() < 1e-6  # of 1
        assert numbers == pytest.approx(descriptors(band_limited(volumes))[0].tolist(), abs=1e-4), name
        assert in_file == pytest.approx(grey[0].tolist(), rel=1e-5, abs=1e-5), name
        coarse, _ = particles.read([0], 20, max(particles.voxel_size_nm, particles.box * particles.voxel_size_nm / 20))
        assert extremes == pytest.approx([float(side) for side in _extremes(coarse)], abs=1e-5), name


def test_what_the_package_refuses_the_page_refuses(in_page, tmp_path):
    cube = blobs(20, 1)[0].astype(np.float32)
    files = {
        "complex.mrc": (mrc(tmp_path, cube[:, :, :10].astype(np.complex64)), "Fourier transform"),
        "mode.mrc": (mrc(tmp_path, cube, mode=101), "mode"),
        "half_bytes.mrc": (mrc(tmp_path, cube.astype(np.int8), extra2=imod(flags=16)), "two values of four bits"),
        "flat.mrc": (mrc(tmp_path, cube[:10]), "not a cube"),
        "images.mrcs": (mrc(tmp_path, cube, ispg=0, mz=1), "a stack of images by its header"),
        "cut.mrc": (mrc(tmp_path, cube)[:-5], "not a whole MRC file"),
        "oblique.mrc": (mrc(tmp_path, cube, cellb=(90, 60, 90)), "cellb"),
        "axes.mrc": (mrc(tmp_path, cube, mapc=2), "axes mapc, mapr, maps 2, 2, 3"),
        "stack.mrc": (mrc(tmp_path, cube, ispg=401, mz=7), "a stack of volumes of 7 sections"),
        "unknown.mrc": (mrc(tmp_path, cube, 0.0), "its header states no voxel size"),
        "default.mrc": (mrc(tmp_path, cube, 0.1), "1.000 A, which programs write"),
        "far.mrc": (mrc(tmp_path, cube, 20.0), "not between 0.1 and 10 nm"),
        "stretched.mrc": (stretched(mrc(tmp_path, cube)), "resample it to cubic voxels"),
        "nan.mrc": (mrc(tmp_path, cube)[:-4] + np.float32(np.nan).tobytes(), "NaN or infinite"),
        "empty.mrc": (mrc(tmp_path, np.full_like(cube, 3)), "every voxel is 3"),
    }
    found = in_page(
        {name: content for name, (content, _) in files.items()},
        """const encoder = await openEncoder(), found = {};
        for (const {file, path} of files) found[path] = await settled((async () => {
            const {particles: [{layout, blob, from, to}]} = await particlesOf(file, path);
            return (await encoder.workers[0]({dark: true, layout, blob: blob.slice(from, to)})).refused;
        })().catch(error => error.message));
        const {file} = files.find(({path}) => path === "unknown.mrc");
        const {particles: [{layout}]} = await settled(particlesOf(file, "unknown.mrc", 1.5));
        return {...found, given: layout.voxelNm};""",
    )
    assert found.pop("given") == 1.5
    for name, (content, words) in files.items():
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=re.escape(words)):
            particles = open_particles(folder)
            raise UserError(particles.read([0])[1][0])
        assert words in found[name], name


def test_answers_are_those_of_classify(in_page):
    encoder, card = load_encoder()
    calibration, rng = Calibration.from_json(card["calibration"]), np.random.default_rng(1)
    volumes = band_limited(torch.from_numpy(blobs(20, 90)).float())
    embeddings, numbers = unit_embeddings(encoder, volumes), descriptors(volumes)
    alone, crowded = (
        torch.nn.functional.normalize(embeddings + shift * torch.from_numpy(calibration.crowd[:-1]), dim=1)
        for shift in (-0.01, 0.01)
    )
    own_scale, one_by_one = (
        torch.from_numpy(rng.normal(size=(90, 3)) * spread + [0, 1 / spread, 0]).float().abs() for spread in (1, 1e-3)
    )
    # Particles, embeddings, grey values, promised rate, labels of each class: too few to fit in the last.
    cases = [(90, alone, own_scale, 0.05, 3), (90, crowded, one_by_one, 0.2, 1), (50, alone, own_scale, 0.01, 5)]
    cases.append((50, alone, own_scale, 0.05, 1))
    asked, picked = [], []
    for n, rows, grey, rate, n_shot in cases:
        chosen = [int(i) for k in range(3) for i in rng.permutation(range(k, n, 3))[:n_shot]]
        picked.append({i: i % 3 for i in chosen})
        particles = zip(rows[:n].tolist(), numbers[:n].tolist(), grey[:n].tolist(), strict=True)
        asked.append([list(particles), rate, list(picked[-1].items())])
    found = in_page(
        {},
        f"""const encoder = await openEncoder();
        return {json.dumps(asked)}.map(([rows, rate, labels]) => classified(
            rows.map(([embedding, descriptors, grey]) =>
                ({{embedding, descriptors, grey, projected: projections(embedding, encoder)}})),
            new Map(labels), encoder, rate));""",
    )
    accepted = []
    for (n, rows, grey, rate, _), labels, answer in zip(cases, picked, found, strict=True):
        names, chosen = np.array(["a", "b", "c"]), list(labels)
        others = [i for i in range(n) if i not in labels]
        middle = grey[others].median(0).values
        use_grey = (grey[:, 0] / grey[:, 1])[others].std() > 0.15
        parts = [rows, numbers, *([relative_grey(grey, middle[0], middle[1])] if use_grey else [])]
        full = torch.cat(parts, dim=1)[:n]
        settings = Settings(false_accept_rate=rate)
        known = names[[labels[i] for i in chosen]]
        widths = [part.shape[1] for part in parts[1:]]
        recogniser = recogniser_of(full[chosen], known, calibration, full[others], settings, widths, one_source=True)
        table = recogniser.recognise(full).to_frame()
        assert answer["fitted"].endswith("grey values") == (use_grey and not recogniser.unfitted)
        assert [names[row["label"]] for row in answer["particles"]] == table["class"].tolist()
        for name in ("probability", "score"):
            said = [row[name] for row in answer["particles"]]
            assert said == pytest.approx(table[name].tolist(), rel=1e-3, abs=1e-3)
        assert [row["accepted"] for row in answer["particles"]] == table["accepted"].tolist()
        assert answer["looks"]["crowding"] == pytest.approx(recogniser.conditions.crowding, abs=1e-4)
        check = recogniser.check
        assert (answer["tested"], answer["right"]) == (
            check.n_tested,
            round(np.nan_to_num(check.accuracy) * check.n_tested),
        )
        accepted.append(table["accepted"].mean())
    assert [bool(answer["fitted"]) for answer in found] == [True, True, True, False]
    assert 0 < min(accepted) < 1 and found[1]["looks"]["crowding"] > CROWDED > found[0]["looks"]["crowding"]


def test_rules_that_stand_in_both_languages_are_the_same(in_page):
    sides = [
        [[1.0, -2.0], [1.1, -2.2], [0.9, -2.0]],
        [[3.0, -1.0]] * 4 + [[1.0, -3.0]] * 4,
        [[1, -1.05], [1, -0.95], [1, -1]],
    ]
    found = in_page({}, f"return [NO_PARTICLE.source, RATES, {json.dumps(sides)}.map(contrastOf)];")
    assert found[0] == NO_PARTICLE.pattern and found[1] == list(RATES[: len(found[1])])
    assert [one.get("dark") for one in found[2]] == [True, None, None]
    assert [bool(one["mixed"]) for one in found[2]] == [False, True, False]


def test_a_reader_drops_files_labels_by_name_and_by_key_and_takes_the_table_home(in_page, tmp_path):
    volumes = (blobs(20, 18) * 40).astype(np.int8)
    files = {f"mine/{'ABC'[i % 3]}_{i:02d}.mrc": mrc(tmp_path, volume) for i, volume in enumerate(volumes)}
    files |= {
        "mine/notes.txt": b"",
        "mine/A_weights.mrc": b"",
        "mine/cut.mrc": b"MAP",
        "mine/other.mrc": mrc(tmp_path, volumes[0], 1.0),
    }
    found = in_page(
        files,
        """const page = startYourParticles(document.getElementById("your-particles"));
        await settled(page.add(files));
        const of = selector => document.querySelector(selector);
        const all = selector => [...document.querySelectorAll(selector)];
        const click = words => all("button").find(button => button.textContent.startsWith(words)).click();
        const status = of(".status").textContent, before = of(".verdict").textContent;
        for (const [name, words] of [["A_0", "Label all"], ["B_1", "Label all"], ["C", "Add"]]) {
            of("#class-name").value = name;
            click(words);
        }
        const two = of(".verdict").textContent;
        of("#particle-2").focus();
        of("#particle-2").dispatchEvent(new KeyboardEvent("keydown", {key: "3"}));
        const spoken = document.activeElement.getAttribute("aria-label");
        const {particles} = classified(page.state.particles, page.state.labels, ENCODER, 0.05);
        of("#show").value = "rejected";
        of("#show").dispatchEvent(new Event("change"));
        return {status, before, two, spoken, asides: all("summary").map(line => line.textContent),
            csv: csvOf(page.state, particles), rejected: all(".particle").length, rows: all("tbody tr").length};""",
    )
    assert "18 particles, box of 20 voxels of 2 nm; protein is dark, as it looks" in found["status"]
    assert found["before"].startswith("Add two classes or more")
    assert found["two"].startswith("Of 11 particles without a label") and "Left out in turn" in found["two"]
    assert found["spoken"] == "3, mine/C_02.mrc, labelled C" and found["rows"] == 3
    refused, skipped = found["asides"]
    assert refused.startswith("2 refused, as mine/cut.mrc: not a whole MRC file (3 bytes)") and skipped.startswith(
        "2 left out"
    )
    table = pd.read_csv(io.StringIO(found["csv"]), keep_default_na=False)
    assert len(table) == 20 and (table["reason"] != "").sum() == 2 and (table["label"] == "C").sum() == 1
    assert found["rejected"] == ((table["accepted"] == "0") | (table["accepted"] == 0)).sum() - 2


def test_the_example_is_files_that_the_package_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(browser, "_N_LABELLED", 1)
    monkeypatch.setattr(browser, "_N_OTHER", 2)
    files = json.loads(browser.example_script().removeprefix("var EXAMPLE = ").removesuffix(";\n"))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(base64.b64decode(content))
    labelled, others = (open_particles(tmp_path / folder, dark_protein=True) for folder in ("labelled", "others"))
    assert labelled.labels == sorted(browser.EXAMPLE) and len(others) == 8
    assert (others.box, others.voxel_size_nm) == (20, 2.0)


def test_an_encoder_of_another_kind_is_not_for_the_browser(tmp_path):
    save_encoder(tmp_path / "other.safetensors", Encoder3D(20, 2, 8), {})
    with pytest.raises(UserError, match=r"other\.safetensors: not a calibrated PooledEncoder3D"):
        browser.encoder_script(tmp_path / "other.safetensors")
