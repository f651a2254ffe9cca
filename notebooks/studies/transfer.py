"""Evaluations beyond the paper's tables: more classes in training, other tilt geometries, other conformations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pandas as pd
from pandas.io.formats.style import Styler

from cryo_fewshot.reproduction.cells import Cell, encoder_run, evaluation_of
from cryo_fewshot.reproduction.display import Page, plain_style
from cryo_fewshot.reproduction.evaluation_specs import Evaluation
from cryo_fewshot.reproduction.profiles import Profile, mix_100, single
from cryo_fewshot.reproduction.tables import accuracy_of, best_at_the_end, mean_over_seeds
from cryo_fewshot.simulation.datasets import SimulatedData

from .conformations import Conformations

SEEDS = (0, 1, 2)
TILT_RANGES = {
    "±40°": {"tilt_min": -40.0, "tilt_max": 40.0},
    "±50°": {"tilt_min": -50.0, "tilt_max": 50.0},
    "±60°": {},
    "±70°": {"tilt_min": -70.0, "tilt_max": 70.0},
    "−50..70°": {"tilt_min": -50.0, "tilt_max": 70.0},
}
TILT_INCREMENTS = {
    "1°": {"tilt_increment": 1.0},
    "3°": {},
    "5°": {"tilt_increment": 5.0},
    "10°": {"tilt_increment": 10.0},
}


class OwnClasses:
    """A spec that names its test data and its test classes in fields of its own, `data` and `classes`."""

    @property
    def novel_data(self) -> SimulatedData:
        """Where the test subtomograms come from."""
        return self.data

    @property
    def novel_classes(self) -> tuple[str, ...]:
        """The classes that episodes are drawn from."""
        return self.classes


@dataclass(frozen=True, kw_only=True)
class TransferEvaluation(OwnClasses, Evaluation):
    """An evaluation on data other than the encoder's own.

    data : recipe of the test subtomograms; classes : that episodes are drawn from.
    """

    data: SimulatedData
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Variation:
    """One number of a study: what the encoder was trained on and what it was tested on, in words, and how."""

    trained_on: str
    tested_on: str
    evaluation: Evaluation


def training_ways(
    profile: Profile, *, ways: Sequence[int], snr: float, shots: Sequence[int], splits: Sequence[int]
) -> list[Cell]:
    """ProtoNet3D trained on episodes of more classes than it is tested on, always 5-way (Remark 2)."""
    cells = []
    for n_shot, split, n_way in product(shots, splits, ways):
        encoder = encoder_run(profile, single(snr, profile), n_shot, n_way=n_way, split_seed=split)
        cells.append(Cell(f"{n_way}-way", evaluation_of(profile, encoder, "prototype", snr, n_shot, n_way=5)))
    return cells


def tilt_geometries(
    profile: Profile,
    geometries: Mapping[str, Mapping[str, float]],
    *,
    snr: float = 0.1,
    n_shot: int = 5,
    seeds: Sequence[int] = SEEDS,
) -> list[Variation]:
    """ProtoNet3D trained on each geometry of the tilt series and tested on each; samples differ in nothing else."""
    recipes = {
        name: replace(profile.data, microscope=replace(profile.data.microscope, **changes))
        for name, changes in geometries.items()
    }
    variations = []
    for (trained_on, data), seed in product(recipes.items(), seeds):
        encoder = encoder_run(replace(profile, data=data), single(snr, profile), n_shot, train_seed=seed)
        plain = evaluation_of(profile, encoder, "prototype", snr, n_shot)
        for tested_on, tested in recipes.items():
            evaluation = transferred(plain, tested, encoder.split.novel)
            variations.append(Variation(trained_on, tested_on, evaluation))
    return variations


def conformations(
    profile: Profile,
    *,
    complexes: Sequence[str],
    angles: Sequence[float],
    snrs: Sequence[float],
    n_shot: int = 5,
    seeds: Sequence[int] = SEEDS,
) -> list[Variation]:
    """Two conformations of one complex, told apart by ProtoNet3D (mix), which was trained on other complexes."""
    variations = []
    for key, snr, angle, seed in product(complexes, snrs, angles, seeds):
        encoder = encoder_run(profile, mix_100(profile), n_shot, train_seed=seed)
        data = Conformations(
            class_set=key,
            angles_degrees=(0.0, angle),
            n_per_class=profile.data.n_per_class,
            microscope=profile.data.microscope,
            seed=profile.data.seed,
        )
        plain = evaluation_of(profile, encoder, "prototype", snr, n_shot, n_way=2)
        variations.append(Variation("Mix100", f"{key} bent by {angle:g}°", transferred(plain, data, data.class_names)))
    return variations


def transferred(evaluation: Evaluation, data: SimulatedData, classes: tuple[str, ...]) -> TransferEvaluation:
    """The same evaluation on other test data."""
    return TransferEvaluation(**vars(evaluation), data=data, classes=classes)


def variations_frame(variations: Sequence[Variation], entries: Sequence[dict]) -> pd.DataFrame:
    """A tidy table of a study, a row per variation: what was trained on, what was tested on, accuracy, ci95."""
    rows = []
    for variation, entry in zip(variations, entries, strict=True):
        evaluation = variation.evaluation
        accuracy, interval = accuracy_of(entry)
        tasks = {name: getattr(evaluation, name) for name in ("snr", "n_way", "n_shot", "n_episodes")}
        seeds = {"split_seed": evaluation.encoder.split_seed, "train_seed": evaluation.encoder.seed}
        words = {"trained_on": variation.trained_on, "tested_on": variation.tested_on}
        rows.append({**words, **tasks, "accuracy": accuracy, "ci95": interval, **seeds})
    return pd.DataFrame(rows)


def study_protocol(page: Page, variations: Sequence[Variation]):
    """The protocol of a study: that of its first run, the number of repetitions, and of unfinished trainings."""
    runs, store = dict.fromkeys(variation.evaluation.encoder for variation in variations), page.runner.store
    cells = [Cell(variation.trained_on, variation.evaluation) for variation in variations]
    n_run = sum(store.get(run) is not None for run in runs)
    n_improving = sum(best_at_the_end(store, run) for run in runs)
    unfinished = (
        f"**{n_improving} of {n_run} trainings were best in their last epoch**, so they were still improving: "
        "what differs here may change with longer ones."
    )
    n_seeds = len({run.seed for run in runs})
    before = f"{n_seeds} training seeds, each as in:"
    return page.protocol(cells, before=before, after=unfinished if n_improving else "")


def transfer_table(frame: pd.DataFrame) -> Styler:
    """Accuracy of every training (rows) under every test condition (columns), in colours; a tidy table by seed."""
    means = mean_over_seeds(frame, "trained_on", "tested_on")
    order = means["trained_on"].unique()
    table = means.pivot(index="trained_on", columns="tested_on", values="accuracy").loc[order, order]
    table = table.rename_axis(index=None, columns=None).rename(
        index="trained on {}".format, columns="tested on {}".format
    )
    shown = plain_style(table).format(precision=3)
    return shown.background_gradient(cmap="viridis", axis=None, text_color_threshold=0.18)
