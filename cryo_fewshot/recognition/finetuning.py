"""Finetuning an encoder on a user's own labelled subtomograms."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..device import default_device, keep_freed_memory
from ..errors import UserError
from ..particles.base import Particles, class_indices
from ..particles.resampling import band_limited, wedge_rotations
from ..randomness import seed_from
from ..subtomograms import SubtomogramSet
from ..training import History, Schedule, fit
from ..weights import AnyEncoder, load_encoder, save_encoder
from .embedding_cache import unit_embeddings
from .model_card import calibrated
from .pretraining import CosineClassifier, spec_of


def finetune(
    subtomograms: SubtomogramSet,
    encoder: AnyEncoder,
    *,
    n_epochs: int = 20,
    learning_rate: float = 2e-4,
    seed: int = 0,
) -> tuple[AnyEncoder, History]:
    """Finetune on a user's own labelled set, with a cosine classifier and rotations that keep the missing wedge.

    Some samples of each class are held out, and the epoch with the best accuracy of nearest class means on them is
    kept. The encoder as it was given is a candidate too, so the result is never worse on them than the start.

    Parameters
    ----------
    subtomograms : volumes in the encoder's box, voxel size and contrast; at least two classes of at least 4
    encoder : to start from, left as it is; one with initial weights to train from scratch
    learning_rate : small, to keep what the encoder knows; from scratch 1e-3 does better

    Returns the encoder in evaluation mode; accuracies on the held-out samples, of which the first is that of the start,
    and the loss of each epoch.
    """
    device = default_device()
    keep_freed_memory()
    encoder = copy.deepcopy(encoder).to(device)
    volumes, labels = subtomograms.volumes.to(device), torch.from_numpy(subtomograms.labels).to(device)
    if volumes.shape[-1] != encoder.box:
        raise UserError(
            f"boxes of {volumes.shape[-1]} voxels, but the encoder takes {encoder.box}: resample them to it"
        )
    trained, held_out = _split(subtomograms, seed)
    n_classes = len(subtomograms.class_names)
    torch.manual_seed(seed_from("classifier", seed) % 2**31)
    start = unit_embeddings(encoder, volumes)
    model = nn.ModuleDict({"encoder": encoder, "classifier": CosineClassifier(encoder.embedding_dim, n_classes)})
    model["classifier"].directions.data = _class_means(start[trained], labels[trained], n_classes).cpu()
    model.to(device)
    batch_size = min(100, len(trained))
    schedule = Schedule(
        n_epochs=n_epochs,
        steps_per_epoch=max(1, len(trained) // batch_size),
        learning_rate=learning_rate,
        halve_every=max(1, n_epochs // 4),
    )

    def losses(epoch: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed_from("own", seed, epoch))
        order = torch.from_numpy(rng.permutation(trained))[: schedule.steps_per_epoch * batch_size].to(device)
        rotations = torch.from_numpy(rng.integers(2, size=len(order))).to(device)  # which suit every tilt series
        for part, which in zip(order.split(batch_size), rotations.split(batch_size), strict=True):
            yield F.cross_entropy(model["classifier"](encoder(wedge_rotations(volumes[part], which))), labels[part])

    def accuracy_of(embeddings: torch.Tensor) -> float:
        means = _class_means(embeddings[trained], labels[trained], n_classes)
        return float(((embeddings[held_out] @ means.T).argmax(1) == labels[held_out]).float().mean())

    given = {name: value.clone() for name, value in encoder.state_dict().items()}
    history = fit(model, losses, lambda: accuracy_of(unit_embeddings(encoder, volumes)), schedule)
    history.accuracies.insert(0, accuracy_of(start))
    if history.best_epoch == 0:
        encoder.load_state_dict(given)
    return encoder, history


def finetune_on_particles(
    particles: Particles,
    path: Path,
    encoder_path: Path | None = None,
    *,
    n_epochs: int = 20,
    seed: int = 0,
) -> list[float]:
    """`finetune` from files to an encoder file; returns accuracies on held-out particles, the first before training.

    The new card keeps what the old one says. Its calibration is measured again, on the selection classes of the first
    training, so that probabilities and abstention stay honest.
    """
    encoder, card = load_encoder(encoder_path)
    classes = class_indices(particles)
    names, order = list(classes), [i for members in classes.values() for i in members]
    volumes, rejected = particles.read(order, card["box"], card["voxel_size_nm"])
    kept = [row for row, i in enumerate(order) if i not in rejected]
    labels = np.array([names.index(particles.labels[order[row]]) for row in kept])
    subtomograms = SubtomogramSet(
        volumes=band_limited(volumes[kept]),
        labels=labels,
        class_names=tuple(names),
        snrs=np.full(len(kept), np.nan),
        voxel_size_nm=card["voxel_size_nm"],
    )
    trained, history = finetune(subtomograms, encoder, n_epochs=n_epochs, seed=seed)
    card = {**card, "name": path.stem, "own_classes": names, "own_particles": len(kept)}
    card |= calibrated(trained, spec_of(card)).on_card()
    save_encoder(path, trained, card)
    return history.accuracies


def _split(subtomograms: SubtomogramSet, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and of held-out ones, a quarter of each class."""
    if len(subtomograms.class_names) < 2:
        raise UserError(f"one class only, '{subtomograms.class_names[0]}': give at least two")
    trained, held_out = [], []
    for label, name in enumerate(subtomograms.class_names):
        members = np.flatnonzero(subtomograms.labels == label)
        if len(members) < 4:
            raise UserError(f"class '{name}' has {len(members)} samples: finetuning needs at least 4 of each")
        members = np.random.default_rng(seed_from("held out", seed, name)).permutation(members)
        n_held_out = round(len(members) / 4)
        held_out.append(members[:n_held_out])
        trained.append(members[n_held_out:])
    return np.concatenate(trained), np.concatenate(held_out)


def _class_means(embeddings: torch.Tensor, labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Unit mean of each class's unit embeddings, `(n_classes, dim)`."""
    sums = torch.zeros(n_classes, embeddings.shape[1], device=embeddings.device).index_add_(0, labels, embeddings)
    return F.normalize(sums, dim=-1)
