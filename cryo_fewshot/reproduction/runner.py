"""Carries out specs, each once: time, progress, deadline, checkpoints; volumes and embeddings stay in memory."""

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..adaptation import Adaptation
from ..device import autocast, default_device, keep_freed_memory
from ..encoder import Encoder3D, embed
from ..subtomograms import SubtomogramSet
from ..training import DeadlineReached, History, fit
from .cells import Cell
from .evaluation_specs import Evaluation
from .profiles import profile_named
from .store import Store, Trained, results_folder
from .training_specs import AdaptationRun, EncoderRun


def open_runner(profile: str, **settings) -> "Runner":
    """The runner that keeps its results where the notebooks and the book look for them."""
    return Runner(Store(results_folder(profile_named(profile).name)), **settings)


class Runner:
    """Runs specs on one device and keeps what came out in one store: `entry = runner(spec)`.

    A spec is a frozen dataclass whose content names its result, with a method `run(runner, *inputs)` that returns the
    result as plain data, or a `Trained` where there are tensors to keep.

    store : where results lie
    device : default the GPU where there is one
    show_progress : a bar of training volumes with the time left
    deadline : on the clock of `time.monotonic`; past it, `DeadlineReached` is raised once what was finished is stored
    """

    def __init__(
        self,
        store: Store,
        device: torch.device | None = None,
        show_progress: bool = False,
        deadline: float | None = None,
    ):
        self.store = store
        self.deadline = deadline
        self.device = device or default_device()
        self.show_progress = show_progress
        self._bar: tqdm | None = None
        # The last few stay in memory.
        self._subtomograms, self.embedded = lru_cache(4)(self._subtomograms), lru_cache(16)(self.embedded)
        keep_freed_memory()

    def __call__(self, spec: Any, *inputs, run: Callable | None = None, with_tensors: bool = False) -> dict:
        """The entry of a spec {spec, result, provenance}, from the store or else computed and stored.

        inputs : what the spec names by a digest only, such as an encoder or a user's particles; handed to `spec.run`
        run : `run(spec, runner)` in the place of the method, for specs of a wing that knows no runner
        with_tensors : the entry holds the `tensors` of a training
        """
        entry = self.store.get(spec, with_tensors)
        if entry is None:
            self.describe(getattr(spec, "title", type(spec).__name__))
            started = time.perf_counter()
            found = (run or type(spec).run)(spec, self, *inputs)
            if not isinstance(found, Trained):
                found = Trained(found, None, time.perf_counter() - started)
            entry = self.store.put(spec, found)
            self._remove_checkpoints(spec)
            self.check_time()
        elif self._checkpoint(spec).exists():  # of a run that was killed right after it had stored its result
            self._remove_checkpoints(spec)
        return entry

    def run(self, evaluations: Iterable[Evaluation]) -> list[dict]:
        """Evaluate all, grouped so that each encoder's embeddings are used while in memory; returns them in order."""
        evaluations = list(evaluations)
        waiting = [evaluation for evaluation in evaluations if self.store.get(evaluation) is None]
        encoders = list(dict.fromkeys(evaluation.encoder for evaluation in waiting))
        with self._progress(sum(run.cost for run in self.missing(evaluations))):
            for evaluation in sorted(waiting, key=lambda evaluation: encoders.index(evaluation.encoder)):
                self(evaluation)
        return [self(evaluation) for evaluation in evaluations]

    def run_cells(self, cells: Iterable[Cell]) -> list[dict]:
        return self.run(cell.evaluation for cell in cells)

    def volumes(self, run: EncoderRun, role: str) -> SubtomogramSet:
        """Subtomograms of the 'base', 'validation' or 'novel' classes of a run."""
        return self._subtomograms(run.data, getattr(run.split, role), run.snr_counts)

    def embeddings(self, run: EncoderRun, role: str) -> torch.Tensor:
        """Embeddings of the classes of a role, `(n, dim)`; computed once per encoder and set."""
        return self.embedded(run, run.data, getattr(run.split, role), run.snr_counts)

    def embedded(
        self, run: EncoderRun, data, names: tuple[str, ...], snr_counts: tuple[tuple[float, int], ...]
    ) -> torch.Tensor:
        """Embeddings of some classes of any data by the encoder of a run, `(n, dim)`."""
        encoder, subtomograms = self.encoder(run), self._subtomograms(data, names, snr_counts)
        self.describe("embedding")
        return embed(encoder, subtomograms.volumes, run.precision)

    def _subtomograms(self, data, names: tuple[str, ...], snr_counts: tuple[tuple[float, int], ...]) -> SubtomogramSet:
        self.describe("simulating")
        return data.subtomograms(dict(snr_counts), names, self.device)

    def encoder(self, run: EncoderRun | AdaptationRun) -> Encoder3D:
        """The trained encoder of a run, in evaluation mode."""
        return self._network(run, run.new_encoder(), "encoder.")

    def adaptation(self, run: AdaptationRun) -> Adaptation:
        """The trained attention of a run, in evaluation mode."""
        return self._network(run, run.new_adaptation(), "attention.").requires_grad_(False)

    def _network(self, run: Any, network: torch.nn.Module, part: str) -> Any:
        tensors = self(run, with_tensors=True)["tensors"]
        # A training of both keeps both, each under its name.
        own = {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}
        network.load_state_dict(own or tensors)
        return network.to(self.device).eval()

    def fit(
        self,
        run: Any,
        model: torch.nn.Module,
        losses: Callable[[int], Iterable[torch.Tensor]],
        validate: Callable[[], float],
        cost_per_step: int,
    ) -> History:
        """`training.fit` on the run's schedule, with its checkpoint, the progress bar and the deadline."""
        self.describe(run.title)

        def progress(n_steps: int) -> None:
            if self._bar is not None:
                self._bar.update(n_steps * cost_per_step)

        return fit(model, losses, validate, run.schedule, self._checkpoint(run), progress, self.check_time)

    def _checkpoint(self, spec: Any) -> Path:
        return self.store.path(spec, ".checkpoint")

    def _remove_checkpoints(self, spec: Any) -> None:
        name = self._checkpoint(spec)
        for left in name.parent.glob(f"*{name.name}*"):  # half-written ones of killed runs too
            left.unlink(missing_ok=True)

    def check_time(self) -> None:
        """Raise DeadlineReached past the deadline; what was finished is stored."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise DeadlineReached

    def missing(self, evaluations: Iterable[Evaluation]) -> list[EncoderRun | AdaptationRun]:
        """Trainings that the evaluations still need."""
        waiting = [evaluation for evaluation in evaluations if self.store.get(evaluation) is None]
        needed = dict.fromkeys(run for e in waiting for run in (e.encoder, e.adaptation) if run is not None)
        return [run for run in needed if self.store.get(run, with_tensors=True) is None]

    def estimated_seconds(self, runs: Iterable[EncoderRun | AdaptationRun]) -> float:
        """Time the runs would take here, from one measured training step."""
        runs = list(runs)
        probe = next((run for run in runs if isinstance(run, EncoderRun)), None) or runs[0].encoder
        encoder, n = probe.new_encoder().to(self.device), 16
        volumes = torch.randn(n, *(encoder.box,) * 3, device=self.device)
        steps = []
        for _ in range(5):
            started = time.perf_counter()
            with autocast(self.device, probe.precision):
                encoder(volumes).square().mean().backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            steps.append(time.perf_counter() - started)
        return sum(run.cost for run in runs) / n * min(steps)  # the first ones include start-up

    @contextlib.contextmanager
    def _progress(self, total: int):
        with tqdm(
            total=total,
            unit=" volumes",
            disable=not (self.show_progress and total),
            mininterval=1,
            smoothing=0.05,
            bar_format="{desc:<42} {percentage:3.0f}% |{bar:20}| {elapsed} spent, {remaining} left",
        ) as self._bar:
            yield
        self._bar = None

    def describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)
