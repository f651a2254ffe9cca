"""A million particles through `classify`, from a synthetic source: particles per second and peak memory.

The source hands out the same few volumes again and again and the encoder is a stub, so what is measured is everything
but them: chunks on disk, recognition, tables. `--encoder pretrained` takes the real network instead.

    python benchmarks/scale.py 100000
    python benchmarks/scale.py 1000000
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cryo_fewshot.particles.base import Particles
from cryo_fewshot.recognition.classify import classify
from cryo_fewshot.recognition.output import Settings
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder, save_encoder

CLASSES = ("1OEL", "3KUY", "3UWX")
RECIPE = SimulatedData(n_per_class=40, microscope=Microscope(binning=2))


class Names:
    """Names of n particles without a list of them."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> str:
        if not -self.n <= i < self.n:
            raise IndexError(i)
        return f"{i % self.n + 1:07d}@particles.mrcs"


@dataclass(frozen=True)
class Repeated:
    """A source that hands out a few volumes over and over."""

    volumes: np.ndarray
    offset: int = 0

    def opened(self, voxel_size_nm: float | None = None):
        return lambda i: (self.volumes[(i + self.offset) % len(self.volumes)], 2.0)

    def identities(self, indices):
        return ((i, (self.offset, i)) for i in indices)


def particles(n: int, recipe: SimulatedData, labelled: bool) -> Particles:
    """n particles of all classes in turn."""
    per_class = n // len(CLASSES) if labelled else recipe.n_per_class
    volumes = simulate_set(recipe, {0.1: per_class}, CLASSES).volumes.double().numpy()
    volumes = volumes.reshape(len(CLASSES), per_class, 20, 20, 20).swapaxes(0, 1).reshape(-1, 20, 20, 20)
    labels = [CLASSES[i % len(CLASSES)] for i in range(n)] if labelled else None
    return Particles(
        names=Names(n), source=Repeated(volumes, offset=-1 if labelled else 0), voxel_size_nm=2.0, box=20,
        labels=labels, dark_protein=True,
    )  # fmt: skip


def stub_encoder(path: Path) -> Path:
    """The pretrained encoder's card with weights of the smallest network that fits it."""
    from cryo_fewshot.encoder import PooledEncoder3D

    encoder, card = load_encoder()
    small = PooledEncoder3D(20, (1, 1, 1, encoder.embedding_dim))
    nn.init.normal_(small.coarse[0][0].weight)
    save_encoder(path, small, card)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int)
    parser.add_argument("--encoder", choices=("stub", "pretrained"), default="stub")
    parser.add_argument("--workers", type=int, default=0)
    given = parser.parse_args()
    query = particles(given.n, RECIPE, labelled=False)
    support = particles(15, SimulatedData(n_per_class=5, microscope=RECIPE.microscope, seed=1), labelled=True)
    with tempfile.TemporaryDirectory() as folder:
        path = stub_encoder(Path(folder) / "stub.safetensors") if given.encoder == "stub" else None
        started = time.perf_counter()
        classify(support, query, Path(folder) / "run", encoder_path=path, settings=Settings(n_averaged=0),
                 n_workers=given.workers)  # fmt: skip
        seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "n": given.n,
                "encoder": given.encoder,
                "workers": given.workers,
                "particles_per_second": round(given.n / seconds, 1),
                "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                "threads": torch.get_num_threads(),
            }
        )
    )


if __name__ == "__main__":
    main()
