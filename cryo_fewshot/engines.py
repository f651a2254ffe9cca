"""OpenVINO as an optional engine for embedding on a CPU (extra [engine]); the same network, other machine code."""

import hashlib
import logging
from collections.abc import Callable
from functools import cache

import torch

ENGINES = ("torch", "openvino", "auto")
_LOG = logging.getLogger(__name__)
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_COMPILED: dict[str, Callable] = {}


def openvino_installed() -> bool:
    """Whether the optional engine can be imported; nothing of it is imported here."""
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def settled(engine: str, device: torch.device) -> str:
    """The engine that is to be had on a device; one that was asked for and is not becomes torch and is logged once.

    'auto' is OpenVINO on a CPU where it is installed.
    """
    usable = device.type == "cpu" and openvino_installed()
    if engine == "openvino" and not usable:
        _say_once(f"OpenVINO is not installed or does not serve the {device.type}: torch computes instead")
    return "openvino" if usable and engine != "torch" else "torch"


@cache
def _say_once(line: str) -> None:
    _LOG.warning(line)


def openvino_network(folded: torch.nn.Module, shape: tuple[int, ...], precision: str) -> Callable:
    """Compile an encoder in evaluation form for volumes `(n, *shape)`: a function from a tensor to float32 embeddings.

    In 'bf16' it rounds less often than torch. The last few compiled networks are kept: single volumes, one call each,
    compile once.
    """
    threads = torch.get_num_threads()
    digest = hashlib.sha256(repr((type(folded).__name__, shape, precision, threads)).encode())
    for weights in folded.state_dict().values():
        digest.update(weights.float().contiguous().numpy())
    key = digest.hexdigest()
    if key not in _COMPILED:
        if len(_COMPILED) >= 4:
            _COMPILED.pop(next(iter(_COMPILED)))
        _COMPILED[key] = _compile(folded, shape, precision, threads)
    network = _COMPILED[key]
    return lambda volumes: torch.from_numpy(network(volumes.float().contiguous().numpy())[0])


def _compile(folded: torch.nn.Module, shape: tuple[int, ...], precision: str, threads: int) -> Callable:
    from openvino import Core, convert_model

    model = convert_model(folded, example_input=torch.zeros(2, *shape))
    model.reshape([-1, *shape])
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    return Core().compile_model(model, "CPU", settings)
