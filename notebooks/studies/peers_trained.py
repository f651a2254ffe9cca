"""TomoTwin's architecture and loss on this simulator, beside the pretrained encoder's on as many volumes.

Written from the description in Rice et al., Nature Methods 20, 871 (2023); their code and weights play no part.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.pretraining import Pretraining, pretrained_spec, train
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.training import Schedule

from .open_world import Pretrained
from .peers import DATA, PROTOTYPE, PeerEvaluation, test_classes

MARGIN = 0.2
RATES = {("TomoTwin", "triplets"): 1e-4, ("pooled", "triplets"): 3e-3, ("pooled", "classes"): 3e-3}
"""Learning rates: for the first, all embeddings became equal within 20 steps at 1e-3 and 3e-4, on training classes; for
the others that of the pretrained encoder's recipe.
"""
VOLUMES_PER_STEP = pretrained_spec().volumes_per_step
SHARES = {64: "", 32: ", half as wide"}
"""What a row says of the width of TomoTwin's network."""


class TomoTwin(nn.Module):
    """Five blocks of two convolutions 3x3x3, each normalised and through a leaky ReLU, pooled; a head to 32 numbers.

    width : channels of the first block, 64 in the paper; each block has twice those of the one before
    """

    def __init__(self, box: int = 20, width: int = 64, embedding_dim: int = 32):
        super().__init__()
        self.box, self.embedding_dim = box, embedding_dim
        *_, last = widths = [width * 2**i for i in range(5)]
        layers = []
        for before, channels in zip([1, *widths[:-1]], widths, strict=True):
            for n_in in (before, channels):
                # Groups of channels of one volume: a batch mixes microscopes.
                norm = nn.GroupNorm(32, channels)
                layers += [nn.Conv3d(n_in, channels, 3, padding=1, bias=False), norm, nn.LeakyReLU(inplace=True)]
            layers.append(nn.AdaptiveMaxPool3d(1) if channels == last else nn.MaxPool3d(2))
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(last, last), nn.LeakyReLU(), nn.Linear(last, embedding_dim))
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32 of length 1."""
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        return F.normalize(self.head(features.flatten(1)).float(), dim=-1)

    folded = deepcopy  # nothing can be folded: the norms depend on the volume


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over violated triplets: each pair of a class with its semi-hard negative (Schroff et al. 2015).

    That is the nearest one that is farther than the pair's distance; where there is none, the farthest of all.
    """
    directions = F.normalize(embeddings.float(), dim=-1)
    distances = 2 - 2 * directions @ directions.T
    same = labels[:, None] == labels
    others = distances.masked_fill(same, torch.inf)[:, None].expand(-1, len(labels), -1)
    negatives = others.masked_fill(others <= distances[:, :, None], torch.inf).amin(-1)
    farthest = distances.masked_fill(same, -torch.inf).amax(1, keepdim=True)
    negatives = torch.where(negatives.isinf(), farthest, negatives)
    losses = F.relu(distances - negatives + MARGIN)[same & ~torch.eye(len(labels), dtype=bool, device=labels.device)]
    return losses.sum() / (losses > 0).sum().clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class PeerTraining:
    """A training on samples of the simulator, and its nearest prototypes on the tasks of the peers.

    training : classes, samples and schedule, those of the pretrained encoder
    network : 'TomoTwin', of `width`, or 'pooled', the pretrained encoder's architecture
    loss : 'triplets' of samples, or 'classes', the pretrained encoder's
    """

    training: Pretraining
    network: str
    loss: str
    width: int = 64
    n_episodes: int = 300

    @property
    def settings(self) -> dict[str, object]:
        """What the tasks are made of."""
        return {"margin": MARGIN, "classes": test_classes(), "n_per_class": DATA.n_per_class}

    def run(self, runner: Runner) -> dict:
        """Result: `tasks`, of each SNR and number of labels what `PeerEvaluation` returns; `parameters`; `accuracies`
        on the selection classes and `losses` after each epoch; `seconds` of training.
        """
        torch.manual_seed(seed_from("weights", self.training.seed) % 2**31)
        encoder, history = train(
            self.training,
            runner.store.path(self, ".checkpoint"),
            after_checkpoint=runner.check_time,
            device=runner.device,
            encoder=TomoTwin(self.training.box, self.width) if self.network == "TomoTwin" else None,
            loss=triplet_loss if self.loss == "triplets" else None,
        )
        pretrained, tasks = Pretrained(encoder.cpu(), {}), {}
        for snr, n_shot in product(PAPER_SNRS, PAPER_SHOTS):
            cell = PeerEvaluation(
                method=PROTOTYPE, data=DATA, classes=test_classes(), snr=snr, n_shot=n_shot, n_episodes=self.n_episodes
            )
            tasks[f"SNR {snr:g}, {n_shot} labels"] = cell.run(runner, pretrained)
        n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
        return {"tasks": tasks, "parameters": n_parameters, **vars(history)}


def peer_training(network: str, loss: str, n_volumes: int, width: int = 64) -> PeerTraining:
    """On the samples of the pretrained encoder's first training, at a constant rate, which any length can end.

    n_volumes : hundreds; an epoch, after which a training can be stopped, has 10,000, of short trainings a fifth
    """
    n_steps = n_volumes // VOLUMES_PER_STEP
    per_epoch = min(100, max(1, n_steps // 5))
    schedule = Schedule(n_epochs=n_steps // per_epoch, steps_per_epoch=per_epoch, learning_rate=RATES[network, loss])
    training = replace(pretrained_spec(), schedule=schedule, n_selection_samples=20)
    if network != "TomoTwin":
        return PeerTraining(training=training, network=network, loss=loss)
    # In bfloat16, gradients of its convolutions over 2x2x2 voxels were not finite.
    return PeerTraining(training=replace(training, precision="fp32"), network=network, loss=loss, width=width)


def trained_rows(store: Store) -> dict[str, dict]:
    """Entries of all trainings that were run, by the name of their row, the longest first."""
    rows = {}
    for entry in store.entries("peertraining"):
        width, n_volumes = entry["spec"]["width"], n_volumes_of(entry)
        network = "our network, our loss" if entry["spec"]["loss"] == "classes" else "our network, triplet loss"
        if entry["spec"]["network"] == "TomoTwin":
            network = f"TomoTwin's network{SHARES.get(width, f', width {width}')}"
        rows[-n_volumes, f"{network}, {n_volumes:,} volumes"] = entry
    return {name: rows[length, name] for length, name in sorted(rows)}


def n_volumes_of(entry: dict) -> int:
    """Volumes of a training."""
    schedule = entry["spec"]["training"]["schedule"]
    return schedule["n_epochs"] * schedule["steps_per_epoch"] * VOLUMES_PER_STEP


def tasks_of(entry: dict, snr: float, n_shot: int) -> dict:
    """Of a training's entry the part on some tasks, as an entry of `PeerEvaluation` has it."""
    return {"result": entry["result"]["tasks"][f"SNR {snr:g}, {n_shot} labels"]}
