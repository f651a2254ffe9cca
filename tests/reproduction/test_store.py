"""The store of results: whole or absent, named by content, the same when published."""

import json
import shutil
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pytest
import torch

from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, Trained, _sealed, spec_name


@dataclass(frozen=True)
class Part:
    width: int = 1


@dataclass(frozen=True)
class LikePart:
    width: int = 1


@dataclass(frozen=True)
class Spec:
    size: int = 3
    part: object = Part()

    def run(self, runner, calls):
        calls.append(1)
        return Trained({"accuracy": 0.5}, {"weight": torch.arange(4.0)}, 1.0)


@pytest.fixture
def filled(tmp_path):
    store = Store(tmp_path)
    Runner(store)(Spec(), [])
    return store


def test_nothing_is_computed_twice(filled):
    calls = []
    entry = Runner(filled)(Spec(), calls, with_tensors=True)
    assert not calls
    assert entry["result"] == {"accuracy": 0.5}
    assert torch.equal(entry["tensors"]["weight"], torch.arange(4.0))
    assert entry["provenance"]["torch"] == torch.__version__


def test_another_spec_is_another_result(filled):
    assert filled.get(Spec(4)) is None
    assert spec_name(Spec(4)) != spec_name(Spec())


def test_a_part_of_another_type_or_version_or_other_settings_makes_another_result():
    @dataclass(frozen=True)
    class Versioned(Part):
        version = 2

    @dataclass(frozen=True)
    class WithSettings(Part):
        settings: ClassVar = {"rate": 0.1}

    for other in (Versioned, WithSettings):
        other.__name__ = "Part"
    parts = [Part(), LikePart(), Versioned(), WithSettings(), Part(2)]
    assert len({spec_name(Spec(part=part)) for part in parts}) == len(parts)


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
    assert Runner(filled)(Spec(), calls, with_tensors=True)["result"] == {"accuracy": 0.5}
    assert calls
    assert "computed again" in caplog.text
    assert filled.get(Spec(), with_tensors=True) is not None


def test_a_result_without_its_weights_still_gives_its_numbers(filled):
    filled.path(Spec(), ".safetensors").unlink()
    assert filled.get(Spec())["result"] == {"accuracy": 0.5}
    assert filled.get(Spec(), with_tensors=True) is None


def test_a_result_names_its_settings(filled):
    content = json.loads(filled.path(Spec()).read_text())
    assert content["spec"] == {"type": "Spec", "size": 3, "part": {"type": "Part", "width": 1}}
    assert len(filled.entries("Spec")) == 1


# ------------------------------------------------------------------ published results


def test_published_results_serve_a_store_without_a_cache(filled, tmp_path):
    entry = filled.get(Spec())
    assert [path.name for path in filled.publish()] == ["spec.parquet"]
    shutil.rmtree(tmp_path / "spec")
    assert Store(tmp_path).get(Spec()) == entry
    assert Store(tmp_path).entries("Spec") == [json.loads(_sealed(entry))]
    assert Store(tmp_path).get(Spec(4)) is None
    table = pd.read_parquet(tmp_path / "spec.parquet")
    assert table[["spec.size", "spec.part.width", "result.accuracy"]].values.tolist() == [[3, 1, 0.5]]


def test_publishing_adds_to_what_is_published_and_leaves_equal_files_alone(filled, tmp_path):
    filled.publish()
    assert filled.publish() == []
    shutil.rmtree(tmp_path / "spec")
    Runner(filled)(Spec(4), [])
    assert len(filled.publish()) == 1
    assert {entry["spec"]["size"] for entry in Store(tmp_path).entries("spec")} == {3, 4}


def test_published_weights_serve_a_store_without_a_cache(filled, tmp_path):
    Runner(filled)(Spec(4), [])
    filled.publish()
    for path in (filled.publish_weights("spec"), filled.publish_weights("spec")):  # the second adds nothing
        assert path.stat().st_size < 1000
    written = path.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "spec")
    filled.publish()
    assert path.stat().st_mtime_ns == written  # the cache adds nothing
    for spec in (Spec(), Spec(4)):
        assert torch.equal(filled.get(spec, with_tensors=True)["tensors"]["weight"], torch.arange(4.0))
    assert filled.get(Spec(5), with_tensors=True) is None
    (tmp_path / "spec.safetensors").write_bytes(b"damaged")
    assert filled.get(Spec(), with_tensors=True) is None


def test_a_damaged_result_is_not_published(filled, tmp_path):
    filled.path(Spec()).write_bytes(b"{")
    assert filled.publish() == [] and not list(tmp_path.glob("*.parquet"))


def test_publishing_that_is_killed_leaves_the_old_file(filled, tmp_path, monkeypatch):
    filled.publish()
    before = (tmp_path / "spec.parquet").read_bytes()
    Runner(filled)(Spec(4), [])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        filled.publish()
    assert (tmp_path / "spec.parquet").read_bytes() == before


def test_a_published_result_that_was_edited_is_not_believed(filled, tmp_path, caplog):
    filled.publish()
    table = pd.read_parquet(tmp_path / "spec.parquet")
    table["entry"] = table["entry"].str.replace("0.5", "0.9")
    table.to_parquet(tmp_path / "spec.parquet")
    shutil.rmtree(tmp_path / "spec")
    assert Store(tmp_path).get(Spec()) is None
    assert "damaged" in caplog.text
