"""What the command accepts on a labelled tomogram where some classes have no labels, with and without background."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cryo_fewshot.recognition.background import against_background, with_background
from cryo_fewshot.recognition.benchmark import LabelledTomogram
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.rejection import estimate_errors
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner

from .pretrained import Pretrained
from .real_benchmark import CYTOSOL, ER, MEMBRANE, RIBOSOME, TASKS

LABELLED = {
    "all five": TASKS["all five"],
    "ribosome, ER, membrane": (RIBOSOME, ER, MEMBRANE),
    "ribosome, ER, cytosol": (RIBOSOME, ER, CYTOSOL),
    "ribosome, cytosol": (RIBOSOME, CYTOSOL),
}
"""Classes with labels; particles of the others are unknown."""
PROMISED = {"false_accepts": "false_accept_rate", "fdr": "fdr"}
SHOWN = {
    "labelled": "Labelled",
    "n_shot": "Labels",
    "background": "Background",
    "unknown": "Unknown",
    "false_accepts": "Unknown accepted, promised 5 %",
    "kept": "Right ones kept",
    "fdr": "Wrong among accepted, promised 10 %",
    "ribosome_fdr": "of these, of ribosomes",
    "ribosome_recall": "Ribosomes kept",
    "bound_held": "Bound held",
}


@dataclass(frozen=True, kw_only=True)
class RealUnknown:
    """Draws of labelled boxes from a half of the tomogram; all boxes of that half that share no voxel are asked.

    encoder, boxes : digests of weights and boxes
    """

    encoder: str
    boxes: str
    half: str = "odd"
    shots: tuple[int, ...] = (5, 20)
    n_draws: int = 20
    false_accept_rate: float = 0.05
    fdr: float = 0.1
    seed: int = 7

    version = 2  # background is a class as well

    def run(self, runner: Runner, pretrained: Pretrained, data: LabelledTomogram) -> dict:
        """Result: `rows`, means over draws, by labelled classes, n_shot, and whether background was used."""
        found = []
        for labelled, names in LABELLED.items():
            for n_shot in self.shots:
                rng = np.random.default_rng([self.seed, n_shot])
                for _ in range(self.n_draws):
                    for row in self._asked(data, pretrained.calibration, names, n_shot, rng):
                        found.append({"labelled": labelled, "n_shot": n_shot, **row})
        means = pd.DataFrame(found).groupby(["labelled", "n_shot", "background"], sort=False).mean().round(4)
        means = means.astype(object).where(means.notna(), None)  # NaN is no JSON
        return {"rows": means.reset_index().to_dict("records")}

    def _asked(self, data, calibration, names, n_shot, rng) -> list[dict]:
        pool, truth = np.flatnonzero(data.half(self.half)), data.labels
        members = [rng.permutation(pool[truth[pool] == name]) for name in names]
        support = np.concatenate([its[: min(n_shot, len(its) - 3)] for its in members])
        asked = pool[~data.overlaps(support).any(axis=0)[pool]]
        unlabelled, settings = data.features[np.setdiff1d(pool, support)], Settings()
        labelled = data.features[support], truth[support].tolist()
        *with_boxes, boxes = with_background(*labelled, data.background)
        recogniser, other = (
            recogniser_of(*these, calibration, unlabelled, settings, data.widths, one_source=True)  # of one tomogram
            for these in (labelled, with_boxes)
        )
        told, decoys = (recogniser.recognise(part).to_frame() for part in (data.features[asked], boxes))
        beside = other.recognise(data.features[asked]).to_frame()["class"].to_numpy()
        truth, said = truth[asked], told["class"].to_numpy()
        right, known, ribosome = said == truth, np.isin(truth, names), truth == RIBOSOME
        label, rows = pd.Index(recogniser.class_names).get_indexer(said), []
        for background in (False, True):
            p_value = against_background(told, beside, decoys) if background else told["p_value"].to_numpy()
            errors = estimate_errors(p_value, told["probability"].to_numpy(), label)
            accepted, in_fdr = p_value <= self.false_accept_rate, errors.q_value <= self.fdr
            rows.append(
                {
                    "background": background,
                    "unknown": (~known).mean(),
                    "false_accepts": _share(accepted, ~known),
                    "kept": _share(accepted, right),
                    "fdr": _share(~right, in_fdr),
                    "ribosome_fdr": _share(~right, in_fdr & (said == RIBOSOME)),
                    "ribosome_recall": _share(in_fdr & right, ribosome),
                    "bound_held": float((~right)[in_fdr].sum() <= errors.at_most(in_fdr, recogniser.promises)),
                }
            )
        return rows


def _share(of: np.ndarray, among: np.ndarray) -> float:
    return float(of[among].mean()) if among.any() else np.nan


def unknown_frame(entry: dict) -> pd.DataFrame:
    """The rows with the names that they are shown under."""
    rows = pd.DataFrame(entry["result"]["rows"])[list(SHOWN)]
    return rows.replace({"background": {True: "used", False: "not used"}}).rename(columns=SHOWN)


def unknown_text(entry: dict) -> str:
    """What they say, in Markdown."""
    rows = pd.DataFrame(entry["result"]["rows"])
    some = rows[rows["unknown"] > 0].astype({"false_accepts": float})
    shares = {used: part for used, part in some.groupby("background")}

    def between(name: str, used: bool) -> str:
        return f"{shares[used][name].min():.0%} to {shares[used][name].max():.0%}"

    rate, fdr = (f"{entry['spec'][name]:.0%}" for name in ("false_accept_rate", "fdr"))
    hold = all((shares[True][name] <= entry["spec"][of]).all() for name, of in PROMISED.items())
    verdict = "hold in every row" if hold else "do not hold in every row"
    return (
        f"**With the tomogram's own background the promises {verdict}.** By the calibration alone, "
        f"{between('false_accepts', False)} of the unknown particles are accepted, where {rate} are promised: they are "
        "membranes, cytosol and vacuum, unlike all that was simulated. With boxes of the background as one more class "
        f"and as decoys, as `classify` has it by default, it is {between('false_accepts', True)}. At a promised FDR of "
        f"{fdr}, {between('fdr', False)} of the accepted are wrong without background and {between('fdr', True)} with "
        "it. The price: a labelled class that is background itself, as cytosol and vacuum are, is hardly accepted: "
        "name it with `--junk`."
    )
