"""The peers on the labelled tomogram of `real_benchmark`: its tasks, its odd half, none of its encoder."""

import tempfile
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.recognition.benchmark import LabelledTomogram, benchmark, labelled_tomogram, open_labelled
from cryo_fewshot.reproduction.runner import Runner

from .open_world import Pretrained
from .peers import DATA, EACH, METHODS, NETWORK, SPHERE, TRUE_MAP, chosen_setting
from .peers_features import Boxes
from .real_benchmark import TASKS, YEAST

_ELSEWHERE = (TRUE_MAP, SPHERE, NETWORK)
ASKED = tuple(n for n, how in METHODS.items() if not (how.needs_encoder or how.package or n in _ELSEWHERE))
"""Methods that make sense there: what the classes other than the ribosome look like is not known beforehand."""
DEAR_TASKS = ("all five", "ribosome, cytosol")


@dataclass(frozen=True, kw_only=True)
class RealPeers:
    """A method of `peers` on the tomogram; boxes : digest of them; setting : the one chosen on simulated classes."""

    method: str
    setting: tuple[tuple[str, float | str], ...]
    boxes: str
    n_shot: int
    task: str
    half: str = "odd"
    n_episodes: int = 100
    seed: int = 0

    def run(self, runner: Runner, data: LabelledTomogram) -> dict:
        """Result: `rows`, the columns of the table of `recognition.benchmark`."""
        boxes = Boxes(data.volumes, data.volumes, data.labels, replace(DATA.microscope, tilt_min=-60.0, tilt_max=60.0))
        methods = {self.method: METHODS[self.method].make(boxes, **dict(self.setting))}
        found = benchmark(
            data, None, {self.task: TASKS[self.task]}, shots=(self.n_shot,), halves=(self.half,),
            n_episodes=self.n_episodes, methods=methods, seed=self.seed, progress=lambda n: runner.check_time(),
        )  # fmt: skip
        return {"rows": found.to_dict("list")}


def run_real(
    runner: Runner, pretrained: Pretrained, folder: str | Path = YEAST, *, shots=(1, 5, 10), tasks=tuple(TASKS)
) -> list[dict]:
    """Every method on the tasks of the tomogram, dear ones on two of them with fewer labels; the entries."""
    with tempfile.TemporaryDirectory() as temporary:
        particles = open_labelled(Path(folder), Path(temporary))
        data = labelled_tomogram(particles, pretrained.encoder, pretrained.card, Path(temporary))
    entries = []
    for method, task, n_shot in product(ASKED, tasks, shots):
        how = METHODS[method]
        if how.is_dear and (task not in DEAR_TASKS or n_shot not in ((5,) if method == EACH else (1, 5))):
            continue
        setting = chosen_setting(runner, method, min(n_shot, 5))
        spec = RealPeers(
            method=method, setting=tuple(sorted(setting.items())), boxes=digest_of(data.volumes), n_shot=n_shot,
            task=task, n_episodes=20 if how.is_dear else 100,
        )  # fmt: skip
        entries.append(runner(spec, data))
    return entries
