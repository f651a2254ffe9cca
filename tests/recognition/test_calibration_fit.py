"""Tasks among held-out classes: who is in them, what is refused, and that noise is told."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition import calibration_fit as room
from cryo_fewshot.recognition.calibration import Calibration, adapt, class_model
from cryo_fewshot.recognition.calibration_fit import fit_calibration, run_trials
from cryo_fewshot.recognition.plda import PLDA

TASKS = {"n_tasks": 2}


def test_a_task_has_no_two_classes_of_a_family(held_out, classes):
    """Twins lie close: were both in a task, or one the unknown class beside the other, answers would be wrong."""
    x, labels = classes(6)
    twins = torch.cat([x, x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))])
    both = np.r_[labels, labels + 6]
    of_families = held_out(twins, both, family=np.r_[labels, labels])
    for trial in run_trials(of_families, (5,), (5,), **TASKS):
        assert (trial.log_likelihoods.argmax(-1) == trial.true).mean() > 0.95
        assert np.quantile(trial.scores, 0.2) > np.quantile(trial.unknown_scores, 0.8)
    alone = [trial.unknown_scores for trial in run_trials(held_out(twins, both), (5,), (5,), **TASKS)]
    apart = [trial.unknown_scores for trial in run_trials(of_families, (5,), (5,), **TASKS)]
    assert np.quantile(alone, 0.9) > np.quantile(apart, 0.9)


def test_the_noise_of_data_sets_is_told(held_out, classes):
    """Noise adds a component to embeddings, as it does to those of an encoder."""
    x, labels = classes(8)
    axis = torch.nn.functional.one_hot(torch.tensor(0), x.shape[1])
    snrs = (0.3, 0.1, 0.03)
    sets = np.arange(3).repeat(len(x))
    columns = {"snr": np.array(snrs)[sets], "set": sets}
    particles = held_out(torch.cat([x + 20 * np.log(snr) * axis for snr in snrs]), np.tile(labels, 3), **columns)
    for trial in run_trials(particles, (1, 5), (5,), **TASKS):
        np.testing.assert_allclose(trial.conditions.log_snr, np.log(trial.snrs), atol=0.3)
        np.testing.assert_array_equal(trial.conditions.crowding, 0)


def test_how_a_task_looks_is_the_mean_over_its_particles_of_what_the_geometry_says(held_out, classes):
    x, labels = classes(5)
    particles = held_out(x, labels)
    alike = {"noise": np.r_[np.zeros(x.shape[1]), -2.0], "crowd": np.r_[np.zeros(x.shape[1]), 0.75]}
    found = {family: known | alike for family, known in particles.geometries(10).items()}
    for trial in run_trials(particles, (2,), (3,), geometries=found, **TASKS):
        assert trial.conditions.n_shot == 2 and trial.conditions.n_way == 3
        np.testing.assert_allclose(trial.conditions.log_snr, [-2.0] * 2)
        np.testing.assert_allclose(trial.conditions.crowding, [0.75] * 2)


@pytest.mark.parametrize(("crowding", "which"), [(0.49, "space"), (0.5, "crowded_space"), (1.0, "crowded_space")])
def test_tasks_that_look_crowded_are_judged_in_the_geometry_of_cells(crowding, which, held_out, classes):
    particles = held_out(*classes(5))
    alone = particles.geometries(10)
    both = {
        family: {**known, "crowded_space": replace(known["space"], between=3 * known["space"].between)}
        for family, known in alone.items()
    }
    crowd = np.r_[np.zeros(10), crowding]
    one = {family: {"space": known[which], "noise": known["noise"]} for family, known in both.items()}
    judged = run_trials(particles, (2,), (3,), geometries={f: k | {"crowd": crowd} for f, k in both.items()}, **TASKS)
    for found, expected in zip(judged, run_trials(particles, (2,), (3,), geometries=one, **TASKS), strict=True):
        np.testing.assert_allclose(found.scores, expected.scores)
        np.testing.assert_allclose(found.log_likelihoods, expected.log_likelihoods)


def test_crowded_data_sets_are_told(held_out, classes):
    """What lies beside a particle adds a component to its embedding."""
    x, labels = classes(8)
    beside = 20 * torch.nn.functional.one_hot(torch.tensor(1), x.shape[1])
    sets = np.arange(2).repeat(len(x))
    particles = held_out(torch.cat([x, x + beside]), np.tile(labels, 2), set=sets, crowded=sets == 1)
    for trial in run_trials(particles, (1, 5), (5,), **TASKS):
        np.testing.assert_allclose(trial.conditions.crowding, trial.crowded, atol=0.15)
    calibration = fit_calibration(particles, shots=(1, 5), n_tasks=4, n_axes=10)
    assert calibration.crowding(x) == pytest.approx(0, abs=0.1)
    assert calibration.crowding(x + beside) == pytest.approx(1, abs=0.1)
    assert calibration.suited(x) is calibration
    assert calibration.suited(x + beside).space is calibration.crowded_space
    with_nan = torch.cat([x, torch.full((1, x.shape[1]), torch.nan)])  # an empty box
    assert calibration.suited(with_nan) is calibration
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    np.testing.assert_array_equal(again.crowded_space.axes, calibration.crowded_space.axes)
    assert again.crowding(x + beside) == calibration.crowding(x + beside)
    for row in (rows := calibration.on_card()["reliability"]):
        assert row["n"] < 500 or row["accuracy"] == pytest.approx(row["probability"], abs=0.1)
    assert {(row["crowded"], row["n_shot"]) for row in rows} == set(product((False, True), (1, 5)))


def test_cross_fitted_classes_count_as_much(held_out, classes):
    pools = [
        held_out(x, np.array([f"{seed}-{label}" for label in labels]))
        for seed in (1, 2)
        for x, labels in [classes(6, seed=seed)]
    ]
    settings = {"shots": (1, 5), "n_tasks": 4, "n_axes": 10}
    both = fit_calibration(*pools, **settings)
    assert both.n_classes == len(both.promises.by_class) == 12 and len(both.promises.by_encoder) == 2
    np.testing.assert_array_equal(both.space.axes, fit_calibration(pools[0], **settings).space.axes)


def test_noise_is_told_by_a_ridge_regression():
    rng = np.random.default_rng(0)
    x, values = rng.normal(size=(20, 3)) * [1, 1e-3, 5] + 2, rng.normal(size=20)
    centred = x - x.mean(0)
    weights = np.linalg.solve(centred.T @ centred + 20e-5 * np.eye(3), centred.T @ (values - values.mean()))
    expected = [*weights, values.mean() - x.mean(0) @ weights]
    np.testing.assert_allclose(room._regression(x, values), expected, rtol=1e-6)


def test_a_task_has_classes_of_as_many_families_and_no_particle_twice():
    others = {"f": ["a", "b"], "g": ["c"], "h": ["d"]}
    members = {(s, name): np.arange(20) + 100 * i + 1000 * s for s in (0, 1) for i, name in enumerate("abcdu")}
    seen = set()
    for seed in range(30):
        support, query, strange = room._draw(others, members, 1, "u", 3, 2, np.random.default_rng(seed))
        assert len(support) == 6 and len(query) == 30 and len(strange) == 10
        assert len({*support, *query}) == 36 and set(strange) <= set(members[1, "u"])
        classes = support.reshape(3, 2) % 1000 // 100
        assert (classes == classes[:, :1]).all() and (query.reshape(3, 10) % 1000 // 100 == classes[:, :1]).all()
        assert sum(c < 2 for c in classes[:, 0]) == 1, "one of the family of two"
        seen |= set(classes[:, 0])
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("temperatures", [None, np.array([1.0, 3.0])])
def test_particles_are_judged_by_the_model_of_their_task(temperatures):
    generator = torch.Generator().manual_seed(0)
    space = PLDA(mean=np.zeros(2), axes=np.eye(2), between=np.array([4.0, 2.0]))
    support, query, strange = (torch.randn(2, n, 2, generator=generator) for n in (6, 4, 3))
    found = room._judged(space, support, query, strange, 2, temperatures)
    members = torch.eye(2).repeat_interleave(3, 0)
    for task in range(2):
        model, frequencies = class_model(space, support[task], members), torch.full((2,), -np.log(2.0))
        if temperatures is not None:
            unlabelled = torch.cat([query[task], strange[task]])
            sums = members.T @ support[task]
            model, frequencies = adapt(model, sums, members.sum(0), unlabelled, float(temperatures[task]))
        expected = (
            model.log_likelihoods(query[task]),
            frequencies[None],
            model.scores(query[task], model.log_likelihoods(query[task])),
            model.scores(strange[task], model.log_likelihoods(strange[task])),
        )
        for part, of_task in zip(found, expected, strict=True):
            np.testing.assert_allclose(part[task], of_task, rtol=1e-3, atol=1e-3)


def test_too_few_classes_families_or_particles_are_refused(held_out):
    def check(n_classes, n_needed, families=None):
        """Five particles of each class in each of two data sets."""
        labels = np.tile(np.repeat(np.arange(n_classes), 5), 2)
        family = labels if families is None else np.array(families)[labels]
        room._check_enough(held_out(None, labels, family=family, set=np.repeat([0, 1], 5 * n_classes)), n_needed)

    check(4, 5)
    with pytest.raises(UserError, match="3 held-out classes: calibration needs at least 4"):
        check(3, 5)
    with pytest.raises(UserError, match="3 families of held-out classes"):
        check(4, 5, families=list("aabc"))
    with pytest.raises(UserError, match=r"5 particles in a held-out class: n_shot \+ n_query = 6 are needed"):
        check(4, 6)
    with pytest.raises(UserError, match="3 held-out classes"):
        fit_calibration(held_out(None, np.arange(3)))
