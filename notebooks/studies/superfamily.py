"""Does an encoder tell ClpB and Lon apart from others only because it was trained on other AAA+ rings?"""

from dataclasses import dataclass, field, replace

import pandas as pd

from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import confusion, predict
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.embedding_cache import unit_embeddings
from cryo_fewshot.recognition.pretraining import TEST_CLASSES, Pretraining, pretrained_spec
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import AnyEncoder

TRAINED_ON = ("3CF3", "FTSH", "RUVAB")
"""p97, FtsH and RuvB: AAA+ rings among the training classes."""
TESTED = ("1QVR", "3M6A")
"""ClpB and Lon: AAA+ rings among the test classes."""


def trainings() -> dict[str, Pretraining]:
    """The pretrained encoder's first recipe at a tenth of its length, with the other AAA+ rings and without them."""
    short = pretrained_spec(4)
    without = replace(short, classes=tuple(name for name in short.classes if name not in TRAINED_ON))
    return {"with AAA+": short, "without AAA+": without}


@dataclass(frozen=True, kw_only=True)
class SuperfamilyLeftOut:
    """Recall of each test class by encoders of `trainings`, on the same subtomograms and tasks.

    encoders : digest of the weights of each, by its name in `trainings`
    """

    encoders: tuple[tuple[str, str], ...]
    classes: tuple[str, ...] = TEST_CLASSES
    snr: float = 0.1
    shots: tuple[int, ...] = (5, 1)
    n_way: int = 5
    n_query: int = 15
    n_episodes: int = 1000
    n_per_class: int = 100
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))

    def run(self, runner, encoders: dict[str, AnyEncoder]) -> dict:
        """Result: `rows` of encoder, n_shot, class, accuracy."""
        recipe = SimulatedData(microscope=self.microscope, n_per_class=self.n_per_class)
        found = simulate_set(recipe, {self.snr: self.n_per_class}, self.classes)
        rows = []
        for name, _ in self.encoders:
            embeddings = unit_embeddings(encoders[name], found.volumes)
            for n_shot in self.shots:
                episodes = sample_episodes(
                    found.labels,
                    range(len(self.classes)),
                    n_way=self.n_way,
                    n_shot=n_shot,
                    n_query=self.n_query,
                    n_episodes=self.n_episodes,
                    seed=seed_from("novel", 0),
                    class_names=self.classes,
                )
                counts = confusion(predict(embeddings, episodes, prototype_logits), episodes, len(self.classes))
                recall = counts.diagonal() / counts.sum(1)
                rows += [
                    {"encoder": name, "n_shot": n_shot, "class": of, "accuracy": round(float(share), 4)}
                    for of, share in zip(self.classes, recall, strict=True)
                ]
        return {"rows": rows}


def superfamily_text(rows: list[dict]) -> str:
    """What leaving the superfamily out of the training costs its two test classes, and the others."""
    frame = pd.DataFrame(rows)
    frame["of"] = frame["class"].isin(TESTED).map({True: "rings", False: "others"})
    mean = frame.groupby(["n_shot", "of", "encoder"])["accuracy"].mean()
    costs = []
    for n in sorted(frame["n_shot"].unique(), reverse=True):
        rings, others = (
            f"{mean[n, of, 'without AAA+']:.1%} instead of {mean[n, of, 'with AAA+']:.1%}" for of in ("rings", "others")
        )
        costs.append(
            f"with {n} label{'s' if n > 1 else ''} per class ClpB and Lon are found in {rings}, the other six classes "
            f"in {others}"
        )
    return f"Trained again without p97, FtsH and RuvB, a tenth as long, once each (SNR 0.1): {'; '.join(costs)}."
