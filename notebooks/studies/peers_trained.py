"""TomoTwin's architecture and loss on this simulator, beside the pretrained encoder's on as many volumes.

Written from the description in Rice et al., Nature Methods 20, 871 (2023); their code and weights play no part.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from cryo_fewshot.device import autocast
from cryo_fewshot.evaluation import mean_accuracy
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.pretraining import (
    CosineClassifier,
    Pretraining,
    new_encoder,
    pretrained_spec,
    selection_tasks,
    simulated_batch,
)
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.training import Schedule

from .open_world import Pretrained
from .peers import DATA, PROTOTYPE, PeerEvaluation, test_classes

MARGIN = 0.2
RATES = {("TomoTwin", "triplets"): 3e-4, ("pooled", "triplets"): 3e-3, ("pooled", "classes"): 3e-3}
"""Learning rates. Of the first, 1e-3, 3e-4 and 1e-4 were tried at half the width over 6,000 volumes, of the second 3e-3
and 1e-3, on the selection classes; the third is that of the recipe.
"""


class TomoTwin(nn.Module):
    """Five blocks of two convolutions 3x3x3, each normalised and through a leaky ReLU, pooled; a head to 32 numbers.

    width : channels of the first block, 64 in the paper; each block has twice those of the one before
    """

    def __init__(self, box: int = 20, width: int = 64, embedding_dim: int = 32):
        super().__init__()
        self.box, self.embedding_dim = box, embedding_dim
        widths = [width * 2**i for i in range(5)]
        layers = []
        for before, channels in zip([1, *widths[:-1]], widths, strict=True):
            for n_in in (before, channels):
                # Groups of channels of one volume: a batch mixes microscopes.
                norm = nn.GroupNorm(32, channels)
                layers += [nn.Conv3d(n_in, channels, 3, padding=1, bias=False), norm, nn.LeakyReLU(inplace=True)]
            layers.append(nn.MaxPool3d(2) if channels < widths[-1] else nn.AdaptiveMaxPool3d(1))
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(widths[-1], widths[-1]), nn.LeakyReLU(), nn.Linear(widths[-1], embedding_dim)
        )
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32 of length 1."""
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        return F.normalize(self.head(features.flatten(1)).float(), dim=-1)

    def folded(self) -> "TomoTwin":
        """A copy, as nothing can be folded: the norms depend on the volume."""
        return deepcopy(self)


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over violated triplets of pairs of a class, each with its semi-hard negative (Schroff et al. 2015).

    That is the nearest one that is farther than the pair's distance; where there is none, the farthest of all.
    """
    distances = 2 - 2 * embeddings @ embeddings.T
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

    @property
    def schedule(self) -> Schedule:
        """Of the training."""
        return self.training.schedule

    @property
    def title(self) -> str:
        """What a progress bar calls the training."""
        return f"training {self.network}, {self.loss}"

    def run(self, runner: Runner) -> dict:
        """Result: `tasks`, of each SNR and number of labels what `PeerEvaluation` returns; `parameters`; `accuracies`
        on the selection classes and `losses` after each epoch; `seconds` of training.
        """
        spec, device = self.training, runner.device
        torch.manual_seed(seed_from("weights", spec.seed) % 2**31)
        encoder = TomoTwin(spec.box, self.width) if self.network == "TomoTwin" else new_encoder(spec)
        model = nn.ModuleDict({"encoder": encoder})
        if self.loss == "classes":
            model["classifier"] = CosineClassifier(encoder.embedding_dim, len(spec.classes))
        model.to(device)
        volumes, checked = selection_tasks(spec, device)

        def losses(epoch: int) -> Iterator[torch.Tensor]:
            first = epoch * spec.schedule.steps_per_epoch
            for step in range(first, first + spec.schedule.steps_per_epoch):
                batch, labels = simulated_batch(spec, step, device)
                with autocast(device, spec.precision):
                    embeddings = encoder(batch)
                if self.loss == "classes":
                    yield F.cross_entropy(model["classifier"](embeddings), labels)
                else:
                    yield triplet_loss(F.normalize(embeddings.float(), dim=-1), labels)

        def validate() -> float:
            return mean_accuracy(unit_embeddings(encoder, volumes, spec.precision), checked, prototype_logits)

        history = runner.fit(self, model, losses, validate, spec.volumes_per_step)
        pretrained, tasks = Pretrained(encoder.cpu(), {}), {}
        for n_shot, snr in product(PAPER_SHOTS, PAPER_SNRS):
            cell = PeerEvaluation(
                method=PROTOTYPE, data=DATA, classes=test_classes(), snr=snr, n_shot=n_shot, n_episodes=self.n_episodes
            )
            tasks[f"SNR {snr:g}, {n_shot} labels"] = cell.run(runner, pretrained)
        n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
        return {"tasks": tasks, "parameters": n_parameters, **vars(history)}


def peer_training(network: str, loss: str, n_volumes: int, width: int = 64) -> PeerTraining:
    """On the samples of the pretrained encoder's first training, at a constant rate, which any length can end."""
    schedule = Schedule(n_epochs=n_volumes // 1000, steps_per_epoch=10, learning_rate=RATES[network, loss])
    training = replace(pretrained_spec(), schedule=schedule, n_selection_samples=20)
    return PeerTraining(training=training, network=network, loss=loss, width=width)
