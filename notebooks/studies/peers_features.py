"""What others would compute of a particle without a trained encoder, and the classifiers that they would train."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.special import sph_harm_y
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from cryo_fewshot.averaging.spectra import cropped
from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.particles.resampling import wedge_rotations
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.recognition.benchmark import Predict
from cryo_fewshot.recognition.descriptors import descriptors
from cryo_fewshot.simulation.microscope import Microscope


@dataclass(frozen=True, eq=False)
class Boxes:
    """Particles of a data set: as they are labelled and as they are asked for, elsewhere the same; labels `(n,)`.

    labelled, asked : `(n, b, b, b)`, each of mean 0 and variance 1
    microscope : what is believed of the acquisition; None where templates play no part
    """

    labelled: torch.Tensor
    asked: torch.Tensor
    labels: np.ndarray
    microscope: Microscope | None = None

    def of_both(self, function) -> tuple[torch.Tensor, torch.Tensor]:
        """A function of volumes, of those that are labelled and of those that are asked for."""
        asked = function(self.asked)
        return (asked if self.labelled is self.asked else function(self.labelled)), asked


# ---------------------------------------------------------------- features


@lru_cache(maxsize=16)
def pca_of_voxels(boxes: Boxes, n_components: int, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Principal components of all boxes, labelled or not, at a resolution of `grid` voxels per edge, whitened."""
    labelled, asked = boxes.of_both(lambda volumes: cropped(volumes, grid).flatten(1).numpy())
    model = PCA(n_components, whiten=True, random_state=0).fit(asked)
    return tuple(torch.from_numpy(model.transform(part).astype(np.float32)) for part in (labelled, asked))


def by_shell_powers(boxes: Boxes) -> Predict:
    """Logarithm of the mean power in Fourier shells: what survives any rotation and shift, but for the wedge."""
    n_powers = boxes.asked.shape[-1] // 2 - 2
    return nearest_prototype(*standardised(*boxes.of_both(lambda volumes: descriptors(volumes)[:, -n_powers:])))


def by_harmonic_powers(boxes: Boxes, degree: int, space: str) -> Predict:
    """Logarithm of the power of each degree of spherical harmonics on each shell, which no rotation changes.

    space : 'real', shells about the centre of the box, or 'Fourier', shells of the modulus, which no shift changes
    """

    def powers(volumes: torch.Tensor) -> torch.Tensor:
        if space == "Fourier":
            volumes = torch.fft.fftshift(torch.fft.fftn(volumes, dim=(1, 2, 3)).abs(), dim=(1, 2, 3))
        return harmonics(volumes, degree).clamp(min=1e-9).log().flatten(1)

    return nearest_prototype(*standardised(*boxes.of_both(powers)))


def harmonics(volumes: torch.Tensor, degree: int, n_theta: int = 16, n_phi: int = 32) -> torch.Tensor:
    """Power of degrees 0 to `degree` on shells of radius 1 to b // 2 - 1 voxels, `(n, shells, degree + 1)`."""
    nodes, weights = np.polynomial.legendre.leggauss(n_theta)
    theta, phi = np.meshgrid(np.arccos(nodes), 2 * np.pi * np.arange(n_phi) / n_phi, indexing="ij")
    x = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1).reshape(-1, 3)
    box = volumes.shape[-1]
    radii = np.arange(1, box // 2)
    # Voxel b // 2 is the centre; grid_sample counts from -1 to 1 over the outermost voxels' centres.
    places = (box // 2 + radii[:, None, None] * x) * 2 / (box - 1) - 1
    grid = torch.from_numpy(places.astype(np.float32))[None].expand(len(volumes), -1, -1, -1)
    sampled = F.grid_sample(volumes[:, None], grid[:, None], align_corners=True)[:, 0, 0]
    area = (weights[:, None] * np.full(n_phi, 2 * np.pi / n_phi)).ravel()
    found = []
    for order in range(degree + 1):
        basis = np.stack([sph_harm_y(order, m, theta, phi).ravel() * area for m in range(-order, order + 1)], 1)
        basis = torch.from_numpy(basis.astype(np.complex64))
        found.append((sampled.to(torch.complex64) @ basis).abs().square().sum(-1))
    return torch.stack(found, -1)


def standardised(labelled: torch.Tensor, asked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns in standard deviations of all boxes, labelled or not."""
    mean, spread = asked.mean(0), asked.std(0).clamp(min=1e-9)
    return (labelled - mean) / spread, (asked - mean) / spread


# ---------------------------------------------------------------- classifiers


def nearest_prototype(labelled: torch.Tensor, asked: torch.Tensor) -> Predict:
    """The class whose labelled particles' mean is the nearest."""

    def predict(support: np.ndarray, queries: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return prototype_logits(labelled[support][None], asked[queries][None])[0].argmax(1).numpy()

    return predict


def by_pca(boxes: Boxes, classifier: str, n_components: int, grid: int, c: float = 1.0) -> Predict:
    """Principal components of the voxels, and on them the 'nearest' labelled particle, or an SVM, 'rbf'."""
    labelled, asked = pca_of_voxels(boxes, n_components, grid)

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        model = KNeighborsClassifier(1) if classifier == "nearest" else SVC(C=c, kernel=classifier)
        ways = np.arange(len(support)).repeat(support.shape[1])
        return model.fit(labelled[support.ravel()].numpy(), ways).predict(asked[queries].numpy())

    return predict


def trained_on_labels(boxes: Boxes, n_steps: int, shift: int) -> Predict:
    """A small residual network on the labelled particles alone, from random weights for every task.

    shift : voxels, random shifts of the augmentation, beside the rotations that keep the missing wedge
    """

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        torch.manual_seed(int(support.ravel()[0]))
        encoder = PooledEncoder3D(boxes.asked.shape[-1], (8, 16, 32)).train()
        network = nn.Sequential(encoder, nn.Linear(encoder.embedding_dim, len(support)))
        optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
        volumes, truth = boxes.labelled[support.ravel()], torch.arange(len(support)).repeat_interleave(support.shape[1])
        for _ in range(n_steps):
            moved = wedge_rotations(volumes, torch.randint(4, (len(volumes),)))
            moved = torch.roll(moved, torch.randint(-shift, shift + 1, (3,)).tolist(), (1, 2, 3))
            optimizer.zero_grad()
            F.cross_entropy(network(moved), truth).backward()
            optimizer.step()
        with torch.no_grad():
            return network.eval()(boxes.asked[queries]).argmax(1).numpy()

    return predict
