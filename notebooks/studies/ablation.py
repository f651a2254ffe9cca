"""One step at a time from the paper's method towards the encoder that ships, and heads on the same embeddings.

Every step is tested on the subtomograms and episodes of Table 1, so that its gain over the step before is paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import nn

from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.recognition.pretraining import Pretraining, new_encoder
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS, Profile
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.tables import accuracies, by_task
from cryo_fewshot.simulation.on_the_fly import Acquisitions, library_classes, outside_families
from cryo_fewshot.training import Schedule
from cryo_fewshot.weights import AnyEncoder

from .bounds import Oracle, oracle_accuracy
from .head_comparison import HeadEvaluation, evaluate_heads

PUBLISHED = {
    "ProtoNet-CE": "as published, one network per SNR",
    "ProtoNet-CE (mix)": "one network for all SNRs",
    "ProtoNet3D (mix)": "the same without attention",
}
"""Steps that are methods of Table 1."""
SPLITS = (0, 1, 2)


@dataclass(frozen=True)
class Step:
    """What a step changes, in words, and the training, head and turns that it leads to."""

    name: str
    words: str
    training: Pretraining
    head: str
    n_turns: int = 1


# ---------------------------------------------------------------- the steps


def trainings(profile: Profile, split_seed: int = 0) -> dict[str, Pretraining]:
    """What each step adds to the training, on the classes of a split and the paper's SNRs.

    The first differs from ProtoNet3D (mix) in its samples alone. All but the last take as many volumes as it does.
    """
    run = table_1(profile, methods=["ProtoNet3D (mix)"], split_seed=split_seed)[0].evaluation.encoder
    split, microscope = run.split, profile.data.microscope
    held_out = split.validation + split.novel
    fresh = Pretraining(
        classes=outside_families(split.base, held_out),
        selection=split.validation,
        test=split.novel,
        acquisitions=Acquisitions(microscope=microscope),
        objective="episodes",
        n_way=run.n_way,
        n_shot=5,
        n_query=run.n_query,
        architecture="paper",
        schedule=profile.encoder_schedule,
        n_selection_samples=min(60, profile.data.n_per_class),
        n_selection_episodes=min(300, 3 * profile.n_validation_episodes),
        precision=profile.precision,
    )
    more = replace(fresh, classes=library_classes(held_out, microscope.width_nm))
    wider = replace(more, n_way=20, n_shot=1, n_query=fresh.volumes_per_step // 20 - 1)
    cosine = replace(wider, objective="classes")
    pooled = replace(cosine, architecture="pooled")
    return {
        "fresh samples": fresh,
        "more base classes": more,
        "20 classes per task": wider,
        "cosine classifier": cosine,
        "mean over positions": pooled,
        "8 times as long": replace(pooled, schedule=_longer(profile)),
    }


def leave_one_out(profile: Profile, split_seed: int = 0) -> dict[str, tuple[Pretraining, Pretraining]]:
    """A step without one of what the steps before it brought, and the step itself; both take as many volumes."""
    steps = trainings(profile, split_seed)
    whole, longer, few = steps["mean over positions"], steps["8 times as long"], steps["fresh samples"].classes
    n_way = 10 if len(few) >= 10 else 5
    base = {"classes": few, "n_way": n_way, "n_query": whole.volumes_per_step // n_way - 1}
    return {
        "without more base classes": (replace(whole, **base), whole),
        "the same, 8 times as long": (replace(longer, **base), longer),
        "without the cosine classifier": (replace(whole, objective="episodes"), whole),
        "that too, 8 times as long": (replace(longer, objective="episodes"), longer),
        "without the mean over positions": (steps["cosine classifier"], whole),
    }


def _longer(profile: Profile) -> Schedule:
    schedule = profile.encoder_schedule
    n_epochs = 2 * schedule.n_epochs
    return replace(
        schedule,
        n_epochs=n_epochs,
        steps_per_epoch=4 * schedule.steps_per_epoch,
        learning_rate=3e-3,
        halve_every=max(1, n_epochs // 5),
    )


_WORDS = {
    "fresh samples": "every sample is simulated anew",
    "more base classes": "the whole library but kin of held-out classes",
    "20 classes per task": "training tasks of 20 classes, one labelled sample each",
    "cosine classifier": "all training classes told apart by the embedding's direction",
    "mean over positions": "an encoder of the same cost, averaged over the grid",
    "8 times as long": "eight times as many volumes, a higher rate that is halved more often",
}


def ablation(profile: Profile, split_seed: int = 0) -> list[Step]:
    """The steps beyond the published ones, in order, each with what the ones before it brought."""
    steps = [
        Step(name, _WORDS[name], training, _plain_head(training))
        for name, training in trainings(profile, split_seed).items()
    ]
    last = steps[-1].training
    return [
        *steps,
        Step("two covariances", "a head that knows how classes scatter", last, "two covariances"),
        Step("4 turns", "the mean of four positions that keep the wedge", last, "two covariances", 4),
        Step("transductive", "the queries of a task help each other", last, "two covariances, EM", 4),
    ]


def _plain_head(training: Pretraining) -> str:
    return "nearest mean" if training.objective == "episodes" else "unit length"


def ablation_frame(
    runner: Runner,
    profile: Profile,
    *,
    splits: Sequence[int] = SPLITS,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
) -> tuple[pd.DataFrame, list[dict]]:
    """A row per step, split, SNR and shots, and the entries it rests on.

    Columns: step, words, split_seed, snr, n_shot, accuracy, ci95, gain over the step before on the same episodes, and
    its gain_ci95.
    """
    rows, entries = [], []
    for split_seed in splits:
        cells = table_1(profile, methods=list(PUBLISHED), snrs=snrs, shots=shots, split_seed=split_seed)
        published = runner.run_cells(cells)
        found = {
            (cell.method, cell.evaluation.snr, cell.evaluation.n_shot): entry
            for cell, entry in zip(cells, published, strict=True)
        }
        tasks = {
            (cell.evaluation.snr, cell.evaluation.n_shot): cell.evaluation
            for cell in cells
            if cell.method == "ProtoNet3D (mix)"
        }
        steps = ablation(profile, split_seed)
        specs = {
            (step.name, *key): HeadEvaluation(
                training=step.training, tasks=evaluation, head=step.head, n_turns=step.n_turns
            )
            for step in steps
            for key, evaluation in tasks.items()
        }
        found |= dict(zip(specs, evaluate_heads(runner, list(specs.values())), strict=True))
        words = PUBLISHED | {step.name: step.words for step in steps}
        for snr, n_shot in tasks:
            before = None
            for name, what in words.items():
                entry = found[name, snr, n_shot]
                now = accuracies(entry)
                gain = (np.nan, np.nan) if before is None else mean_and_interval(now - before)
                rows.append((name, what, split_seed, snr, n_shot, *mean_and_interval(now), *gain))
                before = now
        entries += found.values()
    columns = ["step", "words", "split_seed", "snr", "n_shot", "accuracy", "ci95", "gain", "gain_ci95"]
    return pd.DataFrame(rows, columns=columns), entries


def leave_one_out_frame(
    runner: Runner,
    profile: Profile,
    *,
    splits: Sequence[int] = SPLITS,
    snrs: Sequence[float] = PAPER_SNRS,
    shots: Sequence[int] = PAPER_SHOTS,
) -> tuple[pd.DataFrame, list[dict]]:
    """What accuracy loses without one change: step, split_seed, snr, n_shot, gain; a negative gain is a loss."""
    rows, entries = [], []
    for split_seed in splits:
        cells = table_1(profile, methods=["ProtoNet3D (mix)"], snrs=snrs, shots=shots, split_seed=split_seed)
        tasks = [cell.evaluation for cell in cells]
        for name, pair in leave_one_out(profile, split_seed).items():
            specs = [
                HeadEvaluation(training=training, tasks=evaluation, head=_plain_head(training))
                for evaluation in tasks
                for training in pair
            ]
            found = evaluate_heads(runner, specs)
            entries += found
            for evaluation, without, whole in zip(tasks, found[::2], found[1::2], strict=True):
                gain = (accuracies(without) - accuracies(whole)).mean()
                rows.append((name, split_seed, evaluation.snr, evaluation.n_shot, gain))
    return pd.DataFrame(rows, columns=["step", "split_seed", "snr", "n_shot", "gain"]), entries


# ---------------------------------------------------------------- for reading

AIMS = {(0.1, 5): 0.94, (0.1, 1): 0.88, (0.05, 5): 0.90, (0.05, 1): 0.80, (0.03, 5): 0.85, (0.03, 1): 0.72}
"""Accuracy aimed at, by SNR and shots, before anything was run."""


def steps_table(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per step, a column per shots and SNR: mean over splits of 'accuracy', or of 'gain' with its error."""
    groups = frame.dropna(subset=column).groupby(["step", "n_shot", "snr"], sort=False)
    return by_task(groups[column].agg(_MEANS[column]).reset_index(), "step", column)


def pays_text(frame: pd.DataFrame) -> str:
    """Which steps pay and which cost accuracy, on the mean over SNRs, shots and splits."""
    gains = frame.dropna(subset="gain").groupby("step", sort=False)["gain"].mean()

    def named(chosen: pd.Series) -> str:
        return ", ".join(f"*{name}* ({gain:+.3f})" for name, gain in chosen.items()) or "none"

    return (
        f"Over all SNRs and both numbers of shots, what pays: {named(gains[gains >= 0.005])}. What costs: "
        f"{named(gains[gains <= -0.005])}. Within half a point of nothing: {named(gains[gains.abs() < 0.005])}."
    )


def leave_one_out_text(frame: pd.DataFrame) -> str:
    """What accuracy is like without each change, on the mean over SNRs, shots and splits."""
    gains = frame.groupby("step", sort=False)["gain"].mean()
    return "On average " + ", ".join(f"*{name}* {gain:+.3f}" for name, gain in gains.items()) + "."


def _mean_and_error(values: pd.Series) -> str:
    if len(values) < 2:
        return f"{values.mean():+.3f}"
    return f"{values.mean():+.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


_MEANS = {"accuracy": "mean", "gain": _mean_and_error}


def costs_table(runner: Runner, profile: Profile, split_seed: int = 0) -> pd.DataFrame:
    """What each training takes: volumes, minutes here, multiplications per volume, weights."""
    rows = {}
    for name, training in trainings(profile, split_seed).items():
        entry = runner.store.get(training)
        encoder = new_encoder(training)
        rows[name] = {
            "volumes": f"{training.cost:,}",
            "classes": len(training.classes),
            "minutes": "not run" if entry is None else f"{entry['provenance']['seconds'] / 60:.1f}",
            "multiplications per volume": f"{multiplications(encoder) / 1e6:.0f} million",
            "weights": f"{sum(weights.numel() for weights in encoder.parameters()):,}",
        }
    return pd.DataFrame(rows).T


def multiplications(encoder: AnyEncoder) -> int:
    """Multiplications of the convolutions for one volume, counted on one."""
    counted = []

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        counted.append(output[0].numel() * layer.weight[0].numel())

    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv3d)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        encoder.eval()(torch.zeros(1, *(encoder.box,) * 3))
    for handle in handles:
        handle.remove()
    return sum(counted)


def aims_table(frame: pd.DataFrame) -> pd.DataFrame:
    """For each aim the best inductive step, the transductive one, and whether they reach it."""
    mean = frame.groupby(["snr", "n_shot", "step"], sort=False)["accuracy"].mean().unstack(sort=False)
    rows = []
    for (snr, n_shot), aim in AIMS.items():
        if (snr, n_shot) not in mean.index:
            continue
        accuracy = mean.loc[(snr, n_shot)]
        inductive = accuracy.drop("transductive")
        rows.append(
            {
                "SNR": f"{snr:g}",
                "shots": n_shot,
                "aim": aim,
                "best inductive": f"{inductive.max():.3f} ({inductive.idxmax()})",
                "reached": "yes" if inductive.max() >= aim else f"no, {inductive.max() - aim:+.3f}",
                "first at": next((name for name, value in inductive.items() if value >= aim), "none"),
                "transductive": f"{accuracy['transductive']:.3f} ({accuracy['transductive'] - inductive.max():+.3f})",
            }
        )
    return pd.DataFrame(rows)


def gap_text(runner: Runner, frame: pd.DataFrame, profile: Profile) -> str:
    """How much of the way from ProtoNet-CE to the oracle the ladder goes, on the split that the oracle was run on."""
    first = frame[frame["split_seed"] == 0]
    accuracy = first.groupby(["snr", "n_shot", "step"])["accuracy"].mean()
    sentences = []
    for snr, n_shot in dict.fromkeys(zip(first["snr"], first["n_shot"], strict=True)):
        cell = table_1(profile, snrs=[snr], shots=[5], methods=["ProtoNet3D"])[0]
        entry = runner.store.get(Oracle(evaluation=cell.evaluation))
        if entry is None:
            continue
        best, _ = oracle_accuracy(entry["result"]["scores"], cell.evaluation.n_way)
        at = accuracy[snr, n_shot]
        closed = (at.drop("transductive").max() - at["ProtoNet-CE"]) / (best - at["ProtoNet-CE"])
        sentences.append(f"{closed:.0%} at SNR {snr:g} {n_shot}-shot")
    if not sentences:
        return "The oracle was not run at these SNRs."
    return "Of the gap between ProtoNet-CE and the oracle, the best inductive step closes " + ", ".join(sentences) + "."
