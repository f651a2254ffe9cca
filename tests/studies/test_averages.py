"""Averages before and after classification: what is averaged, how it is stored, what the page says about it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from studies import averages_figure as figure4
from studies.averages import (
    SELECTIONS,
    average_frame,
    packed,
    planned,
    target_of,
    true_density,
    unpacked,
)

from cryo_fewshot.errors import UserError
from cryo_fewshot.reproduction.cells import table_1
from cryo_fewshot.reproduction.profiles import profile_named
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store

SMOKE = profile_named("smoke")


@pytest.fixture(scope="module")
def evaluation():
    return table_1(SMOKE, snrs=[0.1], shots=[1], methods=["ProtoNet-CE"])[0].evaluation


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(Store(tmp_path_factory.mktemp("results")))


@pytest.fixture(scope="module")
def entries(runner, evaluation):
    return {spec.selection: runner(spec) for spec in planned(SMOKE, evaluation)}


def test_each_selection_averages_what_it_says(entries, evaluation):
    assert tuple(entries) == SELECTIONS
    for selection, entry in entries.items():
        result = entry["result"]
        way = result["classes"].index(entry["spec"]["target"])
        n_members = SMOKE.data.n_per_class - evaluation.n_shot  # the support is left out
        assert result["n_members"] == n_members
        wrong = sum(result["selected"]) - result["selected"][way]
        if selection in ("single", "members"):
            assert (result["selected"][way], wrong) == (n_members, 0)
        if selection == "mixture":
            assert result["selected"] == [n_members] * evaluation.n_way
        assert sum(result["averaged"]) == min(8, sum(result["selected"]))
        assert np.all(np.array(result["averaged"]) <= result["selected"])
        assert (result["density"] is None) == (sum(result["averaged"]) < 8)
        if result["density"]:
            assert unpacked(result["density"]).shape == (24, 24, 24)
            assert result["fsc_truth"][0] == pytest.approx(1)
            assert (result["fsc_halves"] is None) == (selection == "single")


def test_what_is_stored_needs_no_weights(entries, runner, evaluation):
    for path in runner.store.root.rglob("*.safetensors"):
        path.unlink()
    again = runner(planned(SMOKE, evaluation)[1])
    assert again["result"] == entries["mixture"]["result"]


def test_one_particle_without_noise_is_the_density_in_its_true_pose(runner, evaluation):
    spec = replace(planned(SMOKE, evaluation)[0], evaluation=replace(evaluation, snr=1e4))
    result = runner(spec)["result"]
    frequencies, fsc = np.array(result["frequencies_per_nm"]), np.array(result["fsc_truth"])
    assert fsc[(frequencies > 0) & (frequencies < 1 / 5)].min() > 0.7, "only the missing wedge is missing"


def test_the_density_stands_upright_and_is_dark():
    density, turn = true_density(SMOKE.data, "3IPM")
    positions, masses = SMOKE.data.beads_of("3IPM", torch.tensor([0]))[0]
    turned = turn.apply(positions[:, ::-1])
    x, y, z = np.average(turned**2, axis=0, weights=masses)
    assert y > x > z
    z, y, x = np.round(turned[:, ::-1] / 1.5).astype(int).T + 12
    assert density.numpy()[z, y, x].mean() < -2, "dark where the beads are, of standard deviation 1"


def test_a_density_survives_storage_to_half_a_step():
    density = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0))
    content = packed(density)
    step = (content["high"] - content["low"]) / 255
    assert np.abs(unpacked(content) - density.numpy()).max() <= 0.51 * step
    assert np.array_equal(unpacked(packed(torch.zeros(4, 4, 4))), np.zeros((4, 4, 4)))


def test_a_proteasome_is_the_first_choice():
    assert target_of(("3KUY", "1OEL", "1PMA")) == "1PMA"
    assert target_of(("3KUY", "1OEL", "empty")) == "1OEL"
    assert target_of(("empty", "1EFW", "1BXN")) == "1BXN"  # the heaviest


def test_too_few_particles_for_two_halves_are_refused(evaluation):
    with pytest.raises(UserError, match="n_particles=7"):
        replace(planned(SMOKE, evaluation)[0], n_particles=7)


def made_up(fall_halves: dict, fall_truth: dict, density=None) -> list[dict]:
    """Entries whose FSC falls from 1 to 0 after the given shells of 0.05 per nm."""

    def curve(n):
        return None if n is None else [1.0] * (n + 1) + [0.0] * (10 - n)

    return [
        {
            "spec": {"target": "b", "selection": selection},
            "result": {
                "classes": ["a", "b"],
                "selected": [0, 8] if selection in ("single", "members") else [2, 6],
                "averaged": [0, 8] if selection in ("single", "members") else [2, 6],
                "n_members": 8,
                "frequencies_per_nm": (np.arange(11) * 0.05).tolist(),
                "fsc_halves": curve(fall_halves.get(selection)),
                "fsc_truth": curve(fall_truth.get(selection)),
                "density": density,
            },
        }
        for selection in SELECTIONS
    ]


def test_resolutions_are_read_off_both_correlations():
    halves = {"mixture": 4, "assigned": 4, "members": 10}
    frame = average_frame({"set": made_up(halves, {"single": 1, "mixture": 1, "assigned": 3})})
    rows = frame.set_index("selection")
    assert rows.loc["assigned", "truth_nm"] == pytest.approx(1 / 0.175)
    assert rows.loc["assigned", "halves_nm"] == pytest.approx(1 / (0.2 + 0.857 * 0.05))
    assert rows.loc["members", "halves_nm"] == pytest.approx(2), "never below: as fine as the box"
    assert np.isnan(rows.loc["single", "halves_nm"]) and np.isnan(rows.loc["members", "truth_nm"])
    assert (rows.loc["assigned", "purity"], rows.loc["assigned", "recall"]) == (0.75, 0.75)


def test_the_words_follow_the_numbers():
    halves = {"mixture": 4, "assigned": 4, "members": 4}
    better = made_up(halves, {"single": 1, "mixture": 1, "assigned": 3, "members": 4})
    worse = made_up(halves, {"single": 2, "mixture": 4, "assigned": 3, "members": 4})
    said = figure4.averaging_findings(average_frame({"one": better, "two": worse}))
    assert "finer resolution than the average before in 1 of 2 data sets" in said
    assert "than one particle in 2" in said
    assert "In 1 of 2 the half maps of the average before agree to a much finer resolution" in said
    assert "enough particles" in figure4.averaging_findings(average_frame({"none": made_up({}, {})}))


def test_pictures_have_a_row_per_set_and_say_where_particles_were_too_few():
    blob = torch.zeros(16, 16, 16)
    blob[5:11, 4:12, 6:10] = -1.0
    full = made_up({"assigned": 4}, {"assigned": 3}, density=packed(blob))
    sets = {
        "full": figure4.densities(full, blob.numpy()),
        "none": figure4.densities(made_up({}, {}), blob.numpy()),
    }
    figure = figure4.slices_by_set(sets, {"full": 1.0, "none": 1.0})
    assert len(figure.axes) == 2 * 5
    missing = [ax for ax in figure.axes if any(text.get_text() == "none" for text in ax.texts)]
    assert missing == figure.axes[5:-1]
    curves = figure4.fsc_figure({"full": full, "none": made_up({}, {})})
    assert [len(ax.lines) for ax in curves.axes] == [2, 2, 1, 1]  # the threshold, and the curve there is
    table = figure4.show_averages(average_frame({"full": full})).to_html()
    assert "none" not in table and "–" in table
    assert "75%" in table  # purity of what was assigned
