"""Every notebook runs with small parameters, and shows the numbers of the store."""

import json
from io import StringIO

import pytest

pytest.importorskip("bs4", reason="the book's packages are not installed")

import bs4
import mrcfile
import numpy as np
import pandas as pd
from finished_pages import _csv_of

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.book import book_notebooks
from cryo_fewshot.reproduction.cells import table_1, table_2, table_3
from cryo_fewshot.reproduction.notebooks import notebook_parameters, run_notebook
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder with the smoke profile's trainings and evaluations in it."""
    folder = tmp_path_factory.mktemp("results")
    runner = Runner(Store(folder / "smoke"))
    smoke = profile_named("smoke")
    for table in (table_1, table_2, table_3):
        runner.run_cells(table(smoke))
    return folder


SMALLER = {  # the studies repeat trainings: once is enough to see that their notebooks run
    "claims": {"splits": 2, "train": True},
    "alike_for_all": {"splits": 1, "epochs": "2", "n_shot": "5", "train": True},
    "bounds": {"oracle_snrs": "0.1", "snrs": "0.1", "samples": "12", "n_per_class": 2},
    "ablation": {"splits": "0,1", "snrs": "0.1", "n_shot": "1"},
    "remarks": {"ways": "5,8", "n_shot": "5", "splits": 1, "train": True},
    "own_data": {"classes": "1OEL,3KUY", "unknown_classes": "4NMN", "n_particles": 10, "n_averaged": 8},
    "bad_input": {"words": "NaN"},
    "geometry": {"seeds": 2},
    "conformations": {"complexes": "2CG9", "angles": "30", "snrs": "0.1", "seeds": 2, "n_per_class": 2},
    "open_world": {
        "snrs": "0.1",
        "many_shots": "1,5",
        "surrogate_shots": "5",
        "samples": "12",
        "n_per_class": 2,
    },
}


def executed(name, parameters, results, tmp_path, monkeypatch) -> list[dict]:
    monkeypatch.setenv("CRYO_FEWSHOT_RESULTS", str(results))
    if "profile" in notebook_parameters(name):
        parameters = {"profile": "smoke", **parameters}
    return json.loads(run_notebook(name, parameters, tmp_path / "out.ipynb").read_text())["cells"]


def tables(cells) -> list[pd.DataFrame]:
    """What nbval checks: the tables that the page shows, a row per method and a column per task."""
    checked = [cell for cell in cells if "nbval-check-output" in cell["metadata"].get("tags", [])]
    shown = ["".join(output["data"]["text/html"]) for cell in checked for output in cell["outputs"]]
    csv = [_csv_of(bs4.BeautifulSoup(html, "html.parser").table) for html in shown]
    return [pd.read_csv(StringIO(text), header=[0, 1], index_col=0) for text in csv]


# Pages that show a folder of results as it is are run by nbval, in the same command.
COMPUTED = [name for name in book_notebooks() if name in SMALLER or "store" not in notebook_parameters(name)]


@pytest.mark.parametrize("name", COMPUTED)
def test_a_notebook_runs(name, results, tmp_path, monkeypatch):
    cells = executed(name, SMALLER.get(name, {}), results, tmp_path, monkeypatch)
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    assert shown and not any(output["output_type"] == "error" for output in shown)


@pytest.mark.parametrize("name, table", [("table1", table_1), ("table2", table_2), ("table3", table_3)])
def test_a_table_shows_the_numbers_of_the_store(name, table, results, tmp_path, monkeypatch):
    whole, *first = tables(executed(name, {}, results, tmp_path, monkeypatch))
    cells = table(profile_named("smoke"))
    for n, shown in ((None, whole), *((100, part) for part in first)):
        for cell, entry in zip(cells, Runner(Store(results / "smoke")).run_cells(cells), strict=True):
            task = f"{cell.evaluation.n_shot}-shot", f"SNR {cell.evaluation.snr:g}"
            accuracy = np.mean(entry["result"]["n_correct"][:n]) / entry["result"]["n_queries"]
            assert shown.loc[cell.method, task].startswith(f"{accuracy:.3f}")


def test_new_parameters_give_a_new_table(results, tmp_path, monkeypatch):
    cells = executed("table1", {"snrs": "0.1", "n_shot": 3, "methods": "ProtoNet3D"}, results, tmp_path, monkeypatch)
    (whole, first) = tables(cells)
    for table in (whole, first):
        assert list(table.columns) == [("3-shot", "SNR 0.1")] and table.index[0] == "ProtoNet3D"


def test_a_folder_of_the_user_takes_the_place_of_a_surrogate(results, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in "abcdef":
        (tmp_path / "guo" / name).mkdir(parents=True)
        for number in range(9):
            volume = rng.normal(size=(22, 22, 22)).astype(np.float32)
            mrcfile.write(tmp_path / "guo" / name / f"{number}.mrc", volume, voxel_size=25.0)
    parameters = {"guo_path": str(tmp_path / "guo"), "n_shot": "1"}
    (table,) = tables(executed("table4", parameters, results, tmp_path, monkeypatch))
    assert set(table.columns.get_level_values(0)[1:]) == {"noble surrogate", "guo"}


def test_a_missing_folder_is_one_line(results, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file or folder"):
        executed("table4", {"guo_path": str(tmp_path / "nowhere")}, results, tmp_path, monkeypatch)
