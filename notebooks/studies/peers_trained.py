"""TomoTwin's architecture and loss on this simulator, beside the pretrained encoder's on as many volumes.

Written from the description in Rice et al., Nature Methods 20, 871 (2023); their code and weights play no part.
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F

from cryo_fewshot.errors import UserError
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.pretraining import Pretraining, pretrained_spec, train
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, Trained
from cryo_fewshot.training import Schedule

from .peers import DATA, PROTOTYPE, PeerEvaluation, test_classes
from .pretrained import Pretrained

MARGIN, RATE = 0.539, 5.945e-5
"""Margin, of cosines, and learning rate of TomoTwin's released settings."""
RATES = {("TomoTwin", "triplets"): RATE, ("pooled", "triplets"): 3e-3, ("pooled", "classes"): 3e-3}
"""Learning rates: of our network that of the pretrained encoder's recipe."""
COLLAPSED = 1e-4
"""All embeddings are equal where the loss is this close to the margin."""
OF_PRETRAINED = 480_000
"""Volumes that the pretrained encoder was trained on."""
VOLUMES_PER_STEP = pretrained_spec().volumes_per_step
SHARES = {64: "", 32: ", half as wide"}
"""What a row says of the width of TomoTwin's network."""


class TomoTwin(nn.Module):
    """Five blocks of two convolutions 3x3x3, each normalised and through a leaky ReLU; a head to 32 numbers.

    Maps are halved until 2x2x2 voxels are left, as theirs have before the head. Unlike theirs: convolutions keep the
    size, as the boxes are 20x20x20 and not 37x37x37; no dropout, as no sample is seen twice.

    width : channels of the first block, 64 in the paper; each block has twice those of the one before
    """

    def __init__(self, box: int = 20, width: int = 64, embedding_dim: int = 32):
        super().__init__()
        self.box, self.embedding_dim = box, embedding_dim
        *_, last = widths = [width * 2**i for i in range(5)]
        layers, size = [], box
        for before, channels in zip([1, *widths[:-1]], widths, strict=True):
            for n_in in (before, channels):
                # Groups of channels of one volume: a batch mixes microscopes.
                norm = nn.GroupNorm(min(64, channels), channels)
                layers += [nn.Conv3d(n_in, channels, 3, padding=1, bias=False), norm, nn.LeakyReLU(inplace=True)]
                nn.init.kaiming_normal_(layers[-3].weight)
            if size >= 4:
                layers.append(nn.MaxPool3d(2))
                size //= 2
        self.blocks = nn.Sequential(*layers, nn.AdaptiveMaxPool3d(2))
        hidden = [nn.Linear(8 * last, 2 * last), nn.LeakyReLU(), nn.Linear(2 * last, 2 * last), nn.LeakyReLU()]
        self.head = nn.Sequential(*hidden, nn.Linear(2 * last, embedding_dim))
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embed volumes `(n, box, box, box)` as `(n, embedding_dim)` float32 of length 1."""
        features = self.blocks(volumes[:, None].contiguous(memory_format=torch.channels_last_3d))
        return F.normalize(self.head(features.flatten(1)).float(), dim=-1)

    folded = deepcopy  # nothing can be folded: the norms depend on the volume


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over semi-hard triplets: a pair of a class, a sample of another that is less like by up to the margin.

    Pairs without such a sample have no part. With their farthest one in its place, and a margin of 0.2 between squared
    distances, all embeddings became equal.
    """
    directions = F.normalize(embeddings.float(), dim=-1)
    cosines = directions @ directions.T
    same = labels[:, None] == labels
    pairs = same & ~torch.eye(len(labels), dtype=bool, device=labels.device)
    gaps = cosines[:, :, None] - cosines[:, None]
    semi_hard = pairs[:, :, None] & ~same[:, None] & (gaps >= 0) & (gaps < MARGIN)
    return (MARGIN - gaps)[semi_hard].sum() / semi_hard.sum().clamp(min=1)


class Watched:
    """`triplet_loss` that refuses to go on, after an epoch, where nothing is learnt.

    runner : its deadline is checked thereafter
    """

    def __init__(self, runner: Runner):
        self.runner, self.losses = runner, []

    def __call__(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = triplet_loss(embeddings, labels)
        self.losses.append(loss.detach())
        return loss

    def after_epoch(self) -> None:
        """Raises `UserError` where the mean loss of the epoch is the margin."""
        if self.losses and (mean := float(torch.stack(self.losses).mean())) > MARGIN - COLLAPSED:
            raise UserError(
                f"the loss of {len(self.losses)} steps is {mean:.5f}, its margin: all embeddings are equal and nothing "
                "is learnt; give a lower --rate"
            )
        self.losses.clear()
        self.runner.check_time()


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

    def run(self, runner: Runner) -> Trained:
        """The weights, and as result: `tasks`, of each SNR and number of labels what `PeerEvaluation` returns;
        `parameters`; `accuracies` on the selection classes and `losses` after each epoch; `seconds` of training.
        """
        torch.manual_seed(seed_from("weights", self.training.seed) % 2**31)
        watched = Watched(runner)
        encoder, history = train(
            self.training,
            runner.store.path(self, ".checkpoint"),
            after_checkpoint=watched.after_epoch,
            device=runner.device,
            encoder=TomoTwin(self.training.box, self.width) if self.network == "TomoTwin" else None,
            loss=watched if self.loss == "triplets" else None,
        )
        pretrained, tasks = Pretrained(encoder.cpu(), {}), {}
        for snr, n_shot in product(PAPER_SNRS, PAPER_SHOTS):
            cell = PeerEvaluation(
                method=PROTOTYPE, data=DATA, classes=test_classes(), snr=snr, n_shot=n_shot, n_episodes=self.n_episodes
            )
            tasks[f"SNR {snr:g}, {n_shot} labels"] = cell.run(runner, pretrained)
        n_parameters = sum(parameter.numel() for parameter in encoder.parameters())
        result = {"tasks": tasks, "parameters": n_parameters, **vars(history)}
        return Trained(result, encoder.state_dict(), history.seconds)


def peer_training(network: str, loss: str, n_volumes: int, width: int = 64, rate: float | None = None) -> PeerTraining:
    """On the samples of the pretrained encoder's first training, at a constant rate, which any length can end.

    n_volumes : hundreds; an epoch, after which a training can be stopped, has 10,000, of short trainings 1,000 or 100
    rate : of learning, instead of that of `RATES`
    """
    n_steps = n_volumes // VOLUMES_PER_STEP
    per_epoch = 100 if n_steps >= 500 else 10 if n_steps >= 50 else 1
    rate = rate or RATES[network, loss]
    schedule = Schedule(n_epochs=n_steps // per_epoch, steps_per_epoch=per_epoch, learning_rate=rate)
    training = replace(pretrained_spec(), schedule=schedule, n_selection_samples=20)
    if network != "TomoTwin":
        return PeerTraining(training=training, network=network, loss=loss)
    # In bfloat16, gradients of its convolutions over 2x2x2 voxels were not finite.
    return PeerTraining(training=replace(training, precision="fp32"), network=network, loss=loss, width=width)


def trained_rows(store: Store) -> dict[str, dict]:
    """Entries of all trainings that were run, by the name of their row, the longest first."""
    rows = {}
    for entry in store.entries("peertraining"):
        spec, n_volumes = entry["spec"], n_volumes_of(entry)
        width, rate = spec["width"], spec["training"]["schedule"]["learning_rate"]
        network = "our network, our loss" if spec["loss"] == "classes" else "our network, triplet loss"
        if spec["network"] == "TomoTwin":
            network = f"TomoTwin's network{SHARES.get(width, f', width {width}')}"
        if rate != RATES[spec["network"], spec["loss"]]:
            network += f", rate {rate:g}"
        rows[-n_volumes, f"{network}, {n_volumes:,} volumes"] = entry
    return {name: rows[length, name] for length, name in sorted(rows)}


def n_volumes_of(entry: dict) -> int:
    """Volumes of a training."""
    schedule = entry["spec"]["training"]["schedule"]
    return schedule["n_epochs"] * schedule["steps_per_epoch"] * VOLUMES_PER_STEP


def tasks_of(entry: dict, snr: float, n_shot: int) -> dict:
    """Of a training's entry the part on some tasks, as an entry of `PeerEvaluation` has it."""
    return {"result": entry["result"]["tasks"][f"SNR {snr:g}, {n_shot} labels"]}
