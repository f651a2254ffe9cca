"""The peers on the labelled tomogram of `real_benchmark`: its tasks, its odd half, none of its encoder."""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.recognition.benchmark import LabelledTomogram, benchmark
from cryo_fewshot.reproduction.runner import Runner

from .peers import DATA, METHODS, NETWORK, SPHERE, TRUE_MAP, chosen_setting
from .peers_features import Boxes
from .pretrained import Pretrained
from .real_benchmark import TASKS, YEAST, tomogram_of

_ELSEWHERE = (TRUE_MAP, SPHERE, NETWORK)
ASKED = tuple(n for n, how in METHODS.items() if not (how.needs_encoder or how.package or n in _ELSEWHERE))
"""Methods that make sense there: what the classes other than the ribosome look like is not known beforehand."""
SHOWN_TASKS, SHOTS = ("all five", "ribosome, cytosol"), (1, 5, 10)


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


def run_real(runner: Runner, pretrained: Pretrained, folder: str | Path = YEAST) -> list[dict]:
    """Every method on tasks of the tomogram, dear ones with up to five labels; the entries."""
    data = tomogram_of(folder, pretrained.encoder, pretrained.card)
    entries, boxes = [], digest_of(data.volumes)
    for method, task, n_shot in product(ASKED, SHOWN_TASKS, SHOTS):
        is_dear = METHODS[method].is_dear
        if is_dear and n_shot > 5:
            continue
        setting, n = tuple(sorted(chosen_setting(runner, method, min(n_shot, 5)).items())), 20 if is_dear else 100
        spec = RealPeers(method=method, setting=setting, boxes=boxes, n_shot=n_shot, task=task, n_episodes=n)
        entries.append(runner(spec, data))
    return entries
