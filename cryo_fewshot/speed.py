"""What the benchmark measured, as a table and in words."""

import json
from pathlib import Path

import pandas as pd

from .display import plain_style

PATHS = (
    ("embedding, fp32", "subtomogram", "embed_reference", "embed_fp32"),
    ("embedding, bf16", "subtomogram", "embed_reference", "embed_bf16"),
    ("embedding one at a time, bf16", "subtomogram", "embed_reference", "embed_bf16_one_by_one"),
    ("training step, fp32", "subtomogram", "train_reference", "train_fp32"),
    ("training step, bf16", "subtomogram", "train_reference", "train_bf16"),
    ("evaluation, ProtoNet-CE", "episode", "evaluate_reference", "evaluate_package"),
    ("simulation", "subtomogram", None, "simulate_package"),
    ("stream of 1,000", "subtomogram", None, "stream_1000"),
    ("stream of 5,000", "subtomogram", None, "stream_5000"),
    ("import of the package", "start", "start_torch", "start_package"),
    ("cryo-fewshot --help", "start", None, "start_help"),
)


def speed_frame(path: Path) -> pd.DataFrame:
    """A benchmark file as a table: path, unit, reference_ms, package_ms, ratio, peak_gb, relative_error."""
    results = json.loads(path.read_bytes())["results"]
    rows = []
    for name, unit, reference, package in PATHS:
        if package in results:
            measured = results[package]
            plain = results[reference]["seconds"] * 1e3 if reference in results else float("nan")
            rows.append(
                {
                    "path": name,
                    "unit": unit,
                    "reference_ms": plain,
                    "package_ms": measured["seconds"] * 1e3,
                    "ratio": plain / (measured["seconds"] * 1e3),
                    "peak_gb": measured["peak_gb"],
                    "relative_error": measured.get("relative_error", float("nan")),
                }
            )
    return pd.DataFrame(rows)


def speed_words(path: Path) -> str:
    """Machine, date and limits of a benchmark file, in one line of Markdown."""
    content = json.loads(path.read_bytes())
    about, results = content["machine"], content["results"]
    words = f"**Machine.** {about['processor']}, {about['cores']} cores, GPU: {about['gpu']}; torch {about['torch']}"
    words += f"; measured {about['date']}."
    limits = [
        f"{results[name][key]:.2f} {unit}"
        for name, key, unit in (
            ("limit_arithmetic_fp32", "tflops", "TFLOP/s in fp32"),
            ("limit_arithmetic_bf16", "tflops", "TFLOP/s in bf16"),
            ("limit_memory_copy", "gb_per_second", "GB/s of memory copied"),
        )
        if name in results
    ]
    words += f" Its limits, measured beside: {', '.join(limits)}." if limits else ""
    if "agreement_bf16" in results:
        same = results["agreement_bf16"]
        words += f" Predictions in bf16 equal the reference's in {same['equal']:.2%} of {same['queries']:,} queries,"
        words += " with an encoder that has its initial weights."
    return words


def show_speed(frame: pd.DataFrame) -> "pd.io.formats.style.Styler":
    """The benchmark for reading."""
    shown = pd.DataFrame(
        {
            "Path": frame["path"],
            "per": frame["unit"],
            "Reference (ms)": frame["reference_ms"],
            "Package (ms)": frame["package_ms"],
            "Times faster": frame["ratio"],
            "Peak (GB)": frame["peak_gb"],
            "Error": frame["relative_error"],
        }
    )
    formats = {name: "{:.3g}" for name in shown.columns[2:4]} | {"Times faster": "{:.1f}", "Error": "{:.0e}"}
    return plain_style(shown).format(formats | {"Peak (GB)": "{:.1f}"}, na_rep="–").hide(axis="index")
