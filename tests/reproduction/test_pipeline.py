"""From the command line as a user types it: one line for bad input, and runs that survive being killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from cryo_fewshot import cli
from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.cells import TABLE_1_METHODS, table_1
from cryo_fewshot.reproduction.pipeline import side_by_side
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.reproduction.tables import claims_frame, stored_cells, tidy_frame

COMMAND = [sys.executable, "-m", "cryo_fewshot"]


def environment(folder: Path) -> dict:
    return {**os.environ, "CRYO_FEWSHOT_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}


def run(*words: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *words], env=environment(folder), capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = run("reproduce", "--profile", "smoke", "--no-book", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def tables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((folder / "smoke" / "tables").glob("*.csv"))}


def test_table_1_is_written_tidy_and_whole(uninterrupted):
    frame = pd.read_csv(uninterrupted / "smoke" / "tables" / "table1.csv")
    wanted = "method snr n_way n_shot n_query n_episodes accuracy ci95 class_set split_seed train_seed paper"
    assert list(frame.columns) == wanted.split()
    assert len(frame) == 5 * 3 * 2 * 2
    assert set(frame["method"]) == set(TABLE_1_METHODS)
    assert set(frame["n_episodes"]) == {100, 120}
    assert frame["accuracy"].between(0, 1).all() and frame["ci95"].between(0, 0.1).all()
    assert set(frame["paper"]) == {"not quoted"}


def test_every_table_is_written(uninterrupted):
    frames = {name: pd.read_csv(uninterrupted / "smoke" / "tables" / name) for name in tables(uninterrupted)}
    assert set(frames) == {f"{n}.csv" for n in ("table1", "table2", "table3", "table4", "table_a", "classes", "claims")}
    for name, methods in (("table2.csv", 6), ("table3.csv", 3)):
        assert len(frames[name]) == methods * 3 * 2 * 2
        assert frames[name]["accuracy"].between(0, 1).all()
    real = frames["table4.csv"]
    assert len(real) == 2 * 3 * 2 * 2 and set(real["class_set"]) == {"noble stand-in", "guo stand-in"}
    assert set(real.query("class_set == 'guo stand-in'")["paper"].astype(str)) == {
        "not quoted",
        "0.9227",
        "0.8407",
        "0.9406",
        "0.9153",
    }
    assert frames["table_a.csv"]["precision"].between(0, 1).all()
    # One row of Tables 1, 2 and 3 is the same evaluation: ProtoNet3D trained on one SNR.
    same = [
        frames[name].query("method == @method")["accuracy"].tolist()
        for name, method in (("table1.csv", "ProtoNet3D"), ("table2.csv", "d"), ("table3.csv", "Single"))
    ]
    assert same[0] == same[1] == same[2]


def test_notebooks_run_side_by_side_and_the_first_failure_ends_the_rest(capsys):
    both = threading.Barrier(2, timeout=20)  # passes only where two run at the same time
    side_by_side(lambda name, threads: both.wait(), ["a", "b", "c", "d"])
    assert "Notebook 4/4" in capsys.readouterr().out
    begun = []

    def fails(name, threads):
        begun.append(name)
        time.sleep(0.01)  # as a notebook takes time: the pool hears of the failure while others wait
        raise UserError(f"notebook {name} failed")

    with pytest.raises(UserError, match="failed"):
        side_by_side(fails, [str(number) for number in range(500)])
    assert len(begun) < 500


def stored(folder: Path) -> list[Path]:
    return sorted((folder / "smoke").rglob("*.json"))


@pytest.fixture
def unfinished(uninterrupted, tmp_path) -> Path:
    """The folder of a run that lacks its tables, and of Table 1 what it needs for one SNR and one shot."""
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "smoke" / "tables")
    store = Store(tmp_path / "smoke")
    for cell in table_1(profile_named("smoke"), snrs=[0.03], shots=[1]):
        for spec in (cell.evaluation, cell.evaluation.encoder, cell.evaluation.adaptation):
            if spec is not None:
                for suffix in (".json", ".safetensors"):
                    store.path(spec, suffix).unlink(missing_ok=True)
    assert len(stored(tmp_path)) < len(stored(uninterrupted)) - 8
    return tmp_path


def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(uninterrupted, unfinished):
    before = len(stored(unfinished))
    for n_results in (1, 2, 4):
        process = subprocess.Popen(
            [*COMMAND, "reproduce", "--profile", "smoke", "--no-book"],
            env=environment(unfinished),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(stored(unfinished)) < before + n_results and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was killed before its end"
    kept = {path: path.stat().st_mtime_ns for path in stored(unfinished)}
    damaged = stored(unfinished)[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    done = run("reproduce", "--profile", "smoke", "--no-book", folder=unfinished)
    assert done.returncode == 0, done.stderr
    assert tables(unfinished) == tables(uninterrupted)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items() if path != damaged)
    assert not list(unfinished.rglob("*.checkpoint*"))


def test_a_run_in_pieces_stops_in_time_and_ends_with_the_same_numbers(uninterrupted, unfinished):
    words = ("reproduce", "--profile", "smoke", "--no-book")
    first = run(*words, "--minutes", "0", folder=unfinished)
    assert first.returncode == 0 and "run the same command to resume" in first.stdout
    assert not tables(unfinished) and list(unfinished.rglob("*.checkpoint"))
    assert run(*words, folder=unfinished).returncode == 0
    assert tables(unfinished) == tables(uninterrupted)


def test_claims_follow_from_the_numbers(uninterrupted):
    profile = profile_named("smoke")
    cells = table_1(profile)
    runner = Runner(Store(uninterrupted / "smoke"))
    entries = runner.run_cells(cells)
    frame, claims = tidy_frame(cells, entries), claims_frame(cells, entries, runner.store)
    whole = frame[frame["n_episodes"] == 120].set_index(["method", "snr", "n_shot"])["accuracy"]
    gap = claims[(claims["paper"] == "0.0936") & (claims["n_shot"] == 5)].iloc[0]
    assert gap["this_work"] == pytest.approx(whole["ProtoNet3D", 0.05, 5] - whole["ProtoNet3D", 0.03, 5])
    assert len(claims) == 12


def test_a_table_that_was_run_in_part_shows_that_part(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "smoke" / "evaluation", tmp_path / "evaluation")
    store, cells = Store(tmp_path), table_1(profile_named("smoke"))
    store.path(cells[1].evaluation).unlink()
    at_hand, entries = stored_cells(store, cells)
    assert at_hand == [cells[0], *cells[2:]]
    assert len(tidy_frame(at_hand, entries)["method"].unique()) == len(TABLE_1_METHODS)
    assert stored_cells(Store(tmp_path / "empty"), cells) == ([], [])


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    done = run("reproduce", "--profile", "fast", folder=tmp_path)
    assert done.returncode == 2
    assert "profile 'fast' is unknown: use one of smoke, quick" in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["table9"], "no notebook 'table9'"),
        (["table1", "snr=0.1"], "it knows: profile, snrs"),
        (["table1", "n_shot='"], "n_shot"),
    ],
)
def test_a_notebook_that_cannot_run_is_one_line(words, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cryo-fewshot", "notebook", *words])
    monkeypatch.setenv("CRYO_FEWSHOT_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    said = capsys.readouterr().err
    assert exit_.value.code == 2 and complaint in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
