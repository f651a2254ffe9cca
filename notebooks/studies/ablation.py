"""One step at a time from the paper's method to the training of the pretrained encoder: an ablation.

Every step is tested on the subtomograms and episodes of Table 1, so that its gain over the step before is paired.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.recognition.pretraining import Pretraining
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.reproduction.profiles import Profile
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.tables import accuracies, by_task, plus_minus
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.on_the_fly import Acquisitions, library_classes, outside_families
from cryo_fewshot.training import Schedule

from .head_comparison import HeadEvaluation

PUBLISHED = ("ProtoNet-CE", "ProtoNet-CE (mix)", "ProtoNet3D (mix)")
"""The first steps: methods of Table 1."""
FIVE_SHOT = "trained on 5-shot tasks"
"""The next step, whose encoder serves every number of labels, as all encoders after it do."""
STEPS = {
    "ProtoNet-CE": "as published, one network per SNR",
    "ProtoNet-CE (mix)": "one network for all SNRs",
    "ProtoNet3D (mix)": "the same without attention",
    FIVE_SHOT: "one network for every number of labels",
    "simulated on the fly": "every sample is simulated anew",
    "more base classes": "the whole library without homologues of held-out classes",
    "20 classes per task": "training tasks of 20 classes, one labelled sample each",
    "cosine classifier": "all training classes told apart by the embedding's direction",
    "global average pooling": "an encoder of about the same cost, pooled over the grid",
    "8 times as long": "eight times as many volumes, a higher rate that is halved more often",
    "PLDA": "a head that knows the scatter between and within classes",
    "4 rotations": "test-time augmentation: the mean over rotations that keep the missing wedge",
    "transductive": "the queries of a task help each other",
}
"""What each step changes."""


# ---------------------------------------------------------------- the steps


def five_shot_encoder(profile: Profile, split_seed: int = 0) -> EncoderRun:
    """The encoder of 5-shot ProtoNet3D (mix)."""
    cells = table_1(profile, methods=["ProtoNet3D (mix)"], shots=[5], split_seed=split_seed)
    return cells[0].evaluation.encoder


def trainings(profile: Profile, split_seed: int = 0) -> dict[str, Pretraining]:
    """What each step adds to the training, on the classes of a split and the paper's SNRs.

    The first differs from `FIVE_SHOT` in its samples alone. All but the last take as many volumes as that does.
    """
    run = five_shot_encoder(profile, split_seed)
    split, microscope = run.split, profile.data.microscope
    held_out = split.validation + split.novel
    on_the_fly = Pretraining(
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
    more = replace(on_the_fly, classes=library_classes(held_out, microscope.width_nm))
    wider = replace(more, n_way=20, n_shot=1, n_query=on_the_fly.volumes_per_step // 20 - 1)
    cosine = replace(wider, objective="classes")
    pooled = replace(cosine, architecture="pooled")
    return {
        "simulated on the fly": on_the_fly,
        "more base classes": more,
        "20 classes per task": wider,
        "cosine classifier": cosine,
        "global average pooling": pooled,
        "8 times as long": replace(pooled, schedule=_longer(profile)),
    }


def leave_one_out(profile: Profile, split_seed: int = 0) -> dict[str, tuple[Pretraining, Pretraining]]:
    """Leave-one-out ablation: a training without one of the changes, and with all; both take as many volumes."""
    steps = trainings(profile, split_seed)
    whole, longer = steps["global average pooling"], steps["8 times as long"]
    few = steps["simulated on the fly"].classes
    n_way = 10 if len(few) >= 10 else 5
    base = {"classes": few, "n_way": n_way, "n_query": whole.volumes_per_step // n_way - 1}
    return {
        "without more base classes": (replace(whole, **base), whole),
        "the same, 8 times as long": (replace(longer, **base), longer),
        "without the cosine classifier": (replace(whole, objective="episodes"), whole),
        "that too, 8 times as long": (replace(longer, objective="episodes"), longer),
        "without global average pooling": (steps["cosine classifier"], whole),
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


def step_specs(profile: Profile, split_seed: int, snr: float, n_shot: int) -> dict[str, Evaluation | HeadEvaluation]:
    """What is evaluated at each of `STEPS`, on the same tasks; each keeps the changes of those before it."""
    cells = table_1(profile, methods=list(PUBLISHED), snrs=[snr], shots=[n_shot], split_seed=split_seed)
    specs = {cell.method: cell.evaluation for cell in cells}
    tasks = specs["ProtoNet3D (mix)"]
    specs[FIVE_SHOT] = replace(tasks, encoder=five_shot_encoder(profile, split_seed))
    for name, training in trainings(profile, split_seed).items():
        specs[name] = HeadEvaluation(training=training, tasks=tasks, head=_plain_head(training))
    specs["PLDA"] = HeadEvaluation(training=training, tasks=tasks, head="two covariances")
    specs["4 rotations"] = replace(specs["PLDA"], n_turns=4)
    specs["transductive"] = replace(specs["4 rotations"], head="two covariances, EM")
    return specs


def _plain_head(training: Pretraining) -> str:
    return "nearest mean" if training.objective == "episodes" else "unit length"


# ---------------------------------------------------------------- tables


def ablation_frame(
    runner: Runner, profile: Profile, *, splits: Sequence[int], snrs: Sequence[float], shots: Sequence[int]
) -> pd.DataFrame:
    """A row per step, split, SNR and shots.

    Columns: step, words, split_seed, snr, n_shot, accuracy, ci95, gain over the step before on the same episodes, and
    its gain_ci95.
    """
    rows = []
    for split_seed, n_shot, snr in product(splits, shots, snrs):
        before = None
        for name, spec in step_specs(profile, split_seed, snr, n_shot).items():
            now = accuracies(runner(spec))
            gain = (np.nan, np.nan) if before is None else mean_and_interval(now - before)
            rows.append((name, STEPS[name], split_seed, snr, n_shot, *mean_and_interval(now), *gain))
            before = now
    columns = ["step", "words", "split_seed", "snr", "n_shot", "accuracy", "ci95", "gain", "gain_ci95"]
    return pd.DataFrame(rows, columns=columns)


def steps_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies of `ablation_frame`, mean and range over the splits, as `charts.rows_figure` takes them."""
    groups = frame.groupby(["step", "n_shot", "snr"], sort=False)["accuracy"]
    found = groups.agg(value="mean", low="min", high="max").reset_index().rename(columns={"step": "row"})
    return found.assign(panel=found["n_shot"].map("{}-shot".format), curve=found["snr"].map("SNR {:g}".format))


def leave_one_out_frame(
    runner: Runner, profile: Profile, *, splits: Sequence[int], snrs: Sequence[float], shots: Sequence[int]
) -> pd.DataFrame:
    """What accuracy loses without one change: step, split_seed, snr, n_shot, gain; a negative gain is a loss."""
    rows = []
    for split_seed, n_shot, snr in product(splits, shots, snrs):
        tasks = step_specs(profile, split_seed, snr, n_shot)["ProtoNet3D (mix)"]
        for name, pair in leave_one_out(profile, split_seed).items():
            without, whole = (
                accuracies(runner(HeadEvaluation(training=training, tasks=tasks, head=_plain_head(training))))
                for training in pair
            )
            rows.append((name, split_seed, snr, n_shot, (without - whole).mean()))
    return pd.DataFrame(rows, columns=["step", "split_seed", "snr", "n_shot", "gain"])


def steps_table(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A row per step, a column per shots and SNR: mean over splits of 'accuracy', or of 'gain' with its error."""
    groups = frame.dropna(subset=column).groupby(["step", "n_shot", "snr"], sort=False)
    means = groups[column].agg("mean" if column == "accuracy" else _mean_and_error)
    return by_task(means.reset_index(), "step", column)


def _mean_and_error(values: pd.Series) -> str:
    return plus_minus(values.mean(), values.sem(), "+")
