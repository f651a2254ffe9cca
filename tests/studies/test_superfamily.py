"""The superfamily left out of a training."""

import numpy as np
from studies.superfamily import (
    TESTED,
    TRAINED_ON,
    WITH,
    superfamily_tasks,
    superfamily_text,
    trainings,
)

from cryo_fewshot.recognition.pretraining import TEST_CLASSES


def test_the_trainings_differ_in_three_classes_alone():
    with_them, without = trainings().values()
    assert set(with_them.classes) - set(without.classes) == set(TRAINED_ON)
    assert with_them.schedule == without.schedule and with_them.selection == without.selection
    assert set(TESTED) < set(TEST_CLASSES)


def test_both_encoders_are_asked_the_same_tasks():
    assert len({task.episodes().digest for task in superfamily_tasks().values() if task.n_shot == 1}) == 1
    assert len({task.encoder for task in superfamily_tasks().values()}) == 2


def test_classes_of_the_superfamily_are_told_apart_from_the_others():
    entries = []
    for name, _ in superfamily_tasks():
        right = [50 if name == WITH else 25 if of in TESTED else 40 for of in TEST_CLASSES]
        confusion = np.diag(right)
        confusion[:, 0] += 100 - np.array(right)
        confusion[0] = [right[0], *[0] * (len(right) - 2), 100 - right[0]]
        entries.append({"result": {"confusion": confusion.tolist(), "classes": list(TEST_CLASSES)}})
    text = superfamily_text(entries)
    assert "with 1 label per class ClpB and Lon are found in 25.0% instead of 50.0%" in text
    assert "the other six classes in 40.0% instead of 50.0%" in text
