"""Figures are drawn without a screen, in the style of the book, and closed."""

import matplotlib
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from cryo_fewshot.figures.style import use_style


@pytest.fixture(autouse=True)
def _close_figures():
    use_style()
    yield
    plt.close("all")
