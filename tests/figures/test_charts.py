"""Charts draw every row that they are given, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.figures import charts
from cryo_fewshot.figures.style import METHOD_COLOURS


def test_accuracy_figure_draws_each_row():
    rows = [
        {"method": method, "snr": snr, "n_shot": n_shot, "n_way": 5, "accuracy": 0.5, "ci95": 0.01}
        for method in METHOD_COLOURS
        for snr in (0.03, 0.1)
        for n_shot in (1, 5)
    ]
    rows[0]["ci95"] = float("nan")
    figure = charts.accuracy_by_snr(pd.DataFrame(rows))
    drawn = sum(len(container.lines[0].get_xdata()) for ax in figure.axes for container in ax.containers)
    assert drawn == len(rows) and len(figure.axes) == 2
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.1", "0.03"]
    assert figure.axes[0].get_title() == "5-way 5-shot"


def test_rows_stand_in_their_order_with_their_intervals():
    rows = [("1OEL", "5-shot", 0.9), ("3KUY", "5-shot", 0.4), ("1OEL", "1-shot", 0.7), ("3KUY", "1-shot", 0.2)]
    frame = pd.DataFrame(rows, columns=["row", "curve", "value"]).assign(panel="one")
    frame = frame.assign(low=frame["value"] - 0.1, high=frame["value"] + 0.05)
    ax = charts.rows_figure(frame, "accuracy", chance=0.5).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1OEL", "3KUY"] and ax.yaxis_inverted()
    drawn = {bars.get_label(): bars for bars in ax.containers}
    assert drawn["5-shot"].lines[0].get_xdata().tolist() == [0.9, 0.4]
    assert np.allclose(np.array(drawn["5-shot"].lines[0].get_ydata(), dtype=float), [0, 1], atol=0.2)
    ends = drawn["1-shot"].lines[2][0].get_segments()
    assert np.allclose([end[:, 0] for end in ends], [(0.6, 0.75), (0.1, 0.25)])
    assert ax.lines[-1].get_label() == "chance" and ax.lines[-1].get_xdata() == [0.5, 0.5]


def test_confusion_is_in_percent_of_each_row():
    figure = charts.confusion_figure([[3, 1], [0, 0]], ["1PMA", "3IPM"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]
    with pytest.raises(UserError, match="one name per row"):
        charts.confusion_figure([[3, 1], [0, 0]], ["1PMA"])


def test_a_class_never_asked_for_is_grey_and_many_classes_have_no_numbers():
    axes = charts.confusion_figure([[3, 1], [0, 0]], ["1PMA", "3IPM"]).axes[0]
    shown = axes.collections[0].get_array().reshape(2, 2)
    assert shown.mask.tolist() == [[False, False], [True, True]]
    assert axes.get_facecolor()[:3] == pytest.approx((0.816,) * 3, abs=1e-3)
    assert not charts.confusion_figure(np.eye(13), [str(i) for i in range(13)]).axes[0].texts


def test_training_figure_marks_the_best_epoch():
    history = {"loss": [1.0, 0.5, 0.6], "validation_accuracy": [0.3, 0.6, 0.5]}
    loss, accuracy = charts.training_figure({"ProtoNet3D": history, "another": history}).axes
    assert len(loss.lines) == 2 and len(accuracy.lines) == 4
    assert accuracy.lines[1].get_xydata().tolist() == [[2, 0.6]]
