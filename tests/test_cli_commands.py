"""What each command calls and prints, the work itself taken out."""

from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from cryo_fewshot import cli
from cryo_fewshot.errors import UserError
from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.training import DeadlineReached
from cryo_fewshot.weights import PRETRAINED


@pytest.fixture
def standing_in(monkeypatch):
    """`standing_in(target, answer)`: the function answers so, or raises it; returns the list of its calls."""

    def stand_in(target, answer=None):
        calls = []

        def function(*positional, **named):
            calls.append((*positional, *named.values()))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(f"cryo_fewshot.{target}", function)
        return calls

    return stand_in


def output(*words):
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if result.exception:
        raise result.exception
    return result.output


def test_reproduce_says_where_the_book_is_or_that_time_is_over(standing_in):
    standing_in("reproduction.pipeline.default_profile", "quick")
    calls = standing_in("reproduction.pipeline.reproduce", "index.html")
    assert output("reproduce", "--minutes", 2.5) == "Done: index.html\n"
    assert output("reproduce", "--profile", "cpu", "--no-book") == "Done: index.html\n"
    assert calls == [("quick", True, 2.5), ("cpu", False, None)]
    standing_in("reproduction.pipeline.reproduce", DeadlineReached())
    assert "Stopped after 2.5 minutes" in output("reproduce", "--minutes", 2.5)


def test_publish_writes_the_published_pages(standing_in):
    calls = standing_in("reproduction.pipeline.build_profile_book", "pages")
    assert output("publish") == "Done: pages\n"
    assert calls == [("cpu", REPOSITORY / "book" / "notebooks")]


def test_verify_counts_what_differs(standing_in):
    standing_in("reproduction.verify.verify", (7, []))
    assert output("verify", "table1") == "Equal: all 7 outputs of table1\n"
    standing_in("reproduction.verify.verify", (7, ["cell 3"]))
    with pytest.raises(UserError, match="1 of 7 outputs of table1 differ"):
        output("verify", "table1")


def test_book_says_where_it_is(standing_in):
    standing_in("reproduction.book.build_book", "index.html")
    assert output("book") == "Done: index.html\n"


def test_pretrain_prints_the_accuracy_that_it_measured(standing_in, tmp_path):
    row = {"snr": 0.05, "n_way": 3, "n_shot": 5, "accuracy": 0.91234, "ci95": 0.0126}
    calls = standing_in("recognition.model_card.pretrain_in_two", {"expected_accuracy": [row]})
    said = "SNR 0.05, 3-way 5-shot: 0.912 ± 0.013 on held-out classes\nDone: {}\n"
    assert output("pretrain") == said.format(PRETRAINED)
    assert output("pretrain", "--out", tmp_path, "--epochs", 3, "--minutes", 1) == said.format(tmp_path)
    assert calls == [(PRETRAINED, 40, None), (tmp_path, 3, 1.0)]
    standing_in("recognition.model_card.pretrain_in_two", DeadlineReached())
    assert output("pretrain", "--minutes", 1).endswith("Stopped after 1 minutes; run the same command to resume.\n")


def test_calibrate_says_on_how_many_classes(standing_in, tmp_path):
    calls = standing_in("recognition.model_card.recalibrate", {"calibration": {"n_classes": 12}})
    words = ["calibrate", "--encoder", tmp_path / "a", "--out", tmp_path / "b", "--cross-fitted", tmp_path / "c"]
    assert output(*words) == f"Done: {tmp_path / 'b'}, measured on 12 classes\n"
    assert calls == [(tmp_path / "a", [tmp_path / "c"], tmp_path / "b")]


def test_train_prints_accuracy_before_and_after(standing_in, tmp_path):
    np.savez(tmp_path / "a.npz", volumes=np.random.default_rng(0).normal(size=(2, 6, 6, 6)), voxel_size_nm=2.0)
    calls = standing_in("recognition.finetuning.finetune_on_particles", [0.5, 0.75, 0.25])
    said = output("train", "--support", tmp_path / "a.npz", "--out", tmp_path / "mine")
    assert f"Accuracy on held-out particles: 0.500 before, 0.750 after finetuning\nDone: {tmp_path / 'mine'}\n" in said
    assert calls[0][1:] == (tmp_path / "mine", None, 20, 0)


def test_doctor_prints_what_a_bug_report_needs(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=12.34e9))
    lines = output("doctor").splitlines()
    assert lines[-1] == "free disk    12.3 GB" and lines[-2].startswith("precision    ")
    assert lines[0].startswith("processor    ") and len(lines) == 8


def test_an_interrupted_command_ends_with_130(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == "cryo-fewshot: interrupted; run the same command to resume\n"
