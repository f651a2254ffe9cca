"""Figure 1 draws the episode that it is given."""

import numpy as np
from studies.episode_figure import episode_figure


def test_the_nearest_class_of_each_distance_is_framed():
    def space(distances):
        rng = np.random.default_rng(0)
        return {
            "support": rng.normal(size=(2, 3, 2)),
            "prototypes": rng.normal(size=(2, 2)),
            "query": rng.normal(size=2),
            "distances": distances,
        }

    view = {"classes": ["1OEL", "3KUY"], "plain": space([1.0, 3.0]), "adapted": space([9.0, 1.0])}
    figure = episode_figure(view, np.zeros((2, 3, 4, 4, 4)), np.ones((4, 4, 4)))
    panels = [ax for ax in figure.axes if "squared" in ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in panels] == ["d (squared)", "d* (squared)", "d + d* (squared)"]
    assert [[bar.get_width() for bar in ax.patches] for ax in panels] == [[1, 3], [9, 1], [10, 4]]
    framed = [[bar.get_linewidth() > 1.5 for bar in ax.patches] for ax in panels]
    assert framed == [[True, False], [False, True], [False, True]]
