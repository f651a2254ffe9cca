"""What a reader sees: the numbers of the tables, the paper's beside them, and sentences that follow from both."""

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.display import (
    class_text,
    mixing,
    papers_size,
    protocol_line,
    show_accuracies,
    show_differences,
    show_real_data,
    sum_of_distances,
)
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import TABLE_1_CLAIMS
from cryo_fewshot.reproduction.store import Store, Trained


def accuracies(**methods) -> pd.DataFrame:
    """A row per method, shots and SNR 0.1, 0.03; `methods` gives four accuracies each: 5-shot, then 1-shot."""
    rows = [
        {"method": method, "n_shot": n_shot, "snr": snr, "n_way": 5, "n_episodes": 100, "accuracy": value, "ci95": 0.01}
        for method, values in methods.items()
        for (n_shot, snr), value in zip([(5, 0.1), (5, 0.03), (1, 0.1), (1, 0.03)], values, strict=True)
    ]
    return pd.DataFrame(rows)


FRAME = accuracies(baseline=[0.8, 0.7, 0.4, 0.3], ProtoNet3D=[0.9, 0.6, 0.5, 0.35])


def test_the_best_of_a_column_is_bold_and_the_papers_numbers_stand_below():
    table = show_accuracies(FRAME, TABLE_1_CLAIMS).data
    bold = table.loc[["baseline", "ProtoNet3D"]].map(lambda cell: "<strong>" in cell)
    assert bold.to_numpy().tolist() == [[False, True, False, False], [True, False, True, True]]
    assert table.loc["paper, each row"].eq("not quoted").all()
    assert table.loc["paper, best row"].tolist() == ["≥ 0.86", "not quoted", "0.7644", "not quoted"]
    assert table.loc["difference, best"].tolist()[0].startswith("+0.040")
    assert table.loc["difference, best"].tolist()[2].startswith("-0.264")
    assert show_accuracies(FRAME).data.loc["paper"].eq("not quoted").all()


def test_only_all_episodes_are_shown():
    first = FRAME.assign(n_episodes=50, accuracy=0.11)
    assert "0.110" not in show_accuracies(pd.concat([first, FRAME], ignore_index=True)).to_html()


def test_a_difference_is_bold_where_its_interval_leaves_zero_out():
    frame = pd.DataFrame(
        {
            "method": ["A", "B"],
            "against": "C",
            "n_shot": 5,
            "snr": 0.1,
            "difference": [0.02, -0.02],
            "ci95": [0.03, 0.01],
        }
    )
    assert show_differences(frame).data.iloc[:, 0].str.contains("<strong>").tolist() == [False, True]


def test_real_data_show_the_difference_to_what_is_quoted():
    row = {"method": "ProtoNet3D", "class_set": "guo", "n_shot": 5, "n_episodes": 9, "accuracy": 0.9, "ci95": 0.01}
    frame = pd.DataFrame([{**row, "paper": 0.9227}, {**row, "n_shot": 1, "paper": np.nan}])
    table = show_real_data(frame).data
    assert table.loc[("ProtoNet3D", "paper")].tolist() == ["0.9227", "not quoted"]
    assert table.loc[("ProtoNet3D", "difference")].tolist()[0].startswith("-0.023")
    assert table.loc[("ProtoNet3D", "difference")].tolist()[1] == "–"


def test_the_sum_of_distances_is_judged_over_the_columns():
    frame = accuracies(**{"d": [0.5, 0.5, 0.5, 0.5], "d*": [0.4, 0.6, 0.4, 0.4], "d + d*": [0.6, 0.55, 0.6, 0.6]})
    text = sum_of_distances(frame)
    assert "in 3 of 4 columns" in text and "holds in this run" in text
    assert "has no verdict here, as the trainings behind 2 cells" in sum_of_distances(frame, n_improving=2)
    assert "not all run" in sum_of_distances(frame[frame["method"] != "d"])


def test_mixing_and_classes_name_the_extremes():
    differences = pd.DataFrame(
        {"method": "Mix34", "snr": [0.1, 0.03], "n_shot": 5, "difference": [0.001, 0.05], "ci95": [0.01, 0.01]}
    )
    assert "clearly above Single in 1 of 2 columns, and in the heaviest noise by +0.050" in mixing(differences)
    classes = pd.DataFrame({"n_shot": 5, "class": ["a", "b"], "accuracy": [0.9, 0.4]})
    assert class_text(classes) == "5-shot: easiest is a, 0.90; hardest b, 0.40."


def test_the_protocol_names_what_was_run():
    profile = profile_named("paper")
    line = protocol_line(table_1(profile, snrs=[0.1], shots=[5]), profile)
    for part in ("5-way, 5-shot, 15 queries", "boxes of 40^3 at 1 nm", "split 10/5/8", "Profile paper"):
        assert part in line


@pytest.mark.parametrize("claim", TABLE_1_CLAIMS, ids=lambda claim: f"{claim.words}, {claim.n_shot}-shot")
def test_every_quoted_number_is_one_of_the_papers(claim):
    assert claim.paper in (0.86, 0.7644, 0.0936, 0.1614, 0.0427, 0.0504, 0.01)
    assert claim.n_shot in (5, 1)


def test_cells_at_the_papers_size_are_numbers_or_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("CRYO_FEWSHOT_RESULTS", str(tmp_path))
    cells = table_1(profile_named("paper"), snrs=[0.1], methods=["baseline", "ProtoNet3D"])
    assert papers_size(cells).data.count("not run") == 4
    result = {"n_correct": [60, 45], "n_queries": 75, "episodes": "any"}
    Store(tmp_path / "paper").put(cells[1].evaluation, Trained(result, None, 1.0))
    html = papers_size(cells).data
    assert "0.700" in html and html.count("not run") == 3
