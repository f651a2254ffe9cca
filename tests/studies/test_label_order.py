"""Labels in the proposed and in random order, on embeddings whose classes are known."""

import numpy as np
from studies.label_order import LabelOrder, accuracies


def test_proposed_labels_find_the_unknown_classes(calibration, particles):
    embeddings, names = particles(12, 1)
    spec = LabelOrder(encoder="", n_rounds=2)
    found = {
        order: np.mean([accuracies(embeddings, names, calibration, spec, order, task) for task in range(4)], axis=0)
        for order in ("proposed", "random")
    }
    assert found["proposed"][0] == found["random"][0]
    assert found["proposed"][1] > found["random"][1] and found["proposed"][2] > 0.95
