"""The machine: number format, memory, and its description."""

import sys

import pytest
import torch

from cryo_fewshot import device


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_precision_asked_for(precision, dtype):
    with device.autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_the_description_of_a_machine_names_what_a_timing_needs():
    about = device.machine()
    assert set(about) == {"processor", "cores", "gpu", "python", "torch", "date"}
    assert about["torch"] == torch.__version__ and about["cores"] >= 1 and about["processor"]


def test_freed_memory_is_kept_where_the_c_library_can_be_told(monkeypatch):
    device.keep_freed_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert device.keep_freed_memory() is False
    device.keep_freed_memory.cache_clear()
    assert device.fast_precision() in ("fp32", "bf16") and device.default_device().type in ("cpu", "cuda")
