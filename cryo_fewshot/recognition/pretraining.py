"""Training on samples that are simulated on the fly, and the recipe of the pretrained encoder.

Simulation is as fast as the encoder, so no volume is needed twice: the network learns the complex, not a hundred images
of it. What an epoch draws follows from its number alone, so a training that was stopped resumes bit for bit.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from ..device import autocast, default_device, keep_freed_memory
from ..encoder import Encoder3D, PooledEncoder3D
from ..episodes import Episodes, sample_episodes
from ..errors import UserError
from ..evaluation import mean_accuracy
from ..hashing import ADDED_LATER, digest_of
from ..protonet import prototype_logits
from ..randomness import seed_from
from ..simulation.microscope import Microscope
from ..simulation.on_the_fly import WIDE, Acquisitions, homologous_family, library_classes, simulate_on_the_fly
from ..simulation.surroundings import BACKGROUND, Surroundings
from ..training import History, Schedule, episode_loss, fit
from ..weights import AnyEncoder
from .calibration import tuples_of
from .embedding_cache import unit_embeddings


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One training on samples that are simulated on the fly.

    classes : to train on; selection : to select the model on, and to calibrate with; test : held out from
    both. No class is homologous to one in another role.
    group_size : samples of a step that share microscope and SNR; their classes are mixed
    objective : 'classes', a cosine classifier over all training classes, or 'episodes', ProtoNet3D's
    n_way, n_shot, n_query : classes of a step and samples of each; 'classes' does not tell support from query
    architecture : 'pooled' (`PooledEncoder3D`) or 'paper' (`Encoder3D` with blocks for the box)
    widths : channels of a 'pooled' encoder; empty for those that suit the box
    start : digest of the weights that training starts from; empty for random ones
    start_share : of the starting weights in the final ones, the rest is what was learnt (Wortsman et al. 2022): keeps
    what the first training was good at
    """

    classes: tuple[str, ...]
    selection: tuple[str, ...]
    test: tuple[str, ...]
    acquisitions: Acquisitions = field(default_factory=Acquisitions)
    group_size: int = 25
    objective: str = "classes"
    n_way: int = 20
    n_shot: int = 1
    n_query: int = 4
    architecture: str = "pooled"
    schedule: Schedule
    n_selection_samples: int = 60
    n_selection_episodes: int = 300
    precision: str = "bf16"
    seed: int = 0
    widths: tuple[int, ...] = field(default=(), metadata=ADDED_LATER)
    start: str = field(default="", metadata=ADDED_LATER)
    start_share: float = field(default=0.0, metadata=ADDED_LATER)

    def __post_init__(self):
        if self.objective not in ("classes", "episodes"):
            raise UserError(f"objective '{self.objective}' is unknown: use 'classes' or 'episodes'")
        if self.architecture not in ("pooled", "paper"):
            raise UserError(f"architecture '{self.architecture}' is unknown: use 'pooled' or 'paper'")
        if not 0 <= self.start_share < 1 or (self.start_share and not self.start):
            raise UserError(f"start_share={self.start_share}: give a share below 1, and an encoder to start from")
        if self.n_way > len(self.classes):
            raise UserError(f"n_way={self.n_way}, but there are {len(self.classes)} training classes: lower n_way")
        if len(self.selection) < 2:
            raise UserError(f"{len(self.selection)} classes to select the model on: give at least 2")
        around = self.acquisitions.surroundings
        learnt_from = (*self.classes, *(around.complexes if around else ()))
        for held_out in (self.selection, self.test):
            known = {homologous_family(name): name for name in held_out}
            if shared := [name for name in learnt_from if homologous_family(name) in known]:
                relative = known[homologous_family(shared[0])]
                raise UserError(f"training class '{shared[0]}' is of the family of held-out '{relative}': remove it")

    @property
    def box(self) -> int:
        return self.acquisitions.microscope.final_box

    @property
    def volumes_per_step(self) -> int:
        return self.n_way * (self.n_shot + self.n_query)

    @property
    def cost(self) -> int:
        """Volumes of the whole training: the unit of progress."""
        return self.volumes_per_step * self.schedule.n_steps


CALIBRATION_CLASSES = (
    *("1PMA", "3IPM", "1BXN", "3ZBI", "1F4A", "6DVW", "6RKW"),
    *("2CG9", "5SUQ", "7N4Y", "2IPC", "4J7C", "1EFW"),
)
"""Twelve families: with fewer, the promised false-positive rate was exceeded on further classes."""
TEST_CLASSES = ("3KUY", "1OEL", "1HTQ", "4NMN", "3M6A", "1QVR", "1E0T", "3UWX")
"""The test classes of Table 1, so that the pretrained encoder's accuracy stands beside the paper's methods."""
CELLS = {"neighbours": 0.5, "membranes": 0.15}
"""Shares of samples of the second training, settings of `Surroundings`; membrane and crowd are two further classes."""


def pretrained_spec(n_epochs: int = 40) -> Pretraining:
    """The first training of the pretrained encoder, complexes alone in their boxes; `trained_on` is the second.

    On the library without the held-out classes and their homologues.
    """
    return Pretraining(
        classes=library_classes(CALIBRATION_CLASSES + TEST_CLASSES),
        selection=CALIBRATION_CLASSES,
        test=TEST_CLASSES,
        acquisitions=WIDE,
        schedule=Schedule(
            n_epochs=n_epochs,
            steps_per_epoch=100,
            learning_rate=3e-3,
            halve_every=max(1, n_epochs // 5),
        ),
    )


def in_cells(spec: Pretraining, **settings: object) -> Pretraining:
    """The spec with surroundings made of its own training classes, and with membranes and crowds among the classes.

    settings : of `Surroundings`
    """
    complexes = tuple(name for name in spec.classes if name not in BACKGROUND)
    acquisitions = replace(
        spec.acquisitions,
        microscope=replace(spec.acquisitions.microscope, bead_grid_nm=1.05),  # one grid for all magnifications
        surroundings=Surroundings(complexes=complexes, **settings),
    )
    classes = (*spec.classes, *(name for name in BACKGROUND if name not in spec.classes))
    return replace(spec, classes=classes, acquisitions=acquisitions)


def trained_on(first: Pretraining, weights: str) -> Pretraining:
    """The second training of the pretrained encoder: what the first one learnt, met among neighbours and membranes.

    weights : digest of those of the first training, which keep a share in the result
    """
    gentle = Schedule(n_epochs=8, steps_per_epoch=100, learning_rate=1e-3, halve_every=2)
    return replace(in_cells(first, **CELLS), schedule=gentle, start=weights, start_share=0.3)


def spec_of(card: dict[str, Any]) -> Pretraining:
    """The spec that a card holds; UserError where it holds none."""
    try:
        return _from_plain(Pretraining, card["spec"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"the encoder's card does not say how it was trained ({error}); give another encoder"
        ) from error


_PARTS = {"acquisitions": Acquisitions, "schedule": Schedule, "microscope": Microscope, "surroundings": Surroundings}


def _from_plain(kind: type, content: dict[str, Any]) -> Any:
    """A dataclass from its `spec_dict`."""
    fields = {name: value for name, value in content.items() if name != "type"}
    return kind(
        **{
            name: _from_plain(_PARTS[name], value) if name in _PARTS and value else tuples_of(value)
            for name, value in fields.items()
        }
    )


def simulated_batch(
    spec: Pretraining, step: int, device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples of one step: volumes `(n, box, box, box)` and labels into spec.classes `(n,)`, class by class.

    Seeds follow from spec.seed and the step's number; no two steps share a sample.
    """
    rng = np.random.default_rng(seed_from("fresh", spec.seed, step))
    labels = np.repeat(rng.choice(len(spec.classes), spec.n_way, replace=False), spec.n_shot + spec.n_query)
    names = [spec.classes[label] for label in labels]
    volumes = simulate_on_the_fly(names, spec.acquisitions, rng, spec.group_size, device)
    return volumes, torch.from_numpy(labels).to(device)


class CosineClassifier(nn.Module):
    """Logits proportional to the cosine between an embedding and one direction per class; the factor is learnt.

    It asks for directions, so nearest means of unit vectors need no further fitting on new classes.
    """

    def __init__(self, dim: int, n_classes: int, scale: float = 10.0):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(n_classes, dim) * dim**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(scale).log())

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Embeddings `(n, dim)` -> logits `(n, n_classes)`."""
        cosines = F.normalize(embeddings, dim=-1) @ F.normalize(self.directions, dim=-1).T
        return self.log_scale.exp() * cosines


def new_encoder(spec: Pretraining) -> AnyEncoder:
    """The encoder of a spec with initial weights that follow from its seed."""
    torch.manual_seed(seed_from("weights", spec.seed) % 2**31)
    if spec.architecture == "paper":
        return Encoder3D(spec.box, n_blocks=4 if spec.box >= 32 else 3)
    widths = spec.widths or ((32, 64, 128) if spec.box < 32 else (32, 64, 64, 128))
    return PooledEncoder3D(spec.box, widths=widths)


def train(
    spec: Pretraining,
    checkpoint: Path | None = None,
    progress: Callable[[int], object] = lambda n_steps: None,
    after_checkpoint: Callable[[], object] = lambda: None,
    device: torch.device | None = None,
    start: AnyEncoder | None = None,
    encoder: AnyEncoder | None = None,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
) -> tuple[AnyEncoder, History]:
    """Train the encoder of a spec; it ends in the state that is best on the selection classes, see `training.fit`.

    start : the encoder whose digest `spec.start` is
    encoder, loss : to train in the place of the spec's; the loss of embeddings and labels in that of its objective
    """
    device = device or default_device()
    keep_freed_memory()
    encoder = encoder or new_encoder(spec)
    if spec.start:
        if start is None or digest_of(*start.state_dict().values()) != spec.start:
            raise UserError(f"this training starts from the encoder with weights {spec.start}: give that one")
        encoder.load_state_dict(start.state_dict())
    encoder = encoder.to(device)
    model = nn.ModuleDict({"encoder": encoder})
    if loss is None and spec.objective == "classes":
        model["classifier"] = CosineClassifier(encoder.embedding_dim, len(spec.classes)).to(device)
        if spec.start:
            model["classifier"].directions.data.copy_(_class_means(spec, encoder, device))
    volumes, checked = _selection(spec, device)

    def losses(epoch: int) -> Iterator[torch.Tensor]:
        first = epoch * spec.schedule.steps_per_epoch
        for batch, labels in _batches(spec, range(first, first + spec.schedule.steps_per_epoch), device):
            with autocast(device, spec.precision):
                embeddings = encoder(batch)
            if loss is not None:
                yield loss(embeddings, labels)
            elif spec.objective == "classes":
                yield F.cross_entropy(model["classifier"](embeddings), labels)
            else:
                yield _episode_loss(embeddings, spec)

    def validate() -> float:
        embeddings = unit_embeddings(encoder, volumes, spec.precision)
        return mean_accuracy(embeddings, checked, prototype_logits)

    history = fit(model, losses, validate, spec.schedule, checkpoint, progress, after_checkpoint)
    if spec.start_share:
        mix_weights(encoder, start, spec.start_share)
    return encoder, history


def _batches(
    spec: Pretraining, steps: range, device: torch.device, n_ahead: int = 2
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`simulated_batch` of each step, the next ones simulated by threads meanwhile; no bit depends on that."""
    with ThreadPoolExecutor(n_ahead) as threads:
        waiting = [threads.submit(simulated_batch, spec, step, device) for step in steps[:n_ahead]]
        for step in steps:
            batch = waiting.pop(0).result()
            if step + n_ahead in steps:
                waiting.append(threads.submit(simulated_batch, spec, step + n_ahead, device))
            yield batch


def _class_means(spec: Pretraining, encoder: AnyEncoder, device: torch.device, n_per_class: int = 12) -> torch.Tensor:
    """Mean unit embeddings `(n_classes, dim)`: directions that a trained encoder's classifier starts from."""
    names = [name for name in spec.classes for _ in range(n_per_class)]
    rng = np.random.default_rng(seed_from("directions", spec.seed))
    volumes = simulate_on_the_fly(names, spec.acquisitions, rng, spec.group_size, device)
    return unit_embeddings(encoder.eval(), volumes).unflatten(0, (-1, n_per_class)).mean(1)


def mix_weights(encoder: AnyEncoder, other: AnyEncoder, share: float) -> None:
    """Move the weights of an encoder, and the running means of its layers, by a share towards another's."""
    theirs = other.state_dict()
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():
            value.lerp_(theirs[name].to(value.device), share)


def _episode_loss(embeddings: torch.Tensor, spec: Pretraining) -> torch.Tensor:
    """Equation 3, on embeddings in the order of `simulated_batch`."""
    by_class = embeddings.unflatten(0, (spec.n_way, -1))
    support, queries = by_class[:, : spec.n_shot], by_class[:, spec.n_shot :].flatten(0, 1)
    return episode_loss(prototype_logits(support, queries))


def _selection(spec: Pretraining, device: torch.device) -> tuple[torch.Tensor, Episodes]:
    """Volumes of the selection classes under the training's acquisitions, and 3-shot tasks among them."""
    rng = np.random.default_rng(seed_from("selection", spec.seed))
    labels = np.repeat(np.arange(len(spec.selection)), spec.n_selection_samples)
    names = [spec.selection[label] for label in labels]
    volumes = simulate_on_the_fly(names, spec.acquisitions, rng, spec.group_size, device)
    n_query = min(15, spec.n_selection_samples - 3)
    checked = sample_episodes(
        labels,
        range(len(spec.selection)),
        n_way=min(5, len(spec.selection)),
        n_shot=3,
        n_query=n_query,
        n_episodes=spec.n_selection_episodes,
        seed=seed_from("selection episodes", spec.seed),
        class_names=spec.selection,
    )
    return volumes, checked


def progress_bar(total: int, show: bool) -> tqdm:
    return tqdm(total=total, unit=" volumes", disable=not show, mininterval=1, smoothing=0.05, desc="training")
