"""Tables: numbers follow from stored counts, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.cells import Cell, table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import Claim
from cryo_fewshot.reproduction.tables import (
    by_task,
    claims_frame,
    class_frame,
    differences_frame,
    keep_table,
    measure,
    paired_difference,
    paper_text,
    precision_frame,
    tidy_frame,
    write_csv,
)


def entry(n_correct, n_queries=10, episodes="same", **result):
    return {"result": {"n_correct": n_correct, "n_queries": n_queries, "episodes": episodes, **result}}


@pytest.fixture
def cells() -> list[Cell]:
    return table_1(profile_named("smoke"), snrs=[0.1], shots=[5], methods=["baseline", "ProtoNet3D"])


def test_accuracy_is_over_the_papers_episodes_and_over_all(cells):
    counts = [10] * 100 + [5] * 100
    frame = tidy_frame(cells[:1], [entry(counts)])
    assert frame["n_episodes"].tolist() == [100, 200]
    assert frame["accuracy"].tolist() == [1.0, 0.75]
    spread = np.std(np.array(counts) / 10, ddof=1)
    assert frame["ci95"].tolist() == pytest.approx([0, 1.96 * spread / 200**0.5])


def test_a_difference_is_paired_and_signed(cells):
    entries = [entry([1, 2, 3]), entry([3, 5, 7])]
    row = differences_frame(cells, entries, "baseline").iloc[0]
    assert (row["method"], row["against"]) == ("ProtoNet3D", "baseline")
    assert row["difference"] == pytest.approx(0.3)
    assert row["ci95"] == pytest.approx(1.96 * 0.1 / 3**0.5)
    with pytest.raises(ValueError, match="different episodes"):
        paired_difference(entries[0], entry([1, 2, 3], episodes="other"))
    with pytest.raises(UserError, match="nothing to compare"):
        differences_frame(cells, entries, "magic")


def test_precision_and_class_accuracies_follow_from_the_confusion(cells):
    confusion = [[8, 2, 0], [1, 9, 0], [2, 2, 6]]
    entries = [entry([1], confusion=confusion, classes=["a", "b", "c"])]
    assert precision_frame(cells[:1], entries)["precision"].item() == pytest.approx((8 / 11 + 9 / 13 + 1) / 3)
    frame = class_frame(cells[:1], entries)
    assert frame["accuracy"].tolist() == [0.8, 0.9, 0.6]
    assert ((frame["low"] < frame["accuracy"]) & (frame["accuracy"] < frame["high"])).all()


def test_a_claim_is_about_the_best_method_or_a_difference():
    by_cell = {
        ("A", 0.1, 5): np.array([0.5, 0.7]),
        ("B", 0.1, 5): np.array([0.9, 0.9]),
        ("A", 0.05, 5): np.array([0.4, 0.4]),
    }
    assert measure(Claim("best", 5, 0.8, (None, 0.1)), by_cell)[0].tolist() == [0.9, 0.9]
    gap, _ = measure(Claim("gap", 5, 0.1, ("A", 0.1), ("A", 0.05)), by_cell)
    assert gap == pytest.approx([0.1, 0.3])
    assert measure(Claim("gap", 5, 0.1, ("A", 0.1), ("C", 0.1)), by_cell) is None
    assert measure(Claim("one", 1, 0.1, ("A", 0.1)), by_cell) is None


def test_a_claim_on_a_training_that_was_best_in_its_last_epoch_gets_no_verdict(cells):
    gap = Claim("gap", 5, 0.0, ("baseline", 0.1), ("ProtoNet3D", 0.1), True)
    entries = [entry([9, 8]), entry([4, 4])]

    def verdict(best_epoch):
        trained = {"result": {"best_epoch": best_epoch, "loss": [0.2, 0.1]}}
        return claims_frame(cells, entries, SimpleNamespace(get=lambda run: trained), [gap])["verdict"].tolist()

    assert (verdict(0), verdict(1)) == (["holds"], ["still improving"])


def test_quoted_numbers_are_printed_as_the_paper_means_them():
    texts = [paper_text(Claim("", 5, *values)) for values in ((0.86, (None, 0.1), None, True), (0.5, (None, 0.1)))]
    assert texts == ["≥ 0.86", "0.5"]
    assert paper_text(Claim("", 5, 0.0, ("A", 0.1), ("B", 0.1), True)) == "> 0"


def test_a_table_by_task_keeps_the_order_of_its_rows():
    frame = pd.DataFrame(
        {"n_shot": [5, 5, 1, 1], "snr": [0.1, 0.1, 0.1, 0.1], "method": ["z", "a", "z", "a"], "value": range(4)}
    )
    table = by_task(frame, "method", "value")
    assert table.index.tolist() == ["z", "a"]
    assert table.columns.tolist() == [("5-shot", "SNR 0.1"), ("1-shot", "SNR 0.1")]
    assert table.to_numpy().tolist() == [[0, 2], [1, 3]]


def test_an_unknown_number_of_the_paper_reads_not_quoted(tmp_path, monkeypatch):
    frame = pd.DataFrame({"accuracy": [0.123456789], "paper": [np.nan]})
    write_csv(frame, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "accuracy,paper\n0.123457,not quoted\n"
    monkeypatch.delenv("CRYO_FEWSHOT_TABLES", raising=False)
    keep_table(frame, "kept")
    monkeypatch.setenv("CRYO_FEWSHOT_TABLES", str(tmp_path / "tables"))
    keep_table(frame, "kept")
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv"))
    assert written == ["t.csv", "tables/kept.csv"]
