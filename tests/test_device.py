"""The machine: number format, memory, and its description."""

import io
import sys
from types import SimpleNamespace

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


@pytest.mark.parametrize(("answer", "kept"), [(1, True), (0, False)])
def test_the_c_library_is_told_what_malloc_h_calls_the_two_limits(monkeypatch, answer, kept):
    told = []
    library = SimpleNamespace(mallopt=lambda *option: told.append(option) or answer)
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    device.keep_freed_memory.cache_clear()
    assert device.keep_freed_memory() is kept
    assert told == [(-4, 0), (-1, 2**31 - 1)][: len(told)] and len(told) == 1 + kept
    monkeypatch.setattr(device.ctypes, "CDLL", lambda name: SimpleNamespace())  # as musl, which has no mallopt
    device.keep_freed_memory.cache_clear()
    assert device.keep_freed_memory() is False
    device.keep_freed_memory.cache_clear()


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("native", [False, True])
def test_bf16_is_fast_where_the_processor_multiplies_it_itself(monkeypatch, gpu, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native != gpu)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert device.fast_precision() == ("bf16" if native else "fp32")
    assert device.default_device().type == ("cuda" if gpu else "cpu")


def test_the_processor_is_called_what_the_system_calls_it(monkeypatch):
    lines = {"first": "vendor_id : X\nmodel name\t: Fast: 2 GHz\nmodel name : other\n", "none": "vendor_id : X\n"}
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    for which, name in {"first": "Fast: 2 GHz", "none": "riscv64"}.items():
        monkeypatch.setattr("builtins.open", lambda *_, which=which, **__: io.StringIO(lines[which]))
        assert device._processor() == name
