"""Specs: trainings and evaluations as frozen data that names its result."""

from dataclasses import dataclass

from ..subtomograms import ClassSplit, DataSource, split_classes
from ..training import Schedule


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
        """Classes by role."""
        return split_classes(self.data.class_names, self.split_sizes, self.split_seed)

    @property
    def volumes_per_step(self) -> int:
        """Volumes that one training step takes through the encoder."""
        return self.n_way * (self.n_shot + self.n_query)

    @property
    def cost(self) -> int:
        """Volumes of the whole training: the unit of progress."""
        return self.volumes_per_step * self.schedule.n_epochs * self.schedule.steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class AdaptationRun:
    """One training of the attention on the embeddings of a frozen encoder.

    loss : 'adapted' trains on the distance in the new space (the text's training section), 'combined' on the sum of
    both distances (Equation 8 and the released code).
    """

    encoder: EncoderRun
    variant: str = "inductive"
    layer_norm: bool = False
    loss: str = "adapted"
    schedule: Schedule
    seed: int = 0

    cost_per_step = 4
    """One step on cached embeddings takes about as long as this many volumes through an encoder of 20^3."""

    @property
    def cost(self) -> int:
        """In the unit of `EncoderRun.cost`."""
        return self.cost_per_step * self.schedule.n_epochs * self.schedule.steps_per_epoch


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One cell of a table: a head on an encoder, on episodes of novel classes at one SNR.

    head : 'finetuned', 'prototype', 'adapted' (d* alone), 'combined' (d + d*), or one of Remark 1's other
    combinations, 'product', 'weighted' and 'z-scored'.
    The first 100 episodes give the paper's figure, all of them the figure with a useful interval.
    """

    encoder: EncoderRun
    adaptation: AdaptationRun | None = None
    head: str
    snr: float
    n_way: int = 5
    n_shot: int = 5
    n_query: int = 15
    n_episodes: int = 1000
    episode_seed: int = 0

    @property
    def novel_data(self) -> DataSource:
        """Where the test subtomograms come from."""
        return self.encoder.data

    @property
    def novel_classes(self) -> tuple[str, ...]:
        """The classes that episodes are drawn from."""
        return self.encoder.split.novel
