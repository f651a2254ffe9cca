"""Notebooks as text: parameters as typed, and runs that leave no trace of the machine."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="the book's packages are not installed")
pytest.importorskip("papermill", reason="the book's packages are not installed")

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction import notebooks

TINY = """
# %% [markdown]
# # Tiny

# %% tags=["parameters"]
profile = "quick"  # a word
snrs = "0.1,0.05"  # comma-separated
n_shot = 5         # per class
rate = 0.1         # learning rate
fast = False

# %%
import pathlib, sys
print(profile, snrs, n_shot, rate, fast)
print(pathlib.Path.home() / "notes", sys.executable, f"{pathlib.Path.cwd()}.")
assert n_shot < 9, "too many shots"
"""


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "tiny.py").write_text(TINY)
    return folder


# ---------------------------------------------------------------- parameters


def test_parameters_are_read_as_typed():
    text = """ snrs='0.1' n_shot=3  rate=1e-3 fast=True profile=smoke shots=5,1 title="a b" sizes=[1,2] """
    assert notebooks.parse_parameters(text) == {
        "snrs": 0.1,
        "n_shot": 3,
        "rate": 1e-3,
        "fast": True,
        "profile": "smoke",
        "shots": (5, 1),
        "title": "a b",
        "sizes": [1, 2],
    }
    assert notebooks.parse_parameters("  ") == {}


UNREADABLE = ("n_shot", "n_shot = 3", "n_shot=", "snrs='0.1", "a=1 a=2", "3=a")


@pytest.mark.parametrize("text", UNREADABLE)
def test_unreadable_parameters_are_refused(text):
    with pytest.raises(UserError):
        notebooks.parse_parameters(text)


def test_defaults_are_those_of_the_tagged_cell(tiny):
    defaults = notebooks.notebook_parameters("tiny", source_dir=tiny)
    assert defaults == {"profile": "quick", "snrs": "0.1,0.05", "n_shot": 5, "rate": 0.1, "fast": False}


def test_derived_parameters_are_refused(tiny):
    (tiny / "derived.py").write_text(TINY.replace("n_shot = 5 ", "n_shot = 2 * 3 "))
    with pytest.raises(UserError, match="n_shot is not a plain literal"):
        notebooks.notebook_parameters("derived", source_dir=tiny)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("tinny", {}, "known: tiny"),
        ("tiny", {"n_shots": 3}, "it knows: profile, snrs, n_shot"),
        ("tiny", {"n_shot": "three"}, "n_shot of notebook tiny is of type int"),
        ("tiny", {"n_shot": True}, "n_shot of notebook tiny is of type int"),
        ("tiny", {"fast": 1}, "fast of notebook tiny is of type bool"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(tiny, tmp_path, name, parameters, message):
    with pytest.raises(UserError, match=message):
        notebooks.run_notebook(name, parameters, tmp_path / "out.ipynb", source_dir=tiny)
    assert not (tmp_path / "out.ipynb").exists()


# ---------------------------------------------------------------- running


def test_run_replaces_parameters_and_leaves_no_trace_of_the_machine(tiny, tmp_path):
    parameters = {"snrs": 0.1, "n_shot": 3, "rate": 1}
    path = notebooks.run_notebook("tiny", parameters, tmp_path / "a" / "tiny.ipynb", source_dir=tiny)
    text = path.read_text()
    assert "quick 0.1 3 1.0 False" in text
    for place in (sys.prefix, str(notebooks.REPOSITORY), str(Path.home() / "notes"), str(tmp_path), "papermill"):
        assert place not in text
    again = notebooks.run_notebook("tiny", parameters, tmp_path / "b.ipynb", source_dir=tiny)
    assert again.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["tiny.ipynb"]


def test_failing_cell_is_named_and_kept_for_reading(tiny, tmp_path):
    path = tmp_path / "tiny.ipynb"
    with pytest.raises(UserError, match=r"tiny failed in its cell \[3\]: AssertionError: too many shots"):
        notebooks.run_notebook("tiny", {"n_shot": 9}, path, source_dir=tiny)
    assert not path.exists()
    assert "Traceback" in (tmp_path / "tiny.failed.ipynb").read_text()
    notebooks.run_notebook("tiny", {}, path, source_dir=tiny)
    assert path.exists() and not (tmp_path / "tiny.failed.ipynb").exists()


def test_tables_are_written_only_where_a_folder_is_given(tiny, tmp_path):
    code = "\nimport pandas as pd\nfrom cryo_fewshot.reproduction.tables import keep_table\n"
    with (tiny / "tiny.py").open("a") as file:
        file.write(f'\n# %%{code}keep_table(pd.DataFrame({{"n_shot": [n_shot]}}), "shots")\n')
    notebooks.run_notebook("tiny", {}, tmp_path / "a.ipynb", source_dir=tiny)
    assert not list(tmp_path.rglob("*.csv"))
    notebooks.run_notebook("tiny", {"n_shot": 3}, tmp_path / "a.ipynb", source_dir=tiny, tables=tmp_path / "tables")
    assert (tmp_path / "tables" / "shots.csv").read_text() == "n_shot\n3\n"
