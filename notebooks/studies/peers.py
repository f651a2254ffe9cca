"""What a group would do otherwise, on the same particles, labels and tasks, episode by episode.

Settings of every method are chosen on validation classes, which no test contains. Methods that take seconds a particle
answer the first queries of the first tasks; differences are taken over queries that both methods answered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import product

import numpy as np

from cryo_fewshot.evaluation import mean_and_interval
from cryo_fewshot.recognition.benchmark import Predict
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.embedding_cache import features_of, unit_embeddings
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope

from . import peers_features as features
from . import peers_template as template
from .conformations import bent
from .held_out import held_out
from .open_world import Tasks, paper_like
from .peers_features import Boxes
from .pretrained import Pretrained

VALIDATION = ("1PMA", "3IPM", "1BXN", "3ZBI", "1F4A", "6DVW", "6RKW", "2CG9")
"""Eight classes for choosing settings: of those that the pretrained encoder was calibrated on, never tested on."""
DATA = SimulatedData(microscope=Microscope(binning=2))
PLAIN, WRONG_LABEL = "as simulated", "one label in five wrong"
NEIGHBOURS, INVERTED, OTHER_SHAPE = "among neighbours", "contrast inverted", "another conformation"
TILTS, OFF_CENTRE = "tilts of ±40°", "picks off by up to 8 nm"
MICROSCOPES = {
    TILTS: {"tilt_min": -40.0, "tilt_max": 40.0},
    "voxel size 3 % off": {"voxel_size_nm": 1.03},
    OFF_CENTRE: {"max_shift_nm": 8.0},
}
CONDITIONS = (PLAIN, *MICROSCOPES, NEIGHBOURS, OTHER_SHAPE, INVERTED, WRONG_LABEL)
BENT_DEGREES = 20.0


def test_classes() -> tuple[str, ...]:
    """The test classes of all tables of class split 0, which the pretrained encoder was not trained on either."""
    return paper_like(profile_named("finished"), 0.1, 5).novel_classes


class Bent(SimulatedData):
    """The same particles in another conformation, half of each complex turned against the other half."""

    def beads_of(self, name, seeds):
        """Beads of the bent complex, one entry per seed."""
        return [bent(name, BENT_DEGREES)] * len(seeds)


@lru_cache(maxsize=8)
def boxes_of(data: SimulatedData, classes: tuple[str, ...], snr: float, condition: str) -> Boxes:
    """Particles of the classes, class by class, under a condition; the microscope is the one that is believed."""
    n = data.n_per_class
    labels, plain = np.repeat(classes, n), partial(data.subtomograms, {snr: n}, classes, "cpu")
    if condition in MICROSCOPES:
        true = replace(data.microscope, **MICROSCOPES[condition])
        believed = true if condition == TILTS else data.microscope
        volumes = replace(data, microscope=true).subtomograms({snr: n}, classes, "cpu").volumes
        return Boxes(volumes, volumes, labels, believed)
    if condition == OTHER_SHAPE:
        asked = Bent(**vars(data)).subtomograms({snr: n}, classes, "cpu").volumes
        return Boxes(plain().volumes, asked, labels, data.microscope)
    volumes = held_out(NEIGHBOURS, snr, classes, n) if condition == NEIGHBOURS else plain().volumes
    volumes = -volumes if condition == INVERTED else volumes
    return Boxes(volumes, volumes, labels, data.microscope)


# ---------------------------------------------------------------- methods


@lru_cache(maxsize=4)  # tasks of one and five labels share the embeddings
def _prototype(boxes: Boxes, pretrained: Pretrained) -> Predict:
    return features.nearest_prototype(*boxes.of_both(partial(unit_embeddings, pretrained.encoder)))


def _classify(boxes: Boxes, pretrained: Pretrained) -> Predict:
    """What the command answers where all other particles of the task's classes are its query."""
    labelled, asked = boxes.of_both(partial(features_of, pretrained.encoder))
    widths = (boxes.asked.shape[-1] - 3,)
    calibration = Calibration.from_json(pretrained.card["calibration"])

    def predict(support: np.ndarray, queries: np.ndarray, of_task: np.ndarray) -> np.ndarray:
        labels = [f"{k:03d}" for k in np.repeat(np.arange(len(support)), support.shape[1])]
        unlabelled = asked[np.setdiff1d(of_task, support)]
        known = recogniser_of(labelled[support.ravel()], labels, calibration, unlabelled, Settings(), widths)
        return known.recognise(asked[queries]).label

    return predict


@dataclass(frozen=True)
class Method:
    """How particles are recognised.

    known : what must be there beforehand; grid : settings that are chosen among
    is_dear : answers the first queries of the first tasks only
    package : that has to be importable; such methods answer 20 particles, as a check
    shots : labels of the tasks that it answers
    choice : tasks that settings are chosen on
    searched_as : the method whose search, chosen already, this one takes
    """

    known: str
    make: Callable[..., Predict]
    grid: tuple[dict, ...] = ({},)
    is_dear: bool = False
    needs_encoder: bool = False
    n_episodes: int = 300
    n_few: int = 3
    package: str = ""
    shots: tuple[int, ...] = PAPER_SHOTS
    choice: dict = field(default_factory=lambda: {"n_episodes": 60})
    searched_as: str = ""


def _grid(**choices) -> tuple[dict, ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


def _by_packages(name: str, templates: str, known: str, shots: tuple[int, ...] = (1,)) -> dict[str, Method]:
    setting, few = {"grid_degrees": 40.0, "mask_nm": 10.0}, {"is_dear": True, "n_episodes": 4, "n_few": 1}
    return {
        f"{name}, by {package}": Method(
            known, partial(template.by_package, package=package, templates=templates), (setting,), **few,
            package=module, shots=shots,
        )
        for package, module in {"acryo": "acryo", "pyTME": "tme"}.items()
    }  # fmt: skip


_STRUCTURES, _MASSES, _LABELS = "the structure of every class", "the mass of every class", "labels, tilt range"
_VARIED = {"grid_degrees": (30.0, 20.0, 15.0), "band_nm": (4.4, 8.0), "mask_nm": (10.0, 16.0)}
_SEARCH = {"grid_degrees": 30.0, "band_nm": 6.0, "mask_nm": 8.0}
_SEARCHES = (
    *({**_SEARCH, key: value} for key, values in _VARIED.items() for value in values),
    *({**_SEARCH, "is_refined": True} | other for other in ({}, {"mask_nm": 10.0}, {"band_nm": 4.4})),
)
_PCA = {"n_components": (5, 10, 20), "grid": (6, 10)}
TRUE_MAP, SPHERE, LABELLED = "template: true structure", "template: ball of its mass", "template: labelled, aligned"
NETWORK = "residual network on the labels"
PROTOTYPE, CLASSIFY = "pretrained encoder, nearest prototype", "pretrained encoder, classify"
METHODS = {
    TRUE_MAP: Method(_STRUCTURES, partial(template.by_structures, of=template.structure), is_dear=True, n_episodes=20,
                     searched_as=LABELLED),
    **_by_packages(TRUE_MAP, "structures", _STRUCTURES),
    SPHERE: Method(_MASSES, partial(template.by_structures, of=template.sphere, is_round=True), searched_as=LABELLED),
    **_by_packages(SPHERE, "balls", _MASSES),
    LABELLED: Method(_LABELS, template.by_labelled, _SEARCHES, is_dear=True, n_episodes=20,
                     choice={"n_episodes": 12, "snr": 0.03, "n_shot": 1}),
    **_by_packages("template: labelled", "labelled", _LABELS, PAPER_SHOTS),
    "PCA, nearest neighbour": Method("labels", partial(features.by_pca, classifier="nearest"), _grid(**_PCA)),
    "PCA, RBF SVM": Method("labels", partial(features.by_pca, classifier="rbf"),
                           _grid(**_PCA, c=(0.1, 1.0, 10.0, 100.0))),
    "shell powers": Method("labels", features.by_shell_powers),
    "harmonic powers": Method("labels", features.by_harmonic_powers,
                              _grid(degree=(0, 2, 4, 8), space=("real", "Fourier"))),
    NETWORK: Method("labels", features.trained_on_labels, _grid(n_steps=(40, 80), shift=(2,)), is_dear=True,
                    n_episodes=20, choice={"n_episodes": 6}),
    PROTOTYPE: Method("labels, an encoder", _prototype, needs_encoder=True),
    CLASSIFY: Method("labels, an encoder", _classify, needs_encoder=True),
}  # fmt: skip


# ---------------------------------------------------------------- what is run


@dataclass(frozen=True, kw_only=True)
class PeerEvaluation(Tasks):
    """A method on tasks. encoder, calibration : digests, for methods that use them, so that others stay as they are.

    setting : keywords of the method; n_few : queries of each class that every method answers, dear ones no more
    """

    encoder: str = ""
    method: str
    setting: tuple[tuple[str, float | str], ...] = ()
    condition: str = PLAIN
    n_few: int = 3

    def run(self, runner: Runner, pretrained: Pretrained | None = None) -> dict:
        """Right answers per task: `n_correct` of `n_queries`, None for dear methods; and `few`, a text for each task
        with a digit for each of its first queries, 1 where it was right: the first query of every class, then the next.
        """
        method, boxes = METHODS[self.method], boxes_of(self.data, self.classes, self.snr, self.condition)
        episodes, right = self.episodes(), []
        predict = method.make(boxes, *([pretrained] if method.needs_encoder else []), **dict(self.setting))
        for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
            runner.check_time()
            if self.condition == WRONG_LABEL:
                support = np.c_[np.roll(support[:, :1], 1, axis=0), support[:, 1:]]
            asked = query[:, : self.n_few] if method.is_dear else query
            of_task = np.flatnonzero(np.isin(boxes.labels, np.array(self.classes)[classes]))
            found = np.asarray(predict(support, asked.ravel(), of_task)).reshape(asked.shape)
            right.append(found == np.arange(len(found))[:, None])
        right = np.array(right)
        return {
            "n_correct": None if method.is_dear else right.sum((1, 2)).tolist(),
            "n_queries": self.n_way * self.n_query,
            "few": ["".join(map(str, task.T[: self.n_few].astype(int).ravel())) for task in right],
            "episodes": episodes.digest,
        }


@dataclass(frozen=True, kw_only=True)
class PeerChoice:
    """The setting of a method that is best on tasks of the validation classes, at one SNR; of equals the first."""

    method: str
    n_shot: int
    n_episodes: int
    snr: float = 0.05

    @property
    def settings(self) -> dict[str, object]:
        """What is chosen among, and on which classes."""
        return {"grid": METHODS[self.method].grid, "classes": VALIDATION}

    def run(self, runner: Runner) -> dict:
        """Result: `accuracies`, one for each setting; `best`, the setting."""
        grid, found = METHODS[self.method].grid, []
        for setting in grid:
            spec = PeerEvaluation(
                method=self.method, setting=tuple(sorted(setting.items())), data=DATA, classes=VALIDATION, snr=self.snr,
                n_shot=self.n_shot, n_episodes=self.n_episodes, episode_seed=1,
            )  # fmt: skip
            found.append(round(accuracy(spec.run(runner))[0], 4))
        return {"accuracies": found, "best": grid[int(np.argmax(found))]}


def choice_of(ask: Callable, method: str, n_shot: int) -> dict | None:
    """The entry of the choice of a method's setting; None where it was not run.

    ask : a spec -> its entry, the runner or what is stored
    """
    return ask(PeerChoice(method=method, **({"n_shot": n_shot} | METHODS[method].choice)))


def chosen_setting(ask: Callable, method: str, n_shot: int) -> dict | None:
    """The setting of a method, chosen where there are several; None where the choice was not run."""
    method = METHODS[method].searched_as or method
    if len(METHODS[method].grid) == 1:
        return METHODS[method].grid[0]
    choice = choice_of(ask, method, n_shot)
    return choice and choice["result"]["best"]


def peer(
    runner: Runner, pretrained: Pretrained, method: str, run_missing: bool, n_episodes: int | None = None, **tasks
) -> dict | None:
    """The entry of a method, its setting chosen, on tasks of the test classes; None where it is not run."""
    how, digests, setting = METHODS[method], {}, {}
    if tasks["n_shot"] not in how.shots:
        return None
    if how.package and find_spec(how.package) is None:
        run_missing = False
    ask = runner if run_missing else lambda spec, *inputs: runner.store.get(spec)
    if how.needs_encoder:
        calibration = pretrained.digests["calibration"] if method == CLASSIFY else None
        digests = {"encoder": pretrained.digests["encoder"], "calibration": calibration}
    elif (setting := chosen_setting(ask, method, tasks["n_shot"])) is None:
        return None
    tasks |= {"data": DATA, "classes": test_classes(), "n_episodes": n_episodes or how.n_episodes, "n_few": how.n_few}
    spec = PeerEvaluation(method=method, setting=tuple(sorted(setting.items())), **digests, **tasks)
    return ask(spec, pretrained)


# ---------------------------------------------------------------- numbers


def accuracy(result: dict) -> tuple[float, float, int]:
    """Mean over tasks and its interval, of all queries that were answered; how many these are."""
    if result["n_correct"] is None:
        return *mean_and_interval(_few(result).mean(1)), _few(result).size
    right = np.array(result["n_correct"]) / result["n_queries"]
    return *mean_and_interval(right), len(right) * result["n_queries"]


def difference(result: dict, other: dict) -> tuple[float, float]:
    """Paired difference over the tasks and queries that both answered."""
    if None in (result["n_correct"], other["n_correct"]):
        n, m = np.minimum(_few(result).shape, _few(other).shape)
        return mean_and_interval((_few(result)[:n, :m] - _few(other)[:n, :m]).mean(1))
    n = min(len(result["n_correct"]), len(other["n_correct"]))
    gain = np.array(result["n_correct"][:n]) - np.array(other["n_correct"][:n])
    return mean_and_interval(gain / result["n_queries"])


def _few(result: dict) -> np.ndarray:
    """First queries of each task, `(n_tasks, n)`, 1 where right."""
    return np.array([list(map(int, task)) for task in result["few"]])
