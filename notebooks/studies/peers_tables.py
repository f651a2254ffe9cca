"""The comparison with peers as tables and one figure."""

import pandas as pd

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import PAPER_SHOTS, PAPER_SNRS, profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, results_folder

from .open_world import Pretrained, paper_like
from .peers import CLASSIFY, METHODS, accuracy, difference, n_answered, peer

TRAINED = ("ProtoNet3D", "ProtoNet3D (mix)", "ProtoNet-CE", "ProtoNet-CE (mix)")
"""Networks of the paper, as the profile `finished` trained them until they stopped improving."""


def test_classes() -> tuple[str, ...]:
    """The test classes of all tables of class split 0, which the pretrained encoder was not trained on either."""
    return paper_like(profile_named("finished"), 0.1, 5).novel_classes


def simulated_frame(runner: Runner, pretrained: Pretrained, run_missing: bool) -> tuple[pd.DataFrame, list[dict]]:
    """A row per method, SNR and number of labels, and the entries.

    Columns: method, known, snr, n_shot, accuracy, ci95, n_episodes, n_queries, difference, difference_ci95; the
    difference is `classify` minus the method, paired.
    """
    rows, entries = [], []
    for n_shot in PAPER_SHOTS:
        for snr in PAPER_SNRS:
            tasks = {"classes": test_classes(), "snr": snr, "n_shot": n_shot}
            found = {name: peer(runner, pretrained, name, run_missing, **tasks) for name in METHODS}
            found |= _trained(snr, n_shot)
            ours = found[CLASSIFY]
            for name, entry in found.items():
                if entry is None:
                    continue
                result = entry["result"]
                gain = difference(ours["result"], result) if ours and name != CLASSIFY else (float("nan"),) * 2
                known = METHODS[name].known if name in METHODS else "labels, ten training classes"
                rows.append((name, known, snr, n_shot, *accuracy(result), *n_answered(result), *gain))
                entries.append(entry)
    columns = ["method", "known", "snr", "n_shot", "accuracy", "ci95", "n_episodes", "n_queries"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "difference_ci95"]), entries


def _trained(snr: float, n_shot: int) -> dict[str, dict | None]:
    """Stored entries of the networks of the paper; their tasks begin with the very tasks of the peers."""
    profile = profile_named("finished")
    store = Store(results_folder(profile.name))
    cells = table_1(profile, snrs=[snr], shots=[n_shot], methods=list(TRAINED))
    return {cell.method: store.get(cell.evaluation) for cell in cells}
