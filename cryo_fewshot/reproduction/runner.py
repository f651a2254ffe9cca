"""Carries out specs: simulates, trains, embeds and evaluates, each thing once, through the store."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from ..adaptation import Adaptation, adapted_logits, combined_logits, product_logits, weighted_logits, z_scored_logits
from ..baseline import baseline_logits
from ..device import autocast, default_device, keep_freed_memory
from ..encoder import Encoder3D, embed
from ..episodes import Episodes, sample_episodes
from ..errors import UserError
from ..evaluation import Head, confusion, correct_counts, mean_and_interval, predict
from ..protonet import prototype_logits
from ..randomness import seed_from
from ..subtomograms import SubtomogramSet
from ..training import DeadlineReached, History, fit
from .cells import Cell
from .profiles import profile_named
from .specs import AdaptationRun, EncoderRun, Evaluation
from .store import Store, results_folder

PLAIN_HEADS: dict[str, Head] = {"prototype": prototype_logits, "finetuned": baseline_logits}
ADAPTED_HEADS: dict[str, Callable[..., torch.Tensor]] = {
    "adapted": adapted_logits,
    "combined": combined_logits,
    "product": product_logits,
    "weighted": weighted_logits,
    "z-scored": z_scored_logits,
}
WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))
"""Weights of d* that 'weighted' chooses from, on validation episodes."""


def open_runner(profile: str, **settings) -> "Runner":
    """The runner that keeps its results where the notebooks and the book look for them."""
    return Runner(Store(results_folder(profile_named(profile).name)), **settings)


class Runner:
    """Runs specs on one device and keeps what came out in one store.

    Parameters
    ----------
    store : where results lie
    device : default the GPU where there is one
    show_progress : a bar of training volumes with the time left
    deadline : on the clock of `time.monotonic`; past it, `DeadlineReached` is raised at the next checkpoint
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
        self._sets: dict[tuple, SubtomogramSet] = {}
        self._embeddings: dict[tuple, torch.Tensor] = {}
        keep_freed_memory()

    # ---------------------------------------------------------------- data

    def selection_role(self, run: EncoderRun) -> str:
        """Classes that models are selected on: without validation classes, as in the real sets, the base classes."""
        return "validation" if run.split.validation else "base"

    def volumes(self, run: EncoderRun, role: str, snr_counts: Sequence[tuple[float, int]]) -> SubtomogramSet:
        """Subtomograms of the 'base', 'validation' or 'novel' classes of a run; the last few sets stay in memory."""
        return self._subtomograms(run.data, getattr(run.split, role), tuple(snr_counts))

    def _subtomograms(self, data, names: tuple[str, ...], snr_counts: tuple[tuple[float, int], ...]) -> SubtomogramSet:
        key = (data, names, snr_counts)
        if key not in self._sets:
            if len(self._sets) >= 4:
                self._sets.pop(next(iter(self._sets)))
            self._describe("simulating")
            self._sets[key] = data.subtomograms(dict(snr_counts), names, self.device)
        return self._sets[key]

    def episodes(self, run: EncoderRun, role: str, subtomograms: SubtomogramSet, n_episodes: int, *words) -> Episodes:
        """Episodes of the run's size among the classes of a role, seeded by the words that name them."""
        return sample_episodes(
            subtomograms.labels,
            range(len(subtomograms.class_names)),
            # There may be fewer classes to validate on than a training episode has.
            n_way=min(run.n_way, len(subtomograms.class_names)) if role == "validation" else run.n_way,
            n_shot=run.n_shot,
            n_query=run.n_query,
            n_episodes=n_episodes,
            seed=seed_from(role, run.seed, *words),
            class_names=subtomograms.class_names,
        )

    def _drawn(self, episodes: Episodes) -> torch.Tensor:
        """Indices of support, then query, `(n_episodes, n_way, n_shot + n_query)`, moved to the device at once."""
        return torch.from_numpy(np.concatenate([episodes.support, episodes.query], axis=2)).to(self.device)

    # ---------------------------------------------------------------- encoders

    def encoder(self, run: EncoderRun) -> Encoder3D:
        """The trained encoder of a run, in evaluation mode."""
        entry = self._trained(run, self._train_encoder)
        encoder = _new_encoder(run)
        encoder.load_state_dict(entry["tensors"])
        return encoder.to(self.device).eval()

    def _train_encoder(self, run: EncoderRun) -> tuple[dict, float, dict]:
        torch.manual_seed(seed_from("weights", run.seed) % 2**31)
        encoder = _new_encoder(run).to(self.device)
        base = self.volumes(run, "base", run.snr_counts)
        if run.objective == "classes":
            model = torch.nn.ModuleDict(
                {"encoder": encoder, "layer": torch.nn.Linear(encoder.embedding_dim, len(base.class_names))}
            ).to(self.device)
            losses, head = partial(self._classification_losses, run, model, base), baseline_logits
        else:
            model = torch.nn.ModuleDict({"encoder": encoder})
            losses, head = partial(self._episode_losses, run, encoder, base), prototype_logits
        validation = self.volumes(run, self.selection_role(run), run.snr_counts)
        checked = self.episodes(run, "validation", validation, run.n_validation_episodes)

        def validate() -> float:
            embeddings = embed(encoder, validation.volumes, run.precision)
            return float(correct_counts(predict(embeddings, checked, head)).mean() / checked.query[0].size)

        self._describe(f"training {run.objective}, {_snr_text(run)}, {run.n_shot}-shot")
        history = self._fit(run, model, losses, validate, run.volumes_per_step)
        return _history_result(history), history.seconds, encoder.state_dict()

    def _episode_losses(
        self, run: EncoderRun, encoder: Encoder3D, base: SubtomogramSet, epoch: int
    ) -> Iterator[torch.Tensor]:
        """Equation 3 for each episode of an epoch."""
        episodes = self.episodes(run, "base", base, run.schedule.steps_per_epoch, epoch)
        target = torch.arange(run.n_way, device=self.device).repeat_interleave(run.n_query)
        for drawn in self._drawn(episodes):
            with autocast(self.device, run.precision):
                embeddings = encoder(base.volumes[drawn.flatten()])
            embeddings = embeddings.unflatten(0, drawn.shape)
            logits = prototype_logits(embeddings[:, : run.n_shot], embeddings[:, run.n_shot :].flatten(0, 1))
            yield F.cross_entropy(logits, target)

    def _classification_losses(
        self, run: EncoderRun, model: torch.nn.ModuleDict, base: SubtomogramSet, epoch: int
    ) -> Iterator[torch.Tensor]:
        """Cross entropy over the base classes, in batches that hold as many volumes as an episode."""
        rng = np.random.default_rng(seed_from("batches", run.seed, epoch))
        labels = torch.from_numpy(base.labels).to(self.device)
        size, repeats = run.volumes_per_step, run.volumes_per_step > len(base)
        batches = [rng.choice(len(base), size, replace=repeats) for _ in range(run.schedule.steps_per_epoch)]
        for drawn in torch.from_numpy(np.stack(batches)).to(self.device):
            with autocast(self.device, run.precision):
                embeddings = model["encoder"](base.volumes[drawn])
            yield F.cross_entropy(model["layer"](embeddings), labels[drawn])

    def embeddings(self, run: EncoderRun, role: str, snr_counts: Sequence[tuple[float, int]]) -> torch.Tensor:
        """Embeddings of the classes of a role, `(n, dim)`; computed once per encoder and set."""
        return self._embedded(run, run.data, getattr(run.split, role), tuple(snr_counts))

    def _embedded(self, run: EncoderRun, data, names: tuple[str, ...], snr_counts: tuple) -> torch.Tensor:
        key = (run, data, names, snr_counts)
        if key not in self._embeddings:
            if len(self._embeddings) >= 16:
                self._embeddings.pop(next(iter(self._embeddings)))
            encoder = self.encoder(run)
            subtomograms = self._subtomograms(data, names, snr_counts)
            self._describe("embedding")
            self._embeddings[key] = embed(encoder, subtomograms.volumes, run.precision)
        return self._embeddings[key]

    # ---------------------------------------------------------------- attention

    def adaptation(self, run: AdaptationRun) -> Adaptation:
        """The trained attention of a run, in evaluation mode."""
        entry = self._trained(run, self._train_adaptation)
        adaptation = self._new_adaptation(run)
        adaptation.load_state_dict(entry["tensors"])
        return adaptation.to(self.device).eval().requires_grad_(False)

    def _new_adaptation(self, run: AdaptationRun) -> Adaptation:
        return Adaptation(_new_encoder(run.encoder).embedding_dim, run.variant, run.layer_norm)

    def _train_adaptation(self, run: AdaptationRun) -> tuple[dict, float, dict]:
        if run.loss not in ("adapted", "combined"):
            raise UserError(f"loss '{run.loss}' is unknown: use 'adapted' or 'combined'")
        encoder_run = run.encoder
        roles = "base", self.selection_role(encoder_run)
        base, validation = (self.volumes(encoder_run, role, encoder_run.snr_counts) for role in roles)
        base_embeddings, validation_embeddings = (
            self.embeddings(encoder_run, role, encoder_run.snr_counts) for role in roles
        )
        checked = self.episodes(encoder_run, "validation", validation, encoder_run.n_validation_episodes)
        torch.manual_seed(seed_from("attention", run.seed) % 2**31)
        model = self._new_adaptation(run).to(self.device)
        head = partial(ADAPTED_HEADS[run.loss], model)
        target = torch.arange(encoder_run.n_way, device=self.device).repeat_interleave(encoder_run.n_query)

        def losses(epoch: int) -> Iterator[torch.Tensor]:
            episodes = self.episodes(encoder_run, "base", base, run.schedule.steps_per_epoch, "attention", epoch)
            for drawn in self._drawn(episodes):
                projected = model.project(base_embeddings[drawn])
                logits = head(
                    projected[None, :, : run.encoder.n_shot], projected[None, :, run.encoder.n_shot :].flatten(1, 2)
                )
                yield F.cross_entropy(logits[0], target)

        def validate() -> float:
            with torch.no_grad():
                projected = model.project(validation_embeddings)
            predictions = predict(projected, checked, partial(combined_logits, model))
            return float(correct_counts(predictions).mean() / checked.query[0].size)

        self._describe("training attention")
        history = self._fit(run, model, losses, validate, run.cost_per_step)
        return _history_result(history), history.seconds, model.state_dict()

    def _fit(
        self,
        run: EncoderRun | AdaptationRun,
        model: torch.nn.Module,
        losses: Callable[[int], Iterable[torch.Tensor]],
        validate: Callable[[], float],
        cost_per_step: int,
    ) -> History:
        """`training.fit` on the run's schedule, with its checkpoint, the progress bar and the deadline."""

        def progress(n_steps: int) -> None:
            if self._bar is not None:
                self._bar.update(n_steps * cost_per_step)

        return fit(model, losses, validate, run.schedule, self._checkpoint(run), progress, self.check_time)

    def _trained(self, run: EncoderRun | AdaptationRun, train: Callable) -> dict:
        entry = self.store.compute(run, partial(train, run), with_tensors=True)
        checkpoint = self._checkpoint(run)
        for done_with in checkpoint.parent.glob(f"*{checkpoint.name}*"):  # half-written ones of killed runs too
            done_with.unlink(missing_ok=True)
        return entry

    def _checkpoint(self, run: EncoderRun | AdaptationRun) -> Path:
        return self.store.path(run, ".checkpoint")

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, evaluation: Evaluation) -> dict:
        """The stored entry of an evaluation: accuracy, interval, correct counts per episode, confusion."""
        return self.store.compute(evaluation, partial(self._evaluate, evaluation))

    def novel_episodes(self, evaluation: Evaluation) -> Episodes:
        """The test episodes: seeded by the test's own size alone, so the same ones for every method and SNR."""
        data, names = evaluation.novel_data, evaluation.novel_classes
        return sample_episodes(
            np.repeat(np.arange(len(names)), [data.count_of(name, data.n_per_class) for name in names]),
            range(len(names)),
            n_way=evaluation.n_way,
            n_shot=evaluation.n_shot,
            n_query=evaluation.n_query,
            n_episodes=evaluation.n_episodes,
            seed=seed_from("novel", evaluation.episode_seed),
            class_names=names,
        )

    def novel_embeddings(self, evaluation: Evaluation, run: EncoderRun | None = None) -> torch.Tensor:
        """Embeddings of all test subtomograms, `(n_classes * n_per_class, dim)`, class by class.

        By the encoder of the evaluation, or by another one.
        """
        data = evaluation.novel_data
        wanted = ((evaluation.snr, data.n_per_class),)
        return self._embedded(run or evaluation.encoder, data, evaluation.novel_classes, wanted)

    def predictions(self, evaluation: Evaluation) -> np.ndarray:
        """Predicted way of each query, `(n_episodes, n_way, n_query)`."""
        head, embeddings = self._head(evaluation, self.novel_embeddings(evaluation))
        return predict(embeddings, self.novel_episodes(evaluation), head)

    def _evaluate(self, evaluation: Evaluation) -> tuple[dict, float, None]:
        started = time.perf_counter()
        episodes, predictions = self.novel_episodes(evaluation), self.predictions(evaluation)
        seconds = time.perf_counter() - started
        names = evaluation.novel_classes
        n_queries = int(episodes.query[0].size)
        correct = correct_counts(predictions)
        accuracy, interval = mean_and_interval(correct / n_queries)
        accuracy_100, interval_100 = mean_and_interval(correct[:100] / n_queries)
        result = {
            "accuracy": accuracy,
            "ci95": interval,
            "accuracy_100": accuracy_100,
            "ci95_100": interval_100,
            "n_queries": n_queries,
            "n_correct": correct.tolist(),
            "episodes": episodes.digest,
            "classes": list(names),
            "confusion": confusion(predictions, episodes, len(names)).tolist(),
        }
        return result, seconds, None

    def _head(self, evaluation: Evaluation, embeddings: torch.Tensor) -> tuple[Head, torch.Tensor]:
        """The head of an evaluation, and the embeddings in the form that it takes."""
        if evaluation.head in PLAIN_HEADS:
            return PLAIN_HEADS[evaluation.head], embeddings
        if evaluation.head not in ADAPTED_HEADS:
            known = ", ".join([*PLAIN_HEADS, *ADAPTED_HEADS])
            raise UserError(f"head '{evaluation.head}' is unknown: use one of {known}")
        if evaluation.adaptation is None:
            raise UserError(f"head '{evaluation.head}' needs an adaptation: give one, or use {', '.join(PLAIN_HEADS)}")
        model = self.adaptation(evaluation.adaptation)
        head = partial(ADAPTED_HEADS[evaluation.head], model)
        if evaluation.head == "weighted":
            head = partial(head, weight=self._best_weight(evaluation, model))
        with torch.no_grad():
            return head, model.project(embeddings)

    def _best_weight(self, evaluation: Evaluation, model: Adaptation) -> float:
        """The weight of d* with the best accuracy on validation episodes; the smallest of equals."""
        run = evaluation.encoder
        role = self.selection_role(run)
        validation = self.volumes(run, role, run.snr_counts)
        with torch.no_grad():
            projected = model.project(self.embeddings(run, role, run.snr_counts))
        checked = self.episodes(run, "validation", validation, run.n_validation_episodes)
        scores = [
            correct_counts(predict(projected, checked, partial(weighted_logits, model, weight=weight))).mean()
            for weight in WEIGHTS
        ]
        return WEIGHTS[int(np.argmax(scores))]

    # ---------------------------------------------------------------- many at once

    def run(self, evaluations: Iterable[Evaluation]) -> list[dict]:
        """Evaluate all, grouped so that each encoder's embeddings are used while in memory; returns them in order."""
        evaluations = list(evaluations)
        waiting = [evaluation for evaluation in evaluations if self.store.get(evaluation) is None]
        with self._progress(sum(run.cost for run in self.missing(evaluations))):
            for encoder in dict.fromkeys(evaluation.encoder for evaluation in waiting):
                for evaluation in waiting:
                    if evaluation.encoder == encoder:
                        self.evaluate(evaluation)
                        self.check_time()
                self._embeddings.clear()
        return [self.evaluate(evaluation) for evaluation in evaluations]

    def run_cells(self, cells: Iterable[Cell]) -> list[dict]:
        """The entries of a table's cells, in their order."""
        return self.run(cell.evaluation for cell in cells)

    def check_time(self) -> None:
        """Raise OutOfTime past the deadline; what was finished is stored."""
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
        encoder, n = _new_encoder(probe).to(self.device), 16
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

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=False)


def _new_encoder(run: EncoderRun) -> Encoder3D:
    return Encoder3D(run.data.box, run.n_blocks, run.width)


def _history_result(history: History) -> dict:
    return {
        "validation_accuracy": history.accuracies,
        "loss": history.losses,
        "best_epoch": history.best_epoch,
    }


def _snr_text(run: EncoderRun) -> str:
    snrs = [f"{snr:g}" for snr, _ in run.snr_counts]
    return f"SNR {snrs[0]}" if len(snrs) == 1 else "mixed SNR"
