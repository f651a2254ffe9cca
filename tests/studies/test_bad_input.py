"""Damaged inputs: each is met with one line, and nothing is written outside the output folder."""

import pytest
from studies.bad_input import CASES, FULL_DISK, OUT, full_disk, good_inputs, tried


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_inputs(tmp_path_factory.mktemp("inputs") / "good")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_what_goes_wrong_is_said_in_one_line(case, good, tmp_path):
    row = tried(case, good, tmp_path / "run")
    assert row["Exit status"] in (0, 2)
    assert case.telling in row["What was printed"]
    assert str(tmp_path) not in row["What was printed"]
    assert not case.telling or len(row["What was printed"]) > 40


def test_names_that_climb_write_nothing_outside_the_output(good, tmp_path):
    case = next(case for case in CASES if "evil" in case.what)
    tried(case, good, tmp_path / "run")
    outside = [path for path in tmp_path.rglob("*evil*") if tmp_path / "run" / OUT not in path.parents]
    assert not outside and list((tmp_path / "run" / OUT / "classes").glob("*evil*"))


def test_a_full_disk_leaves_nothing_half_written(good, tmp_path):
    with full_disk():
        row = tried(FULL_DISK, good, tmp_path / "refused")
    assert row["Exit status"] == 2 and "No space left" in row["What was printed"]
    assert not [path for path in (tmp_path / "refused" / OUT).rglob("*") if path.is_file()]
