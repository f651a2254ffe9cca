"""The store of results and the training loop: whole or absent, and the same after an interruption."""

import json
from dataclasses import dataclass

import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.files import write_atomically
from cryo_fewshot.reproduction.store import Store, spec_hash
from cryo_fewshot.training import Schedule, fit


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
