"""Damaged inputs: each is answered with one line, and nothing is written outside the output folder."""

import errno
import os

import pytest
from studies.bad_input import CASES, OUT, Case, damaged_run, good_inputs


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_inputs(tmp_path_factory.mktemp("inputs") / "good")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_what_goes_wrong_is_said_in_one_line(case, good, tmp_path):
    row = damaged_run(case, good, tmp_path / "run")
    assert row["Exit status"] in (0, 2)
    assert case.message in row["What was printed"]
    assert str(tmp_path) not in row["What was printed"]
    assert not case.message or len(row["What was printed"]) > 40


def test_names_that_climb_write_nothing_outside_the_output(good, tmp_path):
    case = next(case for case in CASES if "evil" in case.what)
    damaged_run(case, good, tmp_path / "run")
    outside = [path for path in tmp_path.rglob("*evil*") if tmp_path / "run" / OUT not in path.parents]
    assert not outside and list((tmp_path / "run" / OUT / "classes").glob("*evil*"))


def test_a_full_disk_leaves_nothing_half_written(good, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    row = damaged_run(Case("disk full", lambda folder: None, "No space left"), good, tmp_path / "refused")
    assert row["Exit status"] == 2 and "No space left" in row["What was printed"]
    assert not [path for path in (tmp_path / "refused" / OUT).rglob("*") if path.is_file()]
