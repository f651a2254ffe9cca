"""The Snakemake workflow, really run: shares side by side give the bits of one process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cryo_fewshot.recognition.embedding_cache import CHUNK
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope

SNAKEFILE = Path(__file__).parents[2] / "workflow" / "Snakefile"
CLASSES = ["1OEL", "3KUY"]
snakemake = shutil.which("snakemake")


@pytest.mark.skipif(snakemake is None, reason="Snakemake is not installed")
def test_shares_run_by_snakemake_give_the_bits_of_one_process(tmp_path):
    per_class = CHUNK // 2 + 10  # two chunks, so two shares with work
    for name, n, seed in (("labelled", 3, 1), ("all", per_class, 0)):
        recipe = SimulatedData(n_per_class=n, microscope=Microscope(binning=2), seed=seed)
        found = simulate_set(recipe, {0.1: n}, CLASSES)
        labels = {"labels": np.array(CLASSES)[found.labels]} if name == "labelled" else {}
        np.savez(tmp_path / f"{name}.npz", volumes=found.volumes.numpy(), voxel_size_nm=2.0, **labels)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    given = ["--support", "labelled.npz", "--query", "all.npz"]

    def run(*words):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]

    run("cryo-fewshot", "classify", *given, "--out", "one", "--averages", "0")
    settings = ["support=labelled.npz", "query=all.npz", "out=many", "shards=2", "options=--averages 0"]
    run(snakemake, "-s", str(SNAKEFILE), "--cores", "2", "--config", *settings)
    assert len(list((tmp_path / "many" / "embeddings").glob("share_*"))) == 2
    written = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    for path in written:
        assert (tmp_path / "many" / path).read_bytes() == (tmp_path / "one" / path).read_bytes(), path
