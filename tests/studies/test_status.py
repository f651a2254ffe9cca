"""The status page: what a store holds, and what it does not."""

from studies.status import show_profiles, show_trainings, training_histories

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.store import Store, Trained

CELLS = table_1(profile_named("cpu"), snrs=[0.1], shots=[5], methods=["baseline", "ProtoNet3D", "ProtoNet-CE"])
HISTORY = {"validation_accuracy": [0.5, 0.7, 0.6], "loss": [1.0, 0.5, 0.4], "best_epoch": 1}
RESULT = {"accuracy": 0.7, "ci95": 0.01, "episodes": "any"}


def test_profiles_that_were_run_in_part_or_not_say_so(tmp_path):
    Store(tmp_path / "cpu").put(CELLS[0].evaluation, Trained(RESULT, None, 1.0))
    shown = show_profiles(lambda name: tmp_path / name).data.set_index("Profile")["Table 1"]
    assert shown["cpu"] == "1 of 30 cells run"
    assert set(shown.drop("cpu")) == {"not run"}


def test_trainings_are_named_by_what_they_are(tmp_path):
    store = Store(tmp_path)
    for cell in CELLS:
        for run in (cell.evaluation.encoder, cell.evaluation.adaptation):
            if run is not None:
                store.put(run, Trained(HISTORY, None, 3.0))
    trainings = show_trainings(store).data
    names = ["ProtoNet3D, 5-shot, SNR 0.1", "attention on: ProtoNet3D, 5-shot, SNR 0.1", "baseline encoder, SNR 0.1"]
    assert trainings["Training"].tolist() == names
    assert set(trainings["Selected epoch"]) == {"2 of 3"} and set(trainings["Validation accuracy"]) == {"0.700"}
    assert set(training_histories(store)) == {names[0], names[2]}
