"""The script that trains a list of specs: files with cards, a time limit, and going on where it was stopped."""

import runpy
import sys
from dataclasses import replace

import pytest

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.recognition.pretraining import spec_of
from cryo_fewshot.weights import load_encoder

SCRIPT = REPOSITORY / "scripts" / "train_encoders.py"


@pytest.fixture
def train(tmp_path, monkeypatch, tiny, capsys):
    """Function: (*options) -> what the script printed, with two tiny specs, `a` and `b`."""
    (tmp_path / "specs_of_a_test.py").write_text("specs = None")
    monkeypatch.syspath_prepend(tmp_path)
    import specs_of_a_test

    longer = replace(tiny().schedule, n_epochs=3)
    monkeypatch.setattr(specs_of_a_test, "specs", lambda: {"a": tiny(), "b": tiny(schedule=longer)})

    def run(*options):
        where = ["--specs", "specs_of_a_test:specs", "--device", "cpu", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *where, *options])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run, tmp_path / "out"


def test_each_spec_becomes_a_file_with_its_card_once(train):
    run, out = train
    assert "a: 36 volumes" in run("--list") and not out.exists()
    assert "Done" in run("--only", "a")
    _, card = load_encoder(out / "a.safetensors")
    assert spec_of(card).schedule.n_epochs == 2 and card["volumes"] == 36
    assert len(card["loss"]) == len(card["selection_accuracy"]) == 2
    assert "is there" in run("--only", "a")
    with pytest.raises(SystemExit):
        run("--only", "c")


def test_a_training_out_of_time_leaves_its_best_state_so_far(train):
    run, out = train
    run("--only", "b", "--seconds", "0")
    _, card = load_encoder(out / "b.safetensors")
    assert spec_of(card).schedule.n_epochs == 3 and card["volumes"] == 18
    (out / "b.safetensors").unlink()
    assert "36 of 54 volumes" in run("--only", "b", "--seconds", "1000")  # goes on after its first epoch
    assert load_encoder(out / "b.safetensors")[1]["volumes"] == 54
