"""Claims over several splits and seeds, on runs whose outcome is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from studies.claims import (
    conclusions_table,
    judged,
    networks_text,
    over_stored_splits,
    quotes_table,
    substitutes_text,
    summary_frame,
    summary_text,
    validation_frame,
)

from cryo_fewshot.reproduction.cells import repeated_table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.quoted import CLAIMS, Claim
from cryo_fewshot.reproduction.store import Store, results_folder
from cryo_fewshot.reproduction.tables import claim_values, verdict

GAIN = Claim("mix minus single", 5, 0.01, ("ProtoNet3D (mix)", 0.1), ("ProtoNet3D", 0.1), True)
LEVEL = Claim("mix at 0.1", 5, 0.8, ("ProtoNet3D (mix)", 0.1))
METHODS = ["ProtoNet3D", "ProtoNet3D (mix)"]
NEVER_TRAINED = SimpleNamespace(get=lambda run: None)
"""A store that knows of no training."""


def runs(accuracy):
    """Cells of 3 splits x 2 seeds, with entries of two episodes of 1,000 queries; accuracy(method, split, seed)."""
    cells = repeated_table_1(
        profile_named("smoke"), splits=range(3), seeds=range(2), snrs=[0.1], shots=[5], methods=METHODS
    )
    entries = []
    for cell in cells:
        encoder = cell.evaluation.encoder
        n = round(1000 * accuracy(cell.method, encoder.split_seed, encoder.seed))
        entries.append({"result": {"n_correct": [n - 10, n + 10], "n_queries": 1000}})
    return cells, entries


def with_gain(by_split):
    return runs(lambda method, split, seed: 0.7 + 0.01 * seed + (by_split[split] if "mix" in method else 0))


def test_a_claim_has_a_value_in_every_run():
    values = claim_values(*with_gain([0.02, 0.03, 0.04]), NEVER_TRAINED, [GAIN])
    assert len(values) == 6
    np.testing.assert_allclose(values.sort_values("split_seed")["value"], [0.02, 0.02, 0.03, 0.03, 0.04, 0.04])


def test_the_interval_is_over_splits_not_over_runs():
    claims = [GAIN]
    (row,) = judged(claim_values(*with_gain([0.02, 0.03, 0.04]), NEVER_TRAINED, claims), claims).itertuples()
    assert row.mean == pytest.approx(0.03)
    assert row.high - row.mean == pytest.approx(student.ppf(0.975, 2) * 0.01 / 3**0.5)
    assert (row.n_splits, row.n_runs) == (3, 6)


@pytest.mark.parametrize(
    "gains, expected",
    [([0.05, 0.05, 0.051], "holds"), ([0.0, 0.0, 0.001], "does not hold"), ([0.0, 0.02, 0.04], "cannot be told")],
)
def test_verdicts_on_a_claim_of_the_kind_at_least(gains, expected):
    claims = [GAIN]
    frame = judged(claim_values(*with_gain(gains), NEVER_TRAINED, claims), claims)
    assert frame["verdict"].tolist() == [expected]


@pytest.mark.parametrize("low, high, expected", [(0.7, 0.9, "agrees"), (0.81, 0.9, "above"), (0.5, 0.6, "below")])
def test_verdicts_on_a_number(low, high, expected):
    assert verdict(LEVEL, low, high) == expected


@pytest.mark.parametrize("n_splits, mean", [(1, 0.02), (2, 0.025)])
def test_few_splits_have_no_interval_and_no_verdict(n_splits, mean):
    cells, entries = with_gain([0.02, 0.03, 0.04])
    first = [number for number, cell in enumerate(cells) if cell.evaluation.encoder.split_seed < n_splits]
    alone = claim_values([cells[i] for i in first], [entries[i] for i in first], NEVER_TRAINED, [GAIN])
    (row,) = judged(alone, [GAIN]).itertuples()
    assert row.verdict == "too few splits" and row.mean == pytest.approx(mean) and np.isnan(row.low)


def test_a_training_that_was_best_in_its_last_epoch_gets_no_verdict():
    cells, entries = with_gain([0.05, 0.05, 0.051])
    last = cells[-1].evaluation.encoder

    def store(best_epoch):
        result = {"best_epoch": best_epoch, "loss": [0.3, 0.2, 0.1]}
        return SimpleNamespace(get=lambda run: {"result": result} if run == last else None)

    assert judged(claim_values(cells, entries, store(2), [GAIN]), [GAIN])["verdict"].tolist() == ["still improving"]
    assert judged(claim_values(cells, entries, store(1), [GAIN]), [GAIN])["verdict"].tolist() == ["holds"]


def test_each_claim_stands_beside_one_sentence_of_the_paper():
    table = quotes_table(CLAIMS)
    read = dict(zip(table["the paper's sentence"], table["claims read out of it"], strict=True))
    parts = ("0.7644", "attenuate", "slight increase", "SNR of 0.03")
    rows = {part: next(claims for quote, claims in read.items() if part in quote) for part in parts}
    assert rows["0.7644"] == "best method at SNR 0.1, 5-shot and 1-shot"
    assert rows["attenuate"].endswith("SNR 0.1, 5-shot and 1-shot; ProtoNet3D (mix) minus ProtoNet3D, SNR 0.05, 1-shot")
    assert rows["slight increase"] == "ProtoNet3D (mix) minus ProtoNet3D, SNR 0.05, 5-shot"
    assert rows["SNR of 0.03"] == "ProtoNet3D (mix) minus ProtoNet3D, SNR 0.03, 5-shot and 1-shot"
    assert not table["the paper's sentence"].str.fullmatch("“”").any()


def test_the_summary_counts_claims_by_kind_and_size():
    words = ["A minus B, SNR 0.1", "A minus B, SNR 0.05", "A minus B, SNR 0.03", "best method at SNR 0.1"]
    full = pd.DataFrame({"claim": words, "verdict": ["holds", "does not hold", "too few splits", "agrees"]})
    summary = summary_frame({"40³": full, "20³": full[:3]})
    assert summary["40³"].loc["A minus B"].tolist() == [1, 1, 1]
    assert summary["20³"].isna().loc["best method at SNR 0.1"].all()
    assert "**40³**: of 4 claims 2 hold, 1 do not, and 1 are open" in summary_text(summary)
    assert "**20³**: of 3 claims 1 hold" in summary_text(summary)


def test_the_conclusion_tells_ranges_counts_and_what_has_no_verdict():
    words = [f"ProtoNet3D (mix) minus ProtoNet3D, SNR {snr}" for snr in (0.1, 0.05)] + ["best method at SNR 0.1"]
    found = pd.DataFrame({"claim": words, "n_shot": 5, "paper": ["> 0", "> 0", "≥ 0.86"]})
    full = found.assign(gain=[0.02, 0.3, 0.79], verdict=["holds", "still improving", "below"])
    reduced = found.assign(gain=[0.03, -0.0001, 0.87], verdict=["holds", "does not hold", "agrees"])
    table = conclusions_table({"40³": full, "20³": reduced, "none": full[:0]})
    assert table.loc["mix training minus one SNR"].tolist() == [
        "> 0",
        "+0.020 to +0.300<br><small>1 of 2 hold, 1 open</small>",
        "+0.000 to +0.030<br><small>1 of 2 hold, 1 do not</small>",
        "not run",
    ]
    assert table.loc["ProtoNet3D minus baseline"].tolist() == ["–", *["not run"] * 3]
    assert table.loc["best accuracy at SNR 0.1, 5 labels"].tolist() == ["≥ 0.86", "0.790", "0.870", "not run"]
    assert table.loc["best accuracy at SNR 0.1, 1 label"].tolist() == ["–", *["not run"] * 3]


def test_what_stands_beside_the_conclusion():
    assert networks_text().startswith("All 19 networks")
    assert "12 of the 22 structures are substitutes" in substitutes_text()


def test_stored_splits_are_judged_where_there_are_enough():
    frame = over_stored_splits("paper")
    assert set(frame["n_splits"]) == {3} and "too few splits" not in set(frame["verdict"])
    assert len(over_stored_splits("paper", n_splits=2)) == 0


def test_the_validation_curves_are_those_of_the_stored_trainings():
    frame = validation_frame(every=50)
    entries = Store(results_folder("paper")).entries("encoderrun")
    asked = {"objective": "classes", "snr_counts": [[0.1, 100]], "split_seed": 0}
    (entry,) = [e for e in entries if asked.items() <= e["spec"].items()]
    found = frame[(frame["network"] == "baseline") & (frame["trained_on"] == "SNR 0.1")]
    assert found["episodes"].tolist() == [25, 1250, 2500]
    assert found["accuracy"].tolist() == [entry["result"]["validation_accuracy"][n] for n in (0, 49, 99)]
    assert set(frame["trained_on"]) == {"SNR 0.1", "SNR 0.05", "SNR 0.03", "all SNRs"}
