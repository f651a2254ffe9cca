"""The chart of the benchmark shows each path that has a reference, and how many times faster it is."""

import pandas as pd
from studies.speed import speed_figure


def test_a_path_without_reference_is_left_out():
    rows = [
        ("embedding", 20.0, 2.0, 10.0),
        ("simulation", float("nan"), 1.0, float("nan")),
        ("training", 9.0, 3.0, 3.0),
    ]
    figure = speed_figure(pd.DataFrame(rows, columns=["path", "reference_ms", "package_ms", "ratio"]))
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["training", "embedding"]
    assert [text.get_text() for text in ax.texts] == ["3.0×", "10.0×"]
    assert ax.get_xscale() == "log"
