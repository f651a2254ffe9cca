"""Inputs damaged in the ways that happen, and what `cryo-fewshot classify` says to each."""

import errno
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from cryo_fewshot.cli import main
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope

from .demonstration import write_particles

RECIPE = SimulatedData(n_per_class=4, microscope=Microscope(binning=2))
CLASSES = ("1OEL", "3KUY")
LABELLED, PARTICLES, OUT = "labelled/particles.star", "all/particles.star", "run1"


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    what : in words; damage : does it to a copy of good inputs, and returns the options of the command that change
    telling : words of the line that the command is to print about it; empty where there is nothing to say
    """

    what: str
    damage: Callable[[Path], dict | None]
    telling: str = ""


def good_inputs(folder: Path) -> Path:
    """Three labelled and four other particles of two classes, of 20 voxels, as RELION 4 lays them out."""
    labelled = SimulatedData(n_per_class=3, microscope=RECIPE.microscope, seed=1)
    write_particles(folder / "labelled", labelled, CLASSES, {0.1: 3}, with_labels=True)
    write_particles(folder / "all", RECIPE, CLASSES, {0.1: 4}, with_labels=False)
    return folder


def tried(case: Case, good: Path, folder: Path) -> dict[str, str | int]:
    """Damage a copy of the good inputs in `folder`, type the command, and see what it says; a row of the page's table.

    The folder's own name is left out of what was printed.
    """
    shutil.copytree(good, folder)
    options = {"--support": folder / LABELLED, "--query": folder / PARTICLES, "--out": folder / OUT}
    options |= case.damage(folder) or {}
    words = ["classify", "--averages", "0", *(str(word) for pair in options.items() for word in pair)]
    status, printed = typed(words)
    lines = printed.replace(f"{folder}/", "").splitlines()
    told = next((line for line in lines if case.telling and case.telling in line), "")
    table = folder / OUT / "particles.star"
    return {
        "What was wrong": case.what,
        "What was printed": told.removeprefix("cryo-fewshot: ") or "no word of it",
        "Exit status": status,
        "What went on": _went_on(table) if status == 0 else "nothing",
    }


def typed(words: list[str]) -> tuple[int, str]:
    """Exit status and output of the command line, run in this process: importing torch anew would take the time."""
    printed = StringIO()
    with patch.object(sys, "argv", ["cryo-fewshot", *words]), redirect_stdout(printed), redirect_stderr(printed):
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return status, printed.getvalue()


def _went_on(table: Path) -> str:
    rows = [line for line in table.read_text().splitlines() if ".mrc" in line]
    unreadable = sum("unreadable" in row for row in rows)
    return f"{len(rows) - unreadable} of {len(rows)} particles classified"


# ---------------------------------------------------------------- damage


def _particle(folder: Path, number: int = 1) -> Path:
    return folder / "all" / "Subtomograms" / "TS_01" / f"{number:06d}.mrc"


def _edited(path: Path, *changes: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in changes:
        text = text.replace(old, new)
    path.write_text(text)


def _volume(change: Callable[[np.ndarray], np.ndarray], voxel_size: float = 20.0) -> Callable[[Path], None]:
    """Damage that changes the voxels of one particle; its header says `voxel_size` angstrom."""

    def damage(folder: Path) -> None:
        path = _particle(folder)
        mrcfile.write(path, change(mrcfile.read(path)), voxel_size=voxel_size, overwrite=True)

    return damage


def _with_nan(folder: Path) -> None:
    content = bytearray(_particle(folder).read_bytes())
    content[5000:5004] = np.float32(np.nan).tobytes()
    _particle(folder).write_bytes(content)


def _truncated(folder: Path) -> None:
    _particle(folder).write_bytes(_particle(folder).read_bytes()[:5000])


def _two_voxel_sizes(folder: Path) -> None:
    """Half of the particles in an optics group of their own, of 25 angstrom; files and table agree."""
    star = folder / PARTICLES
    text = star.read_text()
    group = next(line for line in text.splitlines() if "opticsGroup1" in line)
    other = group.replace("1", "2", 1).replace("opticsGroup1", "opticsGroup2").replace("20.0", "25.0")
    lines = text.replace(group, f"{group}\n{other}").splitlines()
    for number in range(1, 5):
        row = next(i for i, line in enumerate(lines) if _particle(folder, number).name in line)
        at = lines[row].index(".mrc") + len(".mrc")
        lines[row] = lines[row][:at] + lines[row][at:].replace("1", "2", 1)
        with mrcfile.open(_particle(folder, number), "r+") as file:
            file.voxel_size = 25.0
    star.write_text("\n".join(lines) + "\n")


def _one_class(folder: Path) -> None:
    _edited(folder / LABELLED, (CLASSES[0], CLASSES[1]))


def _renamed(folder: Path) -> dict:
    (folder / "all").rename(folder / "Präparat 3 – 粒子")
    return {"--query": folder / "Präparat 3 – 粒子" / "particles.star"}


def _windows(folder: Path) -> None:
    star = folder / PARTICLES
    star.write_bytes(star.read_bytes().replace(b"\n", b"\r\n"))


def _climbing(folder: Path) -> None:
    shutil.move(_particle(folder), folder / "elsewhere.mrc")
    _edited(folder / PARTICLES, ("Subtomograms/TS_01/000001.mrc", "../elsewhere.mrc"))


def _evil_class(folder: Path) -> None:
    _edited(folder / LABELLED, (CLASSES[0], "../../evil"))


def _in_use(folder: Path) -> None:
    (folder / OUT).mkdir()
    (folder / OUT / "thesis.tex").write_text("mine")


def _foreign_encoder(folder: Path) -> dict:
    save_file({"weight": np.zeros(3, np.float32)}, folder / "resnet.safetensors")
    return {"--encoder": folder / "resnet.safetensors"}


def _pickled(folder: Path) -> dict:
    (folder / "model.pt").write_bytes(pickle.dumps({"weight": [0.0, 1.0]}))
    return {"--encoder": folder / "model.pt"}


@contextmanager
def full_disk() -> Iterator[None]:
    """The system answers that the disk is full whenever a file is flushed to it."""
    with patch("os.fsync", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        yield


CASES = (
    Case("MRC file truncated", _truncated, "cannot be used"),
    Case("MRC file of complex numbers", _volume(lambda v: v.astype(np.complex64)), "cannot be used"),
    Case("NaN in a volume", _with_nan, "cannot be used"),
    Case("every voxel the same", _volume(np.ones_like), "cannot be used"),
    Case("file named in the STAR file is missing", lambda folder: _particle(folder).unlink(), "cannot be used"),
    Case("one box smaller than the others", _volume(lambda v: v[2:-2, 2:-2, 2:-2].copy()), "cannot be used"),
    Case("two voxel sizes, in two optics groups", _two_voxel_sizes, "kinds of box or voxel size"),
    Case("one header contradicts the STAR file", _volume(np.copy, voxel_size=25.0), "cannot be used"),
    Case(
        "all headers contradict the STAR file",
        lambda folder: _edited(folder / PARTICLES, ("\t20.00\t", "\t10.00\t")),
        "voxel size",
    ),
    Case("labelled particles of one class only", _one_class, "one class"),
    Case("no classes in the support", lambda folder: {"--support": folder / PARTICLES}, "which class"),
    Case("labelled particles among the query", lambda folder: {"--query": folder / LABELLED}, "labelled ones as well"),
    Case("folder with letters beyond ASCII and a space", _renamed),
    Case("STAR file with Windows line ends", _windows),
    Case(
        "absolute path of another machine, the project was moved",
        lambda folder: _edited(folder / PARTICLES, ("Subtomograms/", "/data/of/2019/Subtomograms/")),
    ),
    Case("path that climbs out of the project with ..", _climbing),
    Case("class named ../../evil", _evil_class),
    Case("output folder in use", _in_use, "holds something else"),
    Case("output on a disk that takes no files", lambda folder: {"--out": "/proc/run1"}, "cannot be written"),
    Case("encoder file of another project", _foreign_encoder, "resnet"),
    Case("pickle file in place of an encoder", _pickled, "model.pt"),
)
FULL_DISK = Case("disk full (simulated)", lambda folder: None, "No space left")


def all_tried(folder: Path, words: str = "") -> pd.DataFrame:
    """Every case whose description holds `words`, in a folder of its own; then a full disk, which is made up."""
    good = good_inputs(folder / "good")
    rows = [tried(case, good, folder / f"{number}") for number, case in enumerate(CASES, 1) if words in case.what]
    with full_disk():
        rows.append(tried(FULL_DISK, good, folder / "full"))
    return pd.DataFrame(rows)
