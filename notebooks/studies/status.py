"""What was run: trainings and profiles of a store, as tables for the page of the status."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import plain_style
from cryo_fewshot.reproduction.profiles import PROFILES, profile_named
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.reproduction.tables import stored_cells


def training_histories(store: Store) -> dict[str, dict]:
    """Loss and validation accuracy per epoch of each stored encoder training, by a name that says what it was."""
    return {_training_name(entry["spec"]): entry["result"] for entry in store.entries("EncoderRun")}


def show_trainings(store: Store) -> Styler:
    """All stored trainings: what, selected epoch, validation accuracy, time."""
    rows = []
    for kind in ("EncoderRun", "AdaptationRun"):
        for entry in store.entries(kind):
            result, provenance = entry["result"], entry["provenance"]
            rows.append(
                {
                    "Training": _training_name(entry["spec"]),
                    "Selected epoch": f"{result['best_epoch'] + 1} of {len(result['loss'])}",
                    "Validation accuracy": f"{max(result['validation_accuracy']):.3f}",
                    "Time (s)": f"{provenance['seconds']:.0f}",
                    "Date": provenance["date"],
                }
            )
    return plain_style(pd.DataFrame(rows).sort_values("Training")).hide(axis="index")


def show_profiles(folder_of: Callable[[str], Path]) -> Styler:
    """Every profile, what it stands for, and how much of its Table 1 has been run."""
    rows = []
    for name in PROFILES:
        if name != "smoke":
            profile = profile_named(name)
            cells = table_1(profile)
            n_run = len(stored_cells(Store(folder_of(name)), cells)[0])
            words = {0: "not run", len(cells): "run"}.get(n_run, f"{n_run} of {len(cells)} cells run")
            rows.append({"Profile": name, "What it is": profile.note, "Table 1": words})
    return plain_style(pd.DataFrame(rows)).hide(axis="index")


def _training_name(spec: dict) -> str:
    if spec["type"] == "AdaptationRun":
        return f"attention on: {_training_name(spec['encoder'])}"
    snrs = [f"{snr:g}" for snr, _ in spec["snr_counts"]]
    words = "baseline encoder" if spec["objective"] == "classes" else f"ProtoNet3D, {spec['n_shot']}-shot"
    return f"{words}, {'SNR ' + snrs[0] if len(snrs) == 1 else 'mixed SNR'}"
