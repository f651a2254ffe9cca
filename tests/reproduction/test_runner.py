"""The runner: each spec once, what it needs first, time kept, nothing lost at the deadline."""

import time
from dataclasses import dataclass, replace

import pytest
import torch

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store, Trained
from cryo_fewshot.training import DeadlineReached, Schedule


@dataclass(frozen=True)
class Count:
    number: int = 1

    def run(self, runner, calls):
        calls.append(self.number)
        return {"doubled": 2 * self.number}


def brief_cells(**choice):
    """Cells of Table 1 whose trainings take a second."""
    profile = profile_named("smoke")
    schedule = Schedule(n_epochs=1, steps_per_epoch=1, learning_rate=1e-3)
    profile = replace(profile, encoder_schedule=schedule, adaptation_schedule=schedule, n_test_episodes=5)
    return table_1(profile, snrs=[0.1], shots=[5], **choice)


def test_a_spec_runs_once_with_its_inputs(tmp_path):
    calls, runner = [], Runner(Store(tmp_path))
    first, again = runner(Count(3), calls), runner(Count(3), calls)
    assert first["result"] == again["result"] == {"doubled": 6} and calls == [3]
    assert first["provenance"]["seconds"] >= 0 and first["provenance"]["commit"] == again["provenance"]["commit"]


def test_checkpoints_of_a_run_killed_after_its_result_are_removed(tmp_path):
    calls, runner = [], Runner(Store(tmp_path))
    runner(Count(3), calls)
    left = runner.store.path(Count(3), ".checkpoint")
    for name in (left.name, f".{left.name}.123.part"):
        left.with_name(name).write_bytes(b"half")
    runner(Count(3), calls)
    assert calls == [3] and not list(tmp_path.rglob("*checkpoint*"))


def test_another_function_may_run_a_spec(tmp_path):
    def run(spec, runner):
        return Trained({"number": spec.number}, {"weight": torch.ones(2)}, 12.34)

    entry = Runner(Store(tmp_path))(Count(), run=run, with_tensors=True)
    assert entry["result"] == {"number": 1} and entry["provenance"]["seconds"] == 12.3
    assert torch.equal(entry["tensors"]["weight"], torch.ones(2))


def test_past_the_deadline_what_was_finished_is_stored(tmp_path):
    calls = []
    with pytest.raises(DeadlineReached):
        Runner(Store(tmp_path), deadline=time.monotonic() - 1)(Count(2), calls)
    assert Store(tmp_path).get(Count(2))["result"] == {"doubled": 4}
    Runner(Store(tmp_path), deadline=time.monotonic() + 100)(Count(5), calls)
    assert calls == [2, 5]


def test_an_evaluation_brings_its_trainings_along_and_each_is_trained_once(tmp_path):
    cells = brief_cells(methods=["ProtoNet3D", "ProtoNet-CE"])
    runner = Runner(Store(tmp_path), torch.device("cpu"))
    evaluations = [cell.evaluation for cell in cells]
    needed = runner.missing(evaluations)
    assert needed == [evaluations[0].encoder, evaluations[1].adaptation]
    assert runner.estimated_seconds(needed) > 0
    entries = runner.run(reversed(evaluations))
    assert [entry["spec"]["head"] for entry in entries] == ["combined", "prototype"], "in the order asked for"
    assert runner.missing(evaluations) == []
    assert {kind: len(runner.store.entries(kind)) for kind in runner.store.kinds()} == {
        "adaptationrun": 1,
        "encoderrun": 1,
        "evaluation": 2,
    }
    assert not list(tmp_path.rglob("*.checkpoint"))


def test_embeddings_are_those_of_the_trained_encoder_and_computed_once(tmp_path):
    (cell,) = brief_cells(methods=["ProtoNet3D"])
    runner, evaluation = Runner(Store(tmp_path), torch.device("cpu")), cell.evaluation
    embeddings = evaluation.embeddings(runner)
    encoder = runner.encoder(evaluation.encoder)
    assert not encoder.training
    volumes = runner.volumes(evaluation.encoder, "novel").volumes
    with torch.no_grad():
        torch.testing.assert_close(embeddings, encoder(volumes), rtol=1e-4, atol=1e-4)
    assert evaluation.embeddings(runner) is embeddings
