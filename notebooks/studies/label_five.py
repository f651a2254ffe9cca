"""Label five, and watch: what the page needs to classify in the browser, computed beforehand."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from cryo_fewshot.encoder import embed
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import RATES
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.imaging import simulate

from .pretrained import Pretrained

FALSE_ACCEPT_RATE = 0.05
_GREYS = 16


@dataclass(frozen=True, kw_only=True)
class PlayedParticles:
    """Simulated particles of classes that neither network was trained on, in a shuffled order.

    known : classes that may be labelled, unknown : classes that nobody labels; both as in `Demonstration`
    """

    data: SimulatedData
    known: tuple[str, ...] = ("3KUY", "1OEL", "3M6A", "1QVR", "3UWX")
    unknown: tuple[str, ...] = ("1HTQ", "4NMN", "1E0T")
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    n_per_class: int = 50

    @property
    def classes(self) -> tuple[str, ...]:
        """Known ones first."""
        return *self.known, *self.unknown

    @property
    def order(self) -> np.ndarray:
        """Number within the simulated set of each particle shown."""
        n = len(self.classes) * self.n_per_class
        return np.random.default_rng(seed_from("label five")).permutation(n)

    def volumes(self, snr: float, device: torch.device | str = "cpu") -> torch.Tensor:
        """`(n, b, b, b)`."""
        found = self.data.subtomograms({snr: self.n_per_class}, self.classes, device).volumes
        return found[torch.from_numpy(self.order)]


@dataclass(frozen=True, kw_only=True)
class PlayedProtoNet:
    """ProtoNet3D's embeddings of the particles, along the principal axes that are kept."""

    particles: PlayedParticles
    protonet: EncoderRun
    n_axes: int = 64

    def run(self, runner) -> dict:
        """Result: `embeddings` by SNR, float32 as base64; `variance`, the least share that the axes hold."""
        encoder, found, shares = runner.encoder(self.protonet), {}, []
        for snr in self.particles.snrs:
            volumes = self.particles.volumes(snr, runner.device)
            kept, share = principal(embed(encoder, volumes).cpu(), self.n_axes)
            found[f"{snr:g}"] = packed(kept)
            shares.append(share)
        return {"embeddings": found, "variance": min(shares)}


@dataclass(frozen=True, kw_only=True)
class LabelFive:
    """The particles as pictures and embeddings of both networks.

    encoder : digest of the pretrained weights; calibration : of its calibration
    """

    version = 2  # crowding counts

    encoder: str
    protonet: PlayedProtoNet
    n_slices: int = 5
    calibration: str = ""

    def run(self, runner, pretrained: Pretrained) -> dict:
        """Result: `classes`; `truth`, class of each particle; per SNR `pictures`, a PNG of all particles in 20 columns
        (mean of the middle slices), `pretrained` and `protonet`, embeddings as float32; `references`, a PNG of each
        class without noise; `protonet_variance`; what the recogniser's calibration says. Bytes are base64.
        """
        calibration = pretrained.calibration
        particles, of_protonet = self.protonet.particles, runner(self.protonet)["result"]
        by_snr, data = {}, particles.data
        for snr in particles.snrs:
            volumes = particles.volumes(snr)
            embeddings = unit_embeddings(pretrained.encoder, volumes)
            by_snr[f"{snr:g}"] = {
                "pictures": sheet(volumes.numpy(), self.n_slices),
                "pretrained": packed(calibration.space.project(embeddings)),
                "log_snr": float(calibration.log_snr(embeddings)),
                "crowding": float(calibration.crowding(embeddings)),
                "protonet": of_protonet["embeddings"][f"{snr:g}"],
            }
        clean = [
            simulate(data.beads_of(name, seeds), seeds, None, data.microscope)[0].numpy()
            for name in particles.classes
            for seeds in [data.sample_seeds(name, particles.snrs[0], count=1)]
        ]
        return {
            "classes": list(particles.classes),
            "n_known": len(particles.known),
            "truth": np.repeat(np.arange(len(particles.classes)), particles.n_per_class)[particles.order].tolist(),
            "snrs": by_snr,
            "references": sheet(np.stack(clean), self.n_slices),
            "protonet_variance": of_protonet["variance"],
            "between": calibration.space.between.tolist(),
            "limits": calibration.promises.limits,
            "temperature": list(calibration.promises.temperature),
            # The least of these: a higher rate never asks for more.
            "thresholds": [list(row) for row in calibration.promises.thresholds[: RATES.index(FALSE_ACCEPT_RATE) + 1]],
        }


def principal(embeddings: torch.Tensor, n_axes: int) -> tuple[torch.Tensor, float]:
    """Embeddings along their first principal axes, and the share of the variance that these hold."""
    centred = embeddings.double() - embeddings.double().mean(0)
    _, scales, axes = torch.linalg.svd(centred, full_matrices=False)
    share = float(scales[:n_axes].square().sum() / scales.square().sum())
    return (centred @ axes[:n_axes].T).float(), share


def packed(values: torch.Tensor) -> str:
    """Float32 numbers as base64."""
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def sheet(volumes: np.ndarray, n_slices: int, n_columns: int = 20) -> str:
    """PNG of the mean of the middle slices of each volume, in rows of 20, each on its own grey scale."""
    middle, half = volumes.shape[1] // 2, n_slices // 2
    pictures = volumes[:, middle - half : middle + half + 1].mean(1)[:, ::-1]
    low, high = np.percentile(pictures, [1, 99], axis=(1, 2), keepdims=True)
    pictures = np.clip((pictures - low) / np.maximum(high - low, 1e-12), 0, 1)
    n, height, width = pictures.shape
    n_columns = min(n, n_columns)
    pictures = np.concatenate([pictures, np.zeros((-n % n_columns, height, width))])
    rows = pictures.reshape(-1, n_columns, height, width).transpose(0, 2, 1, 3).reshape(-1, n_columns * width)
    image = Image.fromarray((rows * 255).astype(np.uint8)).quantize(_GREYS)
    file = io.BytesIO()
    image.save(file, "png", optimize=True, bits=4)
    return base64.b64encode(file.getvalue()).decode()
