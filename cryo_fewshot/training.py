"""The training loop, with validation, model selection and checkpoints to resume from; the loss of an episode."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from .files import write_atomically
from .hashing import ADDED_LATER


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; Adam with betas (0.9, 0.999) throughout.

    n_epochs : at most; steps_per_epoch : episodes (or batches) between two validations;
    halve_every : epochs between halvings of the rate, 0 for never; patience : epochs without a better validation
    accuracy before stopping, 0 for never stopping early; min_epochs : no stop before so many.
    """

    n_epochs: int
    steps_per_epoch: int
    learning_rate: float = 1e-4
    halve_every: int = 0
    patience: int = 0
    min_epochs: int = field(default=0, metadata=ADDED_LATER)

    @property
    def n_steps(self) -> int:
        """Of the whole training, if nothing stops it early."""
        return self.n_epochs * self.steps_per_epoch

    def is_over(self, epoch: int, best_epoch: int) -> bool:
        """Whether training stops before an epoch, the best one so far being known."""
        return bool(self.patience) and epoch >= self.min_epochs and epoch - best_epoch > self.patience


@dataclass
class History:
    """Validation accuracy and mean training loss after each epoch, and the seconds spent so far."""

    accuracies: list[float]
    losses: list[float]
    seconds: float = 0.0

    @property
    def best_epoch(self) -> int:
        """Epoch of the selected model; the earliest of equals."""
        return max(range(len(self.accuracies)), key=lambda epoch: self.accuracies[epoch])


def episode_loss(logits: torch.Tensor) -> torch.Tensor:
    """Loss of one or several episodes (Equation 3): the mean of -log p(true class) over all queries.

    logits : `(..., n_way * n_query, n_way)`, queries class by class in the order of the ways, as in `Episodes.query`
    """
    n_way = logits.shape[-1]
    ways = torch.arange(n_way, device=logits.device).repeat_interleave(logits.shape[-2] // n_way)
    return F.cross_entropy(logits.flatten(0, -2), ways.repeat(logits.shape[:-2].numel()))


def fit(
    model: nn.Module,
    epoch_losses: Callable[[int], Iterable[torch.Tensor]],
    validate: Callable[[], float],
    schedule: Schedule,
    checkpoint: Path | None = None,
    progress: Callable[[int], object] = lambda n_steps: None,
    after_checkpoint: Callable[[], object] = lambda: None,
) -> History:
    """Train `model` in place and leave it in the state with the best validation accuracy, in evaluation mode.

    Parameters
    ----------
    epoch_losses : yields the loss of each step of an epoch; what it draws must follow from the epoch's number alone,
        so that a resumed run equals an uninterrupted one bit for bit
    validate : accuracy of the model as it stands, between 0 and 1
    checkpoint : written after every epoch, read at the start where it exists, left for the caller to remove
    after_checkpoint : called once an epoch is safe; may raise to end the training there
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.999))
    history, best = History([], []), None
    if checkpoint is not None and (resumed := _read_checkpoint(checkpoint, model, optimizer)):
        history, best = resumed
        progress(len(history.losses) * schedule.steps_per_epoch)
    for epoch in range(len(history.losses), schedule.n_epochs):
        if history.losses and schedule.is_over(epoch, history.best_epoch):
            progress((schedule.n_epochs - epoch) * schedule.steps_per_epoch)
            break
        started = time.perf_counter()
        rate = schedule.learning_rate * (0.5 ** (epoch // schedule.halve_every) if schedule.halve_every else 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        losses = []
        for loss in epoch_losses(epoch):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            progress(1)
        model.eval()
        history.accuracies.append(validate())
        history.losses.append(torch.stack(losses).mean().item())
        if history.best_epoch == epoch:
            best = {name: value.clone() for name, value in model.state_dict().items()}
        history.seconds += time.perf_counter() - started
        if checkpoint is not None:
            _write_checkpoint(checkpoint, model, optimizer, history, best)
        after_checkpoint()
    model.load_state_dict(best)
    model.eval()
    return history


def _write_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Adam, history: History, best: dict) -> None:
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if history.best_epoch + 1 < len(history.losses):  # else it is the model itself
        tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    # Safetensors stores plain row-major tensors; channels-last ones are laid out anew on loading.
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(tensors, metadata={"history": json.dumps(vars(history))}))


def _read_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Adam) -> tuple[History, dict] | None:
    if not path.exists():
        return None
    groups: dict[str, dict[str, torch.Tensor]] = {"model": {}, "best": {}, "adam": {}}
    try:
        with safe_open(path, framework="pt") as file:
            history = History(**json.loads(file.metadata()["history"]))
            for name in file.keys():
                kind, rest = name.split(".", 1)
                groups[kind][rest] = file.get_tensor(name)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None  # damaged: train from the start
    # Compared first: loading what fits only in part would change the model before it fails.
    if _shapes(groups["model"]) != _shapes(model.state_dict()):
        return None  # of another model
    model.load_state_dict(groups["model"])
    parameters = list(model.parameters())
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in groups["adam"].items():
        index, entry = name.split(".", 1)
        if value.dim():
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    device = parameters[0].device
    best = groups["best"] or groups["model"]
    return history, {name: value.to(device) for name, value in best.items()}


def _shapes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


class DeadlineReached(Exception):
    """The time allowed is over; what was computed is stored, and the same command goes on from there."""
