"""The superfamily left out of a training."""

from studies.superfamily import TESTED, TRAINED_ON, SuperfamilyLeftOut, superfamily_text, trainings

from cryo_fewshot.recognition.pretraining import TEST_CLASSES
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder


def test_the_trainings_differ_in_three_classes_alone():
    with_them, without = trainings().values()
    assert set(with_them.classes) - set(without.classes) == set(TRAINED_ON)
    assert with_them.schedule == without.schedule and with_them.selection == without.selection
    assert set(TESTED) < set(TEST_CLASSES)


def test_each_class_is_found_in_a_share_of_its_queries(tmp_path):
    encoder = load_encoder()[0]
    names = (("with AAA+", "a"), ("without AAA+", "b"))
    spec = SuperfamilyLeftOut(encoders=names, shots=(1,), n_episodes=3, n_per_class=16)
    rows = Runner(Store(tmp_path))(spec, {name: encoder for name, _ in names})["result"]["rows"]
    assert len(rows) == 2 * len(TEST_CLASSES) and all(0 <= row["accuracy"] <= 1 for row in rows)
    assert rows[0]["accuracy"] == rows[len(TEST_CLASSES)]["accuracy"], "the same encoder on the same tasks"
    for row in rows:
        row["accuracy"] = 0.5 if row["encoder"] == "with AAA+" else 0.25 if row["class"] in TESTED else 0.4
    text = superfamily_text(rows)
    assert "with 1 label per class ClpB and Lon are found in 25.0% instead of 50.0%" in text
    assert "the other six classes in 40.0% instead of 50.0%" in text
