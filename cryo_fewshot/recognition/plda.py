"""PLDA: class centres are drawn from one Gaussian, particles about their centre from another.

Probabilistic linear discriminant analysis (Ioffe 2006), in the two-covariance form of Brümmer and de Villiers 2010. It
is a prototype classifier that knows how uncertain a prototype is: with few shots a class stays wide, unequal shots are
weighted, and an unknown class has a likelihood too, against which every particle is tested.
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import UserError

SAME_LENGTH = 0.01
"""By which an embedding's length may differ from 1."""


@dataclass(frozen=True, kw_only=True)
class PLDA:
    """Particle x of class c in projected space: x ~ N(m_c, I), m_c ~ N(0, diag(between)).

    mean : `(dim,)` of the embeddings
    axes : `(dim, n_axes)`; (x - mean) @ axes has identity covariance within a class and a diagonal one between classes
    between : `(n_axes,)` variance of class centres along each axis, in units of that within a class
    unit_columns : how many of the first columns have length 1 together, as in the embeddings that it was fitted on;
        0 where they had any length. Others would be taken for members or strangers by their length alone
    """

    mean: np.ndarray
    axes: np.ndarray
    between: np.ndarray
    unit_columns: int = 0

    def __post_init__(self):
        for name in ("mean", "axes", "between"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float32))
        if self.axes.shape != (len(self.mean), len(self.between)):
            raise UserError(
                f"axes of shape {self.axes.shape}, mean of {len(self.mean)} and between of {len(self.between)} values "
                "do not belong together: take an encoder file as `pretrain` or `train` wrote it"
            )

    def project(self, embeddings: torch.Tensor) -> torch.Tensor:
        """`(..., dim)` -> `(..., n_axes)`, in standard deviations within a class."""
        if embeddings.shape[-1] != len(self.mean):
            raise UserError(
                f"embeddings of {embeddings.shape[-1]} dimensions, the calibration was fitted on {len(self.mean)}: "
                "use the encoder that it belongs to"
            )
        lengths = embeddings[..., : self.unit_columns].norm(dim=-1) if self.unit_columns else torch.ones(1)
        if ((lengths - 1).abs() > SAME_LENGTH).any():
            said = f"embeddings of length {lengths.min():.3g} to {lengths.max():.3g}"
            remedy = "normalise them, as `unit_embeddings` does"
            raise UserError(f"{said}, the calibration was fitted on length 1: {remedy}")
        mean, axes = (torch.from_numpy(part).to(embeddings.device) for part in (self.mean, self.axes))
        return (embeddings - mean) @ axes


def fit_plda(embeddings: torch.Tensor, labels: np.ndarray, *, n_axes: int = 16, shrinkage: float = 0.1) -> PLDA:
    """Estimate the model by moments from labelled embeddings of many classes.

    Parameters
    ----------
    embeddings : `(n, dim)`; labels : `(n,)`, at least three classes with two particles each
    n_axes : principal axes that are kept; the rest is noise, which the inverse of a covariance would amplify
    shrinkage : share of both covariances that is replaced by a multiple of the identity
    """
    x, labels = np.asarray(embeddings, dtype=np.float64), np.asarray(labels)
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 3 or counts.min() < 2:
        raise UserError(f"{len(classes)} classes with at least {counts.min()} particles: give at least 3 with 2 each")
    mean = x.mean(axis=0)
    n_axes = min(n_axes, x.shape[1], len(x) - 1)
    principal = np.linalg.svd(x - mean, full_matrices=False)[2][:n_axes].T
    x = (x - mean) @ principal
    centres = np.stack([x[inverse == i].mean(axis=0) for i in range(len(classes))])
    residuals = x - centres[inverse]
    within = _shrunk(residuals.T @ residuals / (len(x) - len(classes)), shrinkage)
    # The scatter of sample means holds a share of the scatter within.
    between = _shrunk(np.cov(centres.T) - within * (1 / counts).mean(), shrinkage)
    values, vectors = np.linalg.eigh(within)
    whitening = vectors * np.maximum(values, 1e-12) ** -0.5
    variances, rotation = np.linalg.eigh(whitening.T @ between @ whitening)
    axes = principal @ whitening @ rotation
    is_unit = np.abs(np.linalg.norm(np.asarray(embeddings), axis=1) - 1).max() < SAME_LENGTH
    n_unit = len(mean) if is_unit else 0
    return PLDA(mean=mean, axes=axes, between=np.maximum(variances, 1e-3), unit_columns=n_unit)


def _shrunk(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    covariance = np.atleast_2d(covariance)
    identity = np.eye(len(covariance)) * max(np.trace(covariance), 1e-12) / len(covariance)
    return (1 - shrinkage) * covariance + shrinkage * identity


def class_posteriors(
    sums: torch.Tensor, counts: torch.Tensor, between: torch.Tensor, within: torch.Tensor | float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the support says of the class centres: means and variances, each `(..., n_way, n_axes)`.

    v_c = 1 / (1 / between + n_c / within), m_c = v_c sum_c / within.

    sums : `(..., n_way, n_axes)` of projected support; counts : `(..., n_way)`, which may differ and be fractions;
    within : variance within a class, as a multiple of the model's.
    """
    variances = 1 / (1 / between + counts.unsqueeze(-1) / within)
    return variances * sums / within, variances


def gaussian_log_likelihoods(queries: torch.Tensor, means: torch.Tensor, variances: torch.Tensor) -> torch.Tensor:
    """log N(q; mean_c, diag(variance_c)): `(..., m, n_axes)`, `(..., n_way, n_axes)` twice -> `(..., m, n_way)`.

    Without the constant of 2 pi. Expanded into two matrix products: nothing of size (m, n_way, n_axes) arises.
    """
    precisions = 1 / variances
    distances = (
        queries.square() @ precisions.mT
        - 2 * queries @ (means * precisions).mT
        + (means.square() * precisions).sum(-1).unsqueeze(-2)
    )
    return -0.5 * (distances + variances.log().sum(-1).unsqueeze(-2))
