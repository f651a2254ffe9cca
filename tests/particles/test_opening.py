"""Which reader opens a file, when contrast counts as seen or mixed, and what is said of classes and the whole input."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.particles import opening
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.opening import open_particles


def test_contrast_is_detected_stated_and_overridden(tmp_path, files):
    bright = np.stack([files.bright(i) for i in range(12)])
    for i, volume in enumerate(bright):
        files.write(tmp_path / f"{i:02d}.mrc", volume)
    bright = torch.from_numpy((bright - bright.mean((1, 2, 3), keepdims=True)) / bright.std((1, 2, 3), keepdims=True))
    detected = open_particles(tmp_path)
    assert detected.dark_protein is False and "looks bright in 12 particles" in detected.notes[-1]
    assert "give dark_protein=True (--contrast dark)" in detected.notes[-1]
    torch.testing.assert_close(detected.read(range(12), 12, 1.0)[0], -bright, atol=1e-5, rtol=0)
    given = open_particles(tmp_path, dark_protein=True)
    assert "looks bright" in given.notes[-1] and "dark was given (--contrast) and is used" in given.notes[-1]
    torch.testing.assert_close(given.read(range(12), 12, 1.0)[0], bright, atol=1e-5, rtol=0)
    (tmp_path / "noise").mkdir()
    for i in range(12):
        files.write(tmp_path / "noise" / f"{i}.mrc", seed=i, box=20)
    unclear = open_particles(tmp_path / "noise")
    assert unclear.dark_protein is None and "contrast cannot be determined" in unclear.notes[-1]
    assert "give dark_protein=False (--contrast bright)" in unclear.notes[-1]


def test_what_concerns_the_whole_input_is_one_line(project, tmp_path, files):
    files.one_line(lambda: open_particles(tmp_path / "absent.star"), "absent.star", "no such file or folder")
    (tmp_path / "x.txt").write_text("words")
    files.one_line(lambda: open_particles(tmp_path / "x.txt"), "x.txt", "not an input that is recognised")
    words = ("file_voxel_size_nm=13.5 (--voxel-size-nm)", "did you mean nm or A? 13.5 A are 1.35 nm")
    files.one_line(lambda: open_particles(project, file_voxel_size_nm=13.5), *words)
    files.one_line(lambda: open_particles(project, coordinate_voxel_size_nm=-1), "coordinate_voxel_size_nm=-1")
    files.one_line(lambda: open_particles(project, box_nm=0), "box_nm=0")
    files.one_line(lambda: open_particles(project).read([0], box=2), "box=2")
    files.one_line(lambda: open_particles(project).read([0], voxel_size_nm=0), "voxel_size_nm=0")
    twice = files.star_of(tmp_path / "twice.star", ["rlnImageName", "rlnImageName"], [("a", "b")])
    files.one_line(lambda: open_particles(twice), "rlnImageName appears twice")


def test_the_wing_itself_offers_its_door():
    import cryo_fewshot.particles as particles

    assert particles.open_particles is open_particles
    with pytest.raises(AttributeError, match="it has Particles, open_particles"):
        particles.open_everything  # noqa: B018


def test_two_contrasts_in_one_input_are_refused_by_class_unlike_no_signal(tmp_path, files):
    """Blobs of both signs; an input of noise alone has no clear sign, and is not called mixed."""
    for i in range(12):
        files.write(tmp_path / "set" / "ab"[i % 2] / f"{i}.mrc", (-1) ** i * files.bright(i))
        files.write(tmp_path / "noise" / f"{i}.mrc", files.noise(i))
    words = ("bright in 6 and dark in 6 of 12", "bright in class a", "--contrast dark or bright")
    files.one_line(lambda: open_particles(tmp_path / "set"), *words)
    assert "contrast cannot be determined" in open_particles(tmp_path / "noise").notes[-1]


HERE = Path("in")


class Source:
    """Boxes of whose volumes nothing is needed; some cannot be read."""

    def __init__(self, bad=(), nm=1.0):
        self.bad, self.nm = bad, nm

    def opened(self, voxel_size_nm=None):
        def volume_of(i):
            if i in self.bad:
                raise UserError(f"{i} is damaged")
            return np.random.default_rng(i).normal(size=(4, 4, 4)), self.nm

        return volume_of


def particles(n=40, **fields):
    return Particles(
        **({"names": list(map(str, range(n))), "source": Source(), "voxel_size_nm": 1.0, "box": 4} | fields)
    )


def with_sides(monkeypatch, sides):
    monkeypatch.setattr(opening, "one_sidedness", lambda volumes: torch.as_tensor(sides, dtype=torch.float32))


@pytest.mark.parametrize(
    ("n", "n_bright", "n_dark", "mixed"),
    [(40, 6, 6, True), (40, 5, 6, False), (40, 6, 5, False), (10, 3, 3, True), (10, 2, 3, False), (2, 1, 1, False)],
)
def test_two_contrasts_are_of_at_least_three_and_a_seventh_each(monkeypatch, n, n_bright, n_dark, mixed):
    sides = np.zeros(n)
    sides[:n_bright], sides[n_bright : n_bright + n_dark] = 0.36, -0.36
    with_sides(monkeypatch, sides)
    said = opening._two_contrasts(particles(n), np.arange(n), torch.zeros(n, 1))
    assert said == (f"protein is bright in {n_bright} and dark in {n_dark} of {n} particles examined" if mixed else "")
    with_sides(monkeypatch, sides * 0.95)  # none is clear any more
    assert opening._two_contrasts(particles(n), np.arange(n), torch.zeros(n, 1)) == ""


def test_two_contrasts_are_told_by_class_or_optics_group(monkeypatch):
    sides = np.tile([0.5, -0.5, 0.1], 4)
    with_sides(monkeypatch, sides)
    labels, sample = ["-"] * 12, np.arange(11, -1, -1)
    for i, label in zip(sample, np.tile(["a", "b", "c"], 4), strict=True):
        labels[i] = label
    assert opening._two_contrasts(particles(12, labels=labels), sample, torch.zeros(12, 1)).endswith(
        "bright in class a"
    )
    table = pd.DataFrame({"rlnOpticsGroup": labels})
    said = opening._two_contrasts(particles(12, labels=["x", "y"] * 6, table=table), sample, torch.zeros(12, 1))
    assert said.endswith("bright in optics group a")
    for sign in (1, -1):  # a class of one kind beside one of both tells nothing
        with_sides(monkeypatch, sign * np.array([0.5] * 3 + [-0.5] * 3 + [0.1] * 6))
        mixed = particles(12, labels=list("aaabbbbbbbbb"))
        assert opening._two_contrasts(mixed, np.arange(12), torch.zeros(12, 1)).endswith("particles examined")


@pytest.mark.parametrize(
    ("seen", "given", "mixed", "dark", "said"),
    [
        (True, None, "", True, "protein looks dark in 40 particles examined; if it is not, give dark_protein=False"),
        (False, None, "", False, "looks bright in 40 particles examined; if it is not, give dark_protein=True"),
        (None, None, "", None, "cannot be determined; protein is taken to be dark; if it is bright, give dark"),
        (True, True, "", True, "protein is dark, as given"),
        (None, False, "", False, "protein is bright, as given"),
        (True, False, "", False, "looks dark in 40 particles examined but bright was given"),
        (True, True, "MIXED", True, "protein is dark, as given; but MIXED"),
    ],
)  # fmt: skip
def test_what_is_said_of_contrast(monkeypatch, seen, given, mixed, dark, said):
    monkeypatch.setattr(opening, "looks_dark", lambda volumes: seen)
    monkeypatch.setattr(opening, "_two_contrasts", lambda *_: mixed)
    found = opening._with_contrast(particles(), HERE, given)
    assert found.dark_protein is dark and said in found.notes[-1] and found.notes[-1].startswith("in: ")


def test_mixed_contrasts_stop_an_input_of_which_none_is_given(monkeypatch):
    monkeypatch.setattr(opening, "looks_dark", lambda volumes: True)
    monkeypatch.setattr(opening, "_two_contrasts", lambda *_: "MIXED")
    with pytest.raises(UserError, match="in: MIXED; invert the files of one kind"):
        opening._with_contrast(particles(), HERE, None)


def test_contrast_is_looked_at_in_48_particles_from_end_to_end(monkeypatch):
    seen = {}
    monkeypatch.setattr(opening, "looks_dark", lambda volumes: seen.update(n=len(volumes)))
    monkeypatch.setattr(opening, "_two_contrasts", lambda p, sample, volumes: seen.update(sample=sample.tolist()) or "")
    read = Particles.read
    monkeypatch.setattr(
        Particles,
        "read",
        lambda self, rows, box, nm: seen.update(box=box, nm=nm, rows=list(rows)) or read(self, rows, box, nm),
    )
    found = opening._with_contrast(particles(200, source=Source((0, 199), 20.0), box=60, voxel_size_nm=1.5), HERE, None)
    assert len(seen["rows"]) == 48 and seen["rows"][0] == 0 and seen["rows"][-1] == 199
    assert seen["n"] == 46 and seen["sample"] == seen["rows"][1:-1] and (seen["box"], seen["nm"]) == (20, 4.5)
    assert found.notes[0] == "in: 2 of 48 particles examined cannot be used, for example 0 is damaged"
    opening._with_contrast(particles(3, box=10), HERE, None)
    assert seen["rows"] == [0, 1, 2] and seen["nm"] == 1.0, "never finer than the files"


def test_classes_are_listed_in_number_order_with_counts():
    labels = [str(i) for i in range(13) for _ in range(1 + i % 2)] + [None]
    (note,) = opening._label_note(particles(labels=labels, label_column="kind"), HERE)
    listed = ", ".join(f"{i} ({1 + i % 2})" for i in range(12))
    assert note == f"in: 13 classes in kind: {listed}, ...; 1 have no label and are left out of a support"
    (note,) = opening._label_note(particles(labels=["Ab", "aB", "c"]), HERE)
    assert note == "in: 3 classes: Ab (1), aB (1), c (1); Ab and aB differ only in case"
    assert opening._label_note(particles(), HERE) == ()
    twelve = [str(i) for i in range(12)]
    assert not opening._label_note(particles(labels=twelve), HERE)[0].endswith("...")
