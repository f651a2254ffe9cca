"""Regressions, draws and judgements of a calibration, one by one."""

import numpy as np
import pytest
import torch

from cryo_fewshot.errors import UserError
from cryo_fewshot.recognition import calibration_fit as room
from cryo_fewshot.recognition.calibration import adapt, class_model
from cryo_fewshot.recognition.calibration_fit import HeldOutParticles
from cryo_fewshot.recognition.plda import PLDA


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


def pool(n_classes, n_each, families=None, n_sets=2):
    labels = np.tile(np.repeat(np.arange(n_classes), n_each), n_sets)
    return HeldOutParticles(
        embeddings=torch.zeros(len(labels), 2),
        labels=labels,
        snrs=np.full(len(labels), 0.1),
        sets=np.repeat(np.arange(n_sets), n_classes * n_each),
        crowded=np.zeros(len(labels), bool),
        families=labels if families is None else np.array(families)[labels],
    )


def test_too_few_classes_families_or_particles_are_refused():
    room._check_enough(pool(4, 5), 5)
    with pytest.raises(UserError, match="3 held-out classes: calibration needs at least 4"):
        room._check_enough(pool(3, 5), 5)
    with pytest.raises(UserError, match="3 families of held-out classes"):
        room._check_enough(pool(4, 5, families=list("aabc")), 5)
    with pytest.raises(UserError, match=r"5 particles in a held-out class: n_shot \+ n_query = 6 are needed"):
        room._check_enough(pool(4, 5), 6)
