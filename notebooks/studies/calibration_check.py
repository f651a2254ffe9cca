"""Whether what an encoder promises holds on classes that neither training, selection nor calibration met."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from cryo_fewshot.evaluation import expected_calibration_error
from cryo_fewshot.figures.charts import curves_figure
from cryo_fewshot.figures.style import OTHER_COLOURS
from cryo_fewshot.hashing import ADDED_LATER
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration, Promises
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.pretraining import CELLS, TEST_CLASSES
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.recognition.rejection import estimate_errors
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.weights import AnyEncoder

from .charts import labels_text
from .held_out import surrounded
from .pretrained import Pretrained

LOOKED_AT = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""False-discovery rates that somebody tries before choosing one; the bound must hold at all of them."""


@dataclass(frozen=True, kw_only=True)
class CalibrationCheck:
    """Tasks as a user's data set poses them to `build_recogniser`: n_way labelled classes, all others unknown.

    encoder : digest of its weights and its calibration; n_tasks : per SNR, number of shots and of classes
    false_accept_rate, fdr : promised; crowded : neighbours and membranes lie in the boxes, as in the training
    """

    version = 4  # how many are unknown is told by the p-values alone

    encoder: str
    classes: tuple[str, ...] = TEST_CLASSES
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    shots: tuple[int, ...] = (1, 2, 5)
    ways: tuple[int, ...] = (3, 5, 8)
    n_query: int = 15
    n_tasks: int = 100
    n_per_class: int = 60
    false_accept_rate: float = 0.05
    fdr: float = 0.1
    seed: int = 0
    crowded: bool = field(default=False, metadata=ADDED_LATER)

    @torch.no_grad()
    def run(self, runner, pretrained: Pretrained) -> dict:
        """Result: `rows`, see `checked_tasks`."""
        rows = []
        for snr in self.snrs:
            embeddings, names = embedded_classes(self, pretrained.encoder, snr, self.crowded)
            rows += [{"snr": snr, **row} for row in checked_tasks(embeddings, names, pretrained.calibration, self)]
        return {"rows": rows}


def embedded_classes(spec, encoder: AnyEncoder, snr: float, crowded: bool = False) -> tuple[torch.Tensor, np.ndarray]:
    """Embeddings and class names of simulated particles of a spec's `classes`, `n_per_class` of each.

    crowded : among neighbours and membranes, whose complexes are the training's
    """
    if crowded:
        seed = seed_from("crowded check", spec.seed, snr)
        volumes = surrounded(spec.classes, spec.n_per_class, spec.microscope, snr, seed, **CELLS)
    else:
        recipe = SimulatedData(microscope=spec.microscope, n_per_class=spec.n_per_class)
        volumes = simulate_set(recipe, {snr: spec.n_per_class}, spec.classes).volumes
    return unit_embeddings(encoder, volumes), np.repeat(spec.classes, spec.n_per_class)


def checked_tasks(
    embeddings: torch.Tensor, names: np.ndarray, calibration: Calibration, spec: CalibrationCheck
) -> list[dict[str, Any]]:
    """Unit embeddings `(n, dim)` and their classes -> a row for each number of shots and of classes, and either mode.

    n_shot, n_way, transductive; of queries with a labelled class: accuracy, mean probability, calibration error (ece),
    the share that is accepted and right (kept_right), that is accepted (kept), and that the best threshold for these
    very classes would accept (could_keep), accuracy of those accepted (accepted_accuracy). Of particles of all other
    classes: the share that is accepted (false_accepts), None where there is no other class; `worst`, the highest for a
    class. At the promised `fdr`: the realised rate, its recall of right ones (fdr_kept), and how often the bound on
    wrong ones held, whichever threshold was chosen (bound_held). A task has no two homologous classes.
    """
    families = {name: homologous_family(name) for name in np.unique(names)}
    n_families = len(set(families.values()))
    rows = []
    for n_shot, n_way, transductive in product(spec.shots, spec.ways, (False, True)):
        if n_way > n_families:
            continue
        rng = np.random.default_rng(seed_from("calibration check", spec.seed, n_shot, n_way))
        tasks = [_task(embeddings, names, families, n_way, n_shot, spec.n_query, rng) for _ in range(spec.n_tasks)]
        found = [_asked(embeddings, names, calibration, spec, *task, transductive) for task in tasks]
        rows.append({"n_shot": n_shot, "n_way": n_way, "transductive": transductive, **_row(found, spec)})
    return rows


def _task(embeddings, names, families, n_way, n_shot, n_query, rng) -> tuple[np.ndarray, ...]:
    """Indices of support, queries and particles of unknown classes."""
    of_family = {families[name]: name for name in rng.permutation(list(families))}
    classes = rng.permutation(list(of_family.values()))
    drawn = [rng.permutation(np.flatnonzero(names == name))[: n_shot + n_query] for name in classes[:n_way]]
    support = np.concatenate([members[:n_shot] for members in drawn])
    queries = np.concatenate([members[n_shot:] for members in drawn])
    return support, queries, np.flatnonzero(np.isin(names, classes[n_way:]))


def _asked(embeddings, names, calibration, spec, support, queries, unknown, transductive) -> dict[str, np.ndarray]:
    """What the tool says of the queries, then of the particles of unknown classes, and what is true."""
    asked = np.r_[queries, unknown]
    calibration = calibration.suited(torch.cat([embeddings[support], embeddings[asked]]))
    recogniser = build_recogniser(
        embeddings[support], names[support], calibration, false_accept_rate=spec.false_accept_rate
    ).seeing(embeddings[asked])
    if transductive:
        recogniser = recogniser.adapted(embeddings[asked])
    told = recogniser.recognise(embeddings[asked])
    errors = estimate_errors(told.p_value, told.probability, told.label)
    known = np.arange(len(asked)) < len(queries)
    right = known & (np.array(told.class_names)[told.label] == names[asked])
    looked_at = [errors.q_value <= limit for limit in LOOKED_AT]
    return {
        "known": known,
        "right": right,
        "names": names[asked],
        "probability": told.probability,
        "margin": told.score - recogniser.threshold,
        "accepted": told.accepted,
        "in_fdr": errors.q_value <= spec.fdr,
        "bound_held": all((~right)[some].sum() <= errors.at_most(some, recogniser.promises) for some in looked_at),
    }


def _row(found: list[dict], spec: CalibrationCheck) -> dict[str, float | None]:
    told = {name: np.concatenate([one[name] for one in found]) for name in found[0] if name != "bound_held"}
    known, right, accepted = told["known"], told["right"], told["accepted"]
    row = {
        "accuracy": right[known].mean(),
        "probability": told["probability"][known].mean(),
        "ece": expected_calibration_error(told["probability"][known], right[known]),
        "kept": accepted[known].mean(),
        "kept_right": accepted[right].mean(),
        "accepted_accuracy": right[known & accepted].mean(),
        "fdr": np.mean([(~one["right"])[one["in_fdr"]].mean() if one["in_fdr"].any() else 0.0 for one in found]),
        "fdr_kept": told["in_fdr"][right].mean(),
        "bound_held": np.mean([one["bound_held"] for one in found]),
    }
    row = {name: round(float(value), 4) for name, value in row.items()}
    if known.all():
        return {**row, "false_accepts": None, "worst": None, "could_keep": None}
    by_class = {name: accepted[~known & (told["names"] == name)].mean() for name in np.unique(told["names"][~known])}
    best = np.quantile(told["margin"][~known], 1 - spec.false_accept_rate)
    return {
        **row,
        "false_accepts": round(float(accepted[~known].mean()), 4),
        "worst": round(float(max(by_class.values())), 4),
        "could_keep": round(float((told["margin"][right] > best).mean()), 4),
    }


def promises_figure(promises: Promises) -> Figure:
    """False accepts at the promised 5 %, class by class, and for other choices of families."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.bar(range(len(promises.by_class)), sorted(promises.by_class.values()), color=OTHER_COLOURS[0])
    left.set(xlabel="held-out class", ylabel="false accepts", xticks=[])
    right.hist(promises.choices, bins=15, color=OTHER_COLOURS[0])
    right.set(xlabel="false accepts, mean over classes", ylabel="choices of families")
    left.axhline(0.05, color="black", linestyle=":")
    right.axvline(0.05, color="black", linestyle=":")
    return figure


def card_reliability_figure(rows: Sequence[dict], shots: Sequence[int] = (1, 5, 20)) -> Figure:
    """How often an answer is right against its probability, by rows of a card: alone and as in cells."""
    frame = pd.DataFrame(rows)
    frame = frame[frame["n_shot"].isin(shots)].sort_values(["crowded", "n_shot"])
    frame["curve"] = frame["n_shot"].map(labels_text) + " per class"
    frame["panel"] = frame["crowded"].map({False: "alone in the box", True: "as in cells"})
    figure = curves_figure(
        frame.assign(ci95=np.nan), x="probability", curve="curve", panel="panel", chance=0,
        x_label="probability that the tool gives",
    )  # fmt: skip
    for ax in figure.axes:
        ax.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle=(0, (1, 2)), zorder=0)
        ax.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    figure.axes[0].set_ylabel("Share of right answers")
    return figure
