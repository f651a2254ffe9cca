"""Encoders of `factors` asked on the same tasks: boxes of a real tomogram, and simulated classes of no training."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.evaluation import correct_counts, predict
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.benchmark import (
    TOOL,
    LabelledTomogram,
    block_counts,
    draw_episodes,
    methods_of,
    resampled,
)
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.model_card import held_out_particles
from cryo_fewshot.recognition.pretraining import (
    CALIBRATION_CLASSES,
    CELLS,
    TEST_CLASSES,
    Pretraining,
    in_cells,
    mix_weights,
    pretrained_spec,
    spec_of,
)
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.weights import AnyEncoder, load_encoder

from .cell_trainings import FIRST
from .charts import labels_text
from .factors import CONTROL, FACTORS, MIXED, PRETRAINED, SHIPPED, STARTED, factor_spec
from .held_out import ALONE, AROUND, held_out, tasks_among
from .real_benchmark import MEMBRANE, TASKS, YEAST, tomogram_of

PROTOTYPE = "nearest prototype"
SIMULATED, EVEN, ODD, SELECTION = "simulated", "even", "odd", "selection classes"
FIVE, FOUR = "all five", "without the second membrane"
YEAST_TASKS = {FIVE: TASKS[FIVE], FOUR: tuple(name for name in TASKS[FIVE] if name != MEMBRANE)}
"""The second membrane has 13 boxes in the even half: too few for 5 labels and queries clear of them."""


@dataclass(frozen=True, kw_only=True)
class FactorEvaluation:
    """Right answers of one encoder, kept by block of the tomogram or by task so that encoders can be paired.

    factor : row of the table; training : its spec; encoder : digest of its weights
    part : 'even' or 'odd' half of the tomogram, or 'simulated'; boxes : digest of the real boxes, "" for simulated ones
    """

    factor: str
    training: Pretraining
    encoder: str
    part: str
    boxes: str = ""
    shots: tuple[int, ...] = (1, 5, 10)
    n_tasks: int = 50
    n_per_class: int = 30
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)

    @property
    def settings(self) -> dict[str, object]:
        """What the names in the rows stand for."""
        return {"tasks": YEAST_TASKS, "around": AROUND, "test": TEST_CLASSES, "selection": CALIBRATION_CLASSES}

    def run(self, runner: Runner, encoder: AnyEncoder, data: LabelledTomogram | None, calibration: dict) -> dict:
        """Result: `rows` of task, method, n_shot, right and asked, `(k, units)` each.

        Units are blocks of the tomogram, k its classes; or tasks of five classes, summed over SNRs, with k = 1.
        """
        rows = simulated_rows(self, encoder) if self.part == SIMULATED else real_rows(self, encoder, data, calibration)
        return {"rows": list(rows)}


def simulated_rows(spec: FactorEvaluation, encoder: AnyEncoder) -> Iterator[dict]:
    """Nearest prototypes among test classes alone and in surroundings, and among selection classes alone."""
    kinds = {around: (around, TEST_CLASSES) for around in AROUND} | {SELECTION: (ALONE, CALIBRATION_CLASSES)}
    for task, (around, classes) in kinds.items():
        embedded = [unit_embeddings(encoder, held_out(around, snr, classes, spec.n_per_class)) for snr in spec.snrs]
        for n_shot in spec.shots:
            size = {"n_way": 5, "n_shot": n_shot, "n_query": 15, "n_episodes": spec.n_tasks}
            episodes = tasks_among(classes, spec.n_per_class, seed=seed_from("factors"), **size)
            right = sum(correct_counts(predict(part, episodes, prototype_logits)) for part in embedded)
            asked = np.full_like(right, 5 * 15 * len(embedded))
            yield _row(task, PROTOTYPE, n_shot, right[None], asked[None])


def real_rows(spec: FactorEvaluation, encoder: AnyEncoder, data: LabelledTomogram, calibration: dict) -> Iterator[dict]:
    """`classify` and the nearest prototype on a half of the tomogram, the same episodes for every encoder."""
    dim = data.features.shape[1] - sum(data.widths)
    features = torch.cat([unit_embeddings(encoder, data.volumes), data.features[:, dim:]], dim=1)
    data = replace(data, features=features, background=None)
    methods = methods_of(data, replace(Calibration.from_json(calibration), **_geometry(spec.encoder, encoder)), {})
    for task, names in YEAST_TASKS.items():
        pools = [np.flatnonzero(data.half(spec.part) & (data.labels == name)) for name in names]
        for n_shot in spec.shots:
            episodes = list(draw_episodes(data, pools, n_shot, spec.n_tasks, np.random.default_rng([0, n_shot])))
            if len(episodes) < spec.n_tasks:
                continue  # too few boxes clear of each other
            for method in (TOOL, PROTOTYPE):
                yield _row(task, method, n_shot, *block_counts(data, pools, episodes, methods[method]))


def _row(task: str, method: str, n_shot: int, right: np.ndarray, asked: np.ndarray) -> dict:
    return {"task": task, "method": method, "n_shot": n_shot, "right": right.tolist(), "asked": asked.tolist()}


@lru_cache(maxsize=2)
def _geometry(digest: str, encoder: AnyEncoder) -> dict:
    """Geometry of an encoder for `Calibration`, from fewer particles than a card's; digest : of its weights.

    Answers rest on it and on the card's temperature; what is accepted is not asked here.
    """
    counts = {"snrs": (0.05,), "n_microscopes": 1, "n_per_class": 20, "n_background": 2}
    return held_out_particles(encoder, in_cells(pretrained_spec(), **CELLS), **counts).geometry()


def trained_encoders(folder: Path) -> Iterator[tuple[str, Pretraining, AnyEncoder]]:
    """Row, spec and encoder of each training that is finished in a folder, and of the rows without one."""
    start, card = load_encoder(FIRST)
    yield STARTED, spec_of(card), start
    pretrained, card = load_encoder()
    yield PRETRAINED, spec_of(card), pretrained
    for path in sorted(folder.glob("*-[0-9].safetensors")):
        encoder, card = load_encoder(path)
        spec = spec_of(card)
        factor = next(name for name in FACTORS if factor_spec(name, spec.seed) == spec)
        yield factor, spec, encoder
        if factor == SHIPPED:
            mix_weights(encoder, start, 0.3)
            yield MIXED, replace(spec, start_share=0.3), encoder


def evaluate_factors(runner: Runner, folder: Path, parts: tuple[str, ...] = (SIMULATED, EVEN, ODD)) -> list[dict]:
    """Entries of all trained encoders of a folder; the tomogram's are left out where it is absent."""
    shipped, card = load_encoder()
    data = tomogram_of(YEAST, shipped, card) if YEAST.is_dir() else None
    entries = []
    for (factor, training, encoder), part in product(trained_encoders(folder), parts):
        if part != SIMULATED and data is None:
            continue
        spec = FactorEvaluation(
            factor=factor,
            training=training,
            encoder=digest_of(*encoder.state_dict().values()),
            part=part,
            boxes="" if part == SIMULATED else digest_of(data.volumes),
            shots=(1, 5) if part == ODD else (1, 5, 10),
        )
        entries.append(runner(spec, encoder, data, card["calibration"]))
    return entries


# ---------------------------------------------------------------- for reading


def factor_frame(entries: list[dict], part: str) -> pd.DataFrame:
    """Accuracies, and differences to the control with the same seeds: a row per factor, task, method and shots.

    Columns factor, task, method, n_shot, n_seeds, accuracy, seeds (the accuracy of each), gain, low, high: 95 %, units
    drawn with replacement, the same for both.
    """
    counts = {}
    for entry in (entry for entry in entries if entry["spec"]["part"] == part):
        spec = entry["spec"]
        for row in entry["result"]["rows"]:
            key = spec["factor"], row["task"], row["method"], row["n_shot"]
            counts.setdefault(key, {})[spec["training"]["seed"]] = np.array([row["right"], row["asked"]])
    order = [STARTED, *FACTORS, MIXED, PRETRAINED]
    rows = []
    for (factor, *what), seeds in sorted(counts.items(), key=lambda item: order.index(item[0][0])):
        control = counts.get((CONTROL, *what), {})
        shared = sorted(seeds.keys() & control.keys())
        row = dict(zip(("factor", "task", "method", "n_shot"), (factor, *what), strict=True))
        row |= {"n_seeds": len(seeds), "accuracy": _mean(sum(seeds.values())), "seeds": [*map(_mean, seeds.values())]}
        if shared and factor != CONTROL:
            ours, theirs = (sum(of[seed] for seed in shared) for of in (seeds, control))
            low, high = np.nanpercentile(resampled(*ours) - resampled(*theirs), [2.5, 97.5])
            row |= {"gain": _mean(ours) - _mean(theirs), "low": low, "high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(counts: np.ndarray) -> float:
    right, asked = counts.sum(2)
    return float((right / asked).mean())


PANELS = {
    (FOUR, TOOL): "real:\nclassify",
    (FOUR, PROTOTYPE): "real:\nprototype",
    (ALONE, PROTOTYPE): "simulated:\nalone",
    ("among neighbours", PROTOTYPE): "among\nneighbours",
    ("beside a membrane", PROTOTYPE): "beside a\nmembrane",
}
"""Columns of the figure and of the table, by task and method."""


def gains_of(frame: pd.DataFrame, shots: tuple[int, ...] = (1, 5)) -> pd.DataFrame:
    """Gains of `factor_frame` in percentage points, as `charts.rows_figure` takes them."""
    where = list(zip(frame["task"], frame["method"], strict=True))
    frame = frame.assign(panel=[PANELS.get(pair) for pair in where], row=frame["factor"], value=frame["gain"])
    frame = frame[frame["panel"].notna() & frame["gain"].notna() & frame["n_shot"].isin(shots)]
    frame = frame.assign(curve=frame["n_shot"].map(labels_text))
    frame[["value", "low", "high"]] *= 100
    order = [STARTED, *FACTORS, MIXED, PRETRAINED, *PANELS.values()]
    return frame.sort_values(["row", "panel"], key=lambda names: names.map(order.index), kind="stable")


def factor_table(frame: pd.DataFrame, tasks: dict[str, str], method: str) -> pd.DataFrame:
    """Accuracy and gain with its interval, a row per training, a column per task and number of labels.

    tasks : of the frame, by what they are called here
    """
    part = frame[frame["task"].isin(tasks) & (frame["method"] == method)]
    text = [
        f"{row.accuracy:.3f}" + (f" ({row.gain:+.3f}: {row.low:+.3f}, {row.high:+.3f})" if row.gain == row.gain else "")
        for row in part.itertuples()
    ]
    part = part.assign(text=text, task=part["task"].map(tasks), labels=part["n_shot"].map("{}-shot".format))
    table = part.pivot_table(index="factor", columns=["task", "labels"], values="text", aggfunc="first", sort=False)
    return table.rename_axis(None).rename_axis([None, None], axis=1)


def change_text(simulated: pd.DataFrame, real: pd.DataFrame, n_shot: int = 5) -> str:
    """Accuracy of the first encoder and of the pretrained one by the nearest prototype, task by task."""
    real = real.assign(task="boxes of a real tomogram, " + real["task"])
    both = pd.concat([simulated[simulated["task"] != SELECTION], real])
    both = both[(both["method"] == PROTOTYPE) & (both["n_shot"] == n_shot)]
    table = both.pivot_table("accuracy", "task", "factor", sort=False)
    said = "; ".join(f"{task} {row[STARTED]:.3f} to {row[PRETRAINED]:.3f}" for task, row in table.iterrows())
    return f"**From the first encoder to the pretrained one** (nearest prototype, {labels_text(n_shot)}): {said}."


def seeds_text(frame: pd.DataFrame, what: str) -> str:
    """How many rows have two seeds, and how far these lie apart."""
    twice = frame[frame["n_seeds"] == 2]
    apart, n, n_all = twice["seeds"].map(np.ptp), twice["factor"].nunique(), frame["factor"].nunique()
    return f"{what}: two seeds for {n} of {n_all} rows, {apart.median():.3f} apart (median; at most {apart.max():.3f})."
