"""Encoder files: weights with a card that says what they were trained on and what to expect of them.

One safetensors file holds both, so neither gets lost, and nothing is ever unpickled.
"""

import json
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from . import __version__
from .encoder import Encoder3D, PooledEncoder3D
from .errors import UserError
from .files import LIBRARY, write_atomically

PRETRAINED = LIBRARY / "encoder.safetensors"
FORMAT = "cryo-fewshot encoder 1"
KINDS = {kind.__name__: kind for kind in (Encoder3D, PooledEncoder3D)}
AnyEncoder = Encoder3D | PooledEncoder3D


def save_encoder(path: str | Path, encoder: AnyEncoder, card: dict[str, Any]) -> None:
    """Write the weights of an encoder and its card as one safetensors file.

    card : what a user must know, as plain JSON values; it gains `architecture`, which rebuilds the encoder, and
    `package_version`. `pretraining.pretrain` fills it: spec, training_classes, held_out_classes, box, voxel_size_nm,
    dark_protein, expected_accuracy, calibration, machine, seconds.
    """
    kind = type(encoder).__name__
    if kind not in KINDS:
        raise UserError(f"{path}: an encoder of kind {kind} cannot be saved; use {' or '.join(KINDS)}")
    architecture = {"kind": kind, **{name: getattr(encoder, name) for name in signature(KINDS[kind]).parameters}}
    try:
        text = json.dumps({**card, "architecture": architecture, "package_version": __version__}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: the card holds what JSON cannot ({error}); use plain numbers and text") from error
    tensors = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    write_atomically(Path(path), save(tensors, metadata={"format": FORMAT, "card": text}))


def load_encoder(path: str | Path | None = None) -> tuple[AnyEncoder, dict[str, Any]]:
    """The encoder of a file, in evaluation mode on the CPU, and its card; without a path, the pretrained one.

    Raises UserError where the file is absent, damaged, or no encoder of this package.
    """
    remedy = "give a file that save_encoder wrote" if path else "install the package anew"
    path = PRETRAINED if path is None else Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: no encoder can be read from it ({reason}); {remedy}") from error
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "weights without a card")
        raise UserError(f"{path}: holds '{found}', not '{FORMAT}'; {remedy}")
    try:
        card = json.loads(metadata["card"])
        settings = dict(card["architecture"])
        encoder = KINDS[settings.pop("kind")](**settings)
        encoder.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError, UserError) as error:
        raise UserError(f"{path}: its card and its weights do not fit together; {remedy}") from error
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise UserError(f"{path}: weights that are NaN or infinite; {remedy}")
    return encoder.eval(), card
