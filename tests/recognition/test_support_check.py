"""Leave-one-out over a support whose mistakes are known."""

import numpy as np
import torch

from cryo_fewshot.recognition.recogniser import build_recogniser


def test_leave_one_out_predicts_the_accuracy_of_queries(calibration, user):
    covered = 0
    for seed in range(1, 21):
        support, names, queries, true = user(seed=seed, n_shot=6, n=60, noise=1.7)
        recogniser = build_recogniser(support, names, calibration)
        found = recogniser.recognise(queries)
        check = recogniser.check
        assert check.low <= check.accuracy <= check.high
        covered += check.low <= (np.array(found.class_names)[found.label] == true).mean() <= check.high
    assert covered >= 17


def test_a_wrong_label_is_named(calibration, user):
    support, names, *_ = user()
    assert build_recogniser(support, names, calibration).check.warnings == ()
    names[0] = "class 3"
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("labelled particle 0 ('class 3') looks like 'class 0'" in warning for warning in warnings)


def test_duplicates_are_named(calibration, user):
    support, names, *_ = user()
    support[1] = support[0]
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("particles 0 and 1 are duplicates" in warning for warning in warnings)
    support[7] = support[0]  # of class 1
    warnings = build_recogniser(support, names, calibration).check.warnings
    assert any("0 ('class 0') and 7 ('class 1') are identical" in warning for warning in warnings)


def test_classes_that_are_one_are_named(calibration, classes, user):
    x, _ = classes(1, 20)
    support, names, *_ = user()
    both = torch.cat([support, x[:5] + 20, x[5:10] + 20])
    warnings = build_recogniser(both, [*names, *["left"] * 5, *["right"] * 5], calibration).check.warnings
    assert any("'left' and 'right' are hard to tell apart" in warning for warning in warnings)
