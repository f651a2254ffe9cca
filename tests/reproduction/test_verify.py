"""A published page is compared with what its notebook gives today."""

import json

import pytest

pytest.importorskip("papermill", reason="the book's packages are not installed")

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.notebooks import run_notebook
from cryo_fewshot.reproduction.verify import verify

TINY = '# %% [markdown]\n# # Tiny\n\n# %% tags=["parameters"]\nn = 2  # a number\n\n# %%\nprint("twice is", 2 * n)\n'


@pytest.fixture
def repository(tmp_path):
    """A checkout with one published page, made with n=3."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "tiny.py").write_text(TINY)
    published = tmp_path / "book" / "notebooks" / "tiny.ipynb"
    run_notebook("tiny", {"n": 3}, published, source_dir=tmp_path / "notebooks")
    return tmp_path


def test_equal_with_the_parameters_of_the_published_page(repository):
    assert verify("tiny", repository=repository) == (1, [])


def test_a_difference_is_named_with_its_place(repository):
    path = repository / "book" / "notebooks" / "tiny.ipynb"
    path.write_text(path.read_text().replace("twice is 6", "twice is 7"))
    n_outputs, (difference,) = verify("tiny", repository=repository)
    assert n_outputs == 1 and "published 'twice is 7" in difference and "now 'twice is 6" in difference


def test_pages_that_cannot_be_compared_are_refused(repository):
    with pytest.raises(UserError, match="no published page 'tinny'; known: tiny"):
        verify("tinny", repository=repository)
    path = repository / "book" / "notebooks" / "tiny.ipynb"
    notebook = json.loads(path.read_text())
    del notebook["metadata"]["cryo_fewshot"]
    path.write_text(json.dumps(notebook))
    with pytest.raises(UserError, match="publish it anew"):
        verify("tiny", repository=repository)
