"""Support of another source: every method answers the same tasks, and what is shown is what was measured."""

import pytest
from studies.pretrained import Pretrained
from studies.sources import COMMAND, FITTED, MATCHED, OWN, SAME, SourceTransfer, sources_frame

from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import load_encoder

COARSE = "voxels of 3 nm"


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    few = {"classes": ("6QZP", "1OEL", "1S3X", "1F4A"), "n_way": 2, "n_query": 15, "n_tasks": 2, "n_per_class": 22}
    sources = (SAME, COARSE)
    runner = Runner(Store(tmp_path_factory.mktemp("results")))
    return runner(SourceTransfer(encoder="", sources=sources, shots=(5,), **few), Pretrained(*load_encoder()))


def test_the_command_fits_within_one_source_alone(entry):
    rows = entry["result"]["rows"]
    cells = zip(rows["source"], rows["asked"], rows["method"], rows["unfitted"], strict=True)
    unfitted = {(source, method): share for source, asked, method, share in cells if asked == "all"}
    assert unfitted[SAME, FITTED] == unfitted[SAME, COMMAND] == unfitted[COARSE, FITTED] == 0
    assert unfitted[COARSE, COMMAND] == unfitted[SAME, OWN] == unfitted[SAME, MATCHED] == 1


def test_the_table_has_a_row_per_source_and_composition(entry):
    table = sources_frame(entry)["5 labels"]
    assert set(table) == {OWN, FITTED, COMMAND, MATCHED} and len(table) == 6
    same = table.loc[[(SAME, "all five")]]
    assert (same[FITTED] == same[COMMAND]).all() and float(same[OWN].iloc[0]) > 0.7
