"""What the benchmark measured, as tables."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from cryo_fewshot.figures.style import METHOD_COLOURS, WIDTH
from cryo_fewshot.reproduction.display import plain_style

PATHS = (
    ("embedding, fp32", "subtomogram", "embed_reference", "embed_fp32"),
    ("embedding, bf16", "subtomogram", "embed_reference", "embed_bf16"),
    ("embedding one at a time, bf16", "subtomogram", "embed_reference", "embed_bf16_one_by_one"),
    ("embedding, OpenVINO, fp32", "subtomogram", "embed_reference", "embed_openvino_fp32"),
    ("embedding, OpenVINO, bf16", "subtomogram", "embed_reference", "embed_openvino_bf16"),
    ("embedding, OpenVINO, second block in 8 bits", "subtomogram", "embed_reference", "embed_openvino_eight_bit"),
    ("embedding one at a time, OpenVINO, bf16", "subtomogram", "embed_reference", "embed_openvino_bf16_one_by_one"),
    ("embedding 20³, bf16", "subtomogram", "embed_reference_20", "embed_bf16_20"),
    ("embedding 20³, OpenVINO, bf16", "subtomogram", "embed_reference_20", "embed_openvino_bf16_20"),
    ("embedding 20³, OpenVINO, 8 bits", "subtomogram", "embed_reference_20", "embed_openvino_eight_bit_20"),
    ("training step, fp32", "subtomogram", "train_reference", "train_fp32"),
    ("training step, bf16", "subtomogram", "train_reference", "train_bf16"),
    ("evaluation, ProtoNet-CE", "episode", "evaluate_reference", "evaluate_package"),
    ("simulation", "subtomogram", None, "simulate_package"),
    ("stream of 1,000, 20³", "subtomogram", None, "stream_1000"),
    ("stream of 10,000, 20³", "subtomogram", None, "stream_10000"),
    ("stream of 100,000, 20³", "subtomogram", None, "stream_100000"),
    ("stream of 1,000, stub encoder", "subtomogram", None, "stream_stub_1000"),
    ("stream of 1,000,000, stub encoder", "subtomogram", None, "stream_stub_1000000"),
    ("import of the package", "start", "start_torch", "start_package"),
    ("cryo-fewshot --help", "start", None, "start_help"),
    ("training step on the GPU, fp32", "episode", "gpu_train_reference", "gpu_train_fp32"),
    ("training step on the GPU, bf16", "episode", "gpu_train_reference", "gpu_train_bf16"),
    ("embedding on the GPU, bf16", "subtomogram", None, "gpu_embed_bf16"),
    ("simulation on the GPU", "subtomogram", None, "gpu_simulate_package"),
)
_AGREEMENTS = {
    "fp32": "fp32, folded",
    "bf16": "bf16",
    "openvino_bf16": "OpenVINO, bf16",
    "openvino_eight_bit": "OpenVINO, second block in 8 bits",
}
_WEIGHTS = {"initial": "the paper's, untrained", "trained": "the paper's", "shipped": "pretrained"}
_LIMITS = {
    "limit_arithmetic_fp32": ("tflops", "TFLOP/s in fp32"),
    "limit_arithmetic_bf16": ("tflops", "TFLOP/s in bf16"),
    "limit_memory_copy": ("gb_per_second", "GB/s of memory copied"),
    "gpu_limit_arithmetic_bf16": ("tflops", "TFLOP/s in bf16 on the GPU"),
}


def speed_frame(path: Path) -> pd.DataFrame:
    """A benchmark file as a table: path, unit, reference_ms, package_ms, ratio, peak_gb, relative_error."""
    results = json.loads(path.read_bytes())["results"]
    rows = [
        {
            "path": name,
            "unit": unit,
            "reference_ms": results.get(reference, {}).get("seconds", float("nan")) * 1e3,
            "package_ms": measured["seconds"] * 1e3,
            "peak_gb": measured["peak_gb"],
            "relative_error": measured.get("relative_error", float("nan")),
        }
        for name, unit, reference, package in PATHS
        if "seconds" in (measured := results.get(package, {}))
    ]
    frame = pd.DataFrame(rows)
    frame.insert(4, "ratio", frame["reference_ms"] / frame["package_ms"])
    return frame


def agreement_frame(path: Path) -> pd.DataFrame:
    """What rounding changes, from a benchmark file: encoder, computed, queries, equal, accuracies, relative_error."""
    results = json.loads(path.read_bytes())["results"]
    rows = [
        {"encoder": _WEIGHTS[same["weights"]], "computed": how, **same}
        for prefix in ("agreement_", "agreement_shipped_")
        for name, how in _AGREEMENTS.items()
        if "accuracy" in (same := results.get(prefix + name, {}))
    ]
    columns = ["encoder", "computed", "queries", "equal", "accuracy", "accuracy_reference", "relative_error"]
    return pd.DataFrame(rows, columns=columns)


def speed_text(path: Path) -> str:
    """Machine, date and limits of a benchmark file, in one line of Markdown."""
    content = json.loads(path.read_bytes())
    about, results = content["machine"], content["results"]
    text = f"**Machine.** {about['processor']}, {about['cores']} cores, GPU: {about['gpu']}; torch {about['torch']}"
    text += f"; measured {about['date']}."
    limits = [
        f"{results[name][key]:.2f} {unit}" for name, (key, unit) in _LIMITS.items() if key in results.get(name, {})
    ]
    text += f" Its limits, measured in the same run: {', '.join(limits)}." if limits else ""
    missing = sorted({result["not_run"] for result in results.values() if "not_run" in result})
    return text + (f" Not measured in this run: {'; '.join(missing)}." if missing else "")


def show_speed(frame: pd.DataFrame) -> Styler:
    """The benchmark for reading."""
    return _shown(frame, {"Path": "{}", "per": "{}", "Reference (ms)": "{:.3g}", "Package (ms)": "{:.3g}",
                          "Times faster": "{:.1f}", "Peak (GB)": "{:.1f}", "Error": "{:.0e}"})  # fmt: skip


def show_agreement(frame: pd.DataFrame) -> Styler:
    """What rounding changes, for reading."""
    return _shown(frame, {"Encoder": "{}", "Computed in": "{}", "Queries": "{:,}",
                          "Predicted as in plain fp32": "{:.2%}", "Accuracy": "{:.2%}", "in fp32": "{:.2%}",
                          "Error of embeddings": "{:.0e}"})  # fmt: skip


def _shown(frame: pd.DataFrame, formats: dict[str, str]) -> Styler:
    return plain_style(frame.set_axis(list(formats), axis=1)).format(formats, na_rep="–").hide(axis="index")


def speed_figure(frame: pd.DataFrame) -> Figure:
    """Time of the package beside the reference's, on a logarithmic scale; a row per path that has a reference.

    frame : columns path, unit, reference_ms, package_ms, ratio
    """
    rows = frame[frame["ratio"].notna()].iloc[::-1]
    figure, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.42 * len(rows)))
    places = np.arange(len(rows))
    ax.hlines(places, rows["package_ms"], rows["reference_ms"], color="#bbbbbb", linewidth=2, zorder=1)
    ax.scatter(rows["reference_ms"], places, color="#000000", marker="x", label="plain reference", zorder=2)
    ax.scatter(rows["package_ms"], places, color=METHOD_COLOURS["ProtoNet3D"], label="this package", zorder=2)
    for place, row in zip(places, rows.itertuples(), strict=True):
        middle = (row.package_ms * row.reference_ms) ** 0.5
        ax.annotate(f"{row.ratio:.1f}×", (middle, place), xytext=(0, 3), textcoords="offset points", ha="center")
    ax.set_xscale("log")
    ax.set(yticks=places, yticklabels=rows["path"], xlabel="Milliseconds per unit (further left is faster)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
