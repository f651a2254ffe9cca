"""The device, the number format and the memory of the machine that computes."""

import ctypes
import os
import platform
import sys
from datetime import UTC, datetime
from functools import cache

import torch


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The autocast context of a precision, 'fp32' or 'bf16' (weights and optimiser stay fp32)."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def fast_precision() -> str:
    """'bf16' where the processor multiplies bfloat16 natively, else 'fp32'."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "fp32"


@cache
def keep_freed_memory() -> bool:
    """Tell the C library to keep large freed buffers for the next allocation; False where it cannot be told.

    Activations of a 3D network are large, so glibc maps and unmaps them at every step and much of the time goes to page
    faults: a training step of 100 volumes of 40^3 takes 1.3 s instead of 1.8 with the buffers kept (bf16). The price is
    memory: buffers of several sizes leave gaps, and 1.8 GB become 2.2.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    m_trim_threshold, m_mmap_max = -1, -4
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))


def machine() -> dict[str, object]:
    """What a reader needs to judge a timing: processor, cores, GPU, versions, time."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
