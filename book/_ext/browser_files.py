"""What the page "Your own particles in the browser" loads on demand: the pretrained encoder, and files to try."""

import base64
import json
import tempfile
from pathlib import Path

import mrcfile
import numpy as np

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.errors import UserError
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.simulation.datasets import SimulatedData
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.weights import load_encoder

EXAMPLE = {"GroEL": "1OEL", "Lon": "3M6A", "ClpB": "1QVR"}
"""Classes of the example, none of which the pretrained encoder was trained on."""
UNKNOWN = "1HTQ"
_N_LABELLED, _N_OTHER = 5, 8
_PANEL = 8  # output channels that the browser computes at once


def encoder_script(path: Path | None = None) -> str:
    """JavaScript that sets `ENCODER`: its folded convolutions and its calibration; by default the pretrained one.

    Weights are whole numbers of 16 bits, times a scale for each output channel, in the order `(channels out / 8,
    27 voxels times channels in, 8)` in which the browser multiplies.
    """
    encoder, card = load_encoder(path)
    if not isinstance(encoder, PooledEncoder3D) or not card.get("calibration"):
        raise UserError(f"{path}: not a calibrated PooledEncoder3D, which is what the browser computes")
    folded = encoder.folded()
    layers, numbers = [], []
    for layer in (*folded.blocks, *folded.coarse):
        weight, bias = layer.weight.numpy(), layer.bias
        scale = np.abs(weight).max(axis=(1, 2, 3, 4)) / 32767
        whole = np.round(weight / scale[:, None, None, None, None]).astype("<i2")
        rows = whole.transpose(2, 3, 4, 1, 0).reshape(-1, len(whole) // _PANEL, _PANEL)
        numbers.append(rows.transpose(1, 0, 2).tobytes())
        layers.append({"in": weight.shape[1], "out": len(weight), "scale": _floats(scale), "bias": _floats(bias)})
    calibration = card["calibration"]
    spaces = {
        name: {part: _floats(calibration[name][part]) for part in ("mean", "axes", "between")}
        for name in ("space", "crowded_space")
    }
    promises = {name: calibration["promises"][name] for name in ("limits", "temperature", "thresholds")}
    content = {
        "digest": digest_of(*encoder.state_dict().values()),
        "box": card["box"],
        "voxel_size_nm": card["voxel_size_nm"],
        "layers": layers,
        "weights": base64.b64encode(b"".join(numbers)).decode(),
        **spaces,
        **promises,
        "noise": _floats(calibration["noise"]),
        "crowd": _floats(calibration["crowd"]),
    }
    return f"var ENCODER = {json.dumps(content, separators=(',', ':'))};\n"


def example_script() -> str:
    """JavaScript that sets `EXAMPLE`: simulated particles as MRC files, some in folders by class, others unlabelled."""
    data = SimulatedData(microscope=Microscope(binning=2), seed=2026)
    counts = {key: _N_LABELLED + _N_OTHER for key in EXAMPLE.values()} | {UNKNOWN: _N_OTHER}
    volumes = data.subtomograms({0.1: max(counts.values())}, list(counts), "cpu").volumes.numpy()
    of_class = dict(zip(counts, volumes.reshape(len(counts), -1, *volumes.shape[1:]), strict=True))
    files = {
        f"labelled/{name}/{number + 1:02d}.mrc": volume
        for name, key in EXAMPLE.items()
        for number, volume in enumerate(of_class[key][:_N_LABELLED])
    }
    others = np.concatenate([of_class[key][-_N_OTHER:] for key in counts])
    order = np.random.default_rng(0).permutation(len(others))
    files |= {f"others/{number + 1:02d}.mrc": others[i] for number, i in enumerate(order)}
    packed = {name: _as_mrc(volume, data.voxel_size_nm) for name, volume in files.items()}
    return f"var EXAMPLE = {json.dumps(packed)};\n"


def _as_mrc(volume: np.ndarray, voxel_size_nm: float) -> str:
    """A standardised volume as an MRC file of signed bytes, base64."""
    values = np.clip(np.round(volume * 25), -127, 127).astype(np.int8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "particle.mrc"
        mrcfile.write(path, values, voxel_size=10 * voxel_size_nm)
        return base64.b64encode(path.read_bytes()).decode()


def _floats(values) -> list:
    """Numbers of fp32, and no more digits than that takes."""
    values = np.asarray(values, dtype=np.float32)
    return [_floats(row) for row in values] if values.ndim > 1 else [float(f"{value:.8g}") for value in values]
