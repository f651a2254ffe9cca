"""Inputs damaged in ways that happen, and what `cryo-fewshot classify` says to each."""

import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

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
PICKLE = b"\x80\x04}\x94\x8c\x06weight\x94K\x00s."  # of a dictionary; nothing here or in the package reads it


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    what : in words; damage : does it to a copy of good inputs, and returns the options of the command that change
    message : part of the line that the command must print about it; empty where nothing is wrong
    """

    what: str
    damage: Callable[[Path], dict | None]
    message: str = ""


def good_inputs(folder: Path) -> Path:
    """Three labelled and four other particles of two classes, of 20 voxels, as RELION 4 lays them out."""
    labelled = SimulatedData(n_per_class=3, microscope=RECIPE.microscope, seed=1)
    write_particles(folder / "labelled", labelled, CLASSES, {0.1: 3}, with_labels=True)
    write_particles(folder / "all", RECIPE, CLASSES, {0.1: 4}, with_labels=False)
    return folder


def damaged_run(case: Case, good: Path, folder: Path) -> dict[str, str | int]:
    """Damage a copy of the good inputs in `folder` and run the command on it; a row of the page's table.

    The folder's own name is left out of what was printed.
    """
    shutil.copytree(good, folder)
    options = {"--support": folder / LABELLED, "--query": folder / PARTICLES, "--out": folder / OUT}
    options |= case.damage(folder) or {}
    status, printed = run_command(["classify", "--averages", "0", *(str(x) for pair in options.items() for x in pair)])
    lines = printed.replace(f"{folder}/", "").splitlines()
    said = next((line for line in lines if case.message and case.message in line), "")
    return {
        "What was wrong": case.what,
        "What was printed": said.removeprefix("cryo-fewshot: ") or "nothing about it",
        "Exit status": status,
        "What was classified": _classified(folder / OUT / "particles.star") if status == 0 else "nothing",
    }


def run_command(arguments: list[str]) -> tuple[int, str]:
    """Exit status and output of the command line, in this process: importing torch anew would take too long."""
    printed, before = StringIO(), sys.argv
    sys.argv = ["cryo-fewshot", *arguments]
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            main()
        return 0, printed.getvalue()
    except SystemExit as end:
        return end.code or 0, printed.getvalue()
    finally:
        sys.argv = before


def _classified(table: Path) -> str:
    rows = [line for line in table.read_text().splitlines() if ".mrc" in line]
    unreadable = sum("unreadable" in row for row in rows)
    return f"{len(rows) - unreadable} of {len(rows)} particles"


# ---------------------------------------------------------------- damage


def _particle(folder: Path, number: int = 1) -> Path:
    return folder / "all" / "Subtomograms" / "TS_01" / f"{number:06d}.mrc"


def _edited(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Damage that replaces text in a file."""

    def damage(folder: Path) -> None:
        (folder / path).write_text((folder / path).read_text().replace(old, new))

    return damage


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


def _renamed(folder: Path) -> dict:
    (folder / "all").rename(folder / "Präparat 3 – 粒子")
    return {"--query": folder / "Präparat 3 – 粒子" / "particles.star"}


def _windows(folder: Path) -> None:
    star = folder / PARTICLES
    star.write_bytes(star.read_bytes().replace(b"\n", b"\r\n"))


def _climbing(folder: Path) -> None:
    shutil.move(_particle(folder), folder / "elsewhere.mrc")
    _edited(PARTICLES, "Subtomograms/TS_01/000001.mrc", "../elsewhere.mrc")(folder)


def _in_use(folder: Path) -> None:
    (folder / OUT).mkdir()
    (folder / OUT / "thesis.tex").write_text("mine")


def _foreign_encoder(folder: Path) -> dict:
    save_file({"weight": np.zeros(3, np.float32)}, folder / "resnet.safetensors")
    return {"--encoder": folder / "resnet.safetensors"}


def _pickled(folder: Path) -> dict:
    (folder / "model.pt").write_bytes(PICKLE)
    return {"--encoder": folder / "model.pt"}


MOVED = _edited(PARTICLES, "Subtomograms/", "/data/of/2019/Subtomograms/")
CASES = (
    Case("MRC file truncated", _truncated, "cannot be used"),
    Case("MRC file of complex numbers", _volume(lambda v: v.astype(np.complex64)), "cannot be used"),
    Case("NaN in a volume", _with_nan, "cannot be used"),
    Case("every voxel the same", _volume(np.ones_like), "cannot be used"),
    Case("file named in the STAR file is missing", lambda folder: _particle(folder).unlink(), "cannot be used"),
    Case("one box smaller than the others", _volume(lambda v: v[2:-2, 2:-2, 2:-2].copy()), "cannot be used"),
    Case("one header contradicts the STAR file", _volume(np.copy, voxel_size=25.0), "cannot be used"),
    Case("all headers contradict the STAR file", _edited(PARTICLES, "\t20.00\t", "\t10.00\t"), "voxel size"),
    Case("labelled particles of one class only", _edited(LABELLED, *CLASSES), "one class"),
    Case("no classes in the support", lambda folder: {"--support": folder / PARTICLES}, "no class labels"),
    Case("labelled particles among the query", lambda folder: {"--query": folder / LABELLED}, "in the support as well"),
    Case("folder with letters beyond ASCII and a space", _renamed),
    Case("STAR file with Windows line ends", _windows),
    Case("absolute path of another machine, the project was moved", MOVED),
    Case("path that climbs out of the project with ..", _climbing),
    Case("class named ../../evil", _edited(LABELLED, CLASSES[0], "../../evil")),
    Case("output folder in use", _in_use, "already contains something else"),
    Case("output on a disk that takes no files", lambda folder: {"--out": "/proc/run1"}, "cannot be written"),
    Case("encoder file of another project", _foreign_encoder, "resnet"),
    Case("pickle file in place of an encoder", _pickled, "model.pt"),
)


def damaged_runs(folder: Path, words: str = "") -> pd.DataFrame:
    """Every case whose description holds `words`, each in a folder of its own."""
    good = good_inputs(folder / "good")
    cases = [case for case in CASES if words in case.what]
    return pd.DataFrame(damaged_run(case, good, folder / f"{number}") for number, case in enumerate(cases, 1))
