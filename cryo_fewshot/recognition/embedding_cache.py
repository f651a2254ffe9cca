"""Embeddings of particles, computed once: chunks on disk that survive being killed and serve every later support.

Beside an embedding lie plain numbers of the same particle (`descriptors`), for the adaptation to a data set.

A chunk is a file of its own, written whole. So a run goes on where it stopped, and several machines with one disk can
each make a share of the chunks; the result is the same, bit for bit, as that of one.
"""

import hashlib
import json
import os
from collections import ChainMap
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..encoder import embed
from ..errors import UserError
from ..files import write_atomically
from ..particles.base import Particles
from ..particles.resampling import band_limited, wedge_rotations
from ..weights import AnyEncoder
from .descriptors import descriptors, relative_grey

CHUNK = 1024
"""Particles per file. Part of what names the cache: a chunk's bits do not depend on how many there are."""
_FILES_LOOKED_AT = 256
_READING = 3  # one more whenever files of the same bytes are read as other volumes than before


@dataclass(frozen=True)
class Embedded:
    """Embeddings of n particles, of length 1, in a folder of chunks; see `embed_particles`.

    parts : columns of what is read: embeddings, and if wanted descriptors and grey beside them, see `with_parts`
    grey_reference : `(n, 2)` mean and standard deviation of the tomogram that each particle lies in, in which its grey
        values are expressed; None leaves them as the files have them
    """

    folder: Path
    n: int
    parts: tuple[str, ...] = ("embeddings",)
    grey_reference: torch.Tensor | None = None

    def with_parts(self, *parts: str, grey_reference: torch.Tensor | None = None) -> "Embedded":
        return replace(self, parts=parts, grey_reference=grey_reference)

    def chunks(self) -> Iterator[tuple[np.ndarray, torch.Tensor, dict[int, str]]]:
        """Indices `(m,)`, columns `(m, dim)` float32, NaN where rejected, and the reasons by index; in order."""
        for number, indices in enumerate(_chunks(self.n)):
            found = _read(self.folder / f"{number:06d}.safetensors")
            if found is None:
                raise UserError(f"{self.folder}: chunk {number} is missing or damaged; run all shards, then again")
            content, reasons = found
            if self.grey_reference is not None:
                centre, spread = self.grey_reference[indices.start : indices.stop].T
                content["grey"] = relative_grey(content["grey"], centre, spread)
            yield np.array(indices), torch.cat([content[part] for part in self.parts], dim=1), reasons

    def all(self) -> tuple[torch.Tensor, dict[int, str]]:
        _, embeddings, rejected = zip(*self.chunks(), strict=True)
        return torch.cat(embeddings), dict(ChainMap(*rejected))

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, torch.Tensor]:
        """Indices of some particles at random, and their columns, read chunk by chunk."""
        chosen = np.random.default_rng(seed).permutation(self.n)[:count]
        columns = None
        for indices, part, _ in self.chunks():
            if columns is None:
                columns = torch.empty(len(chosen), part.shape[1])
            here = (chosen >= indices[0]) & (chosen <= indices[-1])
            columns[torch.from_numpy(here)] = part[torch.from_numpy(chosen[here] - indices[0])]
        return chosen, columns


def _chunks(n: int) -> list[range]:
    return [range(start, min(n, start + CHUNK)) for start in range(0, n, CHUNK)]


def embed_particles(
    particles: Particles,
    encoder: AnyEncoder,
    card: dict,
    cache: Path,
    *,
    device: torch.device | str = "cpu",
    n_workers: int = 0,
    rotations: int = 1,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[int], object] = lambda n: None,
) -> Embedded:
    """Read and embed what is not in the cache yet.

    Parameters
    ----------
    encoder, card : of `weights.load_encoder`; the card says box, voxel size and contrast
    cache : folder of all caches; this one's folder in it is named by the particles and the encoder
    n_workers : processes that read files; 0 reads in this one
    rotations : test-time augmentation, see `unit_embeddings`
    shard : (i, n): of every n chunks the i-th, counted from 1
    progress : called with the number of particles of each chunk that is done, or was done before
    """
    folder = cache / _digest(particles, encoder, card, rotations)
    chunks = {folder / f"{number:06d}.safetensors": indices for number, indices in enumerate(_chunks(len(particles)))}
    missing = {}
    for path in list(chunks)[shard[0] - 1 :: shard[1]]:
        if _read(path) is None:
            missing[path] = chunks[path]
        else:
            progress(len(chunks[path]))
    read = partial(_volumes, particles.without_table(), card)
    # The function is called in the workers, on one chunk at a time.
    loader = DataLoader(
        list(missing.values()), batch_size=None, num_workers=min(n_workers, len(missing)), collate_fn=read
    )
    encoder = encoder.to(device)
    for (path, indices), (volumes, grey, rejected) in zip(missing.items(), loader, strict=True):
        embeddings = unit_embeddings(encoder, volumes.to(device), rotations=rotations).cpu()
        content = {"embeddings": embeddings.contiguous(), "descriptors": descriptors(volumes), "grey": grey}
        for part in content.values():
            part[[indices.index(i) for i in rejected]] = torch.nan
        reasons = json.dumps({str(i): reason for i, reason in rejected.items()})
        write_atomically(path, save(content, metadata={"rejected": reasons}))
        progress(len(volumes))
    return Embedded(folder, len(particles))


def unit_embeddings(
    encoder: AnyEncoder, volumes: torch.Tensor, precision: str = "fp32", rotations: int = 1
) -> torch.Tensor:
    """Embeddings of length 1, `(n, dim)`, each the mean over 1, 2 or 4 rotations that keep the missing wedge.

    Test-time augmentation. Two rotations suit every tilt series, four those that reach equally far to both sides.
    """
    check_rotations(rotations)
    parts = [
        F.normalize(embed(encoder, wedge_rotations(volumes, torch.full((len(volumes),), which)), precision), dim=-1)
        for which in range(rotations)
    ]
    return F.normalize(torch.stack(parts).mean(dim=0), dim=-1)


def features_of(encoder: AnyEncoder, volumes: torch.Tensor) -> torch.Tensor:
    """Embeddings of length 1 with the `descriptors` behind them: what geometry is fitted to without grey values."""
    return torch.cat([unit_embeddings(encoder, volumes), descriptors(volumes)], dim=1)


def check_rotations(rotations: int) -> None:
    if rotations not in (1, 2, 4):
        raise UserError(f"rotations={rotations} (--rotations): use 1, 2, or for symmetric tilt series 4")


def _volumes(particles: Particles, card: dict, indices: range) -> tuple[torch.Tensor, torch.Tensor, dict[int, str]]:
    """The volumes of a chunk as the encoder takes them, their grey values, and reasons of those that are no use."""
    volumes, grey, rejected = particles.read_with_grey(indices, card["box"], card["voxel_size_nm"])
    return band_limited(volumes), grey, rejected


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[int, str]] | None:
    try:
        with safe_open(path, framework="pt") as file:
            reasons = json.loads(file.metadata()["rejected"])
            content = {part: file.get_tensor(part) for part in ("embeddings", "descriptors", "grey")}
            return content, {int(i): reason for i, reason in reasons.items()}
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None


def _digest(particles: Particles, encoder: AnyEncoder, card: dict, rotations: int) -> str:
    """Name of a cache: changes with the particles' files, how they are read, and the encoder."""
    digest = hashlib.sha256()
    for name, value in encoder.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    reading = (card["box"], card["voxel_size_nm"], "fp32", rotations, CHUNK, torch.__version__)
    meaning = (particles.dark_protein, particles.mirror, list(particles.names))
    digest.update(json.dumps([reading, meaning]).encode())
    digest.update(f"read as {_READING}".encode())
    digest.update(json.dumps(asdict(particles.source), default=_plain).encode())
    looked_at = np.unique(np.linspace(0, len(particles) - 1, _FILES_LOOKED_AT).astype(int))
    for _, (path, *_) in particles.source.identities(looked_at.tolist()):
        try:
            found = os.stat(path)
        except (OSError, TypeError, ValueError):
            continue
        digest.update(f"{found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()[:20]


def _plain(value: object) -> object:
    return value.tolist() if hasattr(value, "tolist") else str(value)
