"""Where an encoder fails: tilt series and voxel sizes that it was not made for, and complexes that look alike."""

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from cryo_fewshot.episodes import Episodes
from cryo_fewshot.evaluation import confusion, correct_counts, mean_and_interval, predict
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.pretraining import CALIBRATION_CLASSES, TEST_CLASSES
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.imaging import noise_powers, simulate, volume_spectra
from cryo_fewshot.simulation.microscope import Microscope, draw_acquisition
from cryo_fewshot.simulation.structures import registry

from .cell_trainings import FIRST
from .held_out import tasks_among
from .open_world import fitted
from .pretrained import Pretrained

CONDITIONS = {
    "as in Table 1": {},
    **{f"tilt range ±{end}°": {"tilt_min": -float(end), "tilt_max": float(end)} for end in (30, 40, 50, 70)},
    "tilt range −50..70°": {"tilt_min": -50.0, "tilt_max": 70.0},
    **{f"tilt increment {step}°": {"tilt_increment": float(step)} for step in (1, 5, 10)},
    "files of 48³ at 1 nm": {"box": 48, "binning": 1},
    "files of 32³ at 1.4 nm": {"box": 32, "voxel_size_nm": 1.4, "binning": 1},
    **{f"voxel size {100 * (size - 1):+.0f} % off": {"voxel_size_nm": size} for size in (0.9, 0.95, 1.05, 1.1)},
}
"""Changes to the microscope. A voxel size that is off differs from what the file says; other files are resampled."""


@dataclass(frozen=True, kw_only=True)
class EncoderLimits:
    """Accuracy of nearest prototypes under other acquisitions, and class by class.

    encoder : digest of its weights
    classes : asked for under each of the conditions; further : classes that it was not trained on either, with which
    the classes are compared one by one at `class_snr`
    band_per_nm : spatial frequencies up to this one have the same noise whatever the box and the voxel size
    """

    encoder: str
    conditions: tuple[str, ...] = tuple(CONDITIONS)
    classes: tuple[str, ...] = TEST_CLASSES
    further: tuple[str, ...] = CALIBRATION_CLASSES
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snrs: tuple[float, ...] = (0.1, 0.03)
    class_snr: float = 0.1
    band_per_nm: float = 0.25
    shots: tuple[int, ...] = (5, 1)
    n_way: int = 5
    n_query: int = 15
    n_episodes: int = 600
    n_per_class: int = 100

    @property
    def settings(self) -> dict[str, object]:
        """What the conditions stand for."""
        return {name: CONDITIONS[name] for name in self.conditions}

    def run(self, runner, pretrained: Pretrained) -> dict:
        """Result: `conditions`, rows of condition, snr, n_shot, accuracy, ci95 on the same tasks; `classes`, rows of
        class, n_shot, accuracy, taken_for (the class that it is most often taken for) and share (of its queries that
        are, in tasks that hold both).
        """
        conditions, n_asked = [], self.n_way * self.n_query
        for name, snr in product(self.conditions, self.snrs):
            microscope = replace(self.microscope, **CONDITIONS[name])
            embeddings = _embedded(pretrained, self, microscope, self.classes, snr)
            for n_shot in self.shots:
                episodes = _episodes(self, self.classes, n_shot)
                right = correct_counts(predict(embeddings, episodes, prototype_logits)) / n_asked
                accuracy, interval = (round(value, 4) for value in mean_and_interval(right))
                row = {"condition": name, "snr": snr, "n_shot": n_shot, "accuracy": accuracy, "ci95": interval}
                conditions.append(row)
        names, classes = (*self.classes, *self.further), []
        embeddings = _embedded(pretrained, self, self.microscope, names, self.class_snr)
        for n_shot in self.shots:
            episodes = _episodes(self, names, n_shot)
            counts = confusion(predict(embeddings, episodes, prototype_logits), episodes, len(names))
            held = (episodes.classes[:, :, None] == np.arange(len(names))).any(axis=1).astype(int)
            shares = counts / np.maximum(held.T @ held * self.n_query, 1)  # of the queries in tasks that hold both
            for i, name in enumerate(names):
                wrong = np.where(np.arange(len(names)) == i, -1, shares[i])
                row = {"accuracy": round(float(shares[i, i]), 4), "share": round(float(wrong.max()), 4)}
                classes.append({"class": name, "n_shot": n_shot, "taken_for": names[wrong.argmax()], **row})
        return {"conditions": conditions, "classes": classes}


def _embedded(pretrained: Pretrained, spec: EncoderLimits, microscope: Microscope, names, snr: float) -> torch.Tensor:
    recipe = SimulatedData(microscope=microscope, n_per_class=spec.n_per_class)
    ratio, card = snr, pretrained.card
    if (microscope.box, microscope.voxel_size_nm) != (spec.microscope.box, spec.microscope.voxel_size_nm):
        # A ratio of variances is of a whole box, up to its own highest frequency.
        ratio *= noise_density(microscope, spec.band_per_nm) / noise_density(spec.microscope, spec.band_per_nm)
    seeds = {name: recipe.sample_seeds(name, snr) for name in names}
    volumes = torch.cat(
        [simulate(recipe.beads_of(name, seeds[name]), seeds[name], ratio, microscope) for name in names]
    )
    # In a box of its own size the encoder takes a file's voxel size on trust.
    stated_nm = card["voxel_size_nm"] if microscope.final_box == card["box"] else microscope.final_voxel_size_nm
    return unit_embeddings(pretrained.encoder, fitted(volumes, stated_nm, card))


def noise_density(microscope: Microscope, band_per_nm: float) -> float:
    """Mean power of the noise at the frequencies below `band_per_nm`, at SNR 1: in units of the signal's variance."""
    box = microscope.final_box
    powers = noise_powers(draw_acquisition(torch.arange(32), microscope), microscope).mean(dim=0)
    # The frequencies of a volume that holds its own frequency, by the same list that the powers come in.
    axes = torch.fft.fftfreq(box), torch.fft.fftfreq(box), torch.fft.rfftfreq(box)
    squared = sum(part**2 for part in torch.meshgrid(*axes, indexing="ij")) / microscope.final_voxel_size_nm**2
    listed, counts = volume_spectra(
        torch.fft.irfftn(squared.to(torch.complex64), s=(box,) * 3, norm="forward")[None], microscope
    )
    weights = counts * (listed[0].real < band_per_nm**2)
    return float((powers * weights).sum() / weights.sum())


def _episodes(spec: EncoderLimits, names: tuple[str, ...], n_shot: int) -> Episodes:
    size = {"n_way": spec.n_way, "n_shot": n_shot, "n_query": spec.n_query, "n_episodes": spec.n_episodes}
    return tasks_among(names, spec.n_per_class, seed=seed_from("novel", 0), **size)


# ---------------------------------------------------------------- for reading


def classes_text(result: dict, n_worst: int = 5) -> str:
    """How accuracy goes with the size of complexes, and what the worst classes are taken for."""
    about = registry()[["name", "mass_kda", "max_diameter_nm"]].rename(columns={"name": "title"})
    frame, sentences = pd.DataFrame(result["classes"]).join(about, on="class"), []
    for n_shot, part in frame.groupby("n_shot", sort=False):
        by_diameter, by_mass = (spearmanr(part[column], part["accuracy"]) for column in ("max_diameter_nm", "mass_kda"))
        sentences.append(
            f"{n_shot}-shot: the rank correlation of accuracy with diameter is {by_diameter.statistic:+.2f} (p = "
            f"{by_diameter.pvalue:.2g}), with mass {by_mass.statistic:+.2f} (p = {by_mass.pvalue:.2g})."
        )
    most = frame["n_shot"].max()
    worst = "; ".join(
        f"{row.title} ({row.accuracy:.0%}; {row.share:.0%} taken for {row.taken_for} where that is in the task)"
        for row in frame[frame["n_shot"] == most].nsmallest(n_worst, "accuracy").itertuples()
    )
    return " ".join(sentences) + f" The worst with {most} examples: {worst}."


def trainings_text(card: dict) -> str:
    """How many volumes an encoder learnt from, and in how many trainings; the first one's card lies in results/."""
    spec, cards, first = card["spec"], [card], Pretrained.load(FIRST)
    if spec.get("start") == first.digest:
        cards.insert(0, first.card)
    said = ", then ".join(
        f"{made['volumes']:,} simulated volumes in {made['seconds'] / 60:.0f} minutes" for made in cards
    )
    if around := spec["acquisitions"].get("surroundings"):
        said += (
            f" with neighbours in {around['neighbours']:.0%} of the boxes and a membrane in {around['membranes']:.0%}"
        )
    if share := spec.get("start_share"):
        said += f"; {share:.0%} of the final weights are those before the last training"
    return said
