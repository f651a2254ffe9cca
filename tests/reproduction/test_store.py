"""The store of results and the training loop: whole or absent, and the same after an interruption."""

import json
from dataclasses import dataclass

import pytest
import torch

from cryo_fewshot.reproduction.store import Store, spec_hash


@dataclass(frozen=True)
class Spec:
    size: int = 3


def compute(calls):
    calls.append(1)
    return {"accuracy": 0.5}, 1.0, {"weight": torch.arange(4.0)}


@pytest.fixture
def filled(tmp_path):
    store = Store(tmp_path)
    store.compute(Spec(), lambda: compute([]))
    return store


def test_nothing_is_computed_twice(filled):
    calls = []
    entry = filled.compute(Spec(), lambda: compute(calls), with_tensors=True)
    assert not calls
    assert entry["result"] == {"accuracy": 0.5}
    assert torch.equal(entry["tensors"]["weight"], torch.arange(4.0))
    assert entry["provenance"]["torch"] == torch.__version__


def test_another_spec_is_another_result(filled):
    assert filled.get(Spec(4)) is None
    assert spec_hash(Spec(4)) != spec_hash(Spec())


@pytest.mark.parametrize(
    "suffix, damage",
    [
        (".json", lambda content: content[: len(content) // 2]),
        (".json", lambda content: b""),
        (".json", lambda content: content.replace(b"0.5", b"0.9")),
        (".json", lambda content: b"[]"),
        (".safetensors", lambda content: content[:-3]),
        (".safetensors", lambda content: content[:-1] + b"\x01"),
    ],
)
def test_a_damaged_result_is_found_said_and_computed_again(filled, suffix, damage, caplog):
    path = filled.path(Spec(), suffix)
    path.write_bytes(damage(path.read_bytes()))
    calls = []
    assert filled.compute(Spec(), lambda: compute(calls), with_tensors=True)["result"] == {"accuracy": 0.5}
    assert calls
    assert "computed again" in caplog.text
    assert filled.get(Spec(), with_tensors=True) is not None


def test_a_result_without_its_weights_still_gives_its_numbers(filled):
    filled.path(Spec(), ".safetensors").unlink()
    assert filled.get(Spec())["result"] == {"accuracy": 0.5}
    assert filled.get(Spec(), with_tensors=True) is None


def test_a_result_names_its_settings(filled):
    content = json.loads(filled.path(Spec()).read_text())
    assert content["spec"] == {"type": "Spec", "size": 3}
    assert len(filled.entries("Spec")) == 1


# ------------------------------------------------------------------ training
