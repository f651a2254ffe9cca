"""Trainings as frozen data: specs that name their result and know how to run.

`runner(spec)` gives the stored entry of a spec, or else what `spec.run(runner)` returns, stored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from ..adaptation import Adaptation, adapted_logits, combined_logits, product_logits, weighted_logits, z_scored_logits
from ..baseline import baseline_logits
from ..device import autocast
from ..encoder import Encoder3D, embed
from ..episodes import Episodes, sample_episodes
from ..errors import UserError
from ..evaluation import Head, mean_accuracy
from ..hashing import ADDED_LATER
from ..protonet import prototype_logits
from ..randomness import seed_from
from ..subtomograms import ClassSplit, DataSource, SubtomogramSet, split_classes
from ..training import History, Schedule, episode_loss
from .store import Trained

ADAPTED_HEADS: dict[str, Callable[..., torch.Tensor]] = {
    "adapted": adapted_logits,
    "combined": combined_logits,
    "product": product_logits,
    "weighted": weighted_logits,
    "z-scored": z_scored_logits,
}


@dataclass(frozen=True, kw_only=True)
class EncoderRun:
    """One training of an encoder.

    data : recipe of all volumes; split_sizes, split_seed : classes for training, validation, test;
    snr_counts : training (and validation) samples per class at each SNR, ((0.1, 100),) or a mix;
    objective : 'episodes' (ProtoNet3D) or 'classes' (the baseline's plain classification, in batches of the size of
    an episode); n_way, n_shot, n_query : of training and validation episodes; precision : 'fp32' or 'bf16'.
    """

    data: DataSource
    split_sizes: tuple[int, int, int] = (10, 5, 8)
    split_seed: int = 0
    snr_counts: tuple[tuple[float, int], ...]
    objective: str = "episodes"
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_validation_episodes: int = 100
    n_blocks: int = 4
    width: int = 64
    schedule: Schedule
    precision: str = "fp32"
    seed: int = 0

    @property
    def split(self) -> ClassSplit:
        return split_classes(self.data.class_names, self.split_sizes, self.split_seed)

    @property
    def selection_role(self) -> str:
        """Classes that models are selected on: without validation classes, as in the real sets, the base classes."""
        return "validation" if self.split.validation else "base"

    @property
    def volumes_per_step(self) -> int:
        return self.n_way * (self.n_shot + self.n_query)

    @property
    def cost(self) -> int:
        """Volumes of the whole training: the unit of progress."""
        return self.volumes_per_step * self.schedule.n_steps

    @property
    def title(self) -> str:
        """What a progress bar calls the training."""
        snrs = [f"{snr:g}" for snr, _ in self.snr_counts]
        noise = f"SNR {snrs[0]}" if len(snrs) == 1 else "mixed SNR"
        return f"training {self.objective}, {noise}, {self.n_shot}-shot"

    def new_encoder(self) -> Encoder3D:
        """Its weights are drawn from torch's own generator."""
        return Encoder3D(self.data.box, self.n_blocks, self.width)

    def episodes(self, role: str, subtomograms: SubtomogramSet, n_episodes: int, *words) -> Episodes:
        """Episodes of the run's size among the classes of a role, seeded by the words that name them."""
        return sample_episodes(
            subtomograms.labels,
            range(len(subtomograms.class_names)),
            # There may be fewer classes to validate on than a training episode has.
            n_way=min(self.n_way, len(subtomograms.class_names)) if role == "validation" else self.n_way,
            n_shot=self.n_shot,
            n_query=self.n_query,
            n_episodes=n_episodes,
            seed=seed_from(role, self.seed, *words),
            class_names=subtomograms.class_names,
        )

    def validation_episodes(self, validation: SubtomogramSet) -> Episodes:
        """The episodes that models are selected on, the same after every epoch."""
        return self.episodes("validation", validation, self.n_validation_episodes)

    def run(self, runner) -> Trained:
        """Train; the tensors are the state of the encoder that was best on the selection classes."""
        torch.manual_seed(seed_from("weights", self.seed) % 2**31)
        encoder = self.new_encoder().to(runner.device)
        model = torch.nn.ModuleDict({"encoder": encoder})
        base = runner.volumes(self, "base")
        if self.objective == "classes":
            model["layer"] = torch.nn.Linear(encoder.embedding_dim, len(base.class_names)).to(runner.device)
            losses, head = partial(self._classification_losses, model, base), baseline_logits
        else:
            losses, head = partial(self.episode_losses, encoder, base), prototype_logits
        validation = runner.volumes(self, self.selection_role)
        checked = self.validation_episodes(validation)

        def validate() -> float:
            return mean_accuracy(embed(encoder, validation.volumes, self.precision), checked, head)

        history = runner.fit(self, model, losses, validate, self.volumes_per_step)
        return _trained(history, encoder)

    def episode_losses(self, encoder: Encoder3D, base: SubtomogramSet, epoch: int) -> Iterator[torch.Tensor]:
        """Equation 3 for each episode of an epoch."""
        episodes = self.episodes("base", base, self.schedule.steps_per_epoch, epoch)
        return self.losses_of(encoder, base, episodes, prototype_logits)

    def losses_of(
        self, encoder: Encoder3D, base: SubtomogramSet, episodes: Episodes, head: Head
    ) -> Iterator[torch.Tensor]:
        """Loss of each episode under a head that takes embeddings; gradients reach the encoder."""
        for drawn in _drawn(episodes, base.volumes.device):
            with autocast(base.volumes.device, self.precision):
                embeddings = encoder(base.volumes[drawn.flatten()])
            embeddings = embeddings.unflatten(0, drawn.shape)
            yield episode_loss(head(embeddings[:, : self.n_shot], embeddings[:, self.n_shot :].flatten(0, 1)))

    def _classification_losses(
        self, model: torch.nn.ModuleDict, base: SubtomogramSet, epoch: int
    ) -> Iterator[torch.Tensor]:
        """Cross entropy over the base classes, in batches that hold as many volumes as an episode."""
        device = base.volumes.device
        rng = np.random.default_rng(seed_from("batches", self.seed, epoch))
        labels = torch.from_numpy(base.labels).to(device)
        size, repeats = self.volumes_per_step, self.volumes_per_step > len(base)
        batches = [rng.choice(len(base), size, replace=repeats) for _ in range(self.schedule.steps_per_epoch)]
        for drawn in torch.from_numpy(np.stack(batches)).to(device):
            with autocast(device, self.precision):
                embeddings = model["encoder"](base.volumes[drawn])
            yield F.cross_entropy(model["layer"](embeddings), labels[drawn])


@dataclass(frozen=True, kw_only=True)
class AdaptationRun:
    """The second stage: training of the attention on the embeddings of a trained encoder.

    loss : 'adapted' trains on the distance in the new space (the text's training section), 'combined' on the sum of
    both distances (Equation 8 and the released code), 'prototype' on the distance without attention, which is
    ProtoNet3D trained for longer
    layer_norm, bias : as in the released code, see `Adaptation`
    encoder_too : go on training the encoder as well, as the released code does; the text freezes it
    """

    encoder: EncoderRun
    variant: str = "inductive"
    layer_norm: bool = False
    loss: str = "adapted"
    schedule: Schedule
    seed: int = 0
    bias: bool = field(default=False, metadata=ADDED_LATER)
    encoder_too: bool = field(default=False, metadata=ADDED_LATER)

    cost_per_step = 4
    """One step on cached embeddings takes about as long as this many volumes through an encoder of 20^3."""
    title = "training attention"

    @property
    def cost(self) -> int:
        per_step = self.encoder.volumes_per_step if self.encoder_too else self.cost_per_step
        return per_step * self.schedule.n_steps

    @property
    def precision(self) -> str:
        return self.encoder.precision

    def new_encoder(self) -> Encoder3D:
        return self.encoder.new_encoder()

    def new_adaptation(self) -> Adaptation:
        """Its weights are drawn from torch's own generator."""
        return Adaptation(self.new_encoder().embedding_dim, self.variant, self.layer_norm, self.bias)

    def run(self, runner) -> Trained:
        """Train; the tensors are the state that was best on the selection classes: of the attention, or of both."""
        known = ("adapted", "combined", "prototype") if self.encoder_too else ("adapted", "combined")
        if self.loss not in known:
            raise UserError(f"loss '{self.loss}' is unknown: use one of {', '.join(known)}")
        torch.manual_seed(seed_from("attention", self.seed) % 2**31)
        attention = self.new_adaptation().to(runner.device)
        return self._train_both(runner, attention) if self.encoder_too else self._train_attention(runner, attention)

    def _train_attention(self, runner, model: Adaptation) -> Trained:
        encoder = self.encoder
        roles = "base", encoder.selection_role
        base, validation = (runner.volumes(encoder, role) for role in roles)
        base_embeddings, validation_embeddings = (runner.embeddings(encoder, role) for role in roles)
        checked = encoder.validation_episodes(validation)

        def losses(epoch: int) -> Iterator[torch.Tensor]:
            for drawn in _drawn(self._episodes(base, epoch), runner.device):
                projected = model.project(base_embeddings[drawn])[None]
                support, queries = projected[:, :, : encoder.n_shot], projected[:, :, encoder.n_shot :].flatten(1, 2)
                yield episode_loss(ADAPTED_HEADS[self.loss](model, support, queries))

        def validate() -> float:
            with torch.no_grad():
                projected = model.project(validation_embeddings)
            return mean_accuracy(projected, checked, partial(combined_logits, model))

        history = runner.fit(self, model, losses, validate, self.cost_per_step)
        return _trained(history, model)

    def _train_both(self, runner, attention: Adaptation) -> Trained:
        run, encoder = self.encoder, runner.encoder(self.encoder)
        base, validation = (runner.volumes(run, role) for role in ("base", run.selection_role))
        checked = run.validation_episodes(validation)
        model = torch.nn.ModuleDict({"encoder": encoder, "attention": attention})

        def head(support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
            if self.loss == "prototype":
                return prototype_logits(support, queries)
            return ADAPTED_HEADS[self.loss](
                attention, attention.project(support[None]), attention.project(queries[None])
            )

        def validate() -> float:
            embeddings = embed(encoder, validation.volumes, run.precision)
            if self.loss == "prototype":
                return mean_accuracy(embeddings, checked, prototype_logits)
            with torch.no_grad():
                return mean_accuracy(attention.project(embeddings), checked, partial(combined_logits, attention))

        def losses(epoch: int) -> Iterator[torch.Tensor]:
            return run.losses_of(encoder, base, self._episodes(base, epoch), head)

        return _trained(runner.fit(self, model, losses, validate, run.volumes_per_step), model)

    def _episodes(self, base: SubtomogramSet, epoch: int) -> Episodes:
        return self.encoder.episodes("base", base, self.schedule.steps_per_epoch, "attention", epoch)


def _drawn(episodes: Episodes, device: torch.device) -> torch.Tensor:
    """Indices of support, then query, `(n_episodes, n_way, n_shot + n_query)`, moved to the device at once."""
    return torch.from_numpy(np.concatenate([episodes.support, episodes.query], axis=2)).to(device)


def _trained(history: History, network: torch.nn.Module) -> Trained:
    result = {"validation_accuracy": history.accuracies, "loss": history.losses, "best_epoch": history.best_epoch}
    return Trained(result, network.state_dict(), history.seconds)
