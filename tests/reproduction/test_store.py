"""The store of results and the training loop: whole or absent, and the same after an interruption."""

import json
import shutil
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import write_atomically
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, Trained, _sealed, spec_name
from cryo_fewshot.training import Schedule, fit


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


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"No space left.*free some space") as error:
        write_atomically(tmp_path / "result.json", b"content")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ training


class Killed(Exception):
    pass


def train(checkpoint=None, n_epochs=6, stop_after=None, patience=0, flat=False):
    """Fit a line; the loss of step s of epoch e depends on (e, s) alone."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)

    def losses(epoch):
        if epoch == stop_after:
            raise Killed
        for step in range(4):
            x = torch.randn(8, 3, generator=torch.Generator().manual_seed(100 * epoch + step))
            yield (model(x) - x.sum(1, keepdim=True)).square().mean()

    def validate():
        return 0.5 if flat else -float((model.weight.detach() - 1).square().sum())

    schedule = Schedule(n_epochs=n_epochs, steps_per_epoch=4, learning_rate=0.1, halve_every=2, patience=patience)
    return model, fit(model, losses, validate, schedule, checkpoint)


def test_a_resumed_training_has_the_same_bits_as_an_uninterrupted_one(tmp_path):
    model, history = train()
    for stop_after in (1, 4):
        with pytest.raises(Killed):
            train(tmp_path / "c", stop_after=stop_after)
    resumed, resumed_history = train(tmp_path / "c")
    assert resumed_history.losses == history.losses
    assert torch.equal(resumed.weight, model.weight)


def test_a_damaged_checkpoint_means_training_from_the_start(tmp_path):
    model, _ = train()
    with pytest.raises(Killed):
        train(tmp_path / "c", stop_after=3)
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:100])
    assert torch.equal(train(tmp_path / "c")[0].weight, model.weight)


def test_the_model_with_the_best_validation_is_kept_the_earliest_of_equals():
    _, history = train(flat=True, patience=2)
    assert history.best_epoch == 0
    assert len(history.losses) == 3, "two epochs without a better one end the training"
